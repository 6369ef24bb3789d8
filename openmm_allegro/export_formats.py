"""The formats in which a model leaves for other programs."""

from pathlib import Path
from typing import Literal

from openmm_allegro.export_compiled import export_compiled
from openmm_allegro.export_file import export_file
from openmm_allegro.export_graph import export_graph
from openmm_allegro.export_lammps import export_lammps
from openmm_allegro.outputs import check_new_outputs

Format = Literal["torchforce", "nequip", "lammps", "aoti-ase", "aoti-lammps"]
OUTPUTS: dict[Format, str] = {
    "torchforce": "force.pt",
    "nequip": "model.nequip.pth",
    "lammps": "lammps",
    "aoti-ase": "model.nequip.pt2",
    "aoti-lammps": "model.nequip.pt2",
}
"""Where each goes if nothing else is said."""


def export(
    model: Path,
    structure: Path | None = None,
    output: Path | None = None,
    format: Format = "torchforce",
    precision: str = "single",
    skin_nm: float | None = None,
    device: str | None = None,
) -> dict[str, object]:
    """Write a model in one of the formats; see `export_file`, `export_graph`, `export_lammps` and `export_compiled`.

    structure: for the formats that belong to one system; skin_nm: of the neighbour list of `torchforce`, by default
    0.1; device: that the formats `aoti-…` are compiled for, by default cpu. Returns what was written, for a reader.
    """
    output = Path(OUTPUTS[format]) if output is None else output
    if skin_nm is not None and format != "torchforce":
        raise ValueError(
            f"`skin_nm` is {skin_nm}, but a model in the format {format} has no neighbour list of its own; leave it out"
        )
    if device is not None and not format.startswith("aoti"):
        raise ValueError(
            f"`device` is {device}, but a model in the format {format} runs where the program that opens it wants; "
            "leave it out"
        )
    if format in ("nequip", "aoti-ase", "aoti-lammps") and structure is not None:
        raise ValueError(f"a model in the format {format} serves every system of its elements; leave out `{structure}`")
    if format != "lammps":
        check_new_outputs([output], [model, structure])
    if format == "nequip":
        return export_graph(model, output, precision)
    if format == "aoti-ase" or format == "aoti-lammps":
        return export_compiled(model, output, "ase" if format == "aoti-ase" else "lammps", precision, device or "cpu")
    if structure is None:
        raise ValueError(f"the format {format} is for one system; name a structure file after the model")
    if format == "lammps":
        return export_lammps(model, structure, output, precision)
    return export_file(model, structure, output, precision, 0.1 if skin_nm is None else skin_nm)
