"""Model files: safetensors with everything about the model as JSON metadata; nothing in them is ever executed."""

import json
import os
from pathlib import Path

import torch
from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro

FORMAT = "openmm-allegro model"
FORMAT_VERSION = 1
UNITS: dict[str, JsonValue] = {"length": "angstrom", "energy": "eV"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def save_model(model: Allegro, path: str | Path, provenance: dict[str, JsonValue] | None = None) -> None:
    """Write a model file; an existing one is replaced only when the new one is complete.

    provenance: how the model came to be (training configuration, data, figures), kept as it is.
    """
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": model.config.model_dump(mode="json"),
        "dtype": str(model.dtype).removeprefix("torch."),
        "units": UNITS,
        "provenance": provenance or {},
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    temporary = Path(path).with_name(Path(path).name + ".tmp")
    save_file(tensors, temporary, metadata={"openmm_allegro": json.dumps(metadata)})
    os.replace(temporary, path)


def load_model(path: str | Path, dtype: torch.dtype | None = None) -> Allegro:
    """Read a model file.

    dtype: of the weights; None means that of the file. Raises ValueError when the file is not a model of ours,
    is damaged, or has a newer format.
    """
    metadata = read_metadata(path)
    try:
        config = AllegroConfig.model_validate(metadata["config"])
    except ValidationError as error:
        raise ValueError(
            f"{path} has a configuration that does not fit this version: {error.errors()[0]['msg']}"
        ) from error
    model = Allegro(config, dtype or DTYPES[str(metadata["dtype"])])
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path} has weights that do not fit its own configuration; the file is damaged"
        ) from error
    return model


def read_metadata(path: str | Path) -> dict[str, JsonValue]:
    """What a model file says of itself: format_version, config, dtype, units, provenance."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {path}")
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise ValueError(
            f"{path} is a pickle or a zip archive (a PyTorch file?), which may run code when opened; this package "
            "opens its own `.safetensors` models, written by `openmm-allegro train`"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("openmm_allegro")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete model file ({error}); it may be truncated") from error
    if text is None:
        raise ValueError(f"{path} is a safetensors file of another program, not a model of openmm-allegro")
    metadata = json.loads(text)
    if metadata["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {metadata['format_version']}, but this version reads up to {FORMAT_VERSION}; "
            "install a newer openmm-allegro"
        )
    if metadata["units"] != UNITS:
        raise ValueError(f"{path} states the units {metadata['units']}, but this version reads {UNITS}")
    return metadata
