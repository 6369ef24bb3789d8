"""Neighbours: pairs within the cutoff, and the padded matrix in which each centre atom has one row.

Symbols used in this file
    n  atoms        e  pairs, each counted from both ends
    b  rows         k  neighbour slots of a row
"""

from typing import NamedTuple

import torch
from torch import Tensor
from vesin_torch import NeighborList


class NeighborPairs(NamedTuple):
    """All ordered pairs closer than the cutoff, sorted by centre atom."""

    neighbour: Tensor
    """Index of the neighbour, (e,) int64."""
    vectors: Tensor
    """From centre to neighbour, periodic image included [Å], (e, 3) float64."""
    first: Tensor
    """Where each centre's pairs begin, (n,) int64."""
    counts: Tensor
    """How many neighbours each centre has, (n,) int64."""


class NeighborMatrix(NamedTuple):
    """Neighbours of some centre atoms, one row each, padded to the longest row.

    A padding entry has the centre itself as neighbour and an edge vector along x that is longer
    than the cutoff, so that a model gives it exactly zero energy and zero gradient.
    """

    neighbours: Tensor
    """(b, k) int64."""
    edge_vectors: Tensor
    """[Å], (b, k, 3)."""
    real: Tensor
    """False for padding, (b, k) bool."""


class Neighbors(torch.nn.Module):
    """Find pairs with vesin, keeping its list until an atom has moved more than half the skin.

    Neighbour lists come from vesin (https://luthaf.fr/vesin); a change of the cell makes a new list.
    """

    def __init__(self, cutoff: float, skin: float = 0.0) -> None:
        """cutoff, skin: [Å]."""
        super().__init__()
        self.search = NeighborList(cutoff, full_list=True, sorted=True, skin=skin)

    def forward(self, positions: Tensor, cell: Tensor, numbers: Tensor | None = None) -> NeighborPairs:
        """Find the pairs.

        positions: (n, 3) [Å]; cell: (3, 3) rows are lattice vectors [Å], all zero when not periodic;
        numbers: (n,) what to call the atoms in errors, None counts from 0.
        """
        if not bool(torch.isfinite(positions).all()):
            broken = int(torch.nonzero(~torch.isfinite(positions).all(1))[0])
            broken = broken if numbers is None else int(numbers[broken])
            raise ValueError(
                f"the position of atom {broken} is not a finite number; minimise first or use a shorter time step"
            )
        periodic = bool((cell != 0).any())
        if periodic:
            check_heights(cell)
        i, neighbour, vectors = self.search.compute(
            positions.detach().to(torch.float64), cell.detach().to(torch.float64), periodic, "ijD"
        )
        if bool((vectors.abs().amax(1) == 0).any()):
            pair = int(torch.nonzero(vectors.abs().amax(1) == 0)[0])
            one, other = int(i[pair]), int(neighbour[pair])
            if numbers is not None:
                one, other = int(numbers[one]), int(numbers[other])
            raise ValueError(f"atoms {one} and {other} are on one spot; move one of them")
        counts = torch.bincount(i, minlength=positions.shape[0])
        return NeighborPairs(neighbour, vectors, torch.cumsum(counts, 0) - counts, counts)


def check_heights(cell: Tensor) -> None:
    """Refuse a cell so flat that the images within a cutoff could not be counted. cell: (3, 3) [Å]."""
    smallest_height = 0.5  # Å, less than that of any crystal
    faces = torch.linalg.cross(cell.roll(-1, 0), cell.roll(-2, 0))
    height = float((torch.linalg.det(cell).abs() / torch.linalg.vector_norm(faces, dim=1)).min())
    if not height > smallest_height:
        raise ValueError(
            f"the periodic cell is too flat: its smallest height is {height} Å, below {smallest_height} Å; "
            "check the box vectors and their unit"
        )


def pad_rows(pairs: NeighborPairs, centres: Tensor, padding_length: float) -> NeighborMatrix:
    """Give each of `centres` (b,) one row of the padded matrix. padding_length: [Å], beyond the cutoff."""
    counts = pairs.counts[centres]
    slots = torch.arange(int(counts.max()) if len(centres) > 0 else 0, device=centres.device)
    real = slots < counts.unsqueeze(1)  # (b, k)
    pair = torch.where(real, pairs.first[centres].unsqueeze(1) + slots, 0)
    padding = torch.zeros(3, dtype=pairs.vectors.dtype, device=centres.device)
    padding[0] = padding_length
    if pairs.neighbour.shape[0] == 0:  # no pair at all: k is zero and there is nothing to look up
        return NeighborMatrix(pair, pairs.vectors.new_zeros((len(centres), 0, 3)), real)
    vectors = torch.where(real.unsqueeze(2), pairs.vectors[pair], padding)
    neighbours = torch.where(real, pairs.neighbour[pair], centres.unsqueeze(1))
    return NeighborMatrix(neighbours, vectors, real)


def neighbor_matrix(positions: Tensor, cell: Tensor, cutoff: float) -> NeighborMatrix:
    """Padded neighbours of every atom. positions: (n, 3) [Å]; cell: (3, 3) [Å], zeros when not periodic."""
    pairs = Neighbors(cutoff)(positions, cell)
    return pad_rows(pairs, torch.arange(positions.shape[0], device=positions.device), 2 * cutoff)
