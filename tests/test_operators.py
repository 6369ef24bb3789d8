"""Spherical harmonics and irreps of the tensor track against e3nn."""

import pytest
import torch
from e3nn import o3

from openmm_allegro.operators import SphericalHarmonics, path_table, track_irreps


@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 6])
def test_spherical_harmonics_are_those_of_e3nn(l_max):
    torch.manual_seed(0)
    vectors = torch.randn((7, 5, 3), dtype=torch.float64)
    unit = vectors / vectors.norm(dim=2, keepdim=True)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=True, normalization="component")
    ours = torch.cat(SphericalHarmonics(l_max, torch.float64)(unit), dim=2)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_only_irreps_that_reach_a_scalar_are_kept():
    first, middle, last = track_irreps(2, parity=True, n_layers=2)
    assert str(o3.Irreps(first)) == "1x0e+1x1o+1x2e"
    # one product away from a scalar only the parities of the harmonics themselves are of use
    assert str(o3.Irreps(middle)) == "1x0e+1x1o+1x2e"
    assert str(o3.Irreps(last)) == "1x0e"
    early = track_irreps(2, parity=True, n_layers=3)[1]
    assert o3.Irrep("1e") in early
    assert o3.Irrep("0o") not in early


def test_every_path_is_equivariant():
    torch.manual_seed(1)
    irreps = [o3.Irrep(order, (-1) ** order) for order in range(3)]
    table = path_table(irreps, irreps, irreps)
    turn = o3.Irreps(irreps).D_from_matrix(o3.rand_matrix(dtype=torch.float64))
    turned = torch.einsum("pmab,mM,aA,bB->pMAB", table, turn, turn, turn)
    # e3nn's own rotation matrices are good to single precision
    torch.testing.assert_close(turned, table, rtol=1e-6, atol=1e-6)
