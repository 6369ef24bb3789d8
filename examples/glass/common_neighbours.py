"""Common neighbours of bonded atoms, which tell a glass from a crystal.

Of a bonded pair count the atoms bonded to both, and the bonds among those: 4 and 2 for all pairs of close-packed
crystals, 5 and 5 where five tetrahedra share an edge as in icosahedra, with which no crystal can be filled
(J. D. Honeycutt and H. C. Andersen, J. Phys. Chem. 91, 4950, 1987; chains among the common atoms are not looked at).
"""

import ase
import numpy as np
from ase.neighborlist import neighbor_list

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.units import NM_TO_ANGSTROM

KINDS = {"close-packed pairs, %": (4, 2), "five-fold pairs, %": (5, 5)}


def common_neighbours(frames: Frames, bond_angstrom: float) -> dict[str, float]:
    """Share of each kind among the pairs closer than `bond_angstrom`, in per cent over all frames."""
    pairs = []
    for _, positions, cell in frames.in_blocks(1):
        assert cell is not None  # of an alloy
        atoms = ase.Atoms(positions=NM_TO_ANGSTROM * positions, cell=NM_TO_ANGSTROM * cell, pbc=True)
        pairs.append(pairs_of(atoms, bond_angstrom))
    every = np.concatenate(pairs)
    return {name: 100 * float(np.mean((every == kind).all(axis=1))) for name, kind in KINDS.items()}


def pairs_of(atoms: ase.Atoms, bond_angstrom: float) -> np.ndarray:
    """Common neighbours of each bonded pair and bonds among them, (pairs, 2)."""
    bonded = np.zeros((len(atoms), len(atoms)), dtype=bool)
    bonded[neighbor_list("ij", atoms, bond_angstrom)] = True
    found = []
    for first, second in np.argwhere(np.triu(bonded)):
        common = np.flatnonzero(bonded[first] & bonded[second])
        found.append((len(common), np.count_nonzero(bonded[np.ix_(common, common)]) // 2))
    return np.array(found)
