"""Neighbour lists against a brute-force search over images."""

import itertools

import pytest
import torch
from conftest import random_atoms
from torch import Tensor

from openmm_allegro.neighbors import Neighbors, neighbor_matrix

CUTOFF = 4.0


def brute_force(positions: Tensor, cell: Tensor, cutoff: float) -> list[list[tuple[int, float]]]:
    """For each atom the (neighbour, distance) of every pair within the cutoff, over enough images."""
    images = range(-4, 5) if (cell != 0).any() else (0,)
    shifts = torch.tensor(list(itertools.product(images, repeat=3)), dtype=torch.float64) @ cell
    found = []
    for i in range(len(positions)):
        distance = (positions[None] + shifts[:, None] - positions[i]).norm(dim=2)
        hits = torch.nonzero((distance < cutoff) & (distance > 1e-9)).tolist()
        found.append(sorted((j, round(distance[s, j].item(), 9)) for s, j in hits))
    return found


def as_lists(matrix) -> list[list[tuple[int, float]]]:
    """The same from a padded matrix."""
    distance = matrix.edge_vectors.norm(dim=2)
    return [
        sorted((int(matrix.neighbours[i, k]), round(distance[i, k].item(), 9)) for k in torch.nonzero(row).flatten())
        for i, row in enumerate(matrix.real)
    ]


@pytest.mark.parametrize("edge", [3.1, 5.0, 7.0])
def test_pairs_are_those_of_a_brute_force_search_in_any_cell(edge):
    positions, cell, _ = random_atoms(8, edge)  # 3.1 Å: smaller than the cutoff, atoms see their own images
    matrix = neighbor_matrix(positions, cell, CUTOFF)
    assert as_lists(matrix) == brute_force(positions, cell, CUTOFF)
    assert matrix.real.any()


def test_pairs_without_a_cell():
    positions, _, _ = random_atoms(20, 7.0)
    cell = torch.zeros((3, 3), dtype=torch.float64)
    assert as_lists(neighbor_matrix(positions, cell, CUTOFF)) == brute_force(positions, cell, CUTOFF)


def test_padding_lies_beyond_the_cutoff_and_names_the_centre():
    positions, cell, _ = random_atoms(20, 9.0)
    matrix = neighbor_matrix(positions, cell, CUTOFF)
    padding = ~matrix.real
    assert padding.any()
    assert (matrix.edge_vectors[padding].norm(dim=1) == 2 * CUTOFF).all()
    assert torch.equal(matrix.neighbours[padding], torch.nonzero(padding)[:, 0])


def test_a_skin_misses_no_pair_under_fast_atoms_box_changes_and_wrapping():
    search = Neighbors(CUTOFF, skin=1.0)
    positions, cell, _ = random_atoms(40, 9.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(40):
        positions = positions + 0.1 * torch.randn(positions.shape, dtype=torch.float64, generator=generator)
        if step % 7 == 0:  # as a barostat does
            positions, cell = positions * 1.01, cell * 1.01
        if step % 5 == 0:
            positions = positions.clone()
            positions[step % 40] += cell[step % 3]
        pairs = search(positions, cell)
        expected = brute_force(positions, cell, CUTOFF)
        for i, neighbours in enumerate(expected):
            span = slice(int(pairs.first[i]), int(pairs.first[i] + pairs.counts[i]))
            distance = pairs.vectors[span].norm(dim=1)
            found = sorted(zip(pairs.neighbour[span].tolist(), distance.tolist(), strict=True))
            assert [j for j, _ in found] == [j for j, _ in neighbours]
            assert [d for _, d in found] == pytest.approx([d for _, d in neighbours], abs=1e-8)


def test_positions_that_are_not_numbers_are_refused():
    positions, cell, _ = random_atoms(5, 9.0)
    positions[3, 1] = float("nan")
    with pytest.raises(ValueError, match="position of atom 3 is not a finite number"):
        Neighbors(CUTOFF)(positions, cell)


def test_two_atoms_on_one_spot_are_refused():
    positions, cell, _ = random_atoms(5, 9.0)
    positions[3] = positions[1]
    with pytest.raises(ValueError, match="atoms 1 and 3 are on one spot"):
        Neighbors(CUTOFF)(positions, cell)


def test_two_atoms_on_one_spot_through_the_cell_are_refused():
    positions, cell, _ = random_atoms(5, 9.0)
    positions[3] = positions[1] + cell[0]
    with pytest.raises(ValueError, match="on one spot"):
        Neighbors(CUTOFF)(positions, cell)


def test_a_flat_cell_is_refused():
    positions, cell, _ = random_atoms(5, 9.0)
    cell[2] = cell[0] + 0.01 * cell[2]
    with pytest.raises(ValueError, match="the periodic cell is too flat: its smallest height is 0.0"):
        Neighbors(CUTOFF)(positions, cell)
