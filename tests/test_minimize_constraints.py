"""Minimisation of a System with constraints ends in a minimum on their surface, with the distances kept."""

import numpy as np
import openmm
import pytest
from openmm import app, unit
from openmmtools import testsystems

from openmm_allegro.minimize import minimize_energy
from openmm_allegro.systems.water import water_box

KJ_PER_NM = unit.kilojoule_per_mole / unit.nanometer


def context_of(system: openmm.System, positions, platform: str = "Reference") -> openmm.Context:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(platform))
    context.setPositions(positions)
    return context


def positions_nm(context: openmm.Context) -> np.ndarray:
    return context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def energy_kj(context: openmm.Context) -> float:
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def lower_by_openmm_kj(context: openmm.Context) -> float:
    """How much further OpenMM's minimiser comes from where a Context is."""
    other = context_of(context.getSystem(), positions_nm(context), context.getPlatform().getName())
    openmm.LocalEnergyMinimizer.minimize(other, 0.01)
    return energy_kj(context) - energy_kj(other)


def largest_error(context: openmm.Context) -> float:
    """Of the constrained distances between atoms that move, relative to them."""
    system, positions = context.getSystem(), positions_nm(context)
    errors = []
    for number in range(system.getNumConstraints()):
        first, second, distance = system.getConstraintParameters(number)
        if system.getParticleMass(first) > 0 * unit.dalton:
            found = np.linalg.norm(positions[first] - positions[second])
            errors.append(abs(found / distance.value_in_unit(unit.nanometer) - 1))
    return max(errors)


def rod() -> openmm.System:
    """Two atoms 0.1 nm apart, the light one tied to the origin, the heavy one pulled along x."""
    system = openmm.System()
    for mass in (1.0, 16.0):
        system.addParticle(mass)
    system.addConstraint(0, 1, 0.1)
    for atom, energy in enumerate(("500*(x^2+y^2+z^2)", "-100*x")):
        force = openmm.CustomExternalForce(energy)
        force.addParticle(atom)
        system.addForce(force)
    return system


def rigid_water(n_molecules: int, model: str = "amber14/tip3p.xml", **options) -> tuple[openmm.System, unit.Quantity]:
    """A drop, or with options of `createSystem` a periodic box."""
    topology, positions, _ = water_box(n_molecules)
    if not options:
        topology.setPeriodicBoxVectors(None)
    field = app.ForceField(model)
    modeller = app.Modeller(topology, positions)
    modeller.addExtraParticles(field)
    return field.createSystem(modeller.topology, **options), modeller.positions


@pytest.mark.parametrize("end", [(0.0, 0.1, 0.0), (-0.08, 0.02, 0.1)], ids=["constraint met", "0.03 nm too long"])
def test_a_rod_turns_into_the_force_and_follows_it_as_far_as_its_tie_lets_it(end):
    context = context_of(rod(), [(0.0, 0.0, 0.0), end])
    done = minimize_energy(context, tolerance=0.001)
    assert done.converged
    assert largest_error(context) < 1e-5
    # 1000 x = 100 at the tie, the rod along the pull; stiffness is 1000 to all sides, so 1e-6 nm are √6 · 0.001 / 1000
    assert positions_nm(context) == pytest.approx(np.array([[0.1, 0, 0], [0.2, 0, 0]]), abs=5e-6)
    assert energy_kj(context) == pytest.approx(500 * 0.1**2 - 100 * 0.2, abs=1e-3)  # 1e-5 · 0.1 nm · 100 kJ/mol/nm


def test_the_change_of_energy_counts_from_where_the_constraints_are_met():
    """The rod is 0.03 nm too long at first, of which the light atom makes up 16/17 and stretches its tie."""
    context = context_of(rod(), [(0.0, 0.0, 0.0), (0.0, 0.13, 0.0)])
    first_kj = 500 * (0.03 * 16 / 17) ** 2
    change_kj = minimize_energy(context, tolerance=0.001).energy_change_kj
    assert change_kj == pytest.approx(500 * 0.1**2 - 100 * 0.2 - first_kj, abs=1e-3)


def test_a_periodic_box_of_rigid_water_reaches_the_minimum_that_openmm_finds():
    """There neither force nor torque is left on a molecule: what constraints balance adds up to none of both."""
    options = {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.45 * unit.nanometer}
    system, positions = rigid_water(27, **options)
    context = context_of(system, positions, "CPU")
    done = minimize_energy(context, tolerance=2.0)
    assert done.converged
    assert done.energy_change_kj < -1000
    assert largest_error(context) < 1e-5
    assert abs(lower_by_openmm_kj(context)) < 0.5  # found: 0.02; 1.1 for a tolerance of 10
    forces = context.getState(forces=True).getForces(asNumpy=True).value_in_unit(KJ_PER_NM).reshape(-1, 3, 3)
    arms = positions_nm(context).reshape(-1, 3, 3)
    torques = np.cross(arms - arms[:, :1], forces).sum(axis=1)
    assert np.sqrt(np.mean(forces.sum(axis=1) ** 2)) < 3 * 2.0  # three atoms at most all push one way
    assert np.sqrt(np.mean(torques**2)) < 0.0957 * np.sqrt(6) * 2.0  # two hydrogens at 0.0957 nm, by Cauchy-Schwarz
    assert np.sqrt(np.mean(forces**2)) > 100  # what the constraints balance


@pytest.mark.parametrize("constraints", [app.HBonds, app.HAngles])
def test_a_molecule_with_constraints_that_share_atoms_reaches_the_minimum_that_openmm_finds(constraints):
    """From positions that are 0.01 nm off in every component."""
    peptide = testsystems.AlanineDipeptideVacuum(constraints=constraints)
    start = peptide.positions.value_in_unit(unit.nanometer)
    context = context_of(peptide.system, start + np.random.default_rng(0).uniform(-0.01, 0.01, start.shape))
    assert minimize_energy(context, tolerance=0.1).converged
    assert largest_error(context) < 1e-5
    assert abs(lower_by_openmm_kj(context)) < 0.01


def test_fixed_molecules_stay_and_virtual_sites_follow_rigid_ones():
    system, positions = rigid_water(8, "tip4pew.xml")
    for particle in range(3):
        system.setParticleMass(particle, 0.0)
    context = context_of(system, positions)
    assert minimize_energy(context, tolerance=1.0).converged
    found = positions_nm(context)
    assert found[:3].tolist() == [list(place) for place in positions[:3].value_in_unit(unit.nanometer)]
    assert largest_error(context) < 1e-5
    context.computeVirtualSites()
    assert positions_nm(context) == pytest.approx(found, abs=1e-12)
    assert abs(lower_by_openmm_kj(context)) < 0.1


def test_no_atom_moves_further_than_the_longest_step_and_what_constraints_correct():
    system, positions = rigid_water(8)
    path = []
    for iterations in range(1, 25):
        context = context_of(system, positions)
        minimize_energy(context, tolerance=0.01, max_iterations=iterations, max_step=0.004)
        path.append(positions_nm(context))
    moves = np.linalg.norm(np.diff(path, axis=0), axis=2).max(axis=1)
    assert 0.9 * 0.004 < moves.max() < 1.1 * 0.004


def test_constraints_that_no_positions_meet_are_an_error():
    """Sides of a triangle, of which one is longer than the others together."""
    system = openmm.System()
    for _ in range(3):
        system.addParticle(1.0)
    for first, second, distance in ((0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.3)):
        system.addConstraint(first, second, distance)
    context = context_of(system, [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.2, 0.01, 0.0)])
    with pytest.raises(ValueError, match=r"between particles \d and \d is 0.\d nm, but they are .* nm apart after"):
        minimize_energy(context)
