"""Model files of nequip with nequip-allegro 0.5-0.8, read as models of ours; no code in them is run.

checkpoint   `.ckpt` of nequip's training: options and weights, read by torch's reader of plain data
package      `.nequip.zip` of `nequip-package`: the network is read off its pickle (`nequip.package`)
TorchScript  `.nequip.pth` of `nequip-compile`: the network keeps its options and the names of its weights
"""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import JsonValue
from torch import Tensor

from openmm_allegro import units
from openmm_allegro.checkpoint import convert_command
from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.nequip.options import config_of_options
from openmm_allegro.nequip.package import Saved, read_package
from openmm_allegro.nequip.parts import allegro_parts, config_of_parts
from openmm_allegro.nequip.weights import copy_named_weights
from openmm_allegro.recognise import NAMES, Kind
from openmm_allegro.scripted import script_metadata
from openmm_allegro.torchscript import load_script

LENGTH_UNITS = {"angstrom": 1.0, "nm": units.NM_TO_ANGSTROM, "bohr": units.BOHR_TO_ANGSTROM}
ZBL_UNITS = ("eV", "angstrom")
TRAINING = {"nequip.train.NequIPLightningModule": "last", "nequip.train.EMALightningModule": "moving average"}
"""Training modules of nequip, and which weights nequip's own reader takes of their checkpoints."""


class NotAllegro(ValueError):
    """The file holds a model that is none of nequip-allegro; a TorchScript one can still be run as it is."""


class NequipModel(NamedTuple):
    """What a file of nequip holds, in its own units."""

    config: AllegroConfig
    tensors: dict[str, Tensor]
    """Weights under nequip's names."""
    dtype: torch.dtype
    kind: Kind
    weights: str
    """Which weights these are."""
    versions: dict[str, JsonValue]
    """Of the packages that it was made with, where the file says so."""


def read_nequip(path: str | Path, kind: Kind) -> NequipModel:
    """Read a file of nequip. Raises NotAllegro when the model is another one, ValueError for what we do not have."""
    readers = {"checkpoint": _checkpoint, "package": _package, "torchscript": _torchscript}
    return readers[kind](path)


def converted(found: NequipModel, model_units: tuple[str, str] | None, source: str) -> Allegro:
    """The model as ours, in eV and Å and the file's precision.

    model_units: what the model was trained in, as ('eV', 'angstrom'); None is enough for a model with the ZBL
    repulsion, which states them.
    """
    energy, length = checked_units(model_units, found.config.zbl, source)
    theirs = Allegro(found.config, found.dtype)
    copy_named_weights(found.tensors, theirs)
    model = Allegro(_in_units(found.config, units.ENERGY_UNITS[energy], LENGTH_UNITS[length]), found.dtype)
    model.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        model.scales.mul_(units.ENERGY_UNITS[energy])
        model.shifts.mul_(units.ENERGY_UNITS[energy])
    broken = [name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"{source} has weights in `{broken[0]}` that are not finite numbers; train it again")
    return model.eval()


def checked_units(model_units: tuple[str, str] | None, zbl: bool, source: str) -> tuple[str, str]:
    """Names of the units of energy and length that a model is in."""
    if model_units is None and zbl:
        return ZBL_UNITS
    if model_units is None:
        raise ValueError(
            f"{source} does not say what units it was trained in, as no file of nequip does; say so by "
            "`model_units=('eV', 'angstrom')`, `--model-units eV angstrom` of `simulate`, or convert it once by "
            f"`{convert_command(source)}`"
        )
    energy, length = model_units
    for name, known in ((energy, units.ENERGY_UNITS), (length, LENGTH_UNITS)):
        if name not in known:
            raise ValueError(f"{name!r} is no unit of a model that is known here; known are {', '.join(known)}")
    if zbl and model_units != ZBL_UNITS:
        raise ValueError(
            f"{source} has the ZBL repulsion in eV and Å, so that it cannot be in {energy} and {length}; leave the "
            "units out"
        )
    return energy, length


def provenance_of(found: NequipModel, path: str | Path, model_units: tuple[str, str]) -> dict[str, JsonValue]:
    """How a converted model came to be."""
    return {
        "converted_from": Path(path).name,
        "kind": NAMES[found.kind],
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "weights": found.weights,
        "units_of_training": list(model_units),
        "versions": dict(found.versions),
    }


def _in_units(config: AllegroConfig, energy_ev: float, length_angstrom: float) -> AllegroConfig:
    """A configuration in eV and Å. An Allegro model knows lengths by cutoffs only, energies by scales and shifts."""
    fields = config.model_dump()
    fields["r_max"] = config.r_max * length_angstrom
    for centre, cutoffs in (config.per_edge_type_cutoff or {}).items():
        scaled = (
            {name: cutoff * length_angstrom for name, cutoff in cutoffs.items()}
            if isinstance(cutoffs, dict)
            else cutoffs * length_angstrom
        )
        fields["per_edge_type_cutoff"][centre] = scaled
    if energy_ev != 1:
        for name, default in (("per_type_energy_scales", 1.0), ("per_type_energy_shifts", 0.0)):
            values = config.by_type(fields[name], default)
            fields[name] = {type_name: v * energy_ev for type_name, v in zip(config.type_names, values, strict=True)}
    return AllegroConfig.model_validate(fields)


def _checkpoint(path: str | Path) -> NequipModel:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as plain data ({str(error).splitlines()[0]}); package it by `nequip-package build` "
            "where it was trained, and give the package"
        ) from error
    options = content["hyper_parameters"]
    info = options.get("info_dict") or {}
    training = str((info.get("training_module") or {}).get("_target_"))
    if training not in TRAINING:
        raise ValueError(
            f"{path} was trained by `{training}`, whose weights for inference are not in it as they are; package it by "
            "`nequip-package build` and give the package"
        )
    built = _unmodified(options["model"], str(path))
    if not str(built.get("_target_")).startswith("allegro."):
        raise NotAllegro(
            f"{path} is a checkpoint of `{built.get('_target_')}`, no Allegro model; compile it by `nequip-compile "
            "--mode torchscript`, and the result runs as it is"
        )
    versions = dict(info.get("versions") or {})
    config = config_of_options(built, str(versions.get("nequip", "0.7")), str(path))
    tensors = {name: value for name, value in content["state_dict"].items() if isinstance(value, Tensor)}
    networks = {name.split(".")[1] for name in tensors if name.startswith("model.")}
    if networks != {"sole_model"}:
        raise ValueError(f"{path} holds several models, {', '.join(sorted(networks))}; only single ones can be read")
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    if TRAINING[training] == "moving average":
        weights |= _moving_average(weights, content["state_dict"], config, str(path))
    dtype = torch.float64 if str(built.get("model_dtype")) == "float64" else torch.float32
    return NequipModel(config, weights, dtype, "checkpoint", TRAINING[training], versions)


def _unmodified(options: Mapping[str, object], source: str) -> Mapping[str, object]:
    """Options of the network itself, where modifiers stand around it that do not change what it computes."""
    if str(options.get("_target_")).endswith(("ModelFromPackage", "ModelFromCheckpoint")):
        raise ValueError(
            f"{source} was trained on from another file, "
            f"`{options.get('package_path') or options.get('checkpoint_path')}`, which holds its options; package it "
            "by `nequip-package build` and give the package"
        )
    if not str(options.get("_target_")).endswith(".modify"):
        return options
    inner, modifiers = options.get("model"), options.get("modifiers")
    names = [str(each.get("modifier")) for each in modifiers] if isinstance(modifiers, list) else []
    unknown = [name for name in names if not name.startswith("enable_") and name != "modify_PerTypeScaleShift"]
    if unknown or not isinstance(inner, Mapping):
        raise ValueError(
            f"{source} was made with the modifier `{'`, `'.join(unknown)}`; package it by `nequip-package build` and "
            "give the package"
        )
    return _unmodified(inner, source)


def _moving_average(
    weights: dict[str, Tensor], state: Mapping[str, Tensor | dict[str, JsonValue]], config: AllegroConfig, source: str
) -> dict[str, Tensor]:
    """Averages by name; nequip numbers them in the order of the trained weights."""
    of_average = state.get("ema._extra_state")
    if isinstance(of_average, dict) and not of_average.get("is_holding_ema_weights", True):
        return {}  # they have changed places with the model's
    trained = [name for name in weights if _is_trained(name, config)]
    averages = [state.get(f"ema.ema_weight_{number}") for number in range(len(trained))]
    found = {name: average for name, average in zip(trained, averages, strict=True) if isinstance(average, Tensor)}
    fits = all(average.shape == weights[name].shape for name, average in found.items())
    if len(found) != len(trained) or f"ema.ema_weight_{len(trained)}" in state or not fits:
        raise ValueError(
            f"{source} has moving averages that do not fit its {len(trained)} weights; package it by `nequip-package "
            "build` and give the package"
        )
    return found


def _is_trained(name: str, config: AllegroConfig) -> bool:
    last = name.rpartition(".")[2]
    depends = {
        "bessel_weights": config.bessel_trainable,
        "scales": config.per_type_energy_scales_trainable,
        "shifts": config.per_type_energy_shifts_trainable,
    }
    return depends.get(last, last in ("weight", "weights") or ".weights." in name)


def _package(path: str | Path) -> NequipModel:
    network, versions = read_package(path)
    return _of_network(path, network, "package", dict(versions))


def _torchscript(path: str | Path) -> NequipModel:
    content = Path(path).read_bytes()
    metadata = script_metadata(content)
    versions: dict[str, JsonValue] = {
        name.removesuffix("_version"): metadata[name]
        for name in ("nequip_version", "torch_version")
        if name in metadata
    }
    return _of_network(path, load_script(content), "torchscript", versions)


def _of_network(
    path: str | Path, network: torch.jit.ScriptModule | Saved, kind: Kind, versions: dict[str, JsonValue]
) -> NequipModel:
    parts = allegro_parts(network)
    if parts is None:
        way_out = "" if kind == "torchscript" else "; compile it by `nequip-compile`, and the result runs as it is"
        raise NotAllegro(f"{path} is a {NAMES[kind]} of no Allegro model{way_out}")
    config = config_of_parts(parts, str(path))
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    weights = "those for inference, which nequip took from the checkpoint"
    dtype = next(tensor.dtype for name, tensor in tensors.items() if "edge_readout" in name)
    return NequipModel(config, tensors, dtype, kind, weights, versions)
