"""Which atoms of a frame are neighbours, kept small: numbers of atoms and of cells, no vectors.

Symbols used in this file
    n  atoms of the frame        z  pairs, those of a centre side by side        k  neighbour slots
"""

from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.training.frames import Frame


class Pairs(NamedTuple):
    """Pairs of atoms within the cutoff, each from both its ends."""

    counts: Tensor
    """Neighbours of each atom, (n,) int64."""
    neighbours: Tensor
    """Number of the neighbour, (z,) int64."""
    cells: Tensor
    """How many lattice vectors its image lies away, (z, 3) int64."""


def find_pairs(frame: Frame, cutoff: float, min_distance: float) -> Pairs:
    """Neighbours of each atom; refuses atoms closer than min_distance. Both lengths in Å."""
    positions = torch.tensor(frame.positions, dtype=torch.float64)
    cell = torch.tensor(frame.cell, dtype=torch.float64)
    try:
        neighbours, vectors, real = neighbor_matrix(positions, cell, cutoff)
    except ValueError as error:
        raise ValueError(f"{frame.origin}: {error}") from error
    centres, slots = torch.nonzero(real, as_tuple=True)
    neighbours, vectors = neighbours[centres, slots], vectors[centres, slots]
    _check_distances(frame, centres, neighbours, vectors, min_distance)
    cells = torch.zeros((len(centres), 3), dtype=torch.int64)
    if frame.periodic:
        across = vectors - (positions[neighbours] - positions[centres])
        cells = torch.linalg.solve(cell.T, across.T).T.round().to(torch.int64)
    return Pairs(real.sum(1), neighbours, cells)


def _check_distances(frame: Frame, centres: Tensor, neighbours: Tensor, vectors: Tensor, min_distance: float) -> None:
    if len(centres) == 0:
        return
    distances = torch.linalg.vector_norm(vectors, dim=1)
    if float(distances.min()) < min_distance:
        pair = int(distances.argmin())
        raise ValueError(
            f"{frame.origin}: atoms {int(centres[pair])} and {int(neighbours[pair])} are "
            f"{float(distances[pair]):.3g} Å apart; "
            f"expected at least {min_distance:g} Å (`data.min_distance`); remove the frame"
        )


def pad(pairs: Pairs, frame: Frame, padding_length: float) -> tuple[Tensor, Tensor]:
    """Neighbours (n, k) and vectors to them (n, k, 3) [Å] float64; padding lies at padding_length [Å]."""
    n_atoms = len(pairs.counts)
    centres = torch.repeat_interleave(pairs.counts)
    slots = torch.arange(len(centres)) - (pairs.counts.cumsum(0) - pairs.counts)[centres]
    positions = torch.tensor(frame.positions, dtype=torch.float64)
    across = pairs.cells.to(torch.float64) @ torch.tensor(frame.cell, dtype=torch.float64)
    n_slots = int(pairs.counts.max())
    neighbours = torch.arange(n_atoms).unsqueeze(1).repeat(1, n_slots)
    vectors = positions.new_zeros((n_atoms, n_slots, 3))
    vectors[:, :, 0] = padding_length
    neighbours[centres, slots] = pairs.neighbours
    vectors[centres, slots] = positions[pairs.neighbours] - positions[centres] + across
    return neighbours, vectors
