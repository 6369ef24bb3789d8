"""The learning rate and the moving average against their formulas."""

import math

import pytest
import torch

from openmm_allegro.training.config import OptimizerOptions
from openmm_allegro.training.schedule import LearningRate, MovingAverage


def test_cosine_falls_from_lr_to_its_end():
    rate = LearningRate(OptimizerOptions(lr=0.01, schedule="cosine", final_lr_fraction=0.1, warmup_steps=0))
    for progress in (0.0, 0.25, 0.5, 1.0):
        expected = 0.001 + 0.009 * (1 + math.cos(math.pi * progress)) / 2
        assert rate.at(10, progress) == pytest.approx(expected)


def test_warm_up_is_a_straight_line():
    rate = LearningRate(OptimizerOptions(lr=0.01, schedule="constant", warmup_steps=4))
    assert [rate.at(step, 0.0) for step in range(6)] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01, 0.01])


def test_plateau_steps_down_after_its_patience_and_stops_at_the_end():
    options = OptimizerOptions(
        lr=1.0, schedule="plateau", warmup_steps=0, plateau_factor=0.5, plateau_patience=2, final_lr_fraction=0.3
    )
    rate = LearningRate(options)
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.95, 1.0, 0.9, 0.9, 0.9, 0.8):
        rate.observe(loss)
        rates.append(rate.at(100, 0.0))
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3]


def test_a_restored_plateau_goes_on():
    options = OptimizerOptions(lr=1.0, schedule="plateau", plateau_factor=0.5, plateau_patience=1, warmup_steps=0)
    first, second = LearningRate(options), LearningRate(options)
    for loss in (1.0, 1.1):
        first.observe(loss)
    second.restore(first.state())
    second.observe(1.2)
    assert second.at(0, 0.0) == 0.5


def test_average_follows_its_formula():
    weight = torch.tensor([1.0, 2.0], dtype=torch.float64)
    average, expected = MovingAverage([weight], OptimizerOptions(ema_decay=0.9)), weight.clone()
    for step in range(1, 200):
        weight += step * torch.tensor([0.1, -0.2])
        average.update(progress=0.5)
        decay = min(0.9, step / (step + 10))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.average[0], expected)


def test_swapping_twice_changes_nothing():
    weight = torch.tensor([1.0])
    average = MovingAverage([weight], OptimizerOptions(ema_decay=0.5))
    weight += 3
    average.swap()
    assert weight.item() == 1.0
    average.swap()
    assert weight.item() == 4.0
    assert average.average[0].item() == 1.0


def test_plain_mean_is_that_of_the_weights_after_its_beginning():
    weight = torch.tensor([1.0, 2.0], dtype=torch.float64)
    average = MovingAverage([weight], OptimizerOptions(average="swa", swa_from=0.75))
    random, late = torch.Generator().manual_seed(1), []
    for step in range(1, 41):
        weight += torch.randn(2, generator=random, dtype=torch.float64)
        average.update(progress=step / 40)
        if step > 30:
            late.append(weight.clone())
        else:
            assert torch.equal(average.average[0], weight)
    torch.testing.assert_close(average.average[0], torch.stack(late).mean(0), rtol=1e-14, atol=1e-14)


def test_without_an_average_the_weights_themselves_are_kept():
    weight = torch.tensor([1.0, 2.0])
    average = MovingAverage([weight], OptimizerOptions(average="none"))
    for _ in range(3):
        weight += 0.1
        average.update(progress=1.0)
        assert torch.equal(average.average[0], weight)
