"""Models from files of any program that is known here, ready for dynamics; and what such a file says of itself."""

from pathlib import Path

from pydantic import JsonValue

from openmm_allegro import units
from openmm_allegro.checkpoint import is_ensemble, load_model, save_model
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.ensemble_file import describe, load_ensemble
from openmm_allegro.model import Allegro
from openmm_allegro.nequip.file import (
    LENGTH_UNITS,
    ZBL_UNITS,
    NotAllegro,
    checked_units,
    converted,
    provenance_of,
    read_nequip,
)
from openmm_allegro.outputs import check_outputs
from openmm_allegro.recognise import NAMES, recognise
from openmm_allegro.scripted import ScriptedModel, script_metadata, scripted_model
from openmm_allegro.summary import Description


def loaded(
    model: Allegro | Ensemble | ScriptedModel | str | Path, model_units: tuple[str, str] | None = None
) -> Allegro | Ensemble | ScriptedModel:
    """What predicts energies and forces: given as it is, or by the path of a file of ours or of nequip.

    model_units: what a file of nequip was trained in, as ('eV', 'angstrom'); files of ours say so themselves.

    An Allegro model of nequip runs in the telescoped form; what else `nequip-compile` or `nequip-deploy` wrote as
    TorchScript, such as NequIP, runs as it is. Precision is that of the file.
    """
    if not isinstance(model, str | Path):
        if model_units is not None:
            raise ValueError("`model_units` are of a file of nequip, and this model is loaded already; leave them out")
        return model
    path, kind = model, recognise(model)
    if kind == "safetensors":
        if model_units is not None:
            raise ValueError(f"{path} states its units itself; leave `model_units` out")
        return load_ensemble(path) if is_ensemble(path) else load_model(path)
    try:
        found = read_nequip(path, kind)
    except ValueError:
        # a TorchScript file can do without our network
        if kind != "torchscript" or model_units is None:
            raise
        energy, length = checked_units(model_units, False, str(path))
        return scripted_model(path, units.ENERGY_UNITS[energy], LENGTH_UNITS[length])
    return converted(found, model_units, str(path))


def convert_file(
    path: str | Path, output: str | Path, energy_units: str | None = None, length_units: str | None = None
) -> dict[str, JsonValue]:
    """Write a file of nequip as one of ours, in the same precision. Returns what it is now.

    energy_units, length_units: what the model was trained in; they may be left out where it has the ZBL repulsion.
    """
    kind = recognise(path)
    check_outputs([Path(output)], [path])
    if kind == "safetensors":
        raise ValueError(f"{path} is a safetensors file already; `openmm-allegro info {path}` says what is in it")
    if (energy_units is None) != (length_units is None):
        raise ValueError("of `--energy-units` and `--length-units` one is given; give both, or none if the file says")
    given = None if energy_units is None or length_units is None else (energy_units, length_units)
    try:
        found = read_nequip(path, kind)
    except NotAllegro as error:
        runs = (
            "; AllegroForce and `openmm-allegro simulate` run it as it is, with `model_units`"
            if kind == "torchscript"
            else ""
        )
        raise ValueError(f"{error}{runs}") from error
    if given is None and not found.config.zbl:
        raise ValueError(
            f"{path} does not say what units it was trained in, as no file of nequip does; add `--energy-units eV "
            "--length-units angstrom` if its training data were in these"
        )
    model = converted(found, given, str(path))
    save_model(model, output, provenance_of(found, path, given or ZBL_UNITS))
    return {"output": str(output), **describe(output).first(), "from": NAMES[kind], "weights": found.weights}


def describe_model(path: str | Path) -> Description:
    """What a model file of ours or of nequip says of itself; a notebook shows what to read first as a table."""
    kind = recognise(path)
    if kind == "safetensors":
        return Description(kind="openmm-allegro", **describe(path))
    try:
        found = read_nequip(path, kind)
    except NotAllegro:
        if kind != "torchscript":
            raise
        said: dict[str, JsonValue] = {**script_metadata(Path(path).read_bytes())}
        said.pop("config", None)
        return Description(kind=NAMES[kind], runs="as it is: no Allegro model", **said)
    return Description(
        kind=NAMES[kind],
        runs="telescoped, after conversion",
        units="eV, angstrom (by its ZBL repulsion)" if found.config.zbl else "not stated, as in all files of nequip",
        dtype=str(found.dtype).removeprefix("torch."),
        weights=found.weights,
        n_weights=Allegro(found.config, found.dtype).describe()["n_weights"],
        config=found.config.model_dump(mode="json"),
        versions=found.versions,
    )
