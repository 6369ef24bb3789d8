"""Frames that a model was trained on are known again when it is evaluated or its spreads are calibrated."""

import dataclasses
import hashlib
import json
import warnings

import ase.io
import numpy as np
import pytest
from conftest import small_model
from training_toys import toy_frames, write_toy_run, write_toy_set

from openmm_allegro.checkpoint import load_model, read_metadata, save_model
from openmm_allegro.cli import main
from openmm_allegro.ensemble_file import load_ensemble
from openmm_allegro.summary import TRAINED_ON
from openmm_allegro.training.config import load_config
from openmm_allegro.training.ensembles import calibrate_file, evaluate_ensemble_files, make_ensemble_file
from openmm_allegro.training.evaluation import evaluate_files
from openmm_allegro.training.last_layer import LastLayerOptions
from openmm_allegro.training.run import train
from openmm_allegro.training.sums import digest
from openmm_allegro.training.trained_on import MOST_KEPT, fingerprints, kept_in


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with `toy.xyz`, of whose 16 frames 12 were trained on and 4 validated, and the model in `run`."""
    folder = tmp_path_factory.mktemp("trained")
    train(load_config(write_toy_run(folder, "max_epochs = 1")), folder / "run", progress=False)
    return folder


def many_digests(count, first=0):
    return [hashlib.sha256(f"{first + i}".encode()).digest() for i in range(count)]


def test_every_frame_of_a_small_set_is_kept():
    digests = many_digests(1000)
    assert len(fingerprints(digests)) == 1000
    assert fingerprints(digests) == fingerprints(reversed(digests))


def test_of_a_large_set_the_file_keeps_few_and_still_knows_a_share_of_any_part_of_it():
    trained_on, new = many_digests(20_000), many_digests(20_000, first=20_000)
    kept = set(fingerprints(trained_on))
    assert len(kept) == MOST_KEPT
    known = len(kept & set(fingerprints(trained_on[:5000])))
    assert known == pytest.approx(MOST_KEPT / 4, abs=4 * np.sqrt(MOST_KEPT * 3 / 16))  # binomial, four deviations
    assert not kept & set(fingerprints(new))


def test_a_model_keeps_what_the_model_it_came_from_was_trained_on():
    before, own = many_digests(20), many_digests(30, first=20)
    assert fingerprints(own, fingerprints(before)) == fingerprints(before + own)


def test_evaluation_on_the_training_file_says_how_many_of_its_frames_were_trained_on(trained):
    file = trained / "toy.xyz"
    with pytest.warns(UserWarning, match=r"^12 of the 16 frames of `.*toy.xyz` are among those that the model was tr"):
        evaluate_files(trained / "run" / "best.safetensors", [file])


def test_evaluation_on_other_frames_says_nothing(trained, tmp_path):
    others = write_toy_set(tmp_path / "others.xyz", 5, seed=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_files(trained / "run" / "best.safetensors", [others])
        save_model(small_model(type_names=("H", "O")), tmp_path / "old.safetensors")  # a file without fingerprints
        evaluate_files(tmp_path / "old.safetensors", [trained / "toy.xyz"])


def test_a_frame_with_another_label_is_another_frame(trained, tmp_path):
    frames = ase.io.read(trained / "toy.xyz", ":")
    for frame in frames:
        frame.calc.results["energy"] += 0.1
    ase.io.write(tmp_path / "relabelled.xyz", frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_files(trained / "run" / "best.safetensors", [tmp_path / "relabelled.xyz"])


def test_a_frame_is_known_whether_or_not_its_stress_was_read():
    frame = toy_frames(1, periodic=True)[0]
    without, other = dataclasses.replace(frame, stress=None), dataclasses.replace(frame, stress=2 * frame.stress)
    assert fingerprints([digest(frame)]) == fingerprints([digest(without)]) == fingerprints([digest(other)])
    assert len({digest(frame), digest(without), digest(other)}) == 3


@pytest.mark.parametrize("kind", ["deep", "last layer", "last layer of a model without fingerprints"])
def test_calibration_and_evaluation_of_an_ensemble_on_the_training_file_are_warned_of(trained, tmp_path, kind):
    models = [trained / "run" / "best.safetensors", trained / "run" / "last.safetensors"]
    if kind == "deep":
        other = load_model(models[0])
        other.readout[-1].weight.data *= 1.01
        save_model(other, tmp_path / "other.safetensors")
        make_ensemble_file([models[0], tmp_path / "other.safetensors"], tmp_path / "ensemble.safetensors")
        count = "12"
    else:
        model = models[0]
        if kind != "last layer":
            model = tmp_path / "model.safetensors"
            save_model(load_model(models[0]), model, {})
        options = LastLayerOptions(n_members=4)
        make_ensemble_file([model], tmp_path / "ensemble.safetensors", last_layer=options, train=[trained / "toy.xyz"])
        count = "16"
    for what in (calibrate_file, lambda path, data: evaluate_ensemble_files(path, [data])):
        with pytest.warns(UserWarning, match=f"^{count} of the 16 frames"):
            what(tmp_path / "ensemble.safetensors", trained / "toy.xyz")
    assert len(kept_in(dict(load_ensemble(tmp_path / "ensemble.safetensors").provenance))) == int(count)


def test_a_fine_tuned_model_knows_the_frames_of_both_trainings(trained, tmp_path):
    config = write_toy_run(tmp_path, f'max_epochs = 1\nstart_from = "{trained / "run" / "best.safetensors"}"')
    text = config.read_text().split("[model]")[0] + "[optimizer]" + config.read_text().split("[optimizer]")[1]
    config.write_text(text)
    write_toy_set(tmp_path / "toy.xyz", 9, seed=3)
    train(load_config(config), tmp_path / "run", progress=False)
    kept = read_metadata(tmp_path / "run" / "best.safetensors")["provenance"][TRAINED_ON]
    assert len(kept) == 12 + 5
    with pytest.warns(UserWarning, match="^12 of the 16 frames"):
        evaluate_files(tmp_path / "run" / "best.safetensors", [trained / "toy.xyz"])


def test_a_reader_of_the_model_is_spared_the_fingerprints(trained, capsys):
    path = trained / "run" / "best.safetensors"
    assert main(["info", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["provenance"]["n_train"] == 12
    assert TRAINED_ON not in said["provenance"]
    assert TRAINED_ON not in load_model(path).describe()["provenance"]
    assert len(read_metadata(path)["provenance"][TRAINED_ON]) == 12
