"""Calibration: the likeliest factor, coverage, rank correlations, and the files they end in."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import small_model
from ensembles import deep_ensemble, last_layer_ensemble
from matplotlib.image import imread
from scipy.optimize import minimize_scalar
from training_toys import toy_frames, write_toy_set

from openmm_allegro.checkpoint import save_model
from openmm_allegro.cli import main
from openmm_allegro.ensemble import Ensemble, Factors
from openmm_allegro.ensemble_file import load_ensemble, save_ensemble
from openmm_allegro.potential import Potential
from openmm_allegro.training.calibration import (
    CONFIDENCE,
    compare,
    coverage,
    likeliest_factor,
    likeliest_factors,
    spreads_of_frames,
    uncertainty_table,
)
from openmm_allegro.training.calibration_picture import binned
from openmm_allegro.training.ensembles import evaluate_ensemble
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.metrics import evaluate


def gaussian(factor, count, seed=1):
    """Spreads over a decade, and errors with that many times them as standard deviations."""
    random = np.random.default_rng(seed)
    spreads = 10 ** random.uniform(-1, 0, count)
    return factor * spreads * random.standard_normal(count), spreads


def test_the_factor_is_where_the_likelihood_is_largest():
    errors, spreads = gaussian(2.5, 200)

    def minus_log_likelihood(factor):
        return np.sum(np.log(factor * spreads) + np.square(errors / (factor * spreads)) / 2)

    numerical = minimize_scalar(minus_log_likelihood, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-8})
    assert likeliest_factor(errors, spreads) == pytest.approx(numerical.x, rel=1e-6)


def test_the_factor_recovers_known_noise():
    errors, spreads = gaussian(2.5, 20_000)
    assert likeliest_factor(errors, spreads) == pytest.approx(2.5, rel=4 / np.sqrt(2 * 20_000))


@pytest.mark.parametrize("rounding", [0.0, 1e-9])
def test_atoms_without_forces_by_symmetry_leave_the_factor_as_it_is(rounding):
    errors, spreads = gaussian(2.5, 300)
    with_crystal = np.append(errors, np.full(30, 1e-5)), np.append(spreads, np.full(30, rounding))
    assert likeliest_factor(*with_crystal) == pytest.approx(likeliest_factor(errors, spreads), rel=1e-12)


def test_calibrated_spreads_cover_what_they_promise():
    errors, spreads = gaussian(2.5, 20_000)
    np.testing.assert_allclose(coverage(errors, 2.5 * spreads), CONFIDENCE, atol=4 * 0.5 / np.sqrt(20_000))
    assert (coverage(errors, spreads) < CONFIDENCE - 0.01).all()  # too sure of itself
    assert (coverage(errors, 10 * spreads) > CONFIDENCE).all()


def test_forces_that_symmetry_makes_zero_do_not_count_as_covered():
    errors, spreads = gaussian(2.5, 300)
    crystal, rounding = np.full(300, 1e-9), np.full(300, 1e-10)
    with_crystal = coverage(np.append(errors, crystal), np.append(spreads, rounding))
    np.testing.assert_array_equal(with_crystal, coverage(errors, spreads))
    missed = coverage(np.append(errors, 1.0), np.append(spreads, 0.0))  # members agree on something wrong
    np.testing.assert_allclose(missed, coverage(errors, spreads) * 300 / 301, rtol=1e-12)
    assert np.isnan(coverage(np.zeros(3), np.zeros(3))).all()


def test_bins_of_calibrated_spreads_lie_on_the_diagonal():
    errors, spreads = gaussian(1.0, 12_000)
    predicted, observed = binned(errors, spreads)
    assert len(predicted) == 12
    assert (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(observed / predicted, 1.0, atol=4 / np.sqrt(2 * 1000))


def test_spreads_of_nothing_by_symmetry_are_not_in_the_picture():
    errors, spreads = gaussian(1.0, 600)
    with_zeros = binned(np.append(np.zeros(200), errors), np.append(np.repeat([0.0, 1e-9], 100), spreads))
    np.testing.assert_array_equal(with_zeros, binned(errors, spreads))


def test_the_table_is_what_numpy_says_of_the_members_one_by_one():
    frames = toy_frames(6)
    ensemble = deep_ensemble(factors=Factors(2.0, 3.0))
    table = uncertainty_table(ensemble, frames)
    energies, forces = [], []
    for frame in frames:
        types = torch.tensor([ensemble.config.type_names.index(symbol) for symbol in frame.symbols])
        answers = [
            Potential(member)(torch.tensor(frame.positions), torch.zeros((3, 3)), types)
            for member in deep_ensemble().members
        ]
        energies.append(np.array([float(each[0]) for each in answers]))
        forces.append(np.array([each[1].numpy() for each in answers]))
    sizes = np.array([len(frame.numbers) for frame in frames])
    errors = np.array([each.mean() - frame.energy for each, frame in zip(energies, frames, strict=True)]) / sizes
    spreads = 2.0 * np.array([each.std(ddof=1) for each in energies]) / sizes
    of_forces = np.concatenate([each.mean(0) - frame.forces for each, frame in zip(forces, frames, strict=True)])
    force_spreads = 3.0 * np.concatenate([np.sqrt(each.var(0, ddof=1).mean(1)) for each in forces])
    assert table.energy_per_atom_rmse_mev == pytest.approx(1000 * np.sqrt(np.mean(errors**2)), rel=1e-9)
    assert table.energy_per_atom_spread_mev == pytest.approx(1000 * np.sqrt(np.mean(spreads**2)), rel=1e-9)
    assert table.energy_spearman == pytest.approx(rank_correlation(np.abs(errors), spreads), abs=1e-12)
    assert table.forces_rmse_mev_per_angstrom == pytest.approx(1000 * np.sqrt(np.mean(of_forces**2)), rel=1e-9)
    assert table.forces_spread_mev_per_angstrom == pytest.approx(1000 * np.sqrt(np.mean(force_spreads**2)), rel=1e-9)
    of_atoms = np.sqrt(np.mean(of_forces**2, axis=1))
    assert table.forces_spearman == pytest.approx(rank_correlation(of_atoms, force_spreads), abs=1e-12)
    covered = [np.mean(np.abs(of_forces) <= width * force_spreads[:, None]) for width in normal_widths()]
    expected = np.mean(np.abs(np.array(covered) - CONFIDENCE))
    assert table.forces_calibration_error == pytest.approx(expected, abs=1e-12)
    assert (table.n_members, table.n_frames, table.is_calibrated) == (3, 6, True)


def rank_correlation(one, other):
    """Spearman's, from the ranks themselves (no ties)."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return np.corrcoef(*ranks)[0, 1]


def normal_widths():
    """Half widths of the central intervals of a normal distribution, by the inverse of its integral."""
    grid = np.linspace(0, 5, 500_001)
    inside = np.concatenate([[0], np.cumsum(np.exp(-(grid[1:] ** 2) / 2) * 1e-5)]) * np.sqrt(2 / np.pi)
    return np.interp(CONFIDENCE, inside, grid)


def test_calibration_makes_the_mean_square_of_error_over_spread_one():
    frames = toy_frames(12)
    ensemble = last_layer_ensemble(per_type_energy_shifts={"H": -13.0, "O": -2041.0})
    raw = compare(frames, spreads_of_frames(ensemble, frames))
    ensemble.factors = likeliest_factors(raw)
    found = compare(frames, spreads_of_frames(ensemble, frames))
    assert np.mean(np.square(found.energy_errors / found.energy_spreads)) == pytest.approx(1.0)
    assert np.mean(np.square(found.force_errors / found.force_spreads[:, None])) == pytest.approx(1.0)


def test_an_atom_alone_does_not_count():
    alone = Frame(np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), False, -2041.0, np.zeros((1, 3)), None, "an atom")
    frames = [*toy_frames(4), alone]
    ensemble = deep_ensemble()
    spreads = spreads_of_frames(ensemble, frames)
    found = compare(frames, spreads)
    assert len(found.energy_errors) == uncertainty_table(ensemble, frames, spreads).n_frames == 4
    assert (found.force_spreads > 0).all()
    with pytest.raises(ValueError, match="no validation frame of two or more atoms has energies to calibrate with"):
        likeliest_factors(compare([alone], spreads[-1:]))


def test_an_atom_beyond_all_neighbours_does_not_hinder_a_calibration():
    frames = toy_frames(6)
    ensemble = last_layer_ensemble()
    near = likeliest_factors(compare(frames, spreads_of_frames(ensemble, frames)))
    lonely = dataclasses.replace(
        frames[0],
        numbers=np.append(frames[0].numbers, 1),
        positions=np.append(frames[0].positions, [[30.0, 0, 0]], axis=0),
        forces=np.append(frames[0].forces, [[0.0, 0, 0]], axis=0),
    )
    found = compare([lonely, *frames[1:]], spreads_of_frames(ensemble, [lonely, *frames[1:]]))
    assert found.force_spreads.min() == 0.0
    assert likeliest_factors(found).forces == pytest.approx(near.forces, rel=1e-9)


def test_members_that_are_copies_cannot_be_calibrated():
    frames = toy_frames(3)
    copies = Ensemble([small_model(), small_model()])
    with pytest.raises(ValueError, match="the members agree exactly on all of the energies; they are copies"):
        likeliest_factors(compare(frames, spreads_of_frames(copies, frames)))


def test_spreads_that_are_all_equal_have_no_rank():
    table = uncertainty_table(Ensemble([small_model(), small_model()]), toy_frames(4))
    assert (table.energy_spearman, table.forces_spearman) == (None, None)


def test_errors_of_an_ensemble_are_those_of_its_mean():
    frames = toy_frames(5, periodic=True)
    ensemble = last_layer_ensemble()
    ours, theirs = evaluate_ensemble(ensemble, frames), evaluate(ensemble.centre, frames).as_dict()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-8), name
    assert ours["stress_rmse_mev_per_angstrom3"] > 0


@pytest.mark.parametrize("shift", ["constant", "elements"])
def test_what_the_spreads_are_worth_is_of_the_shifted_energies(shift):
    frames = toy_frames(6)
    ensemble = last_layer_ensemble(factors=Factors(1.0, 1.0))
    found = evaluate_ensemble(ensemble, frames, shift=shift)
    assert found["uncertainty"]["energy_per_atom_rmse_mev"] == pytest.approx(found["energy_per_atom_rmse_mev"])


def test_the_command_line_makes_calibrates_and_evaluates(tmp_path, capfd):
    save_model(small_model(torch.float32, avg_num_neighbors=3.0), tmp_path / "m.safetensors")
    train, validation = write_toy_set(tmp_path / "t.xyz", 12), write_toy_set(tmp_path / "v.xyz", 12, seed=4)
    ensemble, picture = tmp_path / "made" / "e.safetensors", tmp_path / "seen" / "r"  # in folders that are not there

    def answer(*words):
        capfd.readouterr()
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    options = ["--last-layer", "--train", train, "--members", 6, "--output", ensemble]
    assert answer("ensemble", tmp_path / "m.safetensors", *options)["members"] == 6
    calibrated = answer("calibrate", ensemble, validation, "--picture", picture)
    assert imread(picture, format="png").std() > 0.05  # not blank
    assert load_ensemble(ensemble).factors._asdict() == pytest.approx(calibrated["factors"])
    evaluated = answer("evaluate", ensemble, validation)
    for name in ("energy_spearman", "forces_spearman", "forces_calibration_error"):
        assert evaluated["uncertainty"][name] == pytest.approx(calibrated[name], abs=1e-6)
    said = answer("info", ensemble)
    assert said["calibration"]["data"] == "v.xyz"
    assert said["provenance"]["kind"] == "last layer"
    again = answer("calibrate", ensemble, validation)  # factors do not pile up
    assert again["factors"] == pytest.approx(calibrated["factors"], rel=1e-5)


def test_the_command_line_says_what_an_ensemble_needs(tmp_path, capfd):
    path = tmp_path / "m.safetensors"
    save_model(small_model(torch.float32), path)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    save_model(small_model(torch.float32, 2), tmp_path / "other.safetensors")
    save_ensemble(deep_ensemble(), tmp_path / "e.safetensors")
    for words, sentence in (
        (["ensemble", path], "needs two or more models, but only"),
        (["ensemble", path, path, "--last-layer", "--train", path], "makes variants of one model, but 2 are given"),
        (["ensemble", path, "--last-layer"], "give `--train FILE`"),
        (["ensemble", path, path, "--train", path], "`--train` is for `--last-layer`"),
        (["ensemble", path, path, "--energy-key", "E"], "names and units of labels are for `--last-layer`"),
        (["ensemble", path, copy, "--members", 4], "`--members` and `--seed` are for `--last-layer`"),
        (["ensemble", path, tmp_path / "other.safetensors", copy], "copy.safetensors` have the same weights"),
        (["ensemble", path, path, "--output", path], "would be written, but it is read, too"),
        (["calibrate", tmp_path / "e.safetensors", path, "--picture", path], "would be written, but it is read, too"),
        (["calibrate", path, path], "is one model, where an ensemble is expected"),
        (["bench", "--model", tmp_path / "e.safetensors"], "is an ensemble, where one model is expected"),
    ):
        capfd.readouterr()
        assert main([*map(str, words)]) == 1
        assert sentence in capfd.readouterr().err
