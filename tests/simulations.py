"""What tests of simulations share: a small model with core repulsion and a few molecules of water."""

import os
import threading
import time
from pathlib import Path

import mdtraj
import numpy as np
import torch
from conftest import small_model
from openmm import app

from openmm_allegro.checkpoint import save_model
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.systems.water import water_box

SPEED = '"Speed (ns/day)"'


def write_inputs(folder: Path) -> Path:
    """model.safetensors and water.pdb of eight molecules."""
    save_model(small_model(torch.float32, zbl=True), folder / "model.safetensors")
    topology, positions, _ = water_box(8)
    with (folder / "water.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, positions, file)
    return folder


def small_run(inputs: Path, steps: int, **options: object) -> SimulateConfig:
    """A short run of these inputs on OpenMM's Reference platform, which keeps its random numbers in checkpoints."""
    defaults: dict[str, object] = {
        "model": inputs / "model.safetensors",
        "structure": inputs / "water.pdb",
        "steps": steps,
        "minimize_iterations": 5,
        "report_every": 5,
        "checkpoint_every": 7,
        "platform": "Reference",
        "bridge": "python",
    }
    return SimulateConfig.model_validate(defaults | options)


def read_log(folder: Path) -> dict[str, list[str]]:
    """Columns of the log by name."""
    header, *lines = (folder / "log.csv").read_text().splitlines()
    columns = zip(*(line.split(",") for line in lines), strict=True)
    return dict(zip(header.removeprefix("#").split(","), map(list, columns), strict=True))


def read_frames(folder: Path, suffix: str = "dcd") -> mdtraj.Trajectory:
    """The trajectory of a run."""
    return mdtraj.load(str(folder / f"trajectory.{suffix}"), top=str(folder / "start.pdb"))


def assert_same_run(one: Path, other: Path, suffix: str = "dcd") -> None:
    """Frames to float32 rounding, which a neighbour list built at another step changes; the steps exactly."""
    first, second = read_frames(one, suffix), read_frames(other, suffix)
    assert first.n_frames == second.n_frames
    np.testing.assert_allclose(first.xyz, second.xyz, rtol=0, atol=2e-6 if suffix == "dcd" else 1.1e-3)
    np.testing.assert_array_equal(first.time, second.time)
    log, other_log = read_log(one), read_log(other)
    assert log.keys() == other_log.keys()
    assert log['"Step"'] == other_log['"Step"']
    for name in log.keys() - {SPEED}:
        np.testing.assert_allclose(np.float64(log[name]), np.float64(other_log[name]), rtol=1e-5, err_msg=name)


def signal_once_it_runs(folder: Path, number: int, lines: int = 1) -> threading.Thread:
    """Start a thread that sends this process a signal as soon as the run in the folder has logged so many lines."""

    def wait_and_send() -> None:
        log = folder / "log.csv"
        while not (log.is_file() and log.read_text().count("\n") > lines):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_send, daemon=True)
    thread.start()
    return thread
