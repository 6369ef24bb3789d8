"""The last-layer posterior: against finite differences, direct linear algebra, sampling, and known noise."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import small_model
from training_toys import toy_frames

from openmm_allegro.last_layer import last_weights, with_last_weights
from openmm_allegro.spread import Members
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.calibration import likeliest_factor, spreads_of_frames
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.last_layer import (
    RELATIVE_PRIOR,
    LastLayerOptions,
    deviations,
    energy_features,
    force_features,
    last_layer_ensemble,
    posterior_precision,
)
from openmm_allegro.training.metrics import predict_frames
from openmm_allegro.training.predict import predict


@pytest.fixture(scope="module")
def model():
    return small_model(per_type_energy_shifts={"H": -13.0, "O": -2041.0}, avg_num_neighbors=3.0).requires_grad_(False)


def dataset_of(model, frames):
    return FrameDataset(frames, model.config.type_names, model.config.r_max, model.dtype)


def test_features_are_the_derivatives_for_the_last_weights(model):
    batch = dataset_of(model, toy_frames(4)).batch(range(4))
    features, of_forces = energy_features(model, batch), force_features(model, batch)
    weights, before = last_weights(model), predict(model, batch)
    for column in (0, 5):
        moved = weights.clone()
        moved[column] += 1.0  # the model is linear in them
        after = predict(with_last_weights(model, moved), batch)
        torch.testing.assert_close(features[:, column], after.energy - before.energy, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(of_forces[:, :, column], after.forces - before.forces, rtol=1e-9, atol=1e-12)


def test_the_precision_is_the_sum_of_outer_products_over_the_noise(model):
    frames = toy_frames(20)
    dataset = dataset_of(model, frames)
    batch = dataset.batch(range(20))
    prediction = predict(model, batch)
    rows = energy_features(model, batch)
    forces = force_features(model, dataset.batch([0, 5, 10, 14, 19])).flatten(0, 1)  # evenly spaced
    expected = torch.einsum("fh,fk->hk", rows, rows) / (prediction.energy - batch.energy).square().mean()
    expected += torch.einsum("nh,nk->hk", forces, forces) / (prediction.forces - batch.forces).square().mean()
    expected += RELATIVE_PRIOR * expected.trace() / 8 * torch.eye(8, dtype=torch.float64)
    found = posterior_precision(model, dataset, n_force_frames=5, batch_size=3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_a_label_that_no_frame_has_does_not_count(model):
    frames = toy_frames(10)
    without = [dataclasses.replace(frame, forces=None) for frame in frames]
    only_energies = posterior_precision(model, dataset_of(model, without), 10)
    assert torch.equal(only_energies, posterior_precision(model, dataset_of(model, without), 0))
    nothing = [dataclasses.replace(frame, energy=None) for frame in without]
    with pytest.raises(ValueError, match="the training frames have neither energies nor forces; name them"):
        posterior_precision(model, dataset_of(model, nothing), 10)


def test_frames_of_atoms_alone_are_refused(model):
    alone = Frame(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), False, -13.1, np.zeros((1, 3)), None, "an atom")
    with pytest.raises(ValueError, match="no atom of the training frames has a neighbour within 4 Å, so they say noth"):
        last_layer_ensemble(model, [alone])


def test_frames_without_a_label_do_not_count_for_it(model):
    frames = toy_frames(12)
    sparse = [
        dataclasses.replace(frame, energy=frame.energy if i % 4 == 1 else None, forces=None if i < 8 else frame.forces)
        for i, frame in enumerate(frames)
    ]
    forces_only = dataset_of(model, [dataclasses.replace(frame, energy=None) for frame in frames[8:]])
    energies_only = dataset_of(model, [dataclasses.replace(frame, forces=None) for frame in frames[1::4]])
    expected = posterior_precision(model, forces_only, 3) + posterior_precision(model, energies_only, 3)
    found = posterior_precision(model, dataset_of(model, sparse), 3, batch_size=4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def some_precision(size=6):
    """A matrix with eigenvalues from 1 to 100."""
    rotation, _ = torch.linalg.qr(torch.randn((size, size), dtype=torch.float64, generator=torch.Generator()))
    return rotation @ torch.diag(torch.logspace(0, 2, size, dtype=torch.float64)) @ rotation.t()


def test_deviations_have_the_inverse_precision_as_covariance():
    precision = some_precision()
    generator = torch.Generator().manual_seed(1)
    drawn = torch.cat([deviations(precision, 2, generator) for _ in range(4000)])  # (8000, 6)
    covariance, inverse = drawn.t() @ drawn / len(drawn), torch.linalg.inv(precision)
    # each entry has a relative error of about 1 / sqrt(8000) of the diagonal: 0.011, here 4 times that
    scale = inverse.diagonal().sqrt()
    assert ((covariance - inverse) / torch.outer(scale, scale)).abs().max() < 0.045
    assert (drawn.mean(0) / scale).abs().max() < 0.045


@pytest.mark.parametrize("count", [6, 12])
def test_as_many_deviations_as_features_have_that_covariance_exactly(count):
    precision = some_precision()
    drawn = deviations(precision, count, torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn.t() @ drawn / count, torch.linalg.inv(precision), rtol=1e-9, atol=1e-12)


def test_the_spread_of_the_members_is_the_variance_of_the_formula(model):
    frames, others = toy_frames(20), toy_frames(4, seed=9)
    ensemble = last_layer_ensemble(model, frames, LastLayerOptions(n_members=16, n_force_frames=20))  # 8 features
    covariance = torch.linalg.inv(posterior_precision(model, dataset_of(model, frames), 20))
    batch = dataset_of(model, others).batch(range(4))
    features, of_forces = energy_features(model, batch), force_features(model, batch)
    energies = torch.einsum("fh,hk,fk->f", features, covariance, features).sqrt()
    forces = torch.einsum("nah,hk,nak->na", of_forces, covariance, of_forces).mean(1).sqrt()
    spreads = spreads_of_frames(ensemble, others)
    np.testing.assert_allclose([spread.energy_spread for spread in spreads], energies, rtol=1e-7)
    found = torch.cat([spread.force_spread for spread in spreads])
    torch.testing.assert_close(found, forces, rtol=1e-7, atol=1e-12)


def test_the_spread_agrees_with_brute_force_sampling(model):
    frames, other = toy_frames(20), toy_frames(1, seed=9)
    covariance = torch.linalg.inv(posterior_precision(model, dataset_of(model, frames), 20))
    random = np.random.default_rng(2)
    draws = random.multivariate_normal(last_weights(model).numpy(), covariance.numpy(), size=150)
    energies = [predict_frames(with_last_weights(model, torch.tensor(w)), other)[0].energy for w in draws]
    ensemble = last_layer_ensemble(model, frames, LastLayerOptions(n_members=16, n_force_frames=20))
    spread = spreads_of_frames(ensemble, other)[0].energy_spread
    assert np.std(energies) == pytest.approx(spread, rel=0.23)  # four times 1 / sqrt(2 · 150)


def test_the_mean_of_the_members_is_the_model_itself(model):
    frames = toy_frames(8)
    ensemble = last_layer_ensemble(model, frames, LastLayerOptions(n_members=4))
    members = Members(ensemble)
    predicted = predict_frames(model, frames[:2])
    for frame, own in zip(frames, predicted, strict=False):
        types = torch.tensor([model.config.type_names.index(symbol) for symbol in frame.symbols])
        answers = members.answers(torch.tensor(frame.positions), torch.zeros((3, 3), dtype=torch.float64), types)
        assert float(answers.energies.mean()) == pytest.approx(own.energy, rel=1e-12)
        np.testing.assert_allclose(answers.forces.mean(0), own.forces, atol=1e-10)


def test_the_seed_decides_the_members(model):
    frames = toy_frames(6)
    weights = [
        last_weights(next(iter(last_layer_ensemble(model, frames, LastLayerOptions(4, 2, seed)).members)))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


def test_an_odd_number_of_members_is_refused(model):
    with pytest.raises(ValueError, match="`members` is 5; the members come in pairs, so give an even number"):
        last_layer_ensemble(model, toy_frames(4), LastLayerOptions(n_members=5))


def test_the_spread_of_a_fit_to_noisy_energies_is_its_error(model):
    """Energies that some last layer gives, and noise of 20 meV; least squares finds the layer again, not exactly.

    The theory of linear regression says how far the fit is from the truth: what calibration finds is a factor of 1.
    """
    noise, frames, others = 0.02, toy_frames(60), toy_frames(12, seed=7)
    features, truth = (
        energy_features(model, dataset_of(model, part).batch(range(len(part)))).numpy() for part in (frames, others)
    )
    right = last_weights(model).numpy()
    random = np.random.default_rng(3)
    squares, sigmas = [], []
    for _ in range(8):
        labels = features @ right + noise * random.standard_normal(len(frames))
        fitted = np.linalg.lstsq(features, labels, rcond=None)[0]
        shifts = [sum({"H": -13.0, "O": -2041.0}[symbol] for symbol in frame.symbols) for frame in frames]
        labelled = [
            dataclasses.replace(frame, energy=float(label + shift), forces=None)
            for frame, label, shift in zip(frames, labels, shifts, strict=True)
        ]
        fit = with_last_weights(model, torch.tensor(fitted))
        spreads = spreads_of_frames(last_layer_ensemble(fit, labelled, LastLayerOptions(16, 0), 60), others)
        sigma = np.array([spread.energy_spread for spread in spreads])
        squares.append(likeliest_factor(truth @ (fitted - right), sigma) ** 2)
        sigmas.append(sigma)
    covariance = noise**2 * np.linalg.inv(features.T @ features)
    known = np.sqrt(np.einsum("fh,hk,fk->f", truth, covariance, truth))
    # σ_E comes from 60 residuals less 8 that are fitted: sqrt(1 - 8/60) = 0.93, ± 1/sqrt(2·52·8) = 0.035, three times
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(sigmas), axis=0)) / known, 0.93, atol=0.1)
    assert np.mean(squares) == pytest.approx(1 / 0.93**2, rel=0.5)  # sqrt(2 / (8 features · 8 fits)) = 0.18, thrice


def test_the_model_of_the_caller_stays_as_it_was():
    given = small_model(avg_num_neighbors=3.0).train()
    trained = [weight.requires_grad for weight in given.parameters()]
    assert any(trained)
    last_layer_ensemble(given, toy_frames(10), LastLayerOptions(n_members=2))
    assert given.training
    assert [weight.requires_grad for weight in given.parameters()] == trained
