"""Ensemble files: safetensors as model files are, with what the members share stored once.

Models are numbered, the centre first where there is one. Tensor `k.name` is `name` of model k; where it is absent,
model k shares that of model 0, which has the same configuration then.
"""

from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import BaseModel, Field, JsonValue
from torch import Tensor

from openmm_allegro.checkpoint import (
    DTYPES,
    FORMAT_VERSION,
    METADATA_KEY,
    FileMetadata,
    built_model,
    is_ensemble,
    load_model,
    model_from_bytes,
    model_to_bytes,
    parsed_metadata,
    read_header,
    read_metadata,
    tensors_in,
    weights_in,
    write_whole,
)
from openmm_allegro.ensemble import Ensemble, Factors, in_precision
from openmm_allegro.last_layer import with_last_parameter
from openmm_allegro.model import Allegro
from openmm_allegro.summary import ENSEMBLE_FORMAT, UNITS, Description, of_models


class SpreadFactors(BaseModel):
    """See `ensemble.Factors`."""

    energy: float = Field(gt=0, allow_inf_nan=False)
    forces: float = Field(gt=0, allow_inf_nan=False)


class EnsembleMetadata(FileMetadata):
    """What an ensemble file says of itself."""

    format: Literal["openmm-allegro ensemble"]
    configs: list[dict[str, JsonValue]] = Field(min_length=2)
    has_centre: bool
    factors: SpreadFactors | None = None
    calibration: dict[str, JsonValue] = {}
    provenance: dict[str, JsonValue] = {}


def save_ensemble(ensemble: Ensemble, path: str | Path) -> None:
    """Write an ensemble file; an existing one is replaced only when the new one is complete."""
    write_whole(path, ensemble_to_bytes(ensemble))


def load_ensemble(path: str | Path, dtype: torch.dtype | None = None) -> Ensemble:
    """Read an ensemble file. dtype: of the weights; None means that of the file.

    Raises ValueError when the file is not an ensemble of ours, is damaged, or has a newer format.
    """
    header = read_header(path)
    if not is_ensemble(path):
        raise ValueError(f"{path} is one model, where an ensemble is expected; make one by `openmm-allegro ensemble`")
    parsed_metadata(header, str(path), EnsembleMetadata)
    return ensemble_from_bytes(Path(path).read_bytes(), dtype, str(path))


def load_for_dynamics(path: str | Path, dtype: torch.dtype | None = None) -> Allegro | Ensemble:
    """What predicts energies and forces: the model of a file, or the mean of the ensemble in it."""
    return load_ensemble(path, dtype).for_dynamics() if is_ensemble(path) else load_model(path, dtype)


def dynamics_model(model: Allegro | Ensemble, dtype: torch.dtype) -> Allegro | Ensemble:
    """The same from an object, copied so that the user's own is left as it is."""
    if isinstance(model, Ensemble):
        model = model.for_dynamics()
    return in_precision(model, dtype) if isinstance(model, Allegro) else model.in_precision(dtype)


def describe(path: str | Path) -> Description:
    """What a model or ensemble file says of itself."""
    header = read_header(path)
    if not is_ensemble(path):
        return Description(**read_metadata(path), n_weights=weights_in(header))
    found = parsed_metadata(header, str(path), EnsembleMetadata).model_dump()
    models = of_models(found.pop("configs"), found["has_centre"])
    return Description(**found, **models, n_weights=weights_in(header, "0."))


def to_bytes(model: Allegro | Ensemble) -> bytes:
    """The content of a model file or an ensemble file."""
    return model_to_bytes(model) if isinstance(model, Allegro) else ensemble_to_bytes(model)


def from_bytes(content: bytes) -> Allegro | Ensemble:
    """What `to_bytes` wrote."""
    kind = parsed_metadata(content, "the model", FileMetadata).format
    return ensemble_from_bytes(content) if kind == ENSEMBLE_FORMAT else model_from_bytes(content)


def ensemble_to_bytes(ensemble: Ensemble) -> bytes:
    """The content of an ensemble file."""
    models = ([] if ensemble.centre is None else [ensemble.centre]) + list(ensemble.members)
    metadata = EnsembleMetadata(
        format=ENSEMBLE_FORMAT,
        format_version=FORMAT_VERSION,
        dtype="float64" if ensemble.dtype == torch.float64 else "float32",
        units=UNITS,
        configs=[model.config.model_dump(mode="json") for model in models],
        has_centre=ensemble.centre is not None,
        factors=None if ensemble.factors is None else SpreadFactors(**ensemble.factors._asdict()),
        calibration=dict(ensemble.calibration),
        provenance=dict(ensemble.provenance),
    )
    tensors: dict[str, Tensor] = {}
    for number, model in enumerate(models):
        own = _on_the_processor(model)
        shared = _on_the_processor(models[0]) if number > 0 and model.config == models[0].config else {}
        for name, tensor in own.items():
            if name not in shared or not torch.equal(tensor, shared[name]):
                tensors[f"{number}.{name}"] = tensor.contiguous()
    return safetensors.torch.save(tensors, metadata={METADATA_KEY: metadata.model_dump_json()})


def _on_the_processor(model: Allegro) -> dict[str, Tensor]:
    """The weights of a model, wherever they are: members that were evaluated on a GPU may lie there in part."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def ensemble_from_bytes(content: bytes, dtype: torch.dtype | None = None, source: str = "the ensemble") -> Ensemble:
    """The ensemble in the content of an ensemble file; `source` names it in errors."""
    metadata = parsed_metadata(content, source, EnsembleMetadata)
    dtype = dtype or DTYPES[metadata.dtype]
    of_model: list[dict[str, Tensor]] = [{} for _ in metadata.configs]
    for name, tensor in tensors_in(content, source).items():
        place, _, own_name = name.partition(".")
        if not place.isdecimal() or int(place) >= len(of_model):
            raise ValueError(f"{source} has weights `{name}` of no model that it lists; it is damaged, copy it again")
        of_model[int(place)][own_name] = tensor
    models = [built_model(metadata.configs[0], of_model[0], dtype, f"model 0 of {source}")]
    last = f"readout.{len(models[0].readout) - 1}.weight"
    for number, own in enumerate(of_model[1:], 1):
        if not metadata.has_centre:
            options, where = metadata.configs[number], f"model {number} of {source}"
            shared = of_model[0] if options == metadata.configs[0] else {}
            models.append(built_model(options, shared | own, dtype, where))
        elif own.keys() != {last} or own[last].shape != of_model[0][last].shape or not own[last].isfinite().all():
            raise ValueError(f"{source} is damaged: model {number} is not its centre with another last layer")
        else:
            models.append(with_last_parameter(models[0], own[last].to(dtype)))
    factors = None if metadata.factors is None else Factors(metadata.factors.energy, metadata.factors.forces)
    centre = models.pop(0) if metadata.has_centre else None
    ensemble = Ensemble(models, factors, centre)
    ensemble.calibration, ensemble.provenance = metadata.calibration, metadata.provenance
    return ensemble
