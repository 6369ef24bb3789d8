"""Whole training runs: they learn, they can be killed and go on, and they lose nothing."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys

import pytest
import torch
from conftest import full_disk
from safetensors.torch import load_file
from training_toys import toy_frames, write_toy_run, write_toy_set

from openmm_allegro.checkpoint import load_model, read_metadata
from openmm_allegro.training.config import load_config
from openmm_allegro.training.metrics import evaluate
from openmm_allegro.training.run import train

# Lightning names the packages it would rather see than those it finds
pytestmark = [pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")]

DIES_IN_STEP = """
import os, signal, sys
from openmm_allegro.training.config import load_config
from openmm_allegro.training.run import train
from openmm_allegro.training.schedule import MovingAverage

update = MovingAverage.update
def update_and_die(self, progress):
    update(self, progress)
    if self.steps == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
MovingAverage.update = update_and_die
train(load_config(sys.argv[1]), sys.argv[2], progress=False, pictures=False)
"""

DIES_IN_RENAME = """
import os, signal, sys
from openmm_allegro.training.config import load_config
from openmm_allegro.training.run import train

replace, renamed = os.replace, []
def replace_or_die(*paths):
    renamed.append(paths)
    if len(renamed) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = replace_or_die
train(load_config(sys.argv[1]), sys.argv[2], progress=False, pictures=False)
"""


def run(path, folder, resume=False, pictures=False):
    return train(load_config(path), folder, resume=resume, progress=False, pictures=pictures)


def kill_in_step(step, path, folder):
    kill(DIES_IN_STEP, step, path, folder)


def kill_in_rename(number, path, folder):
    kill(DIES_IN_RENAME, number, path, folder)


def kill(script, moment, path, folder):
    killed = subprocess.run(
        [sys.executable, "-P", "-c", script, path, folder, str(moment)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


def assert_same_weights(one, other):
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_training_alone_does_not_ask_for_mpi(tmp_path, monkeypatch):
    """An mpi4py that does not find its library raises when it is imported, and Lightning imports it if it may."""
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text("raise RuntimeError('cannot load MPI library')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mpi4py"]:
        monkeypatch.delitem(sys.modules, name)
    assert run(write_toy_run(tmp_path, "max_steps = 1", count=8), tmp_path / "out").best_model.is_file()


def test_training_lowers_the_error(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 40", count=28)
    result = run(path, tmp_path / "out")
    unseen = toy_frames(20, seed=5)
    rms_force = 1e3 * (sum((f.forces**2).sum() for f in unseen) / sum(f.forces.size for f in unseen)) ** 0.5
    errors = evaluate(load_model(result.best_model), unseen)
    assert errors.forces_rmse_mev_per_angstrom < 0.4 * rms_force
    with result.history.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert float(rows[-1]["validation_loss"]) < 0.05 * float(rows[0]["validation_loss"])


def test_a_run_leaves_models_history_and_pictures(tmp_path):
    path = write_toy_run(tmp_path)
    result = run(path, tmp_path / "out", pictures=True)
    assert (result.steps, result.epochs) == (16, 4.0)
    assert len(result.pictures) == 2
    for file in (result.best_model, result.last_model, result.history, *result.pictures):
        assert file.stat().st_size > 0
    assert not list((tmp_path / "out").glob("*.tmp"))
    provenance = read_metadata(result.last_model)["provenance"]
    assert provenance["config"] == path.read_text()
    assert (provenance["n_train"], provenance["n_validation"]) == (12, 4)
    assert load_model(result.best_model).config.per_type_energy_shifts == {"H": -13.0, "O": -2041.0}


@pytest.mark.parametrize(
    "optimizer",
    [
        'schedule = "cosine"',
        'schedule = "plateau"\nplateau_patience = 0\namsgrad = true',
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, optimizer):
    path = write_toy_run(tmp_path, "max_epochs = 6\nvalidate_every = 2", optimizer)
    whole = run(path, tmp_path / "whole")
    kill_in_step(18, path, tmp_path / "killed")  # in the fifth of six epochs
    resumed = run(path, tmp_path / "killed", resume=True)
    assert resumed.steps == whole.steps == 24
    assert_same_weights(whole.last_model, resumed.last_model)
    assert_same_weights(whole.best_model, resumed.best_model)
    with whole.history.open() as one, resumed.history.open() as other:
        for row, again in zip(csv.DictReader(one), csv.DictReader(other), strict=True):
            assert row["validation_loss"] == again["validation_loss"]


@pytest.mark.parametrize("length", ["max_steps = 14", "max_epochs = 4\nmax_steps = 100"])
def test_a_killed_run_with_a_number_of_steps_goes_on_to_the_same_weights(tmp_path, length):
    path = write_toy_run(tmp_path, length)
    whole = run(path, tmp_path / "whole")
    kill_in_step(10, path, tmp_path / "killed")  # in the third epoch of four steps
    resumed = run(path, tmp_path / "killed", resume=True)
    assert resumed.steps == whole.steps == (14 if length == "max_steps = 14" else 16)
    assert_same_weights(whole.last_model, resumed.last_model)
    assert run(path, tmp_path / "killed", resume=True).steps == whole.steps  # it is over
    assert_same_weights(whole.last_model, resumed.last_model)


def test_a_finished_run_can_be_made_longer(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 2", 'schedule = "constant"')
    run(path, tmp_path / "out")
    write_toy_run(tmp_path, "max_epochs = 4", 'schedule = "constant"')
    longer = run(path, tmp_path / "out", resume=True)
    assert_same_weights(longer.last_model, run(path, tmp_path / "whole").last_model)


def test_a_run_that_ends_within_an_epoch_is_validated_and_saved(tmp_path):
    result = run(write_toy_run(tmp_path, "max_steps = 6"), tmp_path / "out")
    assert result.steps == 6
    assert read_metadata(result.last_model)["provenance"]["training"]["step"] == 6


def test_time_ends_a_run(tmp_path):
    path = write_toy_run(tmp_path, "max_time_minutes = 0.01")  # 0.6 s
    result = run(path, tmp_path / "out")  # nothing else would end it
    assert result.seconds >= 0.6
    assert read_metadata(result.last_model)["provenance"]["training"]["step"] == result.steps > 0


def test_a_run_stops_when_nothing_improves(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 20\nearly_stopping_patience = 3")
    path.write_text(path.read_text().replace("lr = 0.01", "lr = 1e-12"))  # below the rounding of the weights
    assert run(path, tmp_path / "out").epochs == 4.0


def test_an_existing_folder_is_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="exists already and is kept as it is; go on with it with `--resume`"):
        run(write_toy_run(tmp_path), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to resume: .* has no `resume.ckpt`"):
        run(write_toy_run(tmp_path), tmp_path / "out", resume=True)


def test_a_changed_run_is_not_resumed(tmp_path):
    path = write_toy_run(tmp_path)
    run(path, tmp_path / "out")
    path.write_text(path.read_text().replace("lr = 0.01", "lr = 0.02"))
    with pytest.raises(ValueError, match=r"started with another `optimizer.lr` \(0.01, now 0.02\)"):
        run(path, tmp_path / "out", resume=True)
    path.write_text(path.read_text().replace("lr = 0.02", "lr = 0.01"))
    write_toy_set(tmp_path / "toy.xyz", 16, seed=9)
    with pytest.raises(ValueError, match="started with another `the frames`"):
        run(path, tmp_path / "out", resume=True)


def test_a_damaged_resume_file_is_refused(tmp_path):
    path = write_toy_run(tmp_path)
    run(path, tmp_path / "out")
    resume_file = tmp_path / "out" / "resume.ckpt"
    resume_file.write_bytes(resume_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cannot read `.*resume.ckpt`"):
        run(path, tmp_path / "out", resume=True)


def test_a_resume_file_with_code_in_it_is_refused(tmp_path):
    path = write_toy_run(tmp_path)
    run(path, tmp_path / "out")
    torch.save({"run_id": os.system}, tmp_path / "out" / "resume.ckpt")
    with pytest.raises(ValueError, match="cannot read `.*resume.ckpt`"):
        run(path, tmp_path / "out", resume=True)


def test_a_mistake_in_the_data_leaves_no_folder(tmp_path):
    path = write_toy_run(tmp_path)
    path.write_text(path.read_text().replace("O = -2041.0", "N = -1.0"))
    with pytest.raises(ValueError, match="no energy of an isolated O"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fine_tuning_begins_with_the_given_weights(tmp_path):
    first = run(write_toy_run(tmp_path, "max_epochs = 20"), tmp_path / "first")
    path = write_toy_run(tmp_path, 'max_epochs = 1\nstart_from = "first/best.safetensors"')
    path.write_text(path.read_text().replace("isolated_atoms", "# isolated_atoms"))
    second = run(path, tmp_path / "second")
    assert second.validation.forces_mae_mev_per_angstrom < 1.5 * first.validation.forces_mae_mev_per_angstrom
    scratch = run(write_toy_run(tmp_path, "max_epochs = 1"), tmp_path / "scratch")
    assert second.validation.forces_mae_mev_per_angstrom < 0.7 * scratch.validation.forces_mae_mev_per_angstrom


def test_fine_tuning_refuses_another_model(tmp_path):
    run(write_toy_run(tmp_path, "max_epochs = 1"), tmp_path / "first")
    path = write_toy_run(tmp_path, 'max_epochs = 1\nstart_from = "first/best.safetensors"')
    text = path.read_text().replace("isolated_atoms", "# isolated_atoms")
    path.write_text(text.replace("r_max = 4.0", "r_max = 5.0"))
    with pytest.raises(ValueError, match="`model.r_max` is 5.0, but the model of `run.start_from` has 4.0"):
        run(path, tmp_path / "second")


def test_a_run_killed_in_its_first_epoch_goes_on_from_its_beginning(tmp_path):
    path = write_toy_run(tmp_path)
    kill_in_step(2, path, tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.safetensors"))
    again = run(path, tmp_path / "killed", resume=True)
    assert_same_weights(run(path, tmp_path / "whole").last_model, again.last_model)


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_left_before_training_began_is_used(tmp_path, resume):
    (tmp_path / "out" / "tensorboard").mkdir(parents=True)
    assert run(write_toy_run(tmp_path), tmp_path / "out", resume=resume).steps == 16


@pytest.mark.parametrize("renamed", [3, 9])
def test_a_run_killed_while_it_writes_goes_on_to_the_same_weights(tmp_path, renamed):
    path = write_toy_run(tmp_path)
    kill_in_rename(renamed, path, tmp_path / "killed")  # after `last` of the first or in the third validation
    again = run(path, tmp_path / "killed", resume=True)
    assert_same_weights(run(path, tmp_path / "whole").last_model, again.last_model)


def test_a_run_killed_before_its_first_validation_goes_on_to_the_same_weights(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 4\nvalidate_every = 4")
    kill_in_step(6, path, tmp_path / "killed")  # in the second of four epochs
    assert (tmp_path / "killed" / "resume.ckpt").is_file()
    resumed = run(path, tmp_path / "killed", resume=True)
    whole = run(path, tmp_path / "whole")
    assert_same_weights(whole.last_model, resumed.last_model)
    with whole.history.open() as one, resumed.history.open() as other:
        for row, again in zip(csv.DictReader(one), csv.DictReader(other), strict=True):
            assert row["train_loss"] == again["train_loss"]


def test_a_validation_frame_with_an_unseen_element_is_named(tmp_path):
    path = write_toy_run(tmp_path)
    write_toy_set(tmp_path / "other.xyz", 1)
    other = (tmp_path / "other.xyz").read_text().replace("\nO ", "\nN ")
    (tmp_path / "other.xyz").write_text(other)
    path.write_text(path.read_text().replace("n_validation = 4", 'validation = "other.xyz"'))
    with pytest.raises(ValueError, match="frame 0 of `other.xyz`: atom 1 is N, but this model knows only H, O"):
        run(path, tmp_path / "out")


def test_a_type_that_no_training_frame_has_is_warned_of(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    text = path.read_text().replace("[model]", '[model]\ntype_names = ["H", "O", "N"]')
    path.write_text(text.replace("O = -2041.0", "O = -2041.0, N = -1000.0"))
    with pytest.warns(UserWarning, match="no training frame has N, which `model.type_names` names"):
        run(path, tmp_path / "out")


def test_a_device_that_is_not_here_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = write_toy_run(tmp_path)
    path.write_text(path.read_text().replace('device = "cpu"', 'device = "cuda"'))
    with pytest.raises(ValueError, match="`device` is 'cuda', but here are only cpu"):
        run(path, tmp_path / "out")


def test_a_full_disk_leaves_the_last_good_model(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 2", 'schedule = "constant"')
    before = run(path, tmp_path / "out").last_model.read_bytes()
    write_toy_run(tmp_path, "max_epochs = 4", 'schedule = "constant"')
    with full_disk(5000), pytest.raises(OSError, match="cannot write `.*`: .*; what was saved before is intact"):
        run(path, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "last.safetensors").read_bytes() == before
    assert run(path, tmp_path / "out", resume=True).steps == 16


def test_a_run_stores_what_it_took_from_its_training_frames(tmp_path, caplog):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    with caplog.at_level(logging.INFO, logger="openmm_allegro"):
        run(path, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert stored["energy_shifts"] == {"H": -13.0, "O": -2041.0}
    config = load_model(tmp_path / "out" / "best.safetensors").config
    assert stored["avg_num_neighbors"] == config.avg_num_neighbors
    assert stored["r_max"] == config.r_max == 4.0
    said = caplog.text
    assert "neighbours of an atom within 4 Å" in said
    assert "force RMS [eV/Å]: H " in said
    assert "energy of each type [eV]: H -13, O -2041" in said


def test_energies_of_free_atoms_that_the_model_was_given_are_told_and_not_those_of_the_frames(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("isolated_atoms"))
    path.write_text(text.replace("[model]", "[model]\nper_type_energy_shifts = { H = -13.5, O = -2040.0 }"))
    run(path, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert stored["energy_shifts"] == {"H": -13.5, "O": -2040.0}


def test_a_run_that_has_diverged_says_so_and_keeps_its_best_model(tmp_path):
    config = load_config(write_toy_run(tmp_path, "max_epochs = 400"))
    # the learning rate rises until the weights are thrown about
    rising = {"lr": 30.0, "warmup_steps": 3000, "schedule": "constant", "average": "none"}
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update=rising)})
    with pytest.raises(ValueError, match=r"has diverged: .* start again with a lower `optimizer.lr` \(here 30\)"):
        train(config, tmp_path / "out", progress=False, pictures=False)
    with (tmp_path / "out" / "history.csv").open() as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    training = read_metadata(tmp_path / "out" / "best.safetensors")["provenance"]["training"]
    assert training["validation_loss"] == min(losses)
