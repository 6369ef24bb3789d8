"""The spline table of the two-body part: its basis, its error, where it ends."""

import numpy as np
import pytest
import torch
from conftest import small_model
from scipy.interpolate import BSpline

from openmm_allegro.ensemble import in_precision
from openmm_allegro.folded import FoldedAllegro, fold
from openmm_allegro.two_body import TwoBodyNetwork, TwoBodyTable, spline_basis, table_of


def test_the_basis_is_that_of_scipy():
    spline = BSpline.basis_element(np.arange(7))
    t = np.linspace(0, 0.999, 7)
    powers = torch.tensor(t[:, None] ** np.arange(6))
    expected = np.stack([spline(t + 5 - j) for j in range(6)], axis=1)
    np.testing.assert_allclose((powers @ spline_basis()).numpy(), expected, atol=1e-13)


def table_and_network(**options) -> tuple[TwoBodyTable, TwoBodyNetwork]:
    model = small_model(per_edge_type_cutoff={"H": {"H": 2.5}}, **options).requires_grad_(False)
    first, _ = fold(model)
    table = table_of(model, first)
    assert table is not None
    return table, TwoBodyNetwork(model, first)


@pytest.mark.parametrize("options", [{}, {"polynomial_cutoff_p": 30}, {"radial_chemical_embed": "spline"}], ids=str)
def test_features_and_slopes_are_those_of_the_network(options):
    table, network = table_and_network(**options)
    x = torch.rand((4, 500), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.98 + 0.02
    types = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]).unsqueeze(1).expand(4, 500)
    features, *kept = table(x, *types)
    expected, *theirs = network(x, *types)
    grad = torch.randn(features.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    slope, wanted = table.gradient(grad, *kept), network.gradient(grad, *theirs)
    assert table.error < 5e-7
    assert (features - expected).abs().max() < 5e-7 * expected.abs().max()
    # features have their own largest slopes; a random sum of many errors stays near the largest one's size
    assert (slope - wanted).abs().max() < 1e-6 * wanted.abs().max()


def test_slopes_are_those_of_the_table_itself():
    table, _ = table_and_network()
    x = torch.linspace(0.05, 0.999, 400, dtype=torch.float64).unsqueeze(0)
    types = torch.tensor([0]), torch.ones((1, 400), dtype=torch.int64)
    step = 1e-6  # error ~ step² f‴ / 6
    grad = torch.ones_like(table(x, *types)[0])
    difference = (table(x + step, *types)[0] - table(x - step, *types)[0]).sum(1) / (2 * step)
    slope = table.gradient(grad, *table(x, *types)[1:])[0]
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-6)


def test_features_vanish_at_the_cutoff_with_two_derivatives_and_are_zero_beyond():
    table, _ = table_and_network()
    types = torch.tensor([1]), torch.zeros((1, 5), dtype=torch.int64)
    gap = 1e-4
    inside, *kept = table(torch.full((1, 5), 1 - gap, dtype=torch.float64), *types)
    largest = table(torch.full((1, 5), 0.5, dtype=torch.float64), *types)[0].abs().max()
    assert inside.abs().max() < 1e4 * gap**3 * largest  # a cubic in the gap, with a constant of the envelope's size
    beyond, *kept = table(torch.tensor([[1.0, 1.0 + 1e-12, 1.5, 2.0, 100.0]], dtype=torch.float64), *types)
    assert not beyond.any()
    assert not table.gradient(torch.ones_like(beyond), *kept).any()


def test_edges_just_below_a_knot_count_in_single_precision():
    table, network = table_and_network()
    single = TwoBodyTable(table.coefficients.view(4, table.n_rows, -1), table.error, torch.float32)
    knots = torch.arange(table.n_intervals // 8, table.n_intervals, dtype=torch.float64) / table.n_intervals
    x = torch.nextafter(knots, torch.zeros(1, dtype=torch.float64)).unsqueeze(0)  # as 2.5 Å in a crystal, rounded down
    types = torch.tensor([0]), torch.ones(x.shape, dtype=torch.int64)
    features, *kept = single(x, *types)
    expected, *theirs = network(x, *types)
    ones = torch.ones_like(expected)
    assert (features - expected).abs().max() < 2e-6 * expected.abs().max()  # float32 and its sum of six
    slope, wanted = single.gradient(ones.float(), *kept), network.gradient(ones, *theirs)
    assert (slope - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("radial", ["bessel", "spline"])
def test_slopes_in_single_precision_are_as_good_as_those_of_the_network(radial):
    model = small_model(torch.float32, radial_chemical_embed=radial, num_scalar_features=32).requires_grad_(False)
    first, _ = fold(model)
    table, network = table_of(model, first), TwoBodyNetwork(model, first)
    assert table is not None
    exact = TwoBodyNetwork(in_precision(model, torch.float64).requires_grad_(False), first)
    x = torch.rand((1, 2000), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.95 + 0.04
    types = torch.tensor([0]), torch.ones(x.shape, dtype=torch.int64)
    grad = torch.randn((2000, first.shape[1]), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = exact.gradient(grad, *exact(x, *types)[1:])
    ours, theirs = ((each.gradient(grad.float(), *each(x, *types)[1:]) - wanted).norm() for each in (table, network))
    assert table.n_intervals >= 256  # many times the rounding of a coefficient
    assert ours < 1.5 * theirs < 1e-6 * wanted.norm()


def test_what_no_table_resolves_keeps_its_network():
    rough = small_model(num_bessels=60)
    assert table_of(rough, fold(rough)[0]) is None
    assert isinstance(FoldedAllegro(rough, tabulate=True).two_body, TwoBodyNetwork)


def test_a_table_beyond_its_memory_keeps_the_network():
    many = (
        "H",
        "C",
        "N",
        "O",
        "F",
        "Na",
        "Mg",
        "P",
        "S",
        "Cl",
        "K",
        "Ca",
        "Fe",
        "Cu",
        "Zn",
        "Br",
        "I",
        "Li",
        "B",
        "Si",
    )
    model = small_model(type_names=many, num_tensor_features=64, num_scalar_features=64)
    assert table_of(model, fold(model)[0]) is None
