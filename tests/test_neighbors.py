"""Neighbour lists against a brute-force search over images."""

import io
import itertools
import pickle

import pytest
import torch
from conftest import random_atoms
from torch import Tensor

from openmm_allegro.cells import on_one_spot
from openmm_allegro.neighbors import NeighborPairs, Neighbors, neighbor_matrix

CUTOFF = 4.0
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def brute_force(positions: Tensor, cell: Tensor, cutoff: float) -> list[list[tuple[int, float]]]:
    """For each atom the (neighbour, distance) of every pair within the cutoff, over enough images."""
    periodic = bool((cell != 0).any())
    if periodic:
        positions = positions - torch.floor(positions @ torch.linalg.inv(cell)) @ cell
    images = range(-4, 5) if periodic else (0,)
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


@pytest.mark.parametrize("piece_atoms", [1000, 20])
@pytest.mark.parametrize("edge", [3.1, 9.0])
def test_pairs_across_every_face_of_the_cell_are_found(edge, piece_atoms):
    _, cell, _ = random_atoms(1, edge)
    positions = torch.rand((60, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(5)) @ cell
    search = Neighbors(CUTOFF, piece_atoms=piece_atoms)
    assert_all_pairs_found(search(positions, cell), positions, cell)


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


def assert_all_pairs_found(pairs: NeighborPairs, positions: Tensor, cell: Tensor) -> None:
    """Rows in the order of the atoms hold what a brute-force search finds; vectors lead from centre to neighbour."""
    assert torch.equal(pairs.centres, torch.arange(len(positions)))
    assert torch.equal(pairs.first, torch.cumsum(pairs.counts, 0) - pairs.counts)
    distance = pairs.vectors.norm(dim=1)
    for i, neighbours in enumerate(brute_force(positions, cell, CUTOFF)):
        span = slice(int(pairs.first[i]), int(pairs.first[i] + pairs.counts[i]))
        found = sorted(zip(pairs.neighbour[span].tolist(), distance[span].tolist(), strict=True))
        assert [j for j, _ in found] == [j for j, _ in neighbours]
        assert [d for _, d in found] == pytest.approx([d for _, d in neighbours], abs=1e-8)  # rounded to 1e-9
    centre = torch.repeat_interleave(pairs.centres, pairs.counts)
    beyond = pairs.vectors - (positions[pairs.neighbour] - positions[centre])
    if (cell != 0).any():
        beyond = beyond @ torch.linalg.inv(cell)  # in lattice vectors
        beyond = beyond - beyond.round()
    assert beyond.abs().max() < 1e-9  # rounding


@pytest.mark.parametrize("piece_atoms", [1000, 12])
def test_a_skin_misses_no_pair_under_fast_atoms_box_changes_and_wrapping(piece_atoms):
    search = Neighbors(CUTOFF, skin=1.0, piece_atoms=piece_atoms)
    positions, cell, _ = random_atoms(40, 9.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(40):
        positions = positions + 0.05 * torch.randn(positions.shape, dtype=torch.float64, generator=generator)
        if step % 7 == 0:  # as a barostat does, with shear
            strain = torch.eye(3, dtype=torch.float64) * 1.01
            strain[1, 0] += 0.02
            positions, cell = positions @ strain, cell @ strain
        if step % 5 == 0:
            positions[step % 40] += cell[step % 3] - 2 * cell[0]
        assert_all_pairs_found(search(positions, cell), positions, cell)
    assert 2 < search.builds < 30  # or nothing was tested: a step moves an atom by up to 0.2 Å


@pytest.mark.parametrize("edge", [2.2, 3.1, 5.0])
def test_a_skin_misses_no_image_in_a_box_smaller_than_the_cutoff(edge):
    search = Neighbors(CUTOFF, skin=0.5)
    positions, cell, _ = random_atoms(4, edge)
    generator = torch.Generator().manual_seed(1)
    for step in range(12):
        positions = positions + 0.03 * torch.randn(positions.shape, dtype=torch.float64, generator=generator)
        positions[step % 4] -= 3 * cell[step % 3]
        if step % 3 == 0:
            positions, cell = positions * 0.99, cell * 0.99
        assert_all_pairs_found(search(positions, cell), positions, cell)
    assert search.builds < 12


def test_a_skin_misses_no_pair_without_a_cell():
    search = Neighbors(CUTOFF, skin=1.0, piece_atoms=16)
    positions, cell, _ = random_atoms(40, 12.0)
    cell = torch.zeros_like(cell)
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        positions = positions + 0.1 * torch.randn(positions.shape, dtype=torch.float64, generator=generator)
        assert_all_pairs_found(search(positions, cell), positions, cell)
    assert 2 < search.builds < 20


def test_a_list_is_kept_until_an_atom_has_moved_half_the_skin():
    search = Neighbors(CUTOFF, skin=1.0)
    positions, cell, _ = random_atoms(40, 9.0)
    for _ in range(3):
        search(positions, cell)
    assert (search.builds, search.updates) == (1, 3)
    positions[7] += torch.tensor([0.0, 0.49, 0.0])
    search(positions, cell)
    assert search.builds == 1
    positions[7] += torch.tensor([0.0, 0.02, 0.0])
    assert_all_pairs_found(search(positions, cell), positions, cell)
    assert search.builds == 2
    search(positions, cell)
    assert search.builds == 2


def test_a_list_is_kept_while_a_smaller_box_brings_nothing_from_beyond_the_skin_within_the_cutoff():
    search = Neighbors(CUTOFF, skin=1.0)
    positions, cell, _ = random_atoms(40, 9.0)
    search(positions, cell)
    for scale, builds in ((1.2, 1), (0.801, 1), (0.799, 2)):  # cutoff / (cutoff + skin) = 0.8
        assert_all_pairs_found(search(positions * scale, cell * scale), positions * scale, cell * scale)
        assert search.builds == builds


def test_a_box_squeezed_along_one_axis_makes_a_new_list_though_it_grows_along_another():
    search = Neighbors(CUTOFF, skin=1.0)
    positions, cell, _ = random_atoms(40, 9.0)
    search(positions, cell)
    for squeeze, builds in ((0.801, 1), (0.799, 2)):
        strain = torch.tensor([1.2, 1.0, squeeze], dtype=torch.float64)
        assert_all_pairs_found(search(positions * strain, cell * strain), positions * strain, cell * strain)
        assert search.builds == builds


def test_a_list_is_kept_when_atoms_are_wrapped():
    search = Neighbors(CUTOFF, skin=1.0)
    positions, cell, _ = random_atoms(40, 9.0)
    search(positions, cell)
    images = torch.randint(-3, 4, positions.shape, generator=torch.Generator().manual_seed(3)).to(torch.float64)
    positions = positions + images @ cell
    assert_all_pairs_found(search(positions, cell), positions, cell)
    assert search.builds == 1


def test_another_number_of_atoms_or_another_periodicity_makes_a_new_list():
    search = Neighbors(CUTOFF, skin=1.0)
    positions, cell, _ = random_atoms(40, 9.0)
    steps = [
        (positions, cell),
        (positions[:30], cell),
        (positions, cell),
        (positions, torch.zeros_like(cell)),
        (positions, cell),
    ]
    for builds, (atoms, box) in enumerate(steps, start=1):
        assert_all_pairs_found(search(atoms, box), atoms, box)
        assert search.builds == builds


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("piece_atoms", [1, 30, 200])
def test_a_search_in_pieces_finds_the_pairs_of_a_search_in_one(piece_atoms, periodic):
    positions, cell, _ = random_atoms(300, 15.0)
    cell = cell if periodic else torch.zeros_like(cell)
    whole, pieces = Neighbors(CUTOFF, 0.5)(positions, cell), Neighbors(CUTOFF, 0.5, piece_atoms)(positions, cell)
    assert torch.equal(whole.counts, pieces.counts)
    assert sorted_pairs(whole) == sorted_pairs(pieces)


def sorted_pairs(pairs: NeighborPairs) -> list[tuple[float, ...]]:
    """(centre, neighbour, vector rounded to 1e-8 Å) of every pair."""
    centre = torch.repeat_interleave(pairs.centres, pairs.counts)
    columns = (centre.unsqueeze(1), pairs.neighbour.unsqueeze(1), pairs.vectors.mul(1e8).round())
    return sorted(map(tuple, torch.cat(columns, 1).tolist()))


def test_an_atom_far_from_all_others_does_not_spoil_the_pieces():
    positions, cell, _ = random_atoms(60, 12.0)
    positions[13] += 1e6
    cell = torch.zeros_like(cell)
    pieces = Neighbors(CUTOFF, piece_atoms=20)(positions, cell)
    assert_all_pairs_found(pieces, positions, cell)
    assert pieces.counts[13] == 0


@pytest.mark.parametrize("piece_atoms", [1000, 16])
@pytest.mark.parametrize("most", [1, 300])
def test_chunks_of_the_pairs_are_all_of_them(piece_atoms, most):
    search = Neighbors(CUTOFF, 1.0, piece_atoms)
    positions, cell, _ = random_atoms(40, 9.0)
    whole = search(positions, cell)
    found, start, n_chunks = [], 0, 0
    while start < 40:
        stop = search.chunk_end(start, most)
        pairs = search.pairs(start, stop)
        assert torch.equal(pairs.centres, search.order[start:stop])
        assert len(pairs.neighbour) <= most or stop == start + 1
        assert torch.equal(pairs.first, torch.cumsum(pairs.counts, 0) - pairs.counts)
        found += sorted_pairs(pairs)
        start, n_chunks = stop, n_chunks + 1
    assert sorted(found) == sorted_pairs(whole)
    assert n_chunks == 40 if most == 1 else 1 < n_chunks < 40
    assert search.chunk_end(0, 10**9) == 40


class Searcher(torch.nn.Module):
    """As a potential holds a search."""

    def __init__(self) -> None:
        super().__init__()
        self.search = Neighbors(CUTOFF, 1.0, piece_atoms=16)

    def forward(self, positions: Tensor, cell: Tensor) -> tuple[NeighborPairs, int]:
        """All pairs, and how many lists were made."""
        self.search.update(positions, cell)
        return self.search.pairs(0, self.search.chunk_end(0, 1000000)), self.search.builds


def test_scripted_saved_and_loaded_searches_find_what_the_eager_one_finds():
    positions, cell, _ = random_atoms(40, 9.0)
    eager, scripted = Searcher(), torch.jit.script(Searcher())
    file = io.BytesIO()
    scripted(positions, cell)
    scripted.search.reset()
    torch.jit.save(scripted, file)
    loaded = torch.jit.load(io.BytesIO(file.getvalue()))
    generator = torch.Generator().manual_seed(4)
    for _ in range(6):
        positions = positions + 0.1 * torch.randn(positions.shape, dtype=torch.float64, generator=generator)
        expected, builds = eager(positions, cell)
        for other, before in ((scripted, 1), (loaded, 1)):
            pairs, other_builds = other(positions, cell)
            assert other_builds == builds + before
            for one, two in zip(pairs, expected, strict=True):
                torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    assert 1 < builds < 6


def test_a_reset_list_leaves_nothing_of_the_system_in_a_saved_module():
    search = Neighbors(CUTOFF, 1.0)
    empty = len(pickle.dumps(search))
    positions, cell, _ = random_atoms(300, 15.0)
    search(positions, cell, torch.arange(300))
    assert len(pickle.dumps(search)) > empty + 10_000
    search.reset()
    assert len(pickle.dumps(search)) < empty + 100
    assert_all_pairs_found(search(positions[:20], cell), positions[:20], cell)


def test_single_precision_positions_are_taken():
    positions, cell, _ = random_atoms(40, 9.0)
    positions, cell = positions.to(torch.float32), cell.to(torch.float32)
    pairs = Neighbors(CUTOFF, 1.0)(positions, cell)
    assert pairs.vectors.dtype == torch.float64
    assert_all_pairs_found(pairs, positions.to(torch.float64), cell.to(torch.float64))


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices here")
def test_a_search_on_another_device_than_the_current_one():
    positions, cell, _ = random_atoms(20, 9.0)
    pairs = Neighbors(CUTOFF, 1.0)(positions.to("cuda:1"), cell)
    assert pairs.vectors.device == torch.device("cuda:1")
    assert_all_pairs_found(NeighborPairs(*(part.cpu() for part in pairs)), positions, cell)


def test_positions_that_are_not_numbers_are_refused():
    positions, cell, _ = random_atoms(5, 9.0)
    positions[3, 1] = float("nan")
    with pytest.raises(ValueError, match="position of atom 3 is not a finite number"):
        Neighbors(CUTOFF)(positions, cell)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, no_cuda])])
def test_two_atoms_on_one_spot_are_refused(device):
    positions, cell, _ = random_atoms(5, 9.0)
    positions[3] = positions[1]
    search = Neighbors(CUTOFF, 1.0)
    for _ in range(2):  # a list that is kept would not be searched again
        with pytest.raises(ValueError, match="atoms 1 and 3 are on one spot"):
            search(positions.to(device), cell.to(device))


@pytest.mark.parametrize("scripted", [False, True])
def test_places_that_are_the_same_are_found_among_others(scripted):
    """Of a search on CUDA, which leaves out pairs of no length."""
    find = torch.jit.script(on_one_spot) if scripted else on_one_spot
    places = random_atoms(30, 9.0)[0].t().contiguous()
    assert find(places) == []
    places[:, 21] = places[:, 4]
    places[0, 7] = places[0, 4]  # in one direction only
    assert find(places) == [4, 21]


def test_a_refused_step_names_the_atoms_as_the_caller_does_and_the_next_step_is_right():
    search = Neighbors(CUTOFF, 1.0)
    positions, cell, _ = random_atoms(20, 9.0)
    numbers = torch.arange(20) + 100
    search(positions, cell, numbers)
    broken = positions.clone()
    broken[3, 1] = float("inf")
    with pytest.raises(ValueError, match="position of atom 103 is not a finite number"):
        search(broken, cell * 1.01, numbers)
    broken[3] = positions[1]
    with pytest.raises(ValueError, match="atoms 101 and 103 are on one spot"):
        search(broken, cell, numbers)
    assert_all_pairs_found(search(positions, cell, numbers), positions, cell)


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
