"""The folded model against the plain one: energies, gradients, scripted, and what a block holds in memory."""

import pytest
import torch
from conftest import random_atoms, small_model
from torch import Tensor

from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.model import Allegro
from openmm_allegro.neighbors import neighbor_matrix

OPTIONS = [
    {},
    {"l_max": 3, "num_layers": 3},
    {"l_max": 1, "num_layers": 1, "parity": False},
    {"l_max": 0, "num_layers": 2},
    {"num_layers": 4, "tp_path_channel_coupling": False, "radial_chemical_embed": "spline"},
    {"zbl": True, "per_edge_type_cutoff": {"H": {"H": 2.5}}},
    {"avg_num_neighbors": {"H": 8.0, "O": 20.0}, "per_type_energy_scales": {"H": 0.5, "O": 3.0}},
    {"scalar_embed_mlp_hidden_layers_depth": 0, "allegro_mlp_hidden_layers_depth": 0},
    {"readout_mlp_hidden_layers_depth": 0, "allegro_mlp_nonlinearity": "none"},
    {
        "scalar_embed_mlp_hidden_layers_depth": 2,
        "allegro_mlp_hidden_layers_depth": 3,
        "readout_mlp_nonlinearity": "mish",
    },
    {"readout_mlp_hidden_layers_depth": 2, "allegro_mlp_nonlinearity": "gelu", "radial_chemical_embed_dim": 6},
]


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Edge vectors (n, k, 3) with padding, and types of centres and neighbours."""
    positions, cell, types = random_atoms(40, 9.0)
    matrix = neighbor_matrix(positions, cell, 4.0)
    assert not matrix.real.all()
    return matrix.edge_vectors.to(dtype), types, types[matrix.neighbours]


def plain(model: Allegro, vectors: Tensor, *types: Tensor) -> tuple[Tensor, Tensor]:
    """Energies and gradient of the model itself, by autograd."""
    vectors = vectors.detach().requires_grad_(True)
    energies = model(vectors, *types)
    return energies.detach(), torch.autograd.grad(energies.sum(), vectors)[0]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_energies_and_gradient_are_those_of_the_model(options):
    model = small_model(**options)
    edges = rows()
    energies, gradient = FoldedAllegro(model)(*edges)
    expected, slope = plain(model, *edges)
    # float64 rounding, in another order of operations
    assert (energies - expected).abs().max() < 1e-13 * expected.abs().max()
    assert (gradient - slope).abs().max() < 1e-12 * slope.abs().max()


@pytest.mark.parametrize("tabulate", [False, True])
def test_padding_has_no_energy_and_no_gradient(tabulate):
    vectors, centres, neighbours = rows()
    folded = FoldedAllegro(small_model(), tabulate)
    padding = vectors.norm(dim=2) > 4.0
    energies, gradient = folded(vectors, centres, neighbours)
    assert not gradient[padding].any()
    more = torch.nn.functional.pad(vectors, (0, 0, 0, 3), value=5.0)
    same, _ = folded(more, centres, torch.nn.functional.pad(neighbours, (0, 3)))
    torch.testing.assert_close(same, energies, rtol=1e-14, atol=1e-14)


def test_single_precision_is_as_good_as_that_of_the_model():
    model = small_model(num_layers=3)
    single = small_model(torch.float32, num_layers=3)
    single.load_state_dict(model.state_dict())
    _, exact = plain(model, *rows())
    _, theirs = plain(single, *rows(torch.float32))
    _, ours = FoldedAllegro(single)(*rows(torch.float32))
    error, peer = ((each - exact).norm() / exact.norm() for each in (ours, theirs))
    assert error < max(2 * peer, 1e-6)


@pytest.mark.parametrize("tabulate", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scripted_is_eager(dtype, tabulate):
    folded = FoldedAllegro(small_model(dtype, zbl=True, num_layers=3), tabulate)
    scripted = torch.jit.script(folded)
    for ours, theirs in zip(scripted(*rows(dtype)), folded(*rows(dtype)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0 if dtype == torch.float32 else 1e-14)


def test_atoms_without_neighbours_have_their_own_energy_only():
    model = small_model(per_type_energy_shifts={"H": -1.0, "O": -2.0})
    none = torch.zeros((2, 0), dtype=torch.int64)
    energies, gradient = FoldedAllegro(model)(torch.zeros((2, 0, 3)), torch.tensor([0, 1]), none)
    assert energies.tolist() == [-1.0, -2.0]
    assert gradient.shape == (2, 0, 3)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_derivatives_for_the_weights_are_those_of_the_model(options):
    trainable = {"bessel_trainable": True, "per_type_energy_scales_trainable": True}
    model = small_model(**trainable | {"per_type_energy_shifts_trainable": True} | options)
    vectors, *types = rows()
    random = torch.Generator().manual_seed(3)
    weights = torch.randn(vectors.shape, dtype=torch.float64, generator=random)

    by_edge = vectors.detach().requires_grad_(True)
    energies = model(by_edge, *types)
    slopes = torch.autograd.grad(energies.sum(), by_edge, create_graph=True)[0]
    parameters = list(model.parameters())
    quantity = energies.square().sum() + (slopes * weights).sum()
    expected = torch.autograd.grad(quantity, parameters, materialize_grads=True)

    folded = FoldedAllegro(small_model(seed=2, **options))
    folded.follow(model)
    energies, slopes = folded(vectors, *types)
    quantity = energies.square().sum() + (slopes * weights).sum()
    found = torch.autograd.grad(quantity, parameters, materialize_grads=True)
    for ours, theirs in zip(found, expected, strict=True):
        # float64 rounding, in another order of operations
        assert (ours - theirs).abs().max() <= 1e-11 * max(theirs.abs().max(), 1e-6)
