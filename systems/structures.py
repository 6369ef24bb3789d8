"""Structures from files, and supercells of them."""

from pathlib import Path

import ase.io
import numpy as np
from openmm import Vec3, app, unit

System = tuple[app.Topology, unit.Quantity, unit.Quantity | None]
"""Topology, positions (atoms, 3) in nm, three box vectors in nm or None where there is no periodic cell."""


def read_structure(path: str | Path) -> System:
    """Read .pdb and .cif (PDBx/mmCIF) through OpenMM; .xyz and .extxyz through ASE, the last frame.

    Files read through ASE have no bonds; a cell that is not in OpenMM's orientation is turned into it, atoms and all.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file `{path}`")
    ending = path.suffix.lower()
    if ending in (".pdb", ".cif"):
        file = app.PDBFile(str(path)) if ending == ".pdb" else app.PDBxFile(str(path))
        positions = np.array(file.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        return file.topology, unit.Quantity(positions, unit.nanometer), file.topology.getPeriodicBoxVectors()
    if ending in (".xyz", ".extxyz"):
        atoms = ase.io.read(path, index=-1, format="extxyz")
        assert isinstance(atoms, ase.Atoms)  # an index that is a number gives one frame
        return from_ase(atoms)
    raise ValueError(f"`{path.name}` ends in `{ending}`; structures are read from .pdb, .cif, .xyz or .extxyz")


def from_ase(atoms: ase.Atoms) -> System:
    """Topology of one residue, without bonds, positions and box of ASE atoms."""
    if atoms.pbc.any() and not atoms.pbc.all():
        raise ValueError(f"the structure is periodic along {atoms.pbc.tolist()}; OpenMM needs all three axes or none")
    topology = app.Topology()
    residue = topology.addResidue("SYS", topology.addChain())
    for k, symbol in enumerate(atoms.get_chemical_symbols()):
        topology.addAtom(f"{symbol}{k + 1}", app.Element.getBySymbol(symbol), residue)
    positions = atoms.positions * 0.1
    if not atoms.pbc.all():
        return topology, unit.Quantity(positions, unit.nanometer), None
    if atoms.cell.rank < 3 or atoms.cell.handedness < 0:
        raise ValueError("the cell of the structure is not three independent right-handed vectors; OpenMM needs these")
    lower, rotation = atoms.cell.standard_form()  # cell = lower @ rotation
    box = unit.Quantity([Vec3(*row) for row in _reduced(np.array(lower) * 0.1)], unit.nanometer)
    topology.setPeriodicBoxVectors(box)
    return topology, unit.Quantity(positions @ rotation.T, unit.nanometer), box


def replicate(
    topology: app.Topology, positions: unit.Quantity, box: unit.Quantity | None, repeats: tuple[int, int, int]
) -> System:
    """Supercell of nx × ny × nz copies along the box vectors, bonds included; every copy gets chains of its own."""
    if box is None:
        raise ValueError("a structure without a periodic box cannot be repeated; give it box vectors")
    if min(repeats) < 1:
        raise ValueError(f"`repeats` is {tuple(repeats)}; each must be 1 or more")
    cell = np.array([list(row) for row in box.value_in_unit(unit.nanometer)])
    one = np.array(positions.value_in_unit(unit.nanometer), dtype=np.float64)
    if len(one) != topology.getNumAtoms():
        raise ValueError(f"there are {len(one)} positions for the {topology.getNumAtoms()} atoms of the topology")
    result = app.Topology()
    copies = []
    for index in np.ndindex(*repeats):
        copies.append(one + np.array(index) @ cell)
        _append(result, topology)
    supercell = _reduced(cell * np.array(repeats)[:, None])
    repeated_box = unit.Quantity([Vec3(*row) for row in supercell], unit.nanometer)
    result.setPeriodicBoxVectors(repeated_box)
    return result, unit.Quantity(np.concatenate(copies), unit.nanometer), repeated_box


def _append(target: app.Topology, source: app.Topology) -> None:
    copied = {}
    for chain in source.chains():
        new_chain = target.addChain()
        for residue in chain.residues():
            new_residue = target.addResidue(residue.name, new_chain)
            for atom in residue.atoms():
                copied[atom] = target.addAtom(atom.name, atom.element, new_residue)
    for bond in source.bonds():
        target.addBond(copied[bond[0]], copied[bond[1]], bond.type, bond.order)


def _reduced(cell: np.ndarray) -> np.ndarray:
    """The same lattice in OpenMM's reduced form, from a lower triangular cell with positive diagonal."""
    a, b, c = cell
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    return np.array([a, b, c])
