"""The reported pressure is the slope of the energy over strain and the momentum that atoms carry."""

import numpy as np
import openmm
import pytest
import torch
from conftest import small_model
from openmm import app, unit
from simulations import small_run, write_inputs

from openmm_allegro import units
from openmm_allegro.analysis.energy import read_log
from openmm_allegro.analysis.viscosity import PRESSURES
from openmm_allegro.bridges import torchforce_can_be_copied, torchforce_problem
from openmm_allegro.force import AllegroForce
from openmm_allegro.pressure_reporter import COLUMNS, PressureReporter
from openmm_allegro.simulation.run import simulate
from openmm_allegro.systems.water import water_box

needs_torchforce = pytest.mark.skipif(
    torchforce_problem() is not None or not torchforce_can_be_copied(),
    reason=str(torchforce_problem() or "openmmtorch 1.5 is warned of with OpenMM 8.6"),
)
TRICLINIC = np.array([[0.75, 0.0, 0.0], [0.1, 0.7, 0.0], [-0.15, 0.2, 0.8]])  # nm


@pytest.fixture
def simulation():
    return water_with("python")


def water_with(bridge: str) -> app.Simulation:
    """Eight molecules of water in a triclinic cell, at 300 K."""
    topology, positions, _ = water_box(8)
    topology.setPeriodicBoxVectors(TRICLINIC * unit.nanometer)
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    system.setDefaultPeriodicBoxVectors(*(TRICLINIC * unit.nanometer))
    system.addForce(AllegroForce(small_model(), topology, precision="double", bridge=bridge))
    integrator = openmm.VerletIntegrator(1e-5)
    made = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    made.context.setPositions(positions)
    made.context.setVelocitiesToTemperature(300, 1)
    return made


def energy_kj(context: openmm.Context, positions_nm: np.ndarray, box_nm: np.ndarray, strain: np.ndarray) -> float:
    """Of the system strained; the box is lower triangular, so that only strains that leave it so can be asked for."""
    context.setPeriodicBoxVectors(*(box_nm @ strain))
    context.setPositions(positions_nm @ strain)
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def test_the_pressure_is_the_slope_over_strain_and_the_kinetic_part(simulation, tmp_path):
    simulation.reporters.append(
        PressureReporter(tmp_path / "p.csv", 2, small_model(), simulation.topology, precision="double")
    )
    simulation.step(2)
    columns = read_log(tmp_path / "p.csv", COLUMNS)
    state = simulation.context.getState(positions=True, velocities=True)
    positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    velocities = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
    masses = np.array([atom.element.mass._value for atom in simulation.topology.atoms()])
    kinetic = np.einsum("i,ia,ib->ab", masses, velocities, velocities)
    volume, step = np.linalg.det(TRICLINIC), 1e-5
    assert columns["Box Volume (nm^3)"] == pytest.approx(volume)
    for name, (a, b) in zip(PRESSURES, [(0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1)], strict=True):
        strains = np.eye(3) + step * np.outer(np.eye(3)[a], np.eye(3)[b]) * np.array([1, -1])[:, None, None]
        up, down = (energy_kj(simulation.context, positions, TRICLINIC, strain) for strain in strains)
        expected = (kinetic[a, b] - (up - down) / (2 * step)) / volume / units.BAR_NM3_TO_KJ_PER_MOL
        assert columns[name] == pytest.approx(expected, rel=1e-6, abs=1e-2)  # of thousands of bar


def test_a_resumed_run_has_the_pressures_of_a_whole_one(tmp_path):
    inputs = write_inputs(tmp_path)
    simulate(small_run(inputs, 12, pressure_every=2), tmp_path / "whole")
    simulate(small_run(inputs, 8, pressure_every=2), tmp_path / "parts")
    with (tmp_path / "parts" / "pressure.csv").open("a") as file:  # as if killed beyond the checkpoint
        file.write("10,0.005,1,1,1\n")
    simulate(small_run(inputs, 12, pressure_every=2), tmp_path / "parts", resume=True)
    whole, parts = (read_log(tmp_path / name / "pressure.csv", COLUMNS) for name in ("whole", "parts"))
    assert list(whole["Step"]) == [2, 4, 6, 8, 10, 12]
    for name in COLUMNS:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-3, atol=1.0)  # float32


@pytest.mark.parametrize("bridge", ["python", pytest.param("torchforce", marks=needs_torchforce)])
def test_constraints_are_refused_and_other_forces_warned_of_before_a_step(bridge, tmp_path):
    simulation = water_with(bridge)
    topology, system = simulation.topology, simulation.system
    system.addForce(openmm.CMMotionRemover())
    system.addForce(openmm.MonteCarloBarostat(1.0, 300.0))
    reporter = PressureReporter(tmp_path / "p.csv", 2, small_model(), topology)
    assert reporter.describeNextReport(simulation)["steps"] == 2
    system.addForce(openmm.HarmonicBondForce())
    with pytest.warns(UserWarning, match="a HarmonicBondForce beside the model, and its part of the pressure is left"):
        PressureReporter(tmp_path / "p.csv", 2, small_model(), topology).describeNextReport(simulation)
    system.addConstraint(0, 1, 0.1)
    simulation.reporters.append(PressureReporter(tmp_path / "p.csv", 2, small_model(), topology))
    with pytest.raises(ValueError, match="the System has 1 constraints, and what they add to the pressure"):
        simulation.step(2)


def test_a_molecule_has_no_pressure():
    topology, _, _ = water_box(8)
    topology.setPeriodicBoxVectors(None)
    with pytest.raises(ValueError, match="the topology has no box, and without a volume there is no pressure"):
        PressureReporter("p.csv", 1, small_model(torch.float32), topology)


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(ValueError, match="`precision` is 'half'; it can be 'single' or 'double'"):
        PressureReporter("p.csv", 1, small_model(torch.float32), water_box(8)[0], precision="half")
