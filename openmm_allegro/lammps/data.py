"""A structure as LAMMPS reads it."""

from typing import NamedTuple

import numpy as np
from openmm import unit

from openmm_allegro import units
from openmm_allegro.structure import Structure

MARGIN = 1.0
"""Room around atoms that are not periodic, which LAMMPS adjusts [Å]."""


class Atoms(NamedTuple):
    """What LAMMPS calls a structure."""

    types: list[str]
    """Names of the atom types 1, 2, …"""
    masses: list[float]
    """Of each type [Da]."""
    of_type: list[int]
    """Type of each atom, counted from 1, (n,)."""


def data_file(atoms: Atoms, structure: Structure) -> str:
    """What `read_data` reads: box, masses and places, to the last digit."""
    positions = structure.positions_nm * units.NM_TO_ANGSTROM
    box = structure.topology.getPeriodicBoxVectors()
    low, tilts = np.zeros(3), [0.0, 0.0, 0.0]
    if box is None:
        low, high = positions.min(0) - MARGIN, positions.max(0) + MARGIN
    else:
        cell = np.array([list(vector.value_in_unit(unit.nanometer)) for vector in box]) * units.NM_TO_ANGSTROM
        high, tilts = np.diag(cell), [cell[1, 0], cell[2, 0], cell[2, 1]]  # the rows are lower triangular in both
    lines = ["atoms for LAMMPS", "", f"{len(atoms.of_type)} atoms", f"{len(atoms.types)} atom types", ""]
    for axis, (start, stop) in zip("xyz", zip(low, high, strict=True), strict=True):
        lines.append(f"{float(start)!r} {float(stop)!r} {axis}lo {axis}hi")
    if any(tilts):
        lines.append(f"{' '.join(repr(float(tilt)) for tilt in tilts)} xy xz yz")
    lines += ["", "Masses", ""]
    lines += [
        f"{i} {mass!r}  # {name}" for i, (mass, name) in enumerate(zip(atoms.masses, atoms.types, strict=True), 1)
    ]
    lines += ["", "Atoms  # atomic", ""]
    for number, (of_type, (x, y, z)) in enumerate(zip(atoms.of_type, positions.tolist(), strict=True), 1):
        lines.append(f"{number} {of_type} {x!r} {y!r} {z!r}")
    return "\n".join(lines) + "\n"
