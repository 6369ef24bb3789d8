"""Forces and virial against differences of the energy; blocks and memory."""

import pytest
import torch
from conftest import random_atoms, small_model
from torch.profiler import ProfilerActivity, profile

from openmm_allegro.potential import Potential, edge_memory


def test_forces_are_minus_the_slope_of_the_energy():
    potential = Potential(small_model(zbl=True, num_layers=3))
    positions, cell, types = random_atoms(12, 5.0)
    _, forces, _ = potential(positions, cell, types)
    step = 1e-4  # error of a central difference ~ step^2 f''' / 6 ~ 1e-8
    for atom, axis in [(0, 0), (5, 1), (11, 2)]:
        moved = [positions.clone(), positions.clone()]
        moved[0][atom, axis] += step
        moved[1][atom, axis] -= step
        slope = (potential(moved[0], cell, types)[0] - potential(moved[1], cell, types)[0]) / (2 * step)
        assert forces[atom, axis].item() == pytest.approx(-slope.item(), rel=1e-6, abs=1e-7)
    assert forces.sum(0).abs().max() < 1e-10


def test_virial_is_minus_the_slope_of_the_energy_with_strain():
    potential = Potential(small_model())
    positions, cell, types = random_atoms(12, 5.0)
    _, _, virial = potential(positions, cell, types)
    step = 1e-4
    for a, b in [(0, 0), (1, 2), (2, 1)]:
        energies = []
        for sign in (1, -1):
            strain = torch.eye(3, dtype=torch.float64)
            strain[a, b] += sign * step
            energies.append(potential(positions @ strain, cell @ strain, types)[0])
        slope = (energies[0] - energies[1]) / (2 * step)
        assert virial[a, b].item() == pytest.approx(-slope.item(), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("block_edges", [40, 300, 100_000])
def test_blocks_change_nothing(block_edges):
    model = small_model()
    positions, cell, types = random_atoms(40, 9.0)
    positions[:10] *= 0.8  # neighbour counts that vary
    expected = Potential(model)(positions, cell, types)
    for ours, whole in zip(Potential(model, block_edges=block_edges)(positions, cell, types), expected, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-11, atol=1e-11)


def test_a_memory_bound_below_one_atom_says_what_would_do():
    positions, cell, types = random_atoms(40, 7.0)
    with pytest.raises(ValueError, match="the memory bound allows only 5 edges at once; raise `max_memory` at least"):
        Potential(small_model(), block_edges=5)(positions, cell, types)


@pytest.mark.parametrize("options", [{}, {"l_max": 3, "num_layers": 3, "num_scalar_features": 32}], ids=str)
def test_memory_of_a_block_is_below_its_estimate(options):
    model = small_model(torch.float32, **options)
    positions, cell, types = random_atoms(216, 13.0)
    potential = Potential(model, block_edges=2000)
    potential(positions, cell, types)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        potential(positions, cell, types)
    held = peak = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    pairs = 216 * 60 * (8 + 24 + 8 + 8)  # the list of pairs itself is apart from the block
    assert 0.1 * 2000 * edge_memory(model) < peak < 2000 * edge_memory(model) + pairs


def test_an_empty_neighbourhood_gives_no_force():
    positions = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    energy, forces, virial = Potential(small_model())(positions, torch.zeros((3, 3)), torch.tensor([0, 1]))
    assert energy.item() == 0.0
    assert not forces.any()
    assert not virial.any()
