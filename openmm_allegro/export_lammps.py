"""A model and a structure to a folder that LAMMPS runs, if it was built with `pair_style allegro`."""

import io
from pathlib import Path

import ase
import numpy as np
from ase.io.lammpsdata import write_lammps_data
from openmm import unit

from openmm_allegro import units
from openmm_allegro.checkpoint import write_whole
from openmm_allegro.ensemble_file import load_for_dynamics
from openmm_allegro.export_graph import export_graph
from openmm_allegro.force import atom_types
from openmm_allegro.structure import Structure, read_structure

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
    atom_types(type_names, structure.topology)  # refuses elements that the model does not know
    atoms = boxed_atoms(structure, margin=10.0)
    periodic = structure.topology.getPeriodicBoxVectors() is not None
    folder.mkdir(parents=True)
    written = export_graph(model_path, folder / "model.nequip.pth", precision)
    data = io.StringIO()
    write_lammps_data(data, atoms, specorder=list(type_names), units="metal", atom_style="atomic", masses=True)
    write_whole(folder / "structure.data", data.getvalue().encode())
    words = {"boundary": "p p p" if periodic else "s s s", "model": "model.nequip.pth", "types": " ".join(type_names)}
    write_whole(folder / "in.lammps", INPUT.format(**words).encode())
    return {"folder": folder, "n_atoms": len(atoms), "periodic": periodic, **written}


def boxed_atoms(structure: Structure, margin: float) -> ase.Atoms:
    """A structure for ASE's writer; without periodicity in a box with this margin [Å], as LAMMPS wants one to start."""
    symbols = [atom.element.symbol for atom in structure.topology.atoms()]
    positions = structure.positions_nm * units.NM_TO_ANGSTROM
    box = structure.topology.getPeriodicBoxVectors()
    if box is None:
        cell = np.diag(np.ptp(positions, axis=0) + 2 * margin)
        return ase.Atoms(symbols, positions - positions.min(0) + margin, cell=cell)
    cell = np.array([list(vector.value_in_unit(unit.angstrom)) for vector in box])
    atoms = ase.Atoms(symbols, positions, cell=cell, pbc=True)
    atoms.wrap()
    return atoms
