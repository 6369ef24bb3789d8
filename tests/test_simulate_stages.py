"""Simulations in stages: figures by hand, thermostat and barostat as each stage says, and the same end after a stop."""

import os
import shutil
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from conftest import full_disk
from simulations import assert_same_run, read_frames, read_log, small_run, write_inputs

from openmm_allegro.simulation import restart
from openmm_allegro.simulation.config import SimulateConfig, load_config
from openmm_allegro.simulation.run import resume_config, simulate
from openmm_allegro.simulation.stage_options import Leg
from openmm_allegro.simulation.stages import RAMP_STEPS, stage_structure, temperature_at

# mdtraj's reader of DCD files, used to look at them
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:mdtraj")

MELT_QUENCH = Path(__file__).parents[1] / "examples" / "melt_quench.toml"
RAMP = {"name": "heat", "temperature_k": 100.0, "end_temperature_k": 400.0, "steps": 25}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def staged(inputs, *stages, **options):
    base = small_run(inputs, 1).model_dump()
    return SimulateConfig.model_validate(base | {"steps": None, "stages": stages} | options)


def checked(*stages, **options):
    return load_config(None, {"model": "m", "structure": "s", "stages": list(stages)} | options)


def ramp(n_steps, start=300.0, end=900.0):
    return Leg("ramp", 100, n_steps, "NVT", start, end, 1.0, None, 0)


def test_the_example_is_as_long_and_as_hot_as_its_comment_says():
    config = load_config(MELT_QUENCH, {"model": "m", "structure": "s"})
    assert [leg.name for leg in config.legs] == ["melt", "equilibrate", "quench", "relax", "production"]
    # 2700 K at 100 and at 10 K/ps are 27 and 270 ps; a picosecond is 500 steps
    assert [leg.n_steps for leg in config.legs] == [13_500, 26_500, 135_000, 25_000, 10_000]
    assert [leg.first_step for leg in config.legs] == [0, 13_500, 40_000, 175_000, 200_000]
    assert config.n_steps * config.timestep_fs / 1000 == 420
    assert [(leg.start_k, leg.end_k) for leg in config.legs[:3]] == [(300, 3000), (3000, 3000), (3000, 300)]
    assert [leg.ensemble for leg in config.legs] == ["NVT", "NVT", "NVT", "NPT", "NVT"]
    assert config.first_temperature_k == 300


@pytest.mark.parametrize("n_steps", [200, 45, 7, 1])
def test_a_ramp_has_the_mean_of_its_ends_and_never_leaves_them(n_steps):
    # the integral of a linear ramp is its length times the mean of its ends, whatever the treads of the stair
    temperatures = [temperature_at(ramp(n_steps), 100 + step) for step in range(n_steps)]
    assert np.mean(temperatures) == pytest.approx(600, rel=1e-12)
    assert min(temperatures) >= 300
    assert max(temperatures) <= 900
    exact = 300 + 600 * (np.arange(n_steps) + 0.5) / n_steps
    assert np.abs(temperatures - exact).max() <= 600 * RAMP_STEPS / 2 / n_steps + 1e-9
    assert (np.diff(temperatures) >= 0).all()


def test_a_cooling_ramp_is_a_heating_one_reversed():
    up = [temperature_at(ramp(200), 100 + step) for step in range(200)]
    down = [temperature_at(ramp(200, 900.0, 300.0), 100 + step) for step in range(200)]
    np.testing.assert_allclose(up[::-1], down, rtol=1e-12)


def test_options_with_stages_are_the_same_after_a_file(tmp_path):
    config = checked(RAMP, {"name": "hold", "duration_ps": 1, "pressure_bar": 2})
    (tmp_path / "run.toml").write_text(config.to_toml())
    assert load_config(tmp_path / "run.toml", {}).stages == config.stages
    assert "stages" not in SimulateConfig(model="m", structure="s", steps=1).to_toml()


@pytest.mark.parametrize(
    ("stages", "options", "sentence"),
    [
        ([{"name": "a"}], {}, "say how long stage `a` is: one of `steps`, `duration_ps` and, of a ramp"),
        ([{"name": "a", "steps": 1, "duration_ps": 1}], {}, "say how long stage `a` is"),
        ([{"name": "a", "rate_k_per_ps": 1}], {}, "stage `a` has a `rate_k_per_ps`, but no `end_temperature_k`"),
        ([{"name": "a", "duration_ps": 1e-5}], {}, "stage `a` is 1e-05 ps, shorter than one step of 0.5 fs"),
        ([{"name": "a", "steps": 1}] * 2, {}, "two files of the run would be called `a`"),
        ([{"name": "final", "steps": 1}], {}, "two files of the run would be called `final`"),
        ([{"name": "a/b", "steps": 1}], {}, r"option `stages\[0\].name` is 'a/b'"),
        (
            [{"name": "a", "steps": 1, "temperture_k": 1}],
            {},
            r"unknown option `stages\[0\].temperture_k`; did you mean `temperature_k`",
        ),
        ([RAMP, {"name": "a", "steps": -1}], {}, r"option `stages\[1\].steps` is -1"),
        ([{"name": "a", "steps": 1, "ensemble": "NPT"}], {}, "stage `a` is NPT, but there is no `pressure_bar`"),
        ([{"name": "a", "steps": 1, "ensemble": "NVT", "pressure_bar": 1}], {}, "has a `pressure_bar`, but it is NVT"),
        ([RAMP | {"ensemble": "NVE"}], {}, "stage `heat` is a ramp, which needs a thermostat, but it is NVE"),
        ([RAMP], {"friction_per_ps": 0}, "stage `heat` is a ramp, which needs a thermostat"),
        (
            [{"name": "a", "steps": 1, "ensemble": "NVT"}],
            {"friction_per_ps": 0},
            "stage `a` is NVT, but `friction_per_ps` is 0",
        ),
        (
            [{"name": "a", "steps": 1, "ensemble": "NVE", "friction_per_ps": 1}],
            {},
            "has a `friction_per_ps`, but it is",
        ),
        ([RAMP], {"steps": 5}, "each of the `stages` has its own length; leave out `steps` and `duration_ps`"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked(*stages, **options)


def test_a_structure_called_as_a_stage_is_not_overwritten(inputs, tmp_path):
    shutil.copy(inputs / "water.pdb", tmp_path / "heat.pdb")
    with pytest.raises(FileExistsError, match="already has `heat.pdb`, which this run would overwrite"):
        simulate(staged(inputs, RAMP, structure=tmp_path / "heat.pdb"), tmp_path)


@pytest.mark.parametrize("newer", [".pdb", ".cif"])
def test_of_two_structures_of_a_stage_the_newer_one_counts(tmp_path, newer):
    assert stage_structure(tmp_path, "heat") is None
    for number, suffix in enumerate([".cif", ".pdb"] if newer == ".pdb" else [".pdb", ".cif"]):
        (tmp_path / f"heat{suffix}").touch()
        os.utime(tmp_path / f"heat{suffix}", ns=(number, number))
    assert stage_structure(tmp_path, "heat") == tmp_path / f"heat{newer}"


@pytest.fixture(scope="module")
def melted(inputs, tmp_path_factory):
    """Hot, cold, without thermostat, and with a barostat."""
    config = staged(
        inputs,
        {"name": "hot", "steps": 100, "temperature_k": 900.0},
        {"name": "cold", "steps": 120, "temperature_k": 150.0},
        {"name": "free", "steps": 40, "ensemble": "NVE"},
        {"name": "pressed", "steps": 40, "pressure_bar": 1e4},
        friction_per_ps=400.0,
        timestep_fs=0.25,
        barostat_every=5,
        minimize_iterations=100,  # else atoms that still slide downhill are hotter than the thermostat
    )
    return simulate(config, tmp_path_factory.mktemp("melted") / "run")


def rows(result, name, first, last):
    log = read_log(result.output_dir)
    steps = np.int64(log['"Step"'])
    return np.float64(log[f'"{name}"'])[(steps > first) & (steps <= last)]


def test_every_stage_leaves_its_structure(melted):
    assert list(melted.stage_structures) == ["hot", "cold", "free", "pressed"]
    frames = read_frames(melted.output_dir)
    for (_, path), step in zip(melted.stage_structures.items(), [100, 220, 260, 300], strict=True):
        np.testing.assert_allclose(mdtraj.load(str(path)).xyz[0], frames.xyz[step // 5 - 1], atol=6e-5)
    assert (melted.steps, melted.ensemble) == (300, "NPT")


def test_a_stage_has_its_temperature(melted):
    # The thermostat forgets in 1/(2·400/ps) = 1.25 fs, five steps. A reading of 69 freedoms scatters by √(2/69) = 17 %,
    # and the last 50 steps of a stage are ten independent ones: 5 %. The first half is left for the change.
    assert rows(melted, "Temperature (K)", 50, 100).mean() == pytest.approx(900, rel=0.2)
    assert rows(melted, "Temperature (K)", 170, 220).mean() == pytest.approx(150, rel=0.2)


def test_a_stage_without_thermostat_conserves_energy(melted):
    total = rows(melted, "Total Energy (kJ/mole)", 220, 260)
    kinetic = rows(melted, "Kinetic Energy (kJ/mole)", 220, 260)
    assert np.ptp(total) < 0.03 * np.ptp(kinetic)
    with_thermostat = rows(melted, "Total Energy (kJ/mole)", 180, 220)
    assert np.ptp(with_thermostat) > 5 * np.ptp(total)


def test_the_box_changes_only_in_a_stage_with_pressure(melted):
    assert np.ptp(rows(melted, "Box Volume (nm^3)", 0, 260)) == 0
    assert len(set(rows(melted, "Box Volume (nm^3)", 260, 300))) > 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_stopped_in_a_ramp_goes_on_to_the_same_end(inputs, tmp_path):
    config = staged(inputs, RAMP | {"steps": 90}, {"name": "hold", "steps": 6}, report_every=1)
    expected = simulate(config, tmp_path / "whole")
    with full_disk(30_000), pytest.raises(OSError, match="could not be written at step"):
        simulate(config, tmp_path / "run")
    step = restart.saved_step(tmp_path / "run")
    assert 0 < step < 90
    assert step % RAMP_STEPS != 0  # on a tread of the stair
    result = simulate(config, tmp_path / "run", resume=True)
    assert result.steps_now == 96 - step
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    for name, path in expected.stage_structures.items():
        assert result.stage_structures[name].read_text() == path.read_text()


def test_stages_can_be_added_at_the_end_and_not_changed(inputs, tmp_path):
    hold = {"name": "hold", "steps": 10}
    simulate(staged(inputs, RAMP), tmp_path / "run")
    (tmp_path / "run" / "heat.pdb").unlink()  # as if killed between the checkpoint and the structure
    result = simulate(staged(inputs, RAMP, hold), tmp_path / "run", resume=True)
    simulate(staged(inputs, RAMP, hold), tmp_path / "whole")
    assert (result.steps, result.steps_now) == (35, 10)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert (tmp_path / "run" / "heat.pdb").read_text() == (tmp_path / "whole" / "heat.pdb").read_text()
    with pytest.raises(ValueError, match="`stages` is heat with the options in its file, but the run in"):
        simulate(staged(inputs, RAMP | {"end_temperature_k": 500.0}), tmp_path / "run", resume=True)


def test_resuming_needs_no_options(inputs, tmp_path):
    config = staged(inputs, {"name": "a", "steps": 5}, {"name": "b", "steps": 5, "temperature_k": 350.0})
    simulate(config, tmp_path / "run")
    assert resume_config(tmp_path / "run", None, {}) == config
    shutil.copy(tmp_path / "run" / "b.pdb", tmp_path / "kept.pdb")
    assert simulate(resume_config(tmp_path / "run", None, {}), tmp_path / "run", resume=True).steps_now == 0
    assert (tmp_path / "run" / "b.pdb").read_text() == (tmp_path / "kept.pdb").read_text()


def test_a_stage_with_pressure_needs_a_box(inputs, tmp_path):
    (tmp_path / "water.xyz").write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    config = staged(inputs, {"name": "a", "steps": 5, "pressure_bar": 1.0}, structure=tmp_path / "water.xyz")
    with pytest.raises(ValueError, match="`pressure_bar` is set, but .*water.xyz` has no periodic box"):
        simulate(config, tmp_path / "run")
