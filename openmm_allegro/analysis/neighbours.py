"""Neighbours within a distance, in any periodic cell or none; vesin finds them.

Symbols used in this file
    a, b  atoms of the first and the second set     z  pairs
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class Pairs(NamedTuple):
    """Ordered pairs of one frame; a pair appears once for each of its images within the distance."""

    centre: Indices
    """Index into the first set, (z,)."""
    neighbour: Indices
    """Index into the second set, (z,)."""
    distance_nm: Array
    """(z,)"""
    vector_nm: Array
    """From centre to neighbour, (z, 3)."""


def pairs_within(first_nm: Array, second_nm: Array | None, cell_nm: Array | None, cutoff_nm: float) -> Pairs:
    """All pairs closer than the cutoff. first_nm: (a, 3). second_nm: (b, 3), None for the first set itself.

    Of one set, each pair is met in both orders and no atom with itself in its own cell. cell_nm: rows, (3, 3), or None
    without a cell. Two sets must not share atoms.
    """
    from vesin import NeighborList  # loads torch where it is installed

    together = first_nm if second_nm is None else np.concatenate([first_nm, second_nm])
    box = np.zeros((3, 3)) if cell_nm is None else cell_nm
    search = NeighborList(cutoff=cutoff_nm, full_list=second_nm is None)
    i, j, distance, vector = search.compute(together, box, periodic=cell_nm is not None, quantities="ijdD")
    i, j = i.astype(np.int64), j.astype(np.int64)
    if second_nm is None:
        return Pairs(i, j, distance, vector)
    a = len(first_nm)
    turned = (i >= a) & (j < a)
    i, j = np.where(turned, j, i), np.where(turned, i, j)
    vector = np.where(turned[:, None], -vector, vector)
    mixed = (i < a) & (j >= a)
    return Pairs(i[mixed], j[mixed] - a, distance[mixed], vector[mixed])


def unordered_pairs_within(points_nm: Array, cell_nm: Array | None, cutoff_nm: float) -> tuple[Indices, Indices, Array]:
    """Both indices and the distance of all pairs closer than the cutoff, each pair and image once; three times (z,).

    A third of the time and memory of `pairs_within`, where neither direction nor order matters. points_nm: (a, 3).
    """
    from vesin import NeighborList  # loads torch where it is installed

    box = np.zeros((3, 3)) if cell_nm is None else cell_nm
    search = NeighborList(cutoff=cutoff_nm, full_list=False)
    i, j, distance = search.compute(points_nm, box, periodic=cell_nm is not None, quantities="ijd")
    return i.astype(np.int64), j.astype(np.int64), distance
