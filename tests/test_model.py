"""The model: equal to the direct formula, invariant, smooth and local."""

import pytest
import torch
from conftest import random_atoms, small_model
from direct_allegro import direct_energies
from e3nn import o3

from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.potential import Potential

GRID = [
    {"l_max": 1, "num_layers": 1},
    {"l_max": 0, "num_layers": 2},
    {"l_max": 2, "num_layers": 2},
    {"l_max": 2, "num_layers": 3},
    {"l_max": 3, "num_layers": 3, "num_tensor_features": 2},
    {"l_max": 2, "num_layers": 3, "parity": False},
    {"l_max": 3, "num_layers": 2, "tp_path_channel_coupling": False},
    {"l_max": 1, "num_layers": 4, "radial_chemical_embed": "spline", "avg_num_neighbors": {"H": 9.0, "O": 14.0}},
    {"l_max": 2, "num_layers": 2, "per_edge_type_cutoff": {"H": {"O": 3.1}, "O": 3.5}, "zbl": True},
]


@pytest.mark.parametrize("options", GRID, ids=str)
def test_telescoped_form_is_the_direct_formula(options):
    model = small_model(**options)
    positions, cell, types = random_atoms(20, 6.5)
    matrix = neighbor_matrix(positions, cell, 4.0)
    results = []
    for evaluate in (model, lambda *edges: direct_energies(model, *edges)):
        vectors = matrix.edge_vectors.clone().requires_grad_()
        energies = evaluate(vectors, types, types[matrix.neighbours])
        results.append((energies, torch.autograd.grad(energies.sum(), vectors)[0]))
    (energies, gradient), (direct, direct_gradient) = results
    # float64: the same sum in another order
    torch.testing.assert_close(energies, direct, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(gradient, direct_gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
def test_energy_is_invariant_and_forces_turn_with_the_atoms(improper):
    torch.manual_seed(5)
    turn = o3.rand_matrix(dtype=torch.float64) * (-1.0 if improper else 1.0)
    potential = Potential(small_model(num_layers=3))
    positions, cell, types = random_atoms(25, 7.0)
    energy, forces, virial = potential(positions, cell, types)
    turned_energy, turned_forces, turned_virial = potential(positions @ turn.T, cell @ turn.T, types)
    torch.testing.assert_close(turned_energy, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(turned_forces, forces @ turn.T, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(turned_virial, turn @ virial @ turn.T, rtol=1e-10, atol=1e-10)


def test_energy_is_unchanged_by_translation_and_by_wrapping():
    potential = Potential(small_model())
    positions, cell, types = random_atoms(25, 7.0)
    energy, forces, _ = potential(positions, cell, types)
    moved = positions + torch.tensor([1.7, -20.3, 0.4], dtype=torch.float64)
    moved[::3] += 2 * cell[0] - cell[2]
    moved_energy, moved_forces, _ = potential(moved, cell, types)
    torch.testing.assert_close(moved_energy, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(moved_forces, forces, rtol=1e-10, atol=1e-10)


def test_forces_follow_a_permutation_of_the_atoms():
    potential = Potential(small_model())
    positions, cell, types = random_atoms(25, 7.0)
    energy, forces, _ = potential(positions, cell, types)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(3))
    shuffled_energy, shuffled_forces, _ = potential(positions[order], cell, types[order])
    torch.testing.assert_close(shuffled_energy, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(shuffled_forces, forces[order], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("embedding", ["bessel", "spline"])
def test_energy_and_two_derivatives_vanish_smoothly_at_the_cutoff(embedding):
    model = small_model(radial_chemical_embed=embedding)
    types = torch.tensor([0, 1, 1])

    def derivatives(distance: float) -> list[float]:
        """Energy of a pair with a third atom near, less its limit with the pair far apart, and two derivatives."""
        r = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
        leaving = torch.stack([r, torch.zeros_like(r), torch.zeros_like(r)])
        near = torch.tensor([0.3, 1.2, 0.5], dtype=torch.float64)
        energy = model(torch.stack([leaving, near])[None], types[:1], types[None, 1:]).sum()
        far = torch.tensor([100.0, 0.0, 0.0], dtype=torch.float64)  # of the same shape, so that it rounds alike
        energy = energy - model(torch.stack([far, near])[None], types[:1], types[None, 1:]).sum()
        slope = torch.autograd.grad(energy, r, create_graph=True)[0]
        return [energy.item(), slope.item(), torch.autograd.grad(slope, r)[0].item()]

    inside, beyond = derivatives(4.0 - 1e-6), derivatives(4.0 + 1e-6)
    assert beyond == [0.0, 0.0, 0.0]
    # ~ (1 - r/r_max)^3 and its derivatives at a distance of 1e-6 Å
    assert abs(inside[0]) < 1e-13
    assert abs(inside[1]) < 1e-8
    assert abs(inside[2]) < 1e-3


def test_an_atom_is_not_seen_from_beyond_the_cutoff():
    model = small_model(num_layers=3)
    potential = Potential(model)
    positions, _, types = random_atoms(27, 12.0)
    cell = torch.zeros((3, 3), dtype=torch.float64)
    _, forces, _ = potential(positions, cell, types)
    moved = positions.clone()
    moved[0] += torch.tensor([0.2, -0.1, 0.15], dtype=torch.float64)
    _, moved_forces, _ = potential(moved, cell, types)
    # forces on an atom depend on atoms within two cutoffs, through the centres that see both; none beyond
    distance = torch.minimum((positions - positions[0]).norm(dim=1), (positions - moved[0]).norm(dim=1))
    beyond = distance > 2 * model.config.r_max
    assert beyond.any()
    assert torch.equal(forces[beyond], moved_forces[beyond])
    assert not torch.equal(forces[~beyond], moved_forces[~beyond])


def test_energy_of_an_isolated_atom_is_its_shift():
    model = small_model(per_type_energy_shifts={"H": -13.5, "O": -2041.25})
    energy, forces, _ = Potential(model)(torch.zeros((1, 3)), torch.zeros((3, 3)), torch.tensor([1]))
    assert energy.item() == -2041.25
    assert torch.equal(forces, torch.zeros((1, 3), dtype=torch.float64))


def test_scripted_model_is_the_eager_one():
    model = small_model(num_layers=3, zbl=True)
    scripted = torch.jit.script(Potential(model))
    positions, cell, types = random_atoms(25, 7.0)
    expected = Potential(model)(positions, cell, types)
    for _ in range(3):  # the first calls profile and then recompile
        for ours, eager in zip(scripted(positions, cell, types), expected, strict=True):
            torch.testing.assert_close(ours, eager, rtol=1e-12, atol=1e-12)


def test_single_precision_is_close_to_double():
    double = small_model(per_type_energy_shifts={"H": -13.5, "O": -2041.25})
    single = small_model(torch.float32, per_type_energy_shifts={"H": -13.5, "O": -2041.25})
    single.load_state_dict(double.state_dict())
    positions, cell, types = random_atoms(60, 9.0)
    energy, forces, _ = Potential(double)(positions, cell, types)
    single_energy, single_forces, _ = Potential(single)(positions, cell, types)
    assert abs(single_energy - energy) < 60 * 2e-6  # eV: float32 network, energies summed in float64
    assert (single_forces - forces).abs().max() < 2e-5 * forces.abs().max() + 2e-5
