"""The spread along a simulation: its numbers, what happens beyond the threshold, and that runs go on."""

import csv

import ase.io
import numpy as np
import pytest
import torch

import openmm  # isort: skip (after torch)
from conftest import small_model
from ensembles import deep_ensemble, last_layer_ensemble
from openmm import app, unit
from simulations import small_run, write_inputs
from test_force import TRICLINIC, both_bridges, water

from openmm_allegro import AllegroForce, UncertaintyReporter
from openmm_allegro.checkpoint import save_model
from openmm_allegro.cli import main
from openmm_allegro.ensemble import Factors
from openmm_allegro.ensemble_file import save_ensemble
from openmm_allegro.potential import Potential
from openmm_allegro.simulation.run import simulate
from openmm_allegro.uncertainty_reporter import COLUMNS, SpreadExceeded, steps_of_frames

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:mdtraj")
CALIBRATED = Factors(2.0, 3.0)


def simulation_of(ensemble, box, bridge="python", atoms=None):
    """Verlet dynamics of a little water with the ensemble's mean."""
    topology, positions = water(box=box)
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(AllegroForce(ensemble, topology, bridge=bridge, atoms=atoms, precision="double"))
    reference = openmm.Platform.getPlatform("Reference")
    simulation = app.Simulation(topology, system, openmm.VerletIntegrator(0.0002), reference)
    simulation.context.setPositions(positions)
    return simulation


def rows_of(path):
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@both_bridges
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["isolated", "triclinic"])
def test_lines_are_what_the_members_say_by_hand(tmp_path, bridge, box):
    simulation = simulation_of(deep_ensemble(), box, bridge)
    ensemble = deep_ensemble(factors=CALIBRATED)
    reporter = UncertaintyReporter(tmp_path / "u.csv", 3, ensemble, simulation.topology)
    simulation.reporters.append(reporter)
    simulation.step(7)
    rows = rows_of(tmp_path / "u.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["step"], row["time_ps"]) for row in rows] == [(3, pytest.approx(6e-4)), (6, pytest.approx(1.2e-3))]

    simulation.reporters.clear()
    again = simulation_of(deep_ensemble(), box, bridge)
    again.step(6)
    state = again.context.getState(positions=True)
    positions = torch.tensor(state.getPositions(asNumpy=True).value_in_unit(unit.angstrom))
    cell = torch.zeros((3, 3), dtype=torch.float64)
    if box is not None:
        cell = torch.tensor(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom))
    types = torch.tensor([1, 0, 0] * 8)
    answers = [Potential(member)(positions, cell, types) for member in ensemble.members]
    energy = np.std([float(answer[0]) for answer in answers], ddof=1)
    forces = np.array([answer[1].numpy() for answer in answers])
    spreads = 1000 * 3.0 * np.sqrt(forces.var(0, ddof=1).mean(1))
    row = rows[-1]
    assert row["energy_spread_mev_per_atom"] == pytest.approx(1000 * 2.0 * energy / 24, rel=1e-5)  # six digits
    assert row["mean_force_spread_mev_per_angstrom"] == pytest.approx(spreads.mean(), rel=1e-5)
    assert row["largest_force_spread_mev_per_angstrom"] == pytest.approx(spreads.max(), rel=1e-5)
    assert row["atom"] == spreads.argmax()


def test_a_subset_is_named_by_the_atoms_of_the_system(tmp_path):
    atoms = [6, 7, 8, 12, 13, 14]
    simulation = simulation_of(deep_ensemble(), None, atoms=atoms)
    ensemble = deep_ensemble(factors=CALIBRATED)
    reporter = UncertaintyReporter(tmp_path / "u.csv", 1, ensemble, simulation.topology, atoms=atoms)
    simulation.reporters.append(reporter)
    simulation.step(1)
    assert rows_of(tmp_path / "u.csv")[0]["atom"] in atoms
    positions = simulation.context.getState(positions=True).getPositions().value_in_unit(unit.nanometer)
    positions[12] = openmm.Vec3(np.nan, 0, 0)
    simulation.context.setPositions(positions)
    state = simulation.context.getState(positions=True)
    with pytest.raises(ValueError, match="atom 12"):
        reporter.report(simulation, state)


def test_folders_are_made_and_tables_have_a_header_and_all_of_the_time(tmp_path):
    simulation, ensemble = simulation_of(deep_ensemble(), None), deep_ensemble(factors=CALIBRATED)
    options = {"threshold": 1e-9, "frames_file": tmp_path / "frames" / "f.extxyz", "append": True}
    reporter = UncertaintyReporter(tmp_path / "table" / "u.csv", 1, ensemble, simulation.topology, **options)
    simulation.reporters.append(reporter)
    simulation.context.setTime(12345.05)
    simulation.step(1)
    assert rows_of(tmp_path / "table" / "u.csv")[0]["time_ps"] == pytest.approx(12345.0502, abs=1e-5)
    assert len(ase.io.read(tmp_path / "frames" / "f.extxyz", ":")) == 1


def test_frames_beyond_the_threshold_are_saved_with_the_spread_of_each_atom(tmp_path):
    simulation = simulation_of(deep_ensemble(), TRICLINIC)
    reporter = UncertaintyReporter(
        tmp_path / "u.csv",
        2,
        deep_ensemble(factors=CALIBRATED),
        simulation.topology,
        threshold=1e-3,
        frames_file=tmp_path / "frames.extxyz",
    )
    simulation.reporters.append(reporter)
    simulation.step(4)
    frames, rows = ase.io.read(tmp_path / "frames.extxyz", ":"), rows_of(tmp_path / "u.csv")
    assert [frame.info["step"] for frame in frames] == [2, 4]
    assert frames[0].get_chemical_symbols() == ["O", "H", "H"] * 8
    assert frames[0].pbc.all()
    np.testing.assert_allclose(frames[0].cell, [[10 * x for x in vector] for vector in TRICLINIC], atol=1e-6)
    for frame, row in zip(frames, rows, strict=True):
        largest = 1000 * frame.arrays["force_spread"].max()
        assert largest == pytest.approx(row["largest_force_spread_mev_per_angstrom"], rel=1e-5, abs=1e-5)
    now = simulation.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    np.testing.assert_allclose(frames[1].positions, now, atol=1e-7)  # eight digits in the file


@pytest.mark.parametrize("threshold", [None, 1e-3])
def test_frames_of_an_earlier_run_are_kept(tmp_path, threshold):
    simulation, frames = simulation_of(deep_ensemble(), None), tmp_path / "frames.extxyz"
    ase.io.write(frames, ase.Atoms("OH", [[0, 0, 0], [1, 0, 0]], info={"step": 700}))
    reporter = UncertaintyReporter(
        tmp_path / "u.csv",
        1,
        deep_ensemble(factors=CALIBRATED),
        simulation.topology,
        threshold=threshold,
        frames_file=frames,
    )
    simulation.reporters.append(reporter)
    simulation.step(1)
    assert [frame.info["step"] for frame in ase.io.read(frames, ":")] == [700] + [1] * (threshold is not None)


def test_nothing_is_saved_below_the_threshold(tmp_path):
    simulation = simulation_of(deep_ensemble(), None)
    frames = tmp_path / "frames.extxyz"
    reporter = UncertaintyReporter(
        tmp_path / "u.csv",
        1,
        deep_ensemble(factors=CALIBRATED),
        simulation.topology,
        threshold=1e9,
        on_exceed="stop",
        frames_file=frames,
    )
    simulation.reporters.append(reporter)
    simulation.step(2)
    assert not frames.exists()


def test_a_run_can_be_stopped_beyond_the_threshold(tmp_path):
    simulation = simulation_of(deep_ensemble(), None)
    reporter = UncertaintyReporter(
        tmp_path / "u.csv",
        2,
        deep_ensemble(factors=CALIBRATED),
        simulation.topology,
        threshold=1e-3,
        on_exceed="stop",
        frames_file=tmp_path / "frames.extxyz",
    )
    simulation.reporters.append(reporter)
    with pytest.raises(SpreadExceeded, match=r"the spread of the force on atom \d+ is .* meV/Å at step 2, above the"):
        simulation.step(4)
    assert simulation.currentStep == 2
    assert len(ase.io.read(tmp_path / "frames.extxyz", ":")) == 1


def test_what_the_reporter_cannot_do_is_refused(tmp_path):
    topology, _ = water()
    ensemble = deep_ensemble(factors=CALIBRATED)
    for options, sentence in (
        ({"threshold": 0.0}, "`threshold` is 0.0 meV/Å; it must be above zero"),
        ({"on_exceed": "stop"}, "`on_exceed` is 'stop', but there is no `threshold` to stop at"),
        ({"on_exceed": "beep"}, "`on_exceed` is 'beep'; it can be 'save' or 'stop'"),
        ({"device": "abacus"}, "`device` is 'abacus', but here are only cpu"),
    ):
        with pytest.raises(ValueError, match=sentence):
            UncertaintyReporter(tmp_path / "u.csv", 1, ensemble, topology, **options)
    with pytest.raises(ValueError, match="`interval` is 0"):
        UncertaintyReporter(tmp_path / "u.csv", 0, ensemble, topology)
    with pytest.warns(UserWarning, match="this ensemble is not calibrated"):
        UncertaintyReporter(tmp_path / "u.csv", 1, deep_ensemble(), topology)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """e.safetensors, calibrated, beside the inputs of other simulations."""
    folder = write_inputs(tmp_path_factory.mktemp("inputs"))
    save_ensemble(last_layer_ensemble(torch.float32, factors=CALIBRATED, zbl=True), folder / "e.safetensors")
    return folder


def uncertain_run(inputs, steps, **options):
    defaults = {"model": inputs / "e.safetensors", "uncertainty_every": 4, "uncertainty_threshold": 1e-3}
    return small_run(inputs, steps, **(defaults | options))


def test_a_resumed_run_has_the_spreads_of_a_whole_one(inputs, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    simulate(uncertain_run(inputs, 20), whole)
    simulate(uncertain_run(inputs, 10), parts)
    torn = (parts / "uncertain.extxyz").read_text().replace("step=4", "step=12").replace("step=8", "step=16")
    for name, beyond in (("uncertainty.csv", "12,0.006,1,1,1,0\n16,torn"), ("uncertain.extxyz", torn[:-200])):
        with (parts / name).open("a") as file:  # as if killed beyond the checkpoint
            file.write(beyond)
    simulate(uncertain_run(inputs, 20), parts, resume=True)
    one, other = (rows_of(folder / "uncertainty.csv") for folder in (whole, parts))
    assert [row["step"] for row in one] == [4, 8, 12, 16, 20]
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for name in COLUMNS[1:5]:
        np.testing.assert_allclose([row[name] for row in one], [row[name] for row in other], rtol=1e-3)  # float32
    frames = ase.io.read(parts / "uncertain.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [4, 8, 12, 16, 20]


def test_the_command_line_stops_with_a_sentence_and_goes_on(inputs, tmp_path, capfd):
    config = tmp_path / "run.toml"
    config.write_text(uncertain_run(inputs, 12, uncertainty_action="stop").to_toml())
    words = ["simulate", str(config), "--output", str(tmp_path / "run")]
    assert main(words) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert "meV/Å at step 4, above the threshold of 0.001" in said
    assert "the last good checkpoint is that of step 0, and `--resume` goes on from there" in said
    assert main(["simulate", "--output", str(tmp_path / "run"), "--resume", "--uncertainty-threshold", "1e6"]) == 0
    assert [row["step"] for row in rows_of(tmp_path / "run" / "uncertainty.csv")] == [4, 8, 12]
    (stopped_by,) = ase.io.read(tmp_path / "run" / "uncertain.extxyz", ":")
    assert stopped_by.info["step"] == 4  # still there to be labelled


def test_a_run_that_asks_for_spreads_needs_an_ensemble(inputs, tmp_path):
    save_model(small_model(torch.float32), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="`uncertainty_every` is set, but .*m.safetensors` is one model"):
        simulate(uncertain_run(inputs, 4, model=tmp_path / "m.safetensors"), tmp_path / "run")
    with pytest.raises(ValueError, match="`uncertainty_threshold` needs `uncertainty_every`"):
        uncertain_run(inputs, 4, uncertainty_every=None)
    with pytest.raises(ValueError, match="`uncertainty_action` is stop, but there is no `uncertainty_threshold`"):
        uncertain_run(inputs, 4, uncertainty_action="stop", uncertainty_threshold=None)


@pytest.mark.parametrize("left", [0, 1, 2, 30, 50, -1])
def test_whole_frames_are_known_by_their_steps_and_a_part_of_one_is_taken_away(tmp_path, left):
    path = tmp_path / "f.extxyz"
    frame = "2\nProperties=species:S:1:pos:R:3 step={}\nH 0 0 0\nO 0 0 1\n"
    path.write_text("".join(frame.format(step) for step in (5, 10, 15)) + frame.format(20)[:left])
    assert steps_of_frames(path) == {5, 10, 15}
    assert path.read_text() == "".join(frame.format(step) for step in (5, 10, 15))
    assert steps_of_frames(tmp_path / "absent") == set()
