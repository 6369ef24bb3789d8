"""Model files: safetensors with everything about the model as JSON metadata; nothing in them is ever executed."""

import json
import math
import os
from pathlib import Path
from typing import Literal, TypeVar

import safetensors.torch
import torch
from pydantic import BaseModel, Field, JsonValue, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.summary import ENSEMBLE_FORMAT, MODEL_FORMAT, UNITS, count_weights

FORMAT_VERSION = 1
METADATA_KEY = "openmm_allegro"
LONGEST_HEADER = 100_000_000
DTYPES = {"float32": torch.float32, "float64": torch.float64}
PRECISIONS = {"single": torch.float32, "double": torch.float64}


def dtype_of(precision: str) -> torch.dtype:
    """The type of numbers of 'single' or 'double' precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is {precision!r}; it can be 'single' or 'double'")
    return PRECISIONS[precision]


class FileMetadata(BaseModel):
    """What every file of ours says of itself."""

    format: str
    format_version: int = Field(ge=1)
    dtype: Literal["float32", "float64"]
    units: dict[str, JsonValue]


class ModelMetadata(FileMetadata):
    """What a model file says of itself."""

    format: Literal["openmm-allegro model"]
    config: dict[str, JsonValue]
    provenance: dict[str, JsonValue] = {}


Metadata = TypeVar("Metadata", bound=FileMetadata)


def save_model(model: Allegro, path: str | Path, provenance: dict[str, JsonValue] | None = None) -> None:
    """Write a model file; an existing one is replaced only when the new one is complete.

    provenance: how the model came to be (training configuration, data, figures), kept as it is; None means what the
    model itself has.
    """
    write_whole(path, model_to_bytes(model, provenance))


def load_model(path: str | Path, dtype: torch.dtype | None = None) -> Allegro:
    """Read a model file.

    dtype: of the weights; None means that of the file. Raises ValueError when the file is not a model of ours,
    is damaged, or has a newer format.
    """
    read_metadata(path)
    return model_from_bytes(Path(path).read_bytes(), dtype, str(path))


def read_metadata(path: str | Path) -> dict[str, JsonValue]:
    """What a model file says of itself: format_version, config, dtype, units, provenance."""
    return parsed_metadata(read_header(path), str(path), ModelMetadata).model_dump()


def check_model_file(path: str | Path) -> None:
    """Refuse a path where no file is; in the folder of a training the best model is pointed out."""
    if Path(path).is_file():
        return
    best = Path(path) / "best.safetensors"
    hint = f"; did you mean {best}?" if best.is_file() else ""
    raise FileNotFoundError(f"there is no model file {path}{hint}")


def read_header(path: str | Path) -> bytes:
    """The beginning of a file, up to where its tensors begin."""
    check_model_file(path)
    with Path(path).open("rb") as file:
        start = file.read(9)
        return start + file.read(_header_length(start, str(path)))


def weights_in(header: bytes, of: str = "") -> int:
    """How many numbers the weights of a file have, from its beginning; of: how the names of its tensors begin."""
    found = json.loads(header[8 : 8 + _header_length(header[:9], "the file")])
    shapes = {name: each["shape"] for name, each in found.items() if name != "__metadata__"}
    return count_weights({name: math.prod(shape) for name, shape in shapes.items() if name.startswith(of)})


def model_to_bytes(model: Allegro, provenance: dict[str, JsonValue] | None = None) -> bytes:
    """The content of a model file."""
    metadata = ModelMetadata(
        format=MODEL_FORMAT,
        format_version=FORMAT_VERSION,
        config=model.config.model_dump(mode="json"),
        dtype="float64" if model.dtype == torch.float64 else "float32",
        units=UNITS,
        provenance=dict(model.provenance) if provenance is None else provenance,
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={METADATA_KEY: metadata.model_dump_json()})


def model_from_bytes(content: bytes, dtype: torch.dtype | None = None, source: str = "the model") -> Allegro:
    """The model in the content of a model file; `source` names it in errors."""
    metadata = parsed_metadata(content, source, ModelMetadata)
    model = built_model(metadata.config, tensors_in(content, source), dtype or DTYPES[metadata.dtype], source)
    model.provenance = metadata.provenance
    return model


def tensors_in(content: bytes, source: str) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise ValueError(f"{source} is not complete ({error}); it may be truncated, copy it again") from error


def built_model(options: dict[str, JsonValue], tensors: dict[str, Tensor], dtype: torch.dtype, source: str) -> Allegro:
    """A model from its configuration and its weights; `source` names the file in errors."""
    try:
        config = AllegroConfig.model_validate(options)
        model = Allegro(config, dtype)
        model.load_state_dict(tensors)
    except ValidationError as error:
        raise ValueError(
            f"{source} has a configuration that does not fit this version: {_first_problem(error)}"
        ) from error
    except RuntimeError as error:
        raise ValueError(f"{source} has weights that do not fit its own configuration; it is damaged") from error
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{source} has weights in `{name}` that are not finite numbers; train it again")
    return model


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it: the old one stays until the new one is on the disk.

    Folders on the way to it are made where they are missing; a link stays one to the file that it names.
    """
    path = Path(path).resolve() if Path(path).is_symlink() else path
    temporary = Path(path).with_name(Path(path).name + ".tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the content does
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _header_length(start: bytes, source: str) -> int:
    """Length of the JSON header, from the first bytes of a safetensors file: eight for the length, then a brace."""
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and length <= LONGEST_HEADER:
        return length
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise ValueError(
            f"{source} is a pickle or a zip archive (a PyTorch file?), which may run code when opened, where a "
            f"`.safetensors` model is expected; if it is a model of nequip-allegro, convert it first by "
            f"`{convert_command(source)}`, with the units that it was trained in"
        )
    raise ValueError(f"{source} is not a model file: it does not begin as a safetensors file does")


def convert_command(source: str) -> str:
    """What makes a model file of ours of one of nequip."""
    return f"openmm-allegro convert {source} --energy-units eV --length-units angstrom --output model.safetensors"


def is_ensemble(path: str | Path) -> bool:
    """Whether a file of ours holds an ensemble and not one model."""
    return parsed_metadata(read_header(path), str(path), FileMetadata).format == ENSEMBLE_FORMAT


def parsed_metadata(content: bytes, source: str, metadata_class: type[Metadata]) -> Metadata:
    """The metadata in the content of a file, checked."""
    text = _metadata_text(content, source)
    try:
        found = FileMetadata.model_validate_json(text).format
        if found == ENSEMBLE_FORMAT and metadata_class is ModelMetadata:
            raise ValueError(f"{source} is an ensemble, where one model is expected; give one that it was made of")
        metadata = metadata_class.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{source} has damaged metadata: {_first_problem(error)}; copy it again") from error
    if metadata.format_version > FORMAT_VERSION:
        raise ValueError(
            f"{source} has format {metadata.format_version}, but this version reads up to {FORMAT_VERSION}; "
            "install a newer openmm-allegro"
        )
    if metadata.units != UNITS:
        raise ValueError(f"{source} states the units {metadata.units}, but this version reads {UNITS}")
    return metadata


def _metadata_text(content: bytes, source: str) -> str:
    header = content[8 : 8 + _header_length(content[:9], source)]
    try:
        text = json.loads(header).get("__metadata__", {}).get(METADATA_KEY)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{source} is truncated or damaged: its header cannot be read; copy it again") from error
    if text is None:
        raise ValueError(f"{source} is a safetensors file of another program, not a model of openmm-allegro")
    return text


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"`{'.'.join(str(part) for part in problem['loc'])}`: {problem['msg']}"
