"""Neighbours within a distance, in any periodic cell or none: listed by vesin, or only counted.

Symbols used in this file
    a, b  atoms of the first and the second set     z  pairs
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

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


def pairs_of(positions_nm: Array, first: Indices, second: Indices, cell_nm: Array | None, cutoff_nm: float) -> Pairs:
    """Pairs of two sets of indices into the positions, (n, 3), which may be one set, share atoms or not.

    Centres and neighbours count within their own set, as in `pairs_within`.
    """
    if np.array_equal(first, second):
        return pairs_within(positions_nm[first], None, cell_nm, cutoff_nm)
    if not np.intersect1d(first, second).size:
        return pairs_within(positions_nm[first], positions_nm[second], cell_nm, cutoff_nm)
    either = np.union1d(first, second)
    pairs = pairs_within(positions_nm[either], None, cell_nm, cutoff_nm)
    place_in_first, place_in_second = np.full(len(either), -1), np.full(len(either), -1)
    place_in_first[np.searchsorted(either, first)] = np.arange(len(first))
    place_in_second[np.searchsorted(either, second)] = np.arange(len(second))
    centre, neighbour = place_in_first[pairs.centre], place_in_second[pairs.neighbour]
    kept = (centre >= 0) & (neighbour >= 0)
    return Pairs(centre[kept], neighbour[kept], pairs.distance_nm[kept], pairs.vector_nm[kept])


def distance_counts(first_nm: Array, second_nm: Array, cell_nm: Array, edges_nm: Array) -> Indices:
    """How many pairs, images included, have a distance in each bin, open at its lower edge; (bins,).

    Twice the same array is one set, in both orders and without an atom with itself. Pairs are counted tree by tree and
    never listed (A. W. Moore et al., astro-ph/0012333), so that memory stays that of the positions.
    """
    inverse = np.linalg.inv(cell_nm)
    inside, others = (x @ inverse - np.floor(x @ inverse) for x in (first_nm, second_nm))
    reach = edges_nm[-1] * np.linalg.norm(inverse, axis=0)  # in fractions of the heights
    for axis in range(3):
        steps = range(-int(np.ceil(reach[axis])), int(np.ceil(reach[axis])) + 1)
        images = np.concatenate([others + step * np.eye(3)[axis] for step in steps])
        others = images[(images[:, axis] >= -reach[axis]) & (images[:, axis] <= 1 + reach[axis])]
    inside_tree, other_tree = (KDTree(x @ cell_nm, balanced_tree=False, compact_nodes=False) for x in (inside, others))
    counts = inside_tree.count_neighbors(other_tree, edges_nm, cumulative=False)  # the first: at a distance of zero
    return np.asarray(counts[1:], dtype=np.int64)
