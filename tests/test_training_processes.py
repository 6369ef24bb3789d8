"""Two processes train the model that one would have trained, and stop, die and go on together."""

import csv
import os
import signal
import subprocess
import sys

import ase.io
import pytest
import torch
from safetensors.torch import load_file
from training_toys import toy_atoms, toy_frames, write_toy_run

from openmm_allegro.training import processes
from openmm_allegro.training.batch import FrameDataset, ShuffledBatches
from openmm_allegro.training.config import RunOptions, load_config
from openmm_allegro.training.run import train

pytestmark = [pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")]

COMMAND = """
import os, signal
from openmm_allegro.cli import entry_point
from openmm_allegro.training.schedule import MovingAverage

update = MovingAverage.update
def update_and_die(self, progress):
    update(self, progress)
    if self.steps == int(os.environ["DIE_IN_STEP"]) and os.environ.get("LOCAL_RANK", "0") == "0":
        os.kill(os.getpid(), signal.SIGKILL)
MovingAverage.update = update_and_die
entry_point()
"""
RUN = 'max_epochs = 4\nprecision = "float64"\ndevices = {devices}'


def write_run(folder, run, optimizer=""):
    """Clusters, and periodic frames with a stress; 13 of 17 are trained on, so every fifth batch has one frame."""
    path = write_toy_run(folder, run, optimizer)
    frames = toy_frames(9) + toy_frames(8, seed=1, periodic=True)
    ase.io.write(folder / "toy.xyz", [toy_atoms(frame) for frame in frames], format="extxyz")
    path.write_text(path.read_text() + "[loss]\nstress = 0.5\nenergy = 2.0\n")
    return path


def command(path, folder, *flags, die_in_step=0):
    script = path.with_name("command.py")
    script.write_text(COMMAND)
    return subprocess.run(
        [sys.executable, "-P", script, "train", path, "--output", folder, "--no-pictures", "--json", *flags],
        env=os.environ | {"OMP_NUM_THREADS": "1", "DIE_IN_STEP": str(die_in_step)},
        capture_output=True,
        text=True,
        timeout=400,  # of processes that wait for each other on a busy machine
    )


def test_two_processes_give_the_weights_of_one_also_when_killed(tmp_path):
    path = write_run(tmp_path, RUN.format(devices=2))
    killed = command(path, tmp_path / "two", die_in_step=13)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = command(path, tmp_path / "two", "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"steps": 20') == 1, "one of the processes answers"
    path.write_text(path.read_text().replace("devices = 2", "devices = 1"))
    one = train(load_config(path), tmp_path / "one", progress=False, pictures=False)
    for name, weights in load_file(one.last_model).items():
        other = load_file(tmp_path / "two" / "last.safetensors")[name]
        # sums in another order: 1e-16 a step, which Adam does not enlarge
        torch.testing.assert_close(other, weights, rtol=0, atol=1e-13)
    with one.history.open() as first, (tmp_path / "two" / "history.csv").open() as second:
        for row, other in zip(csv.DictReader(first), csv.DictReader(second), strict=True):
            for name in row.keys() - {"seconds"}:
                assert float(other[name]) == pytest.approx(float(row[name]), rel=1e-12), name


def test_sharpness_is_that_of_the_whole_batch(tmp_path):
    path = write_run(tmp_path, RUN.format(devices=2), "sam_rho = 0.1")
    done = command(path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    path.write_text(path.read_text().replace("devices = 2", "devices = 1"))
    one = train(load_config(path), tmp_path / "one", progress=False, pictures=False)
    path.write_text(path.read_text().replace("sam_rho = 0.1", ""))
    flat = train(load_config(path), tmp_path / "flat", progress=False, pictures=False)
    two = load_file(tmp_path / "two" / "last.safetensors")
    for name, weights in load_file(one.last_model).items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-12)  # sums in another order, twice a step
    assert any((two[name] - weights).abs().max() > 1e-3 for name, weights in load_file(flat.last_model).items())


def test_a_time_limit_stops_two_processes_in_the_same_step(tmp_path):
    path = write_run(tmp_path, "max_time_minutes = 0.02\ndevices = 2")
    done = command(path, tmp_path / "out")  # a process that went on alone would wait for the other for ever
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "best.safetensors").is_file()


def test_shares_of_a_batch_are_the_batch():
    data = FrameDataset(toy_frames(7), ("H", "O"), 4.0)
    whole, shares = ShuffledBatches(data, 3, seed=1), [ShuffledBatches(data, 3, seed=1) for _ in range(2)]
    for process, share in enumerate(shares):
        share.deal_out(process, 2)
    for batch, first, second in zip(whole, *shares, strict=True):
        assert len(first.n_atoms) + len(second.n_atoms) == len(batch.n_atoms)
        assert sorted([*first.energy.tolist(), *second.energy.tolist()]) == sorted(batch.energy.tolist())
    assert len(second.n_atoms) == 0  # the last batch has one frame


def test_more_processes_than_frames_in_a_batch_are_refused(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1\ndevices = 2\nnum_nodes = 2")
    with pytest.raises(ValueError, match=r"`run.batch_size` is 3, but its frames are dealt out over 4 processes"):
        train(load_config(path), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("variables", "devices", "helper"),
    [
        ({}, 2, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, 2, False),
        ({"LOCAL_RANK": "1"}, 2, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, 2, True),
        ({"SLURM_PROCID": "3"}, 2, True),
        ({"SLURM_PROCID": "3"}, 1, False),  # one of several runs of their own
    ],
)
def test_helpers_know_themselves(monkeypatch, variables, devices, helper):
    for name in processes.RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.is_helper(RunOptions(max_epochs=1, devices=devices)) is helper
