"""Built systems: written to files, and what is in them said in figures."""

import difflib
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import ase
import ase.io
import numpy as np
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.structure import names_fit_pdb, read_structure, structure_from_atoms
from openmm_allegro.systems.water import System

Array = NDArray[np.float64]
TOO_CLOSE = 1.2
"""Atoms of different molecules are not closer than this in any liquid at rest; hydrogen bonds begin at 1.5 [Å]."""


class Built(NamedTuple):
    """What `openmm-allegro build` made."""

    file: Path
    extxyz: Path
    atoms: int
    formula: str
    residues: dict[str, int]
    """Molecules and amino acids by name; one residue for a crystal."""
    widths_nm: list[float]
    """Distances between opposite faces of the box; none where it is not periodic."""
    density_g_per_cm3: float | None
    shortest_distance_angstrom: float
    """Of any two atoms, bonded or not."""


def system_of_atoms(atoms: ase.Atoms) -> System:
    """What ASE built, turned as OpenMM wants its boxes."""
    structure = structure_from_atoms(atoms)
    box = structure.topology.getPeriodicBoxVectors()
    return structure.topology, unit.Quantity(structure.positions_nm, unit.nanometer), box


def atoms_of_system(system: System) -> ase.Atoms:
    """The same for ASE, in Å."""
    topology, positions, box = system
    numbers = [atom.element.atomic_number for atom in topology.atoms()]
    places = numbers_nm(positions) * units.NM_TO_ANGSTROM
    cell = None if box is None else numbers_nm(box) * units.NM_TO_ANGSTROM
    atoms = ase.Atoms(numbers, places, cell=cell, pbc=cell is not None)
    if any(atom.element.symbol == "D" for atom in topology.atoms()):  # which ASE has as heavy hydrogen
        atoms.set_masses([atom.element.mass.value_in_unit(unit.dalton) for atom in topology.atoms()])
    return atoms


def read_system(path: Path) -> System:
    """From a structure file."""
    structure = read_structure(path)
    box = structure.topology.getPeriodicBoxVectors()
    return structure.topology, unit.Quantity(structure.positions_nm, unit.nanometer), box


def write_system(system: System, output: Path, r_max: float | None = None) -> Built:
    """Write PDBx/mmCIF or PDB, by the name's ending, and extended XYZ beside it.

    r_max: cutoff of the model that will be used [Å]; a box narrower than twice that is refused.
    """
    if output.suffix.lower() not in (".cif", ".pdb"):
        raise ValueError(f"`{output}` ends in `{output.suffix}`; give it .cif (PDBx/mmCIF) or .pdb")
    topology, positions, box = system
    atoms = atoms_of_system(system)
    if output.suffix.lower() == ".pdb" and len(atoms) > 99_999:
        raise ValueError(f"a PDB file has room for 99999 atoms, and these are {len(atoms)}; write .cif")
    if output.suffix.lower() == ".pdb" and not names_fit_pdb(topology):
        raise ValueError(
            f"a PDB file has room for names of four letters, in which some of these {len(atoms)} atoms would share a "
            "name, and readers leave all but one of them out; write .cif"
        )
    widths = [] if box is None else [float(width) for width in box_widths(numbers_nm(box))]
    if r_max is not None and widths and min(widths) < 2 * r_max * units.ANGSTROM_TO_NM:
        raise ValueError(
            f"the box is {min(widths):.2f} nm wide, less than twice the cutoff of {r_max:g} Å, so atoms would "
            "see their own images; build a larger one"
        )
    _warn_of_contacts(topology, atoms)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".tmp")
    writer = app.PDBFile if output.suffix.lower() == ".pdb" else app.PDBxFile
    chains = [chain.id for chain in topology.chains()]
    with temporary.open("w") as file:
        # Chains and residues keep the names of a deposited structure; readers would join two chains of one name.
        writer.writeFile(topology, positions, file, keepIds=len(set(chains)) == len(chains))
    temporary.replace(output)
    extxyz = output.with_suffix(".extxyz")
    temporary = extxyz.with_name(extxyz.name + ".tmp")
    ase.io.write(temporary, atoms, format="extxyz")
    temporary.replace(extxyz)
    density = None
    if box is not None:
        density = float(atoms.get_masses().sum() / atoms.get_volume() * units.DALTON_PER_ANGSTROM3_TO_G_PER_CM3)
    return Built(
        file=output,
        extxyz=extxyz,
        atoms=len(atoms),
        formula=atoms.get_chemical_formula("hill"),
        residues=dict(Counter(residue.name for residue in topology.residues()).most_common()),
        widths_nm=[round(width, 4) for width in widths],
        density_g_per_cm3=density,
        shortest_distance_angstrom=shortest_distance(atoms),
    )


def _warn_of_contacts(topology: app.Topology, atoms: ase.Atoms) -> None:
    residues = np.array([atom.residue.index for atom in topology.atoms()])
    first, second, distances = neighbor_list("ijd", atoms, TOO_CLOSE)
    bonds = {frozenset((bond[0].index, bond[1].index)) for bond in topology.bonds()}
    apart = np.flatnonzero((first < second) & (residues[first] != residues[second]))
    found = [distances[pair] for pair in apart if frozenset((first[pair], second[pair])) not in bonds]
    if found:
        warnings.warn(
            f"atoms of different molecules come as close as {min(found):.2f} Å ({len(found)} below {TOO_CLOSE} Å); let "
            "a force field part them (`--relax-ps`, `systems.relaxation.relaxed`) before a learnt potential sees them",
            stacklevel=3,
        )


def shortest_distance(atoms: ase.Atoms) -> float:
    """Of any two atoms, or of an atom and its own image [Å]; inf where all are more than 6 Å apart."""
    for reach in (1.5, 3.0, 6.0):
        distances = neighbor_list("d", atoms, reach)
        if len(distances):
            return float(distances.min())
    return float("inf")


def box_widths(box: Array) -> Array:
    """Distances between opposite faces. box: (3, 3), rows are vectors. Returns (3,)."""
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(box), axis=0))


def known_names(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return f"`{name}`; {hint}known are {', '.join(names)}"


def numbers_nm(quantity: unit.Quantity) -> Array:
    """Rows in nm."""
    return np.array([list(row) for row in quantity.value_in_unit(unit.nanometer)])
