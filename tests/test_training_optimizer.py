"""Optimisers against their recursions, and runs with each of them that are broken off and go on."""

import math

import ase.io
import pytest
import torch
from conftest import small_model
from safetensors.torch import load_file
from training_toys import toy_atoms, toy_frames, weighted_loss, write_toy_run

from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.config import (
    DataOptions,
    LossOptions,
    OptimizerOptions,
    RunOptions,
    TrainingConfig,
    load_config,
)
from openmm_allegro.training.heads import HeadBatch
from openmm_allegro.training.module import TrainingModule
from openmm_allegro.training.optimizer import SharpnessAware, build_optimizer, dense_weights
from openmm_allegro.training.predict import LiveAllegro, predict, predict_energies
from openmm_allegro.training.run import train
from openmm_allegro.training.schedule import MovingAverage

# Lightning names the packages it would rather see than those it finds
pytestmark = [pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")]

SCHEDULE_FREE = OptimizerOptions(name="schedule_free", schedule="constant", lr=0.05, weight_decay=0.02)


class Quadratic(torch.nn.Module):
    """One weight w with the energy (w - 3)²."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))


def test_schedule_free_follows_algorithm_1_of_its_paper():
    model = Quadratic()
    average = MovingAverage([model.weight], SCHEDULE_FREE)
    optimizer = build_optimizer(model, average, SCHEDULE_FREE)
    z = x = 1.0
    v = squares = 0.0
    for t in range(1, 60):
        rate = 0.05 * min(1, t / 10)  # warm-up
        y = 0.1 * z + 0.9 * x
        assert model.weight.item() == pytest.approx(y, rel=1e-13)
        gradient = 2 * (y - 3)
        v = 0.999 * v + 0.001 * gradient**2
        gamma = rate * math.sqrt(1 - 0.999**t)
        z = z - gamma * gradient / (math.sqrt(v) + 1e-8) - gamma * 0.02 * y
        squares += gamma**2
        x = (1 - gamma**2 / squares) * x + gamma**2 / squares * z
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (model.weight - 3).square().sum().backward()
        optimizer.step()
        average.update(progress=t / 60)
        assert average.average[0].item() == pytest.approx(x, rel=1e-13)
    assert abs(x - 3) < abs(1 - 3)


def test_schedule_free_averages_over_the_steps_in_which_a_weight_rests():
    model = Quadratic()
    model.other = torch.nn.Parameter(torch.tensor([5.0], dtype=torch.float64))
    average = MovingAverage([model.weight, model.other], SCHEDULE_FREE)
    optimizer = build_optimizer(model, average, SCHEDULE_FREE)
    z = y = 5.0
    v, own_steps = 0.0, 0
    visited, rates = [], []
    for t in range(1, 31):
        optimizer.zero_grad()
        (model.weight - 3).square().sum().backward()
        if t % 3 == 0:
            (model.other + 1).square().sum().backward()
            gradient = 2 * (y + 1)
            own_steps += 1
            v = 0.999 * v + 0.001 * gradient**2
            gamma = 0.05 * math.sqrt(1 - 0.999**own_steps)
            z = z - gamma * gradient / (math.sqrt(v) + 1e-8) - gamma * 0.02 * y
        optimizer.step()
        visited.append(z)
        rates.append(1 - 0.999**t)  # squared learning rates of the steps, up to a factor
        x = sum(rate * each for rate, each in zip(rates, visited, strict=True)) / sum(rates)
        y = 0.1 * z + 0.9 * x
        assert average.average[1].item() == pytest.approx(x, rel=1e-12)
        assert model.other.item() == pytest.approx(y, rel=1e-12)
    assert z < 4.6


def test_a_step_of_muon_is_the_orthogonal_factor_of_the_gradient():
    model = small_model(torch.float32)
    options = OptimizerOptions(name="muon", lr=0.01)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = build_optimizer(model, MovingAverage(weights, options), options)
    matrix, random = dense_weights(model)[0], torch.Generator().manual_seed(1)
    before = matrix.detach().clone()
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=random)
    left, _, right = torch.linalg.svd(matrix.grad, full_matrices=False)
    optimizer.step()
    step = (before - matrix.detach()) / (0.01 * 0.2 * math.sqrt(max(matrix.shape)))
    sizes = torch.diagonal(left.T @ step @ right.T)
    assert 0.6 < sizes.min() <= sizes.max() < 1.3  # five Newton-Schulz iterations bring them to about 0.7 to 1.2
    off_diagonal = left.T @ step @ right.T - torch.diag(sizes)
    assert off_diagonal.abs().max() < 1e-4  # rounding, which the slope of the quintic at zero raises


@pytest.mark.parametrize("are_matrices", [True, False])
def test_muon_steps_where_only_one_kind_of_weights_is_not_frozen(are_matrices):
    model = small_model(torch.float32)
    matrices = {id(weight) for weight in dense_weights(model)}
    for weight in model.parameters():
        weight.requires_grad_((id(weight) in matrices) == are_matrices)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    options = OptimizerOptions(name="muon", lr=0.01)
    optimizer = build_optimizer(model, MovingAverage(weights, options), options)
    before = [weight.detach().clone() for weight in weights]
    optimizer.load_state_dict(optimizer.state_dict())
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert not any(torch.equal(*pair) for pair in zip(weights, before, strict=True))


def test_weights_that_are_no_matrices_move_by_adamw_beside_muon():
    model, other = small_model(torch.float32), small_model(torch.float32)
    options = OptimizerOptions(name="muon", lr=0.01, weight_decay=0.1)
    optimizer = build_optimizer(model, MovingAverage(list(model.parameters()), options), options)
    adamw = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1, fused=True)
    for weight, same in zip(model.parameters(), other.parameters(), strict=True):
        if weight.requires_grad:
            weight.grad = torch.sin(torch.arange(weight.numel(), dtype=torch.float32)).reshape(weight.shape)
            same.grad = weight.grad.clone()
    optimizer.step()
    adamw.step()
    matrices = {id(weight) for weight in dense_weights(model)}
    rest = [(w, o) for w, o in zip(model.parameters(), other.parameters(), strict=True) if id(w) not in matrices]
    assert any(weight.shape[1] == 1 for weight, _ in rest if weight.ndim == 2)  # what reads out the energy
    assert len(rest) > 3
    for weight, same in rest:
        assert torch.equal(weight, same)


def test_sharpness_is_sought_at_its_distance_in_the_steepest_direction():
    random = torch.Generator().manual_seed(1)
    curvature = torch.rand(40, generator=random, dtype=torch.float64)
    weights = [torch.randn(n, generator=random, dtype=torch.float64) for n in (30, 10)]

    def loss(parts):
        return float((curvature * torch.cat(parts) ** 2).sum())

    before, gradient = [weight.clone() for weight in weights], 2 * curvature * torch.cat(weights)
    sharpness = SharpnessAware(weights, 1e-3)
    sharpness.climb(torch.split(gradient, [30, 10]))
    moved = torch.cat(weights) - torch.cat(before)
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-10)
    rise = loss(weights) - loss(before)
    for _ in range(200):
        other = torch.randn(40, generator=random, dtype=torch.float64)
        elsewhere = torch.cat(before) + 1e-3 * other / other.norm()
        assert loss([elsewhere]) - loss(before) < rise
    sharpness.descend()
    assert all(torch.equal(weight, kept) for weight, kept in zip(weights, before, strict=True))


def test_a_step_with_sharpness_has_the_gradient_uphill_and_the_weights_below():
    model = small_model()
    config = TrainingConfig(
        data=DataOptions(train="a.xyz", n_validation=1),
        optimizer=OptimizerOptions(sam_rho=0.3),
        run=RunOptions(max_steps=1),
    )
    batch = FrameDataset(toy_frames(3), ("H", "O"), 4.0, torch.float64).batch([0, 1, 2])
    module = TrainingModule({"": model}, config, 1)
    weights = module.average.weights
    before = [weight.detach().clone() for weight in weights]

    def gradients():
        loss = weighted_loss(predict(model, batch, training=True), batch, config.loss)
        return torch.autograd.grad(loss, weights, materialize_grads=True)

    below = gradients()
    norm = torch.cat([gradient.flatten() for gradient in below]).norm()
    with torch.no_grad():
        for weight, gradient in zip(weights, below, strict=True):
            weight += 0.3 * gradient / norm
    uphill = gradients()
    with torch.no_grad():
        for weight, kept in zip(weights, before, strict=True):
            weight.copy_(kept)
    module.training_step(HeadBatch(0, batch), 0).backward()
    module.on_after_backward()
    assert not torch.allclose(uphill[0], below[0], rtol=1e-3)
    for weight, kept, gradient in zip(weights, before, uphill, strict=True):
        assert torch.equal(weight, kept)
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-9, atol=1e-9)  # rounding of the sum of squares


@pytest.mark.parametrize(
    "options",
    [
        'name = "schedule_free"\nschedule = "constant"\nweight_decay = 0.01',
        'name = "muon"\nweight_decay = 0.01',
        'name = "adamw"\naverage = "swa"\nswa_from = 0.5\nsam_rho = 0.01\n[loss]\nkind = "huber"\nenergy_end = 10.0',
    ],
    ids=["schedule-free", "muon", "swa and sam"],
)
def test_a_run_that_is_broken_off_goes_on_to_the_same_weights(tmp_path, monkeypatch, options):
    path = write_toy_run(tmp_path, "max_epochs = 6\nvalidate_every = 2", options)

    def run(folder, resume=False):
        return train(load_config(path), tmp_path / folder, resume=resume, progress=False, pictures=False)

    whole, update = run("whole"), MovingAverage.update

    def update_and_break(self, progress):
        update(self, progress)
        if self.steps == 18:  # in the fifth of six epochs
            raise OSError("the plug is out")

    monkeypatch.setattr(MovingAverage, "update", update_and_break)
    with pytest.raises(OSError, match="the plug is out"):
        run("broken")
    monkeypatch.setattr(MovingAverage, "update", update)
    resumed = run("broken", resume=True)
    assert resumed.steps == whole.steps == 24
    for model in ("last.safetensors", "best.safetensors"):
        one, other = (load_file(tmp_path / folder / model) for folder in ("whole", "broken"))
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("name", ["adamw", "schedule_free", "muon"])
def test_every_optimiser_lowers_the_error(tmp_path, name):
    options = f'name = "{name}"\nschedule = "{"constant" if name == "schedule_free" else "cosine"}"'
    path = write_toy_run(tmp_path, "max_epochs = 15\nvalidate_every = 15", options)
    result = train(load_config(path), tmp_path / "out", progress=False, pictures=False)
    frames = toy_frames(16)
    rms = 1e3 * math.sqrt(sum((f.forces**2).sum() for f in frames) / sum(f.forces.size for f in frames))
    assert result.validation.forces_rmse_mev_per_angstrom < 0.8 * rms


def test_energies_alone_can_be_trained_on(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 2", "[loss]\nforces = 0.0")
    images = [toy_atoms(frame) for frame in toy_frames(16)]
    for atoms in images:
        del atoms.calc.results["forces"]
    ase.io.write(tmp_path / "toy.xyz", images, format="extxyz")
    result = train(load_config(path), tmp_path / "out", progress=False, pictures=True)
    assert result.validation.energy_mae_mev > 0
    assert result.validation.forces_mae_mev_per_angstrom is None
    assert "validation_forces" not in result.history.read_text()


def test_energies_alone_have_the_gradient_that_they_have_beside_forces():
    model, options = small_model(), LossOptions(forces=0.0)
    batch = FrameDataset(toy_frames(3), ("H", "O"), 4.0, torch.float64).batch([0, 1, 2])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    alone, beside = predict_energies(model, batch, training=True), predict(LiveAllegro(model), batch, training=True)
    assert alone.forces is None
    gradients = [
        torch.autograd.grad(weighted_loss(prediction, batch, options), weights, allow_unused=True)
        for prediction in (alone, beside)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)  # rounding; errors of thousands of eV


def test_forces_that_are_not_trained_on_are_validated(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 2", "[loss]\nforces = 0.0")
    result = train(load_config(path), tmp_path / "out", progress=False, pictures=False)
    columns = result.history.read_text().splitlines()[0].split(",")
    assert "validation_forces_mae_mev_per_angstrom" in columns
    assert "train_energy_per_atom_mae_mev" in columns
    assert "train_forces_mae_mev_per_angstrom" not in columns
