"""Simulations: what they write, that they go on after any stop, and what they refuse."""

import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import openmm
import pytest
import torch
from conftest import full_disk, small_model
from openmm import app
from simulations import SPEED, assert_same_run, read_frames, read_log, signal_once_it_runs, small_run, write_inputs

from openmm_allegro.checkpoint import save_model
from openmm_allegro.simulation import restart
from openmm_allegro.simulation.config import SimulateConfig, load_config
from openmm_allegro.simulation.run import resume_config, simulate
from openmm_allegro.systems.water import water_box

# mdtraj's reader of DCD files, used to look at them
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:mdtraj")

RUN = "from openmm_allegro.cli import entry_point; import torch; torch.set_num_threads(1); entry_point()"
CHECKPOINT_FILES = (restart.CHECKPOINT, restart.STATE)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole_run(inputs, tmp_path_factory):
    """Forty steps without interruption."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return simulate(small_run(inputs, 40), folder)


def test_a_run_leaves_trajectory_log_structures_and_options(inputs, whole_run):
    folder = whole_run.output_dir
    assert {path.name for path in folder.iterdir()} == {
        "trajectory.dcd",
        "log.csv",
        "start.pdb",
        "final.pdb",
        "checkpoint.chk",
        "state.xml",
        "system.xml",
        "simulation.toml",
        "inputs.json",
    }
    assert load_config(folder / "simulation.toml", {}) == small_run(inputs, 40)
    assert read_frames(folder).n_frames == 8
    assert (whole_run.steps, whole_run.steps_now, whole_run.n_atoms, whole_run.ensemble) == (40, 40, 24, "NVT")
    assert whole_run.time_ps == pytest.approx(0.02)
    assert whole_run.ns_per_day is not None
    assert whole_run.ns_per_day > 0
    final = app.PDBFile(str(whole_run.final_structure)).getPositions(asNumpy=True)._value
    np.testing.assert_allclose(final, read_frames(folder).xyz[-1], atol=6e-5)  # a PDB file has 0.001 Å


def test_the_log_has_its_columns_and_agrees_with_itself(whole_run):
    log = read_log(whole_run.output_dir)
    assert list(log) == [
        '"Step"',
        '"Time (ps)"',
        '"Potential Energy (kJ/mole)"',
        '"Kinetic Energy (kJ/mole)"',
        '"Total Energy (kJ/mole)"',
        '"Temperature (K)"',
        '"Box Volume (nm^3)"',
        '"Density (g/mL)"',
        SPEED,
    ]
    assert log['"Step"'] == ["5", "10", "15", "20", "25", "30", "35", "40"]
    kinetic, temperature = (np.float64(log[name]) for name in ('"Kinetic Energy (kJ/mole)"', '"Temperature (K)"'))
    gas_constant, freedoms = 8.314462618e-3, 3 * 24 - 3  # the centre of mass is held
    np.testing.assert_allclose(temperature, 2 * kinetic / (freedoms * gas_constant), rtol=1e-6)
    assert float(log['"Density (g/mL)"'][0]) == pytest.approx(0.997, abs=1e-3)  # that of the box as built


def test_the_system_written_is_the_system_that_was_run(whole_run):
    system = openmm.XmlSerializer.deserialize((whole_run.output_dir / "system.xml").read_text())
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    state = openmm.XmlSerializer.deserialize((whole_run.output_dir / "state.xml").read_text())
    context.setState(state)
    energy = context.getState(energy=True).getPotentialEnergy()._value
    logged = float(read_log(whole_run.output_dir)['"Potential Energy (kJ/mole)"'][-1])
    assert energy == pytest.approx(logged, rel=1e-6)  # float32 sums


def test_without_friction_the_energy_is_conserved(inputs, tmp_path):
    result = simulate(small_run(inputs, 60, friction_per_ps=0, timestep_fs=0.1), tmp_path / "run")
    assert result.ensemble == "NVE"
    log = read_log(tmp_path / "run")
    total, kinetic = (np.float64(log[f'"{name} Energy (kJ/mole)"']) for name in ("Total", "Kinetic"))
    assert np.ptp(total) < 0.03 * np.ptp(kinetic)


@pytest.mark.parametrize("suffix", ["dcd", "xtc"])
def test_a_run_killed_after_its_checkpoint_goes_on_to_the_same_end(inputs, whole_run, tmp_path, suffix):
    folder, kept = tmp_path / "run", tmp_path / "kept"
    simulate(small_run(inputs, 21, trajectory_format=suffix), folder)
    kept.mkdir()
    for name in CHECKPOINT_FILES:
        shutil.copy(folder / name, kept)
    simulate(small_run(inputs, 33, trajectory_format=suffix), folder, resume=True)
    for name in CHECKPOINT_FILES:  # as if killed here: frames and lines are there beyond the checkpoint, one torn
        shutil.copy(kept / name, folder)
    for name in (f"trajectory.{suffix}", "log.csv"):
        with (folder / name).open("ab") as file:
            file.write(b"35,0.01")
    result = simulate(small_run(inputs, 40, trajectory_format=suffix), folder, resume=True)
    assert (result.steps, result.steps_now) == (40, 19)
    reference = whole_run.output_dir
    if suffix == "xtc":
        reference = tmp_path / "reference"
        simulate(small_run(inputs, 40, trajectory_format="xtc"), reference)
    assert_same_run(folder, reference, suffix)


def test_a_run_goes_on_from_its_checkpoint_bit_by_bit(inputs, tmp_path):
    topology, positions, _ = water_box(27)
    with (tmp_path / "box.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, positions, file)
    options = {"structure": tmp_path / "box.pdb", "checkpoint_every": 100, "report_every": 50}
    whole = simulate(small_run(inputs, 200, **options), tmp_path / "whole")
    simulate(small_run(inputs, 100, **options), tmp_path / "parts")
    parts = simulate(small_run(inputs, 200, **options), tmp_path / "parts", resume=True)
    states = [(folder / "state.xml").read_bytes() for folder in (whole.output_dir, parts.output_dir)]
    assert states[0] == states[1]


def test_a_process_killed_at_any_moment_goes_on_to_the_same_end(inputs, tmp_path):
    folder = tmp_path / "run"
    options = small_run(inputs, 100_000, report_every=2)
    (tmp_path / "run.toml").write_text(options.to_toml())
    arguments = ["simulate", str(tmp_path / "run.toml"), "--output", str(folder)]
    process = subprocess.Popen([sys.executable, "-P", "-c", RUN, *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None and not (restart.saved_step(folder) or 0) > 10:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    steps = restart.saved_step(folder) + 10
    simulate(options.model_copy(update={"steps": steps}), folder, resume=True)
    simulate(options.model_copy(update={"steps": steps}), tmp_path / "whole")
    assert_same_run(folder, tmp_path / "whole")


def test_a_run_stopped_before_its_first_checkpoint_starts_again(inputs, tmp_path):
    config = small_run(inputs, 10)
    (tmp_path / "simulation.toml").write_text(config.to_toml())
    assert simulate(config, tmp_path, resume=True).steps_now == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint(inputs, tmp_path, number):
    folder = tmp_path / "run"
    sender = signal_once_it_runs(folder, number)
    with pytest.raises(KeyboardInterrupt, match="stopped at step .*`--resume` goes on from there"):
        simulate(small_run(inputs, 100_000, checkpoint_every=100_000), folder)
    sender.join()
    step = restart.saved_step(folder)
    assert step > 0
    assert simulate(small_run(inputs, step + 5), folder, resume=True).steps_now == 5


def test_a_finished_run_can_be_made_longer_and_need_not_be(inputs, tmp_path):
    folder = tmp_path / "run"
    simulate(small_run(inputs, 10), folder)
    again = simulate(small_run(inputs, 10), folder, resume=True)
    assert (again.steps_now, again.ns_per_day) == (0, None)
    assert simulate(small_run(inputs, 15), folder, resume=True).steps_now == 5
    assert read_frames(folder).n_frames == 3


def test_options_given_to_one_resume_hold_for_the_next(inputs, tmp_path):
    folder = tmp_path / "run"
    simulate(small_run(inputs, 5), folder)
    sender = signal_once_it_runs(folder, signal.SIGINT, 4)
    with pytest.raises(KeyboardInterrupt, match="stopped at step"):
        simulate(resume_config(folder, None, {"steps": 100_000, "checkpoint_every": 3}), folder, resume=True)
    sender.join()
    assert resume_config(folder, None, {}) == small_run(inputs, 100_000, checkpoint_every=3)


def test_the_state_serves_where_the_checkpoint_does_not_fit(inputs, tmp_path):
    folder = tmp_path / "run"
    simulate(small_run(inputs, 10), folder)
    (folder / restart.CHECKPOINT).write_bytes(b"of another machine")
    with pytest.warns(UserWarning, match="the checkpoint cannot be read here .* goes on from .*state.xml"):
        simulate(small_run(inputs, 20), folder, resume=True)
    assert read_log(folder)['"Step"'] == ["5", "10", "15", "20"]


def test_a_barostat_changes_the_box_of_frames_and_log(inputs, tmp_path):
    simulate(small_run(inputs, 20, pressure_bar=1e4, barostat_every=1), tmp_path / "run")
    volumes = np.float64(read_log(tmp_path / "run")['"Box Volume (nm^3)"'])
    assert len(set(volumes)) > 1
    np.testing.assert_allclose(read_frames(tmp_path / "run").unitcell_volumes, volumes, rtol=1e-5)  # float32 lengths


def test_hydrogen_mass_changes_masses_and_not_the_density(inputs, whole_run, tmp_path):
    simulate(small_run(inputs, 5, hydrogen_mass_amu=3), tmp_path / "run")
    particles = ElementTree.parse(tmp_path / "run" / "system.xml").iter("Particle")
    masses = sorted({float(particle.get("mass")) for particle in particles})
    assert masses == pytest.approx([3, 15.99943])
    density = '"Density (g/mL)"'
    assert read_log(tmp_path / "run")[density][0] == read_log(whole_run.output_dir)[density][0]


def test_a_run_that_blows_up_is_told_with_the_last_good_checkpoint(inputs, tmp_path):
    config = small_run(inputs, 60, timestep_fs=30, temperature_k=3000, minimize_iterations=100)
    with pytest.raises(FloatingPointError, match="blew up near step .*the last good checkpoint is that of step 0; try"):
        simulate(config, tmp_path / "run")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_good_checkpoint(inputs, tmp_path):
    folder = tmp_path / "run"
    config = small_run(inputs, 105, report_every=1)
    expected = "could not be written at step .*the last good checkpoint is that of step .*`--resume`"
    with full_disk(30_000), pytest.raises(OSError, match=expected):
        simulate(config, folder)
    assert restart.saved_step(folder) >= 70  # 81 frames fit
    simulate(config, folder, resume=True)
    assert read_frames(folder).n_frames == 105
    assert read_log(folder)['"Step"'] == [str(step) for step in range(1, 106)]


def test_a_full_disk_is_noticed_in_xtc_too(inputs, tmp_path):
    folder = tmp_path / "run"
    # twice the atoms: a frame is longer than a line of the log, so the trajectory meets the limit first
    config = small_run(inputs, 300, report_every=1, trajectory_format="xtc", replicate=(2, 1, 1))
    with full_disk(50_000), pytest.raises(OSError, match="No space left .*the last good checkpoint is that of step"):
        simulate(config, folder)
    steps = restart.saved_step(folder) + 5
    simulate(config.model_copy(update={"steps": steps}), folder, resume=True)
    assert read_frames(folder, "xtc").n_frames == steps


def test_an_existing_run_is_never_overwritten(inputs, whole_run):
    before = (whole_run.output_dir / "log.csv").read_text()
    with pytest.raises(FileExistsError, match="already has `simulation.toml` of another run; choose a new folder"):
        simulate(small_run(inputs, 40), whole_run.output_dir)
    assert (whole_run.output_dir / "log.csv").read_text() == before


@pytest.mark.parametrize("name", ["start.pdb", "final.cif", "pressure.csv", "uncertain.extxyz", "inputs.json"])
def test_files_of_the_user_are_not_overwritten(inputs, tmp_path, name):
    shutil.copy(inputs / "water.pdb", tmp_path / name)
    with pytest.raises(FileExistsError, match=f"already has `{name}`, which this run would overwrite"):
        simulate(small_run(inputs, 5), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == (inputs / "water.pdb").read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature_k": 310}, "`temperature_k` is 310.0, but the run in .* was started with 300.0"),
        ({"pressure_bar": 1}, "`pressure_bar` is 1.0, but .* was started with not set"),
        ({"steps": 30}, "is at step 40 already, beyond the 30 asked for"),
    ],
)
def test_another_simulation_is_not_resumed(inputs, whole_run, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulate(small_run(inputs, **({"steps": 40} | options)), whole_run.output_dir, resume=True)


def test_nothing_to_resume_is_said(inputs, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run to resume"):
        simulate(small_run(inputs, 5), tmp_path / "none", resume=True)


def test_files_that_were_changed_are_not_continued(inputs, tmp_path):
    simulate(small_run(inputs, 20), tmp_path / "run")
    (tmp_path / "run" / "log.csv").write_text("#\n5\n")
    with pytest.raises(ValueError, match="log.csv` has 1 lines, but the checkpoint beside it was written after 4"):
        simulate(small_run(inputs, 30), tmp_path / "run", resume=True)


@pytest.mark.parametrize("content", ["", "<State", "not XML", "<System openmmVersion='8' type='System' version='1'/>"])
def test_a_state_that_cannot_be_read_is_told_by_its_name(inputs, whole_run, tmp_path, content):
    shutil.copytree(whole_run.output_dir, tmp_path / "run")
    (tmp_path / "run" / "state.xml").write_text(content)
    with pytest.raises(ValueError, match=r"state.xml` is not the whole State that a run goes on from \(.+\); put it"):
        simulate(small_run(inputs, 50), tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["trajectory.dcd", "log.csv"])
def test_a_run_whose_state_is_lost_does_not_start_again(inputs, whole_run, tmp_path, name):
    for kept in (name, "simulation.toml", "inputs.json", "checkpoint.chk"):
        shutil.copy(whole_run.output_dir / kept, tmp_path)
    with pytest.raises(ValueError, match=f"has `{name}`, but no `state.xml`, from which the run would go on"):
        simulate(small_run(inputs, 50), tmp_path, resume=True)
    assert (tmp_path / name).read_bytes() == (whole_run.output_dir / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 5, "duration_ps": 1}, "either `steps` or `duration_ps`"),
        ({"duration_ps": 1e-5}, "`duration_ps` is 1e-05, shorter than one step"),
        ({"steps": 5, "pressure_bar": 1, "friction_per_ps": 0}, "`pressure_bar` needs a thermostat"),
        ({"steps": 5, "replicate": [1, 0, 1]}, r"`replicate` is \[1, 0, 1\]"),
        ({"steps": 5, "temperture_k": 1}, "unknown option `temperture_k`; did you mean `temperature_k`"),
        ({"steps": 5, "temperature_k": -1}, "option `temperature_k` is -1"),
        ({"steps": 5, "platform": "GPU"}, "option `platform` is 'GPU'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_config(None, {"model": "m", "structure": "s"} | options)


def test_flags_go_before_the_file_whose_paths_are_its_own(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('model = "m.safetensors"\nstructure = "/s.pdb"\nduration_ps = 2\ntemperature_k = 350\n')
    config = load_config(path, {"steps": 3, "seed": None})
    assert config == SimulateConfig(
        model=tmp_path / "m.safetensors", structure="/s.pdb", steps=3, temperature_k=350, seed=1
    )
    assert load_config(path, {}).n_steps == 4000


def test_resuming_needs_no_options(inputs, whole_run):
    assert resume_config(whole_run.output_dir, None, {"steps": 50}) == small_run(inputs, 50)


def test_pressure_without_a_box_is_refused(inputs, tmp_path):
    (tmp_path / "water.xyz").write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    with pytest.raises(ValueError, match=r"`pressure_bar` is set, but .*water.xyz` has no periodic box"):
        simulate(small_run(inputs, 5, structure=tmp_path / "water.xyz", pressure_bar=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_molecule_without_a_box_is_simulated(inputs, tmp_path):
    (tmp_path / "water.xyz").write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    config = small_run(inputs, 10, structure=tmp_path / "water.xyz", trajectory_format="xtc")
    simulate(config, tmp_path / "run")
    simulate(config.model_copy(update={"steps": 20}), tmp_path / "run", resume=True)  # xtc keeps 3 atoms as floats
    assert read_frames(tmp_path / "run", "xtc").n_frames == 4
    assert '"Density (g/mL)"' not in read_log(tmp_path / "run")


@pytest.mark.parametrize("name", ["model.safetensors", "water.pdb"])
def test_a_run_whose_inputs_have_changed_is_not_resumed(tmp_path, name):
    config = small_run(write_inputs(tmp_path), 10)
    simulate(config, tmp_path / "run")
    if name == "water.pdb":
        (tmp_path / name).write_text((tmp_path / name).read_text() + "REMARK edited\n")
    else:
        save_model(small_model(torch.float32, seed=9, zbl=True), tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}, has changed since the run in .* was started; put the old file back"):
        simulate(config.model_copy(update={"steps": 20}), tmp_path / "run", resume=True)


def test_a_run_goes_on_with_files_that_were_moved(tmp_path):
    simulate(small_run(write_inputs(tmp_path), 10), tmp_path / "run")
    moved = tmp_path / "elsewhere.safetensors"
    (tmp_path / "model.safetensors").rename(moved)
    with pytest.raises(FileNotFoundError, match="model.safetensors, is not there; if it was moved"):
        simulate(resume_config(tmp_path / "run", None, {"steps": 20}), tmp_path / "run", resume=True)
    config = resume_config(tmp_path / "run", None, {"steps": 20, "model": moved})
    assert simulate(config, tmp_path / "run", resume=True).steps_now == 10
    assert resume_config(tmp_path / "run", None, {}).model == moved


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_two_atoms_on_one_spot_are_told_in_words(tmp_path, platform):
    config = small_run(write_inputs(tmp_path), 10, platform=platform)
    lines = (tmp_path / "water.pdb").read_text().splitlines()
    atoms = [number for number, line in enumerate(lines) if line.startswith(("ATOM", "HETATM"))]
    lines[atoms[3]] = lines[atoms[3]][:30] + lines[atoms[0]][30:54] + lines[atoms[3]][54:]
    (tmp_path / "water.pdb").write_text("\n".join(lines) + "\n")
    with pytest.raises(FloatingPointError, match=r"blew up near step 0 \(atoms 0 and 3 are on one spot"):
        simulate(config, tmp_path / "run")


def test_an_element_that_the_model_does_not_know_is_refused(tmp_path):
    config = small_run(write_inputs(tmp_path), 10)
    text = (tmp_path / "water.pdb").read_text().replace("           O  ", "           S  ", 1)
    (tmp_path / "water.pdb").write_text(text)
    with pytest.raises(ValueError, match="atom 0 is S, but this model knows only H, O; retrain with S"):
        simulate(config, tmp_path / "run")


@pytest.mark.parametrize(("precision", "expected"), [("single", "mixed"), ("double", "double")])
def test_a_platform_that_openmm_chooses_has_the_precision_asked_for(tmp_path, precision, expected):
    names = {openmm.Platform.getPlatform(index).getName() for index in range(openmm.Platform.getNumPlatforms())}
    with_precision = sorted(names & {"CUDA", "OpenCL", "HIP"})
    if not with_precision:
        pytest.skip("this OpenMM has no platform with a choice of precision")
    simulate(small_run(write_inputs(tmp_path), 2, platform="auto", precision=precision), tmp_path / "run")
    for name in with_precision:
        assert openmm.Platform.getPlatform(name).getPropertyDefaultValue("Precision") == expected
