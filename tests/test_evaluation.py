"""Errors by group, percentiles, shifts of the energy, and the files of an evaluation."""

import csv
import dataclasses

import ase.io
import numpy as np
import pytest
import torch
from conftest import small_model
from training_toys import toy_atoms, toy_frames, write_toy_set

from openmm_allegro.training.error_files import worst_groups
from openmm_allegro.training.evaluation import compare, evaluate_files, group_names
from openmm_allegro.training.metrics import (
    FramePrediction,
    batches_by_atoms,
    error_table,
    predict_frames,
)


def off_by(frames, energy, forces=0.0):
    """Predictions that miss the labels by these [eV], [eV/Å]."""
    energy = np.broadcast_to(energy, len(frames))
    return [FramePrediction(f.energy + float(e), f.forces + forces, None) for f, e in zip(frames, energy, strict=True)]


@pytest.mark.parametrize(("most_frames", "most_atoms"), [(1, 1), (3, 10), (100, 7), (2, 1000)])
def test_batches_hold_all_frames_in_order_and_no_more_atoms_than_allowed(most_frames, most_atoms):
    sizes = [3, 4, 5, 12, 1, 1, 1, 6, 2]
    batches = batches_by_atoms(sizes, most_frames, most_atoms)
    assert [i for batch in batches for i in batch] == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or (len(batch) <= most_frames and sum(sizes[i] for i in batch) <= most_atoms)
    assert batches_by_atoms([], 1, 1) == []


def test_predictions_do_not_depend_on_the_batches():
    model, frames = small_model(), toy_frames(7)
    one, all_at_once = predict_frames(model, frames, 1), predict_frames(model, frames, 7, 10_000)
    few_atoms = predict_frames(model, frames, 7, 6)
    for a, b, c in zip(one, all_at_once, few_atoms, strict=True):
        assert a.energy == pytest.approx(b.energy, abs=1e-9)
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-10)  # float64
        np.testing.assert_allclose(a.forces, c.forces, atol=1e-10)


def test_relative_error_and_cosine_are_those_of_hand():
    frames = toy_frames(4)
    turned = [FramePrediction(f.energy, 2 * f.forces, None) for f in frames]
    table = error_table(frames, turned)
    assert table.forces_relative_rmse == pytest.approx(1.0)
    assert table.forces_cosine == pytest.approx(1.0)
    against = error_table(frames, [FramePrediction(f.energy, -f.forces, None) for f in frames])
    assert against.forces_cosine == pytest.approx(-1.0)


def test_groups_have_the_errors_of_their_frames():
    frames = toy_frames(9)
    predictions = off_by(frames, np.arange(9) * 0.1)
    grouped = compare(frames, predictions, group_names(frames, "size", ["a"] * 9)).groups
    assert list(grouped) == ["3 atoms", "4 atoms", "5 atoms"]
    assert grouped["3 atoms"].energy_mae_mev == pytest.approx(1e3 * (0.0 + 0.3 + 0.6) / 3)
    assert group_names(frames, "composition", ["a"] * 9)[:3] == ["H2O1", "H3O1", "H4O1"]
    assert group_names(frames, None, []) is None


def test_frames_are_grouped_by_what_the_file_says_of_them(tmp_path):
    images = [toy_atoms(frame) for frame in toy_frames(6)]
    for i, atoms in enumerate(images[:5]):
        atoms.info["config_type"] = "cold" if i % 2 else "10² hot"
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    model = small_model()
    found = evaluate_files(model, [tmp_path / "a.xyz"], device="cpu", group_by="config_type")
    assert {name: table.n_frames for name, table in found.groups.items()} == {
        "cold": 2,
        "10² hot": 3,
        "without config_type": 1,
    }
    with pytest.raises(ValueError, match="no frame has `temperature` to group by; .* key of the frames: config_type"):
        evaluate_files(model, [tmp_path / "a.xyz"], device="cpu", group_by="temperature")


def test_files_are_groups_too(tmp_path):
    one, two = write_toy_set(tmp_path / "one.xyz", 3), write_toy_set(tmp_path / "two.xyz", 5, seed=1)
    found = evaluate_files(small_model(), [one, two], device="cpu", group_by="file")
    assert found.overall.n_frames == 8
    assert {name: table.n_frames for name, table in found.groups.items()} == {"one.xyz": 3, "two.xyz": 5}


def test_files_of_one_name_are_groups_by_their_paths(tmp_path):
    for folder in ("cold", "hot"):
        (tmp_path / folder).mkdir()
    cold, hot = write_toy_set(tmp_path / "cold" / "a.xyz", 3), write_toy_set(tmp_path / "hot" / "a.xyz", 5, seed=1)
    found = evaluate_files(small_model(), [cold, hot], device="cpu", group_by="file")
    assert {name: table.n_frames for name, table in found.groups.items()} == {str(cold): 3, str(hot): 5}


def test_a_constant_offset_is_removed():
    frames = toy_frames(6)
    found = compare(frames, off_by(frames, 7.0), shift="constant")
    assert found.shift_ev == {"constant": pytest.approx(-7.0)}
    assert found.overall.energy_mae_mev == pytest.approx(0, abs=1e-6)
    assert compare(frames, off_by(frames, 7.0)).overall.energy_mae_mev == pytest.approx(7000.0)


def test_offsets_of_the_elements_are_found():
    frames = toy_frames(9)
    counts = np.array([[f.symbols.count("H"), f.symbols.count("O")] for f in frames])
    found = compare(frames, off_by(frames, counts @ [0.5, -3.0]), shift="elements")
    assert found.shift_ev == {"H": pytest.approx(-0.5), "O": pytest.approx(3.0)}
    assert found.overall.energy_mae_mev == pytest.approx(0, abs=1e-6)


def test_a_wrong_shift_is_refused():
    frames = toy_frames(2)
    with pytest.raises(ValueError, match="`shift` is 'mean'; expected constant or elements"):
        compare(frames, off_by(frames, 0.0), shift="mean")
    bare = [dataclasses.replace(frame, energy=None) for frame in frames]
    with pytest.raises(ValueError, match="no frame has an energy"):
        compare(bare, off_by(frames, 0.0), shift="constant")


def test_percentiles_are_those_of_numpy_and_name_the_worst_frame():
    frames = toy_frames(40)
    errors = np.random.default_rng(0).normal(size=40)
    errors[23] = -9.0
    predictions = off_by(frames, errors)
    predictions[11] = dataclasses.replace(predictions[11], forces=frames[11].forces + [3.0, 4.0, 0.0])
    found = compare(frames, predictions).percentiles
    per_atom = 1e3 * np.abs(errors) / [len(f.numbers) for f in frames]
    assert found["energy_mev_per_atom"]["p95"] == pytest.approx(np.percentile(per_atom, 95))
    assert found["energy_mev_per_atom"]["worst_frame"] == "frame 23 of a toy set"
    assert found["force_mev_per_angstrom"]["max"] == pytest.approx(5000.0)
    assert found["force_mev_per_angstrom"]["worst_frame"] == "frame 11 of a toy set"


def test_frames_without_labels_are_predicted_and_left_out_of_the_errors(tmp_path):
    frames = toy_frames(5)
    frames[1] = dataclasses.replace(frames[1], energy=None)
    frames[2] = dataclasses.replace(frames[2], forces=None)
    predictions = [FramePrediction(-1.0, np.zeros((len(f.numbers), 3)), None) for f in frames]
    found = compare(frames, predictions, output=tmp_path / "errors")
    assert found.overall.n_frames == 5
    with (tmp_path / "errors" / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["energy_error_mev_per_atom"] == "" for row in rows] == [False, True, False, False, False]
    assert [row["forces_mae_mev_per_angstrom"] == "" for row in rows] == [False, False, True, False, False]
    assert rows[1]["predicted_energy_ev"] == "-1.0"
    nothing = [dataclasses.replace(frame, energy=None, forces=None) for frame in frames]
    assert compare(nothing, predictions, output=tmp_path / "none").percentiles == {}


def test_the_table_of_frames_adds_up_to_the_overall_errors(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 10)
    found = evaluate_files(small_model(), [path], device="cpu", group_by="composition", output=tmp_path / "errors")
    assert [each.name for each in found.files] == ["errors.csv", "parity.png", "errors.png"]
    assert all(each.stat().st_size > 0 for each in found.files)
    with found.files[0].open() as file:
        rows = list(csv.DictReader(file))
    error = [abs(float(row["energy_error_mev_per_atom"])) for row in rows]
    assert np.mean(error) == pytest.approx(found.overall.energy_per_atom_mae_mev)
    weights = [int(row["n_atoms"]) for row in rows]
    squares = [float(row["forces_rmse_mev_per_angstrom"]) ** 2 for row in rows]
    assert np.average(squares, weights=weights) ** 0.5 == pytest.approx(found.overall.forces_rmse_mev_per_angstrom)


def test_an_element_that_the_model_does_not_know_is_refused(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 3)
    with pytest.raises(ValueError, match="frame 0 of `toy.xyz`: atom 1 is O, but this model knows only H, C"):
        evaluate_files(small_model(torch.float32, type_names=("H", "C")), [path], device="cpu")


def test_the_worst_groups_are_drawn_also_where_there_are_energies_alone():
    frames, order = toy_frames(30), [7 * i % 30 for i in range(30)]
    errors = [0.01 * place * len(frame.numbers) for place, frame in zip(order, frames, strict=True)]
    unforced = [dataclasses.replace(frame, forces=None) for frame in frames]
    groups = compare(unforced, off_by(frames, errors), [f"group {place}" for place in order]).groups
    assert worst_groups(groups) == [f"group {place}" for place in range(29, 4, -1)]


def test_results_do_not_take_the_place_of_a_training_or_a_file(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 3)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").touch()
    for folder, sentence in (
        (tmp_path / "run", "holds a training, whose `parity.png` would be lost"),
        (path, "is a file"),
    ):
        with pytest.raises(ValueError, match=sentence):
            evaluate_files(small_model(), [path], device="cpu", output=folder)


def test_frames_without_any_label_are_not_evaluated(tmp_path):
    path = tmp_path / "bare.xyz"
    images = [frame.atoms() for frame in toy_frames(2)]
    ase.io.write(path, images, format="extxyz")
    with pytest.raises(ValueError, match="no frame has an energy, forces or a stress to compare with; give"):
        evaluate_files(small_model(), [path], device="cpu")
    for image in images:
        image.info["REF_energy"] = 1.0
    ase.io.write(path, images, format="extxyz")
    with pytest.raises(ValueError, match='to compare with; name them, perhaps `data.energy_key` "REF_energy"'):
        evaluate_files(small_model(), [path], device="cpu")


def test_many_points_are_drawn_as_their_density(tmp_path):
    frames = toy_frames(12)
    many = [dataclasses.replace(frames[i % 12], origin=f"{i}") for i in range(2000)]
    predictions = off_by(many, 0.1, 0.1)
    evaluation = compare(many, predictions, output=tmp_path / "many")
    assert evaluation.files[1].stat().st_size > 10_000
