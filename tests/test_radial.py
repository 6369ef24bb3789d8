"""Radial functions against closed forms."""

import math

import pytest
import torch
from conftest import small_config

from openmm_allegro.radial import ZBLRepulsion, envelope


@pytest.mark.parametrize("power", [2, 4, 6, 48])
def test_envelope_and_two_derivatives_vanish_at_the_cutoff(power):
    x = torch.tensor([1 - 1e-6], dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(envelope(x, power), x, create_graph=True)[0]
    curvature = torch.autograd.grad(slope, x)[0]
    assert abs(slope) < 1e-7  # ~ p^3 (1-x)^2 / 2
    assert abs(curvature) < 0.2  # ~ p^3 (1-x)
    assert envelope(torch.tensor([1.0, 1.5]), power).tolist() == [0.0, 0.0]
    assert envelope(torch.tensor([0.0]), power).item() == 1.0


def test_envelope_and_its_slope_are_zero_far_beyond_the_cutoff_in_single_precision():
    x = torch.tensor([1.5, 40.0], requires_grad=True)  # 40**48 is beyond float32
    values = envelope(x, 48)
    assert values.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(values.sum(), x)[0].tolist() == [0.0, 0.0]


def test_envelope_of_power_six_is_the_published_polynomial():
    x = 0.7
    published = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8  # Gasteiger et al. 2020, eq. 8, p = 6
    assert envelope(torch.tensor([x], dtype=torch.float64), 6).item() == pytest.approx(published, abs=1e-14)


def test_zbl_repulsion_of_two_oxygen_atoms_by_hand():
    r = 0.9
    reduced = 2 * 8**0.23 * r / 0.4685
    terms = [(0.02817, 0.20162), (0.28022, 0.4029), (0.50986, 0.94229), (0.18175, 3.1998)]
    screening = sum(weight * math.exp(-decay * reduced) for weight, decay in terms)
    expected = 0.5 * 14.399645 * 64 / r * screening
    repulsion = ZBLRepulsion(small_config(zbl=True), torch.float64)
    oxygen = torch.tensor([1])
    at_contact = repulsion(torch.tensor([[r]]).double(), torch.tensor([[0.0]]).double(), oxygen, oxygen[None])
    assert at_contact.item() == pytest.approx(expected, rel=1e-6)  # r is a float32 literal
