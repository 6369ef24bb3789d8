"""Forces and virial against differences of the energy; blocks and memory."""

import pytest
import torch
from conftest import random_atoms, small_model
from torch.profiler import ProfilerActivity, profile

from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.model import Allegro
from openmm_allegro.potential import Potential, memory_of


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
    potential = Potential(small_model())
    potential.max_bytes = 1000
    with pytest.raises(ValueError, match="`max_memory` is 1000 bytes, but an atom with up to .* needs") as refusal:
        potential(positions, cell, types)
    potential.max_bytes = int(str(refusal.value).split()[-3])  # "…; allow N or more"
    expected = Potential(small_model())(positions, cell, types)[1]
    torch.testing.assert_close(potential(positions, cell, types)[1], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("tabulate", [False, True])
@pytest.mark.parametrize("n_neighbours", [1, 8, 50])
@pytest.mark.parametrize("options", [{}, {"l_max": 3, "num_layers": 3, "num_scalar_features": 32}], ids=str)
def test_a_block_peaks_within_its_estimate(options, n_neighbours, tabulate):
    folded = FoldedAllegro(small_model(torch.float32, **options), tabulate)
    memory = memory_of(folded)
    n_atoms = 4096 // n_neighbours
    vectors = torch.ones((n_atoms, n_neighbours, 3))
    types = torch.zeros((n_atoms, n_neighbours), dtype=torch.int64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        folded(vectors, types[:, 0], types)
    held = peak = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    estimate = n_atoms * (memory.atom_edges + n_neighbours) * memory.edge_bytes
    assert 0.3 * estimate < peak < estimate


def test_an_empty_neighbourhood_gives_no_force():
    positions = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    energy, forces, virial = Potential(small_model())(positions, torch.zeros((3, 3)), torch.tensor([0, 1]))
    assert energy.item() == 0.0
    assert not forces.any()
    assert not virial.any()


@pytest.mark.parametrize("tabulate", [False, True])
def test_single_precision_gives_forces_to_five_parts_in_ten_million(tabulate):
    """float32 rounds to 6e-8. With lengths in it this is 1e-6: the eighth Bessel function is 25 times as steep."""
    single = small_model(torch.float32, num_scalar_features=64, num_tensor_features=16)
    double = Allegro(single.config, torch.float64)
    double.load_state_dict({name: value.double() for name, value in single.state_dict().items()})
    positions, cell, types = random_atoms(64, 9.1)
    expected = Potential(double)(positions, cell, types)[1]
    found = Potential(single, tabulate=tabulate)(positions, cell, types)[1]
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 5e-7
