"""Muon against its formula by singular values, and against torch's own."""

import math

import pytest
import torch

from openmm_allegro.training.muon import Muon

SHAPES = [(5, 9), (9, 5), (5, 9), (6, 6), (1, 4), (12, 3)]
"""Alone, transposed to each other, several of a shape."""


def random_matrices(shapes, dtype, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]


def orthogonal_by_singular_values(matrix):
    """Newton-Schulz iterations leave the singular vectors and act on each singular value by a polynomial."""
    left, s, right = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return left @ torch.diag(s) @ right


def test_steps_are_those_of_the_formula():
    expected = random_matrices(SHAPES, torch.float64)
    matrices = [torch.nn.Parameter(matrix.clone()) for matrix in expected]
    momenta = [torch.zeros_like(matrix) for matrix in expected]
    optimizer = Muon(matrices, lr=0.3, weight_decay=0.1)
    for step in range(5):
        lr = optimizer.param_groups[0]["lr"] = 0.3 / (step + 1)
        for i, gradient in enumerate(random_matrices(SHAPES, torch.float64, seed=10 + step)):
            matrices[i].grad = gradient.clone()
            momenta[i] = 0.95 * momenta[i] + 0.05 * gradient
            ahead = 0.95 * momenta[i] + 0.05 * gradient
            move = 0.2 * math.sqrt(max(gradient.shape)) * orthogonal_by_singular_values(ahead)
            expected[i] = (1 - lr * 0.1) * expected[i] - lr * move
        optimizer.step()
        for matrix, own in zip(matrices, expected, strict=True):
            torch.testing.assert_close(matrix.detach(), own, rtol=1e-11, atol=1e-11)  # rounding of the decomposition


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
def test_steps_are_those_of_torch_to_bfloat16():
    start = random_matrices([(64, 160), (160, 64), (8, 64), (64, 64)], torch.float32)
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    optimizer = Muon(ours, lr=0.01, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        gradients = random_matrices([matrix.shape for matrix in start], torch.float32, seed=10 + seed)
        for one, other, gradient in zip(ours, theirs, gradients, strict=True):
            one.grad, other.grad = gradient, gradient.clone()
        optimizer.step()
        reference.step()
    for before, one, other in zip(start, ours, theirs, strict=True):
        difference = (one - other).norm() / (one - before).norm()
        assert difference.item() < 0.02  # bfloat16 rounds to 0.4 %, in each of five iterations


def test_zeros_and_missing_gradients_move_nothing():
    start = random_matrices([(3, 4), (3, 4)], torch.float64)
    matrices = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    matrices[0].grad = torch.zeros((3, 4), dtype=torch.float64)
    Muon(matrices, lr=0.1).step()
    assert torch.equal(matrices[0].detach(), start[0])
    assert torch.equal(matrices[1].detach(), start[1])


def test_a_saved_state_goes_on_to_the_same_weights():
    start, gradients = random_matrices(SHAPES, torch.float32), random_matrices(SHAPES, torch.float32, seed=2)

    def three_steps(reload):
        matrices = [torch.nn.Parameter(matrix.clone()) for matrix in start]
        optimizer = Muon(matrices, lr=0.1)
        for step in range(3):
            for matrix, gradient in zip(matrices, gradients, strict=True):
                matrix.grad = gradient * math.cos(step) + matrix.detach()
            optimizer.step()
            if reload and step == 1:
                state = optimizer.state_dict()
                optimizer = Muon(matrices, lr=0.5)
                optimizer.load_state_dict(state)
        return matrices

    for one, other in zip(three_steps(reload=False), three_steps(reload=True), strict=True):
        assert torch.equal(one, other)
