"""Blocks shared by workers: the same sums, errors that reach the caller, blocks too large for the memory."""

import multiprocessing
import warnings

import pytest
import torch
from conftest import random_atoms, small_model

from openmm_allegro.neighbors import Neighbors
from openmm_allegro.potential import Potential, add_block, even_blocks, zeros
from openmm_allegro.workers import Workers

CPU = torch.device("cpu")


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_workers_add_up_to_one(n_workers):
    positions, cell, types = random_atoms(60, 11.0)
    expected = Potential(small_model(), block_edges=200)(positions, cell, types)
    potential = Potential(small_model(), block_edges=200)
    potential.workers = Workers(potential.block, [CPU] * n_workers)
    for _ in range(20):  # TorchScript compiles after some blocks, and again in its second call
        for ours, theirs in zip(potential(positions, cell, types), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert potential.workers.is_compiled


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_has_workers_of_its_own():
    """As the processes of `multiprocessing.Pool`, among which calculations are often shared, are on Linux."""
    positions, cell, types = random_atoms(60, 11.0)
    potential = Potential(small_model(), block_edges=200)
    potential.workers = Workers(potential.block, [CPU] * 2)
    energy = potential(positions, cell, types)[0].item()
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=lambda: there.send(potential(positions, cell, types)[0].item()), daemon=True)
    child.start()
    try:
        assert here.poll(300.0), "the forked process does not answer"
        assert here.recv() == pytest.approx(energy, rel=1e-12)
    finally:
        child.kill()


def test_workers_have_as_many_edges_each():
    positions, cell, types = random_atoms(60, 11.0)
    potential = Potential(small_model())
    potential.neighbors.update(positions, cell)
    pairs = potential.neighbors.pairs(0, 60)
    blocks = even_blocks(pairs, 100_000, potential.atom_edges, sharing=3)
    edges = [int(pairs.counts[rows].sum()) for rows in blocks]
    assert sum(edges) == len(pairs.neighbour)
    assert len(edges) in (3, 4)
    assert sorted(torch.cat(blocks).tolist()) == list(range(60))


def test_an_error_in_a_worker_reaches_the_caller():
    positions, cell, types = random_atoms(60, 11.0)
    potential = Potential(small_model(), block_edges=200)
    potential.workers = Workers(potential.block, [CPU] * 2)
    with pytest.raises(Exception, match="out of bounds"):
        potential(positions, cell, types + 7)


class SmallGPU(torch.nn.Module):
    """A block on a device whose memory holds a few atoms at a time."""

    def __init__(self, block: torch.nn.Module, most_atoms: int) -> None:
        super().__init__()
        self.block = block
        self.most_atoms = most_atoms

    def forward(self, pairs, rows, types, total) -> None:
        if len(rows) > self.most_atoms:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.block(pairs, rows, types, total)


def test_a_block_that_does_not_fit_is_halved_with_a_warning():
    positions, cell, types = random_atoms(60, 11.0)
    potential = Potential(small_model())
    expected = potential(positions, cell, types)
    pairs = Neighbors(4.0)(positions, cell)
    total = zeros(positions, torch.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        add_block(SmallGPU(potential.block, 20), pairs, torch.arange(60), types, total)
    assert [str(each.message)[:58] for each in caught] == [
        f"the GPU's memory does not hold a block of {n} atoms, so it is"[:58] for n in (60, 30, 30)
    ]
    assert total.energies.sum().item() == pytest.approx(expected[0].item(), rel=1e-12)
    for ours, theirs in zip(total[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_memory_for_not_even_one_atom_is_refused():
    positions, cell, types = random_atoms(4, 11.0)
    potential = Potential(small_model())
    pairs = Neighbors(4.0)(positions, cell)
    with (
        pytest.warns(UserWarning, match="halved"),
        pytest.raises(ValueError, match="memory does not hold one atom with its neighbours"),
    ):
        add_block(SmallGPU(potential.block, 0), pairs, torch.arange(4), types, zeros(positions, torch.float64))
