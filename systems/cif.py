"""Crystals in CIF files: all positions of the cell, and what stands on each.

Symbols used in this file
    n  positions on the lattice, occupied or not        r  rows of the file
"""

from pathlib import Path

import ase
import numpy as np
from ase.geometry import find_mic
from ase.io.cif import CIFBlock, parse_cif
from numpy.typing import NDArray

SAME_PLACE = 0.05
"""Rows and positions this near to each other [Å] are of one site."""


def read_cif(path: Path) -> tuple[ase.Atoms, NDArray[np.int64], dict[int, dict[str, float]]]:
    """One atom for each position, the orbit of each (n,), and of each orbit the occupancy by element.

    Rows of one place and element, such as Mn3+ beside Mn4+, are one element: their shares are added.
    """
    if "_atom_site.Cartn_x" in path.read_text():
        raise ValueError(
            f"`{path}` is PDBx/mmCIF, which holds finished atoms and no lattice; give the CIF of a crystal"
        )
    try:
        with path.open() as file:
            block = [block for block in parse_cif(file) if block.has_structure()][-1]
        atoms = block.get_atoms(fractional_occupancies=True)
        kinds = atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms))).astype(np.int64)
        shares = _shares(block, atoms, kinds)
    except Exception as error:  # ASE's reader fails in many ways
        reason = "it has no structure" if isinstance(error, IndexError) else str(error) or type(error).__name__
        raise ValueError(f"`{path}` could not be read as the CIF file of a crystal: {reason}") from error
    return atoms, kinds, shares


def _shares(block: CIFBlock, atoms: ase.Atoms, kinds: NDArray[np.int64]) -> dict[int, dict[str, float]]:
    """Occupancy by element for each orbit; an unknown one is 1, as the dictionary of CIF has it."""
    occupancies = block.get("_atom_site_occupancy")
    if occupancies is None:
        return {int(kind): {atoms[int(np.argmax(kinds == kind))].symbol: 1.0} for kind in np.unique(kinds)}
    rows = block.get_unsymmetrized_structure()
    shares: dict[int, dict[str, float]] = {}
    for row, occupancy in zip(rows, occupancies, strict=True):
        away = find_mic(atoms.positions - row.position, atoms.cell)[1]
        nearest = int(np.argmin(away))
        if away[nearest] > SAME_PLACE:
            raise ValueError(f"{row.symbol} of row {row.index} is at no position of the cell")
        site = shares.setdefault(int(kinds[nearest]), {})
        site[row.symbol] = site.get(row.symbol, 0.0) + (occupancy if isinstance(occupancy, float | int) else 1.0)
    return shares
