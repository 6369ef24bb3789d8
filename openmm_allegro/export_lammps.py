"""A model and a structure to a folder that LAMMPS runs, if it was built with `pair_style allegro`."""

import tempfile
from pathlib import Path

from openmm import app, unit

from openmm_allegro.atom_types import atom_types
from openmm_allegro.checkpoint import write_whole
from openmm_allegro.ensemble_file import load_for_dynamics
from openmm_allegro.export_graph import export_graph
from openmm_allegro.lammps.data import Atoms, data_file
from openmm_allegro.structure import read_structure

INPUT = """\
# Molecular dynamics with an Allegro model in LAMMPS, built with github.com/mir-group/pair_nequip_allegro:
#     lmp -in in.lammps                       or, for instance,
#     lmp -in in.lammps -var ensemble nve -var temperature 350 -var steps 20000
variable        ensemble index nvt              # or nve
variable        temperature index 300           # K, of the thermostat and of the first velocities
variable        timestep index 0.0005           # ps
variable        steps index 10000

units           metal
atom_style      atomic
newton          on
boundary        {boundary}
read_data       structure.data

pair_style      allegro
pair_coeff      * * {model} {types}
neighbor        1.0 bin

timestep        ${{timestep}}
velocity        all create ${{temperature}} 1 mom yes dist gaussian
if "${{ensemble}} == nvt" then &
    "fix integrate all nvt temp ${{temperature}} ${{temperature}} 0.1" &
else &
    "fix integrate all nve"

thermo          100
thermo_style    custom step time temp pe ke etotal press
dump            trajectory all custom 100 trajectory.lammpstrj id type element xu yu zu
dump_modify     trajectory element {types} sort id
run             ${{steps}}
write_data      final.data
"""


def export_lammps(
    model_path: Path | str, structure_path: Path | str, folder: Path | str, precision: str = "single"
) -> dict[str, object]:
    """Write `in.lammps`, `structure.data` and `model.nequip.pth` into a new folder.

    LAMMPS' atom types are those of the model, in its order. Returns what was written, for a reader.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"`output` is `{folder}`, which exists already; name a new folder")
    structure = read_structure(structure_path)
    type_names = load_for_dynamics(model_path).config.type_names
    types = [index + 1 for index in atom_types(type_names, structure.topology)]
    masses = [app.Element.getBySymbol(name).mass.value_in_unit(unit.dalton) for name in type_names]
    periodic = structure.topology.getPeriodicBoxVectors() is not None
    data = data_file(Atoms(list(type_names), masses, types), structure)
    words = {"boundary": "p p p" if periodic else "s s s", "model": "model.nequip.pth", "types": " ".join(type_names)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as parent:  # so that there is a whole folder or none
        part = Path(parent) / folder.name
        part.mkdir()
        written = export_graph(model_path, part / "model.nequip.pth", precision)
        write_whole(part / "structure.data", data.encode())
        write_whole(part / "in.lammps", INPUT.format(**words).encode())
        part.rename(folder)
    return {
        "folder": folder,
        "n_atoms": len(types),
        "periodic": periodic,
        **written,
        "file": folder / "model.nequip.pth",
    }
