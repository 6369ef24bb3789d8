"""Minimisation in small steps ends in the minimum beside the start."""

import openmm
import pytest
from openmm import app, unit

from openmm_allegro.minimize import minimize_energy
from openmm_allegro.systems.water import water_box


def one_particle(energy: str, x_nm: float) -> openmm.Context:
    system = openmm.System()
    system.addParticle(1.0)
    force = openmm.CustomExternalForce(energy)
    force.addParticle(0)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions([openmm.Vec3(x_nm, 0, 0)])
    return context


def position_nm(context: openmm.Context) -> float:
    return context.getState(positions=True).getPositions(asNumpy=True)[0, 0].value_in_unit(unit.nanometer)


def test_a_parabola_is_followed_to_its_bottom():
    context = one_particle("500*(x-0.2)^2+y^2+z^2", 0.5)
    done = minimize_energy(context, tolerance=0.01)
    assert done.converged
    assert position_nm(context) == pytest.approx(0.2, abs=2e-5)  # where the slope 1000 x is √3 times the tolerance
    assert done.energy_change_kj == pytest.approx(-45, rel=1e-9)  # 500 · 0.3²


def test_only_the_force_groups_that_are_integrated_are_followed_as_openmm_does():
    minima = []
    for minimize in (openmm.LocalEnergyMinimizer.minimize, minimize_energy):
        context = one_particle("500*(x-0.2)^2+y^2+z^2", 0.5)
        other = openmm.CustomExternalForce("500*(x-0.9)^2")
        other.addParticle(0)
        other.setForceGroup(3)
        context.getSystem().addForce(other)
        context.getIntegrator().setIntegrationForceGroups({0})
        context.reinitialize(preserveState=True)
        minimize(context, 0.01)
        minima.append(position_nm(context))
    assert minima == pytest.approx([0.2, 0.2], abs=2e-5)


def test_a_hole_beyond_the_minimum_is_not_jumped_into():
    """The hole at -0.1 nm is such as learnt potentials have where atoms overlap; the minimum is at 0.3 nm."""
    energy = "1000*(x-0.3)^2-1e6*exp(-(x+0.1)^2/0.01)+y^2+z^2"
    theirs, ours = one_particle(energy, 0.9), one_particle(energy, 0.9)
    openmm.LocalEnergyMinimizer.minimize(theirs)
    assert position_nm(theirs) == pytest.approx(-0.1, abs=1e-3)
    assert minimize_energy(ours, tolerance=0.1).converged
    assert position_nm(ours) == pytest.approx(0.3, abs=0.02)  # the hole still pulls a little there


def test_no_atom_moves_further_than_the_longest_step():
    context = one_particle("1e5*x", 0.0)
    for _ in range(3):
        before = position_nm(context)
        minimize_energy(context, max_iterations=1, max_step=0.02 * unit.angstrom)
        assert abs(position_nm(context) - before) <= 0.002 * (1 + 1e-9)


def test_flexible_water_reaches_the_minimum_that_openmm_finds():
    topology, positions, _ = water_box(8)
    topology.setPeriodicBoxVectors(None)
    system = app.ForceField("tip3p.xml").createSystem(topology, rigidWater=False, constraints=None)
    theirs = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    ours = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    ours.setPositions(positions)
    done = minimize_energy(ours, tolerance=1.0)
    assert done.converged
    theirs.setPositions(ours.getState(positions=True).getPositions())
    openmm.LocalEnergyMinimizer.minimize(theirs, 0.01)
    lowest, found = (context.getState(energy=True).getPotentialEnergy() for context in (theirs, ours))
    assert abs((found - lowest) / unit.kilojoule_per_mole) < 0.1


def test_a_force_that_is_no_number_is_an_error():
    with pytest.raises(FloatingPointError, match="force on atom 0 is not a finite number"):
        minimize_energy(one_particle("sqrt(x)", -0.1))


def test_a_tolerance_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"`tolerance` is 0 kJ/\(nm mol\); it must be above zero"):
        minimize_energy(one_particle("x^2", 0.1), tolerance=0.0)


def test_fixed_particles_stay_and_virtual_sites_follow():
    """A spring from a fixed particle to an atom, and a force on the site half way from one atom to the other."""
    system = openmm.System()
    for mass in (0.0, 1.0, 1.0, 0.0):
        system.addParticle(mass)
    system.setVirtualSite(3, openmm.TwoParticleAverageSite(1, 2, 0.5, 0.5))
    spring = openmm.HarmonicBondForce()
    spring.addBond(0, 1, 0.1, 1000.0)
    spring.addBond(1, 2, 0.1, 1000.0)
    pull = openmm.CustomExternalForce("500*((x-0.3)^2+y^2+z^2)")
    pull.addParticle(3)
    for force in (spring, pull):
        system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions([(0.02, 0.0, 0.0), (0.2, 0.01, 0.0), (0.35, 0.0, 0.02), (0.0, 0.0, 0.0)])
    assert minimize_energy(context, tolerance=0.001).converged
    found = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    assert found[0].tolist() == [0.02, 0.0, 0.0]
    assert found[3] == pytest.approx((found[1] + found[2]) / 2, abs=1e-12)
    # along x: extensions a, b of the springs obey 1000 a = 1000 f, 1000 b = 500 f, f = 0.3 - (0.02 + 0.15 + a + b / 2)
    pulled = 0.13 / 2.25
    assert found[1] == pytest.approx([0.12 + pulled, 0, 0], abs=1e-4)
    assert found[2] == pytest.approx([0.22 + 1.5 * pulled, 0, 0], abs=1e-4)


def test_water_with_virtual_sites_reaches_the_minimum_that_openmm_finds():
    topology, positions, _ = water_box(8)
    topology.setPeriodicBoxVectors(None)
    field = app.ForceField("tip4pew.xml")
    modeller = app.Modeller(topology, positions)
    modeller.addExtraParticles(field)
    system = field.createSystem(modeller.topology, rigidWater=False, constraints=None)
    oxygen = modeller.positions[0]
    system.setParticleMass(0, 0.0)
    contexts = [
        openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        for _ in range(2)
    ]
    ours, theirs = contexts
    ours.setPositions(modeller.positions)
    assert minimize_energy(ours, tolerance=1.0).converged
    state = ours.getState(positions=True)
    assert (state.getPositions()[0] - oxygen).value_in_unit(unit.nanometer) == openmm.Vec3(0, 0, 0)
    theirs.setPositions(state.getPositions())
    openmm.LocalEnergyMinimizer.minimize(theirs, 0.01)
    lowest, found = (context.getState(energy=True).getPotentialEnergy() for context in (theirs, ours))
    assert abs((found - lowest) / unit.kilojoule_per_mole) < 0.1


def test_a_system_of_fixed_particles_is_refused():
    context = one_particle("x^2", 0.1)
    context.getSystem().setParticleMass(0, 0.0)
    with pytest.raises(ValueError, match="no particle of the System can move, as each has the mass 0"):
        minimize_energy(context)
