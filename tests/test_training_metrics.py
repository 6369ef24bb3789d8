"""Figures of an evaluation against numpy, and as a file evaluates."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from rich.console import Console
from training_toys import toy_frames, write_toy_set

from openmm_allegro.checkpoint import save_model
from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.evaluation import evaluate_files
from openmm_allegro.training.metrics import (
    FramePrediction,
    error_table,
    evaluate,
    predict_frames,
)
from openmm_allegro.training.predict import predict


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = AllegroConfig(
        type_names=("H", "O"),
        r_max=3.0,
        l_max=1,
        num_layers=1,
        num_scalar_features=8,
        num_tensor_features=4,
        avg_num_neighbors=3.0,
    )
    return Allegro(config, torch.float64)


def test_figures_are_those_of_numpy():
    frames, random = toy_frames(6, periodic=True), np.random.default_rng(3)
    energy = random.normal(size=6)
    forces = [random.normal(size=frame.forces.shape) for frame in frames]
    stress = random.normal(size=(6, 3, 3))
    predictions = [
        FramePrediction(frame.energy + e, frame.forces + f, frame.stress + s)
        for frame, e, f, s in zip(frames, energy, forces, stress, strict=True)
    ]
    figures = error_table(frames, predictions).as_dict()
    n_atoms = np.array([len(frame.numbers) for frame in frames])
    all_forces, symbols = np.concatenate(forces), np.concatenate([frame.symbols for frame in frames])
    expected = {
        "energy_mae_mev": 1e3 * np.abs(energy).mean(),
        "energy_rmse_mev": 1e3 * np.sqrt((energy**2).mean()),
        "energy_per_atom_mae_mev": 1e3 * np.abs(energy / n_atoms).mean(),
        "energy_per_atom_rmse_mev": 1e3 * np.sqrt(((energy / n_atoms) ** 2).mean()),
        "forces_mae_mev_per_angstrom": 1e3 * np.abs(all_forces).mean(),
        "forces_rmse_mev_per_angstrom": 1e3 * np.sqrt((all_forces**2).mean()),
        "stress_mae_mev_per_angstrom3": 1e3 * np.abs(stress).mean(),
        "stress_rmse_mev_per_angstrom3": 1e3 * np.sqrt((stress**2).mean()),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value), name
    by_element = figures["forces_mae_mev_per_angstrom_by_element"]
    assert by_element["O"] == pytest.approx(1e3 * np.abs(all_forces[symbols == "O"]).mean())
    assert (figures["n_frames"], figures["n_atoms"]) == (6, n_atoms.sum())


def test_a_label_that_no_frame_has_has_no_figure():
    frames = [dataclasses.replace(frame, energy=None) for frame in toy_frames(2)]
    table = error_table(frames, [FramePrediction(0.0, frame.forces, None) for frame in frames])
    assert table.energy_mae_mev is None
    assert table.stress_mae_mev_per_angstrom3 is None
    assert table.forces_mae_mev_per_angstrom == 0.0


def test_evaluation_does_not_depend_on_the_batch_size(model):
    frames = toy_frames(7)
    one, five = evaluate(model, frames, 1), evaluate(model, frames, 5)
    assert one.energy_mae_mev == pytest.approx(five.energy_mae_mev, rel=1e-9)
    assert one.forces_mae_mev_per_angstrom == pytest.approx(five.forces_mae_mev_per_angstrom, rel=1e-9)


def test_folded_predictions_are_those_of_autograd(model):
    frames = toy_frames(7) + toy_frames(2, seed=3, periodic=True)
    data = FrameDataset(frames, model.config.type_names, model.config.r_max, torch.float64)
    for i, predicted in enumerate(predict_frames(model, frames, 4)):
        expected = predict(model, data.batch([i]), with_stress=True)
        assert predicted.energy == pytest.approx(float(expected.energy), rel=1e-12)
        np.testing.assert_allclose(predicted.forces, expected.forces, atol=1e-11)  # rounding, of forces of order 1
        if frames[i].periodic:
            np.testing.assert_allclose(predicted.stress, expected.stress[0], atol=1e-12)


def test_a_perfect_model_has_no_error(model):
    frames = toy_frames(5)
    labelled = [
        dataclasses.replace(frame, energy=predicted.energy, forces=predicted.forces)
        for frame, predicted in zip(frames, predict_frames(model, frames), strict=True)
    ]
    table = evaluate(model, labelled, 2)
    assert table.energy_mae_mev == pytest.approx(0, abs=1e-9)
    assert table.forces_rmse_mev_per_angstrom == pytest.approx(0, abs=1e-9)


def test_files_evaluate_like_objects(model, tmp_path):
    save_model(model, tmp_path / "model.safetensors")
    data = write_toy_set(tmp_path / "toy.xyz")
    figures = evaluate_files(tmp_path / "model.safetensors", [data], device="cpu").overall
    # eight decimals of the positions in the file
    assert figures.forces_mae_mev_per_angstrom == pytest.approx(
        evaluate(model, toy_frames()).forces_mae_mev_per_angstrom, rel=1e-6
    )


def test_the_table_shows_what_is_known(model):
    console = Console(file=io.StringIO(), width=100)
    console.print(evaluate(model, toy_frames(3)).table("toy"))
    text = console.file.getvalue()
    assert "forces on O" in text
    assert "meV/Å" in text
    assert "stress" not in text


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_a_device_that_is_not_here_is_refused(tmp_path, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"`device` is '{device}', but here are only cpu"):
        evaluate_files(tmp_path / "a.safetensors", [tmp_path / "a.xyz"], device=device)
