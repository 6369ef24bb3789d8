"""Alanine dipeptide in water by a force field, by a model within the peptide, and between the two; with checks."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from openmmml import MLPotential
from openmmtools import testsystems

from openmm_allegro import AllegroForce, minimize_energy
from openmm_allegro.systems.solvated import FORCE_FIELD, solvated

LAMBDA = "lambda_interpolate"
HYDROGEN_MASS = 4.0
NEAR_NM = 0.4
"""Water with an atom this close to the peptide is moved with it when forces are checked."""


@dataclass(frozen=True)
class MixedSystems:
    """One structure and what acts on it."""

    topology: app.Topology
    positions_nm: NDArray[np.float64]
    """(atoms, 3)"""
    ml_atoms: list[int]
    classical: openmm.System
    interpolated: openmm.System
    """From the force field at λ = 0 to the model at λ = 1."""
    with_model: openmm.System
    model: Path


def solvated_dipeptide(folder: Path, padding_nm: float) -> tuple[app.Topology, NDArray[np.float64]]:
    """ACE-ALA-NME in a box of water: topology and positions [nm]."""
    vacuum = testsystems.AlanineDipeptideVacuum()
    path = folder / "peptide.pdb"
    with path.open("w") as file:
        app.PDBFile.writeFile(vacuum.topology, vacuum.positions, file)
    topology, positions, _ = solvated(path, padding_nm=padding_nm)
    return topology, np.array(positions.value_in_unit(unit.nanometer))


def mixed_systems(start: tuple[app.Topology, NDArray[np.float64]], model: Path) -> MixedSystems:
    """The systems of `createMixedSystem`, at the nearest minimum of the force field."""
    topology, positions = start
    ml_atoms = [atom.index for atom in topology.atoms() if atom.residue.name in ("ACE", "ALA", "NME")]
    edge_nm = min(topology.getUnitCellDimensions().value_in_unit(unit.nanometer))
    classical = app.ForceField(*FORCE_FIELD).createSystem(
        topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=min(0.9, 0.45 * edge_nm) * unit.nanometer,
        constraints=None,
        rigidWater=True,
        hydrogenMass=HYDROGEN_MASS * unit.dalton,
    )
    potential = MLPotential("allegro", modelPath=str(model))
    interpolated = potential.createMixedSystem(topology, classical, ml_atoms, interpolate=True)
    with_model = potential.createMixedSystem(topology, classical, ml_atoms)
    context = openmm.Context(classical, openmm.VerletIntegrator(0.001), platform())
    context.setPositions(positions)
    minimize_energy(context, 10.0, 200)
    relaxed = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return MixedSystems(topology, relaxed, ml_atoms, classical, interpolated, with_model, model)


def platform(name: str = "CPU") -> openmm.Platform:
    """OpenMM's CPU platform: the model takes most of the time."""
    return openmm.Platform.getPlatform(name)


def energy_kj(context: openmm.Context) -> float:
    """Potential energy [kJ/mol]."""
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def at_start(system: openmm.System, systems: MixedSystems) -> openmm.Context:
    """A Context in double precision."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform("Reference"))
    context.setPositions(systems.positions_nm)
    return context


def check_energies(systems: MixedSystems) -> dict[str, float]:
    """How far the interpolated energy is from the force field at λ = 0, and from force field and model at λ = 1."""
    context = at_start(systems.interpolated, systems)
    ends = []
    for value in (0.0, 1.0):
        context.setParameter(LAMBDA, value)
        ends.append(energy_kj(context))
    classical = energy_kj(at_start(systems.classical, systems))
    return {
        "off_force_field_kj_per_mol": ends[0] - classical,
        "off_model_kj_per_mol": ends[1] - (classical - _isolated(systems, None) + _isolated(systems, systems.model)),
    }


def _isolated(systems: MixedSystems, model: Path | None) -> float:
    """Energy of the peptide with nothing around it [kJ/mol], by the force field or the model."""
    modeller = app.Modeller(systems.topology, systems.positions_nm * unit.nanometer)
    modeller.delete([atom for atom in systems.topology.atoms() if atom.index not in set(systems.ml_atoms)])
    modeller.topology.setPeriodicBoxVectors(None)
    system = app.ForceField(*FORCE_FIELD).createSystem(modeller.topology, constraints=None)
    if model is not None:
        while system.getNumForces() > 0:
            system.removeForce(0)
        system.addForce(AllegroForce(model, modeller.topology))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform("Reference"))
    context.setPositions(modeller.positions)
    return energy_kj(context)


def check_forces(systems: MixedSystems) -> dict[str, float]:
    """Forces of peptide and near water against differences of the energy, along a random direction, at three λ.

    What they differ by is relative to the typical force along a direction; in double precision, with smooth cutoffs.
    """
    double = MLPotential("allegro", modelPath=str(systems.model)).createMixedSystem(
        systems.topology, _smooth(systems.classical), systems.ml_atoms, interpolate=True, precision="double"
    )
    context = at_start(double, systems)
    peptide = systems.positions_nm[systems.ml_atoms]
    distances = np.linalg.norm(systems.positions_nm[:, None] - peptide, axis=2)  # (atoms, ML atoms)
    near = np.flatnonzero(distances.min(axis=1) < NEAR_NM)
    direction = np.zeros_like(systems.positions_nm)
    direction[near] = np.random.default_rng(0).normal(size=(len(near), 3))
    direction /= np.linalg.norm(direction)
    found = {}
    for value in (0.0, 0.3, 1.0):
        context.setParameter(LAMBDA, value)
        context.setPositions(systems.positions_nm)
        quantity = context.getState(forces=True).getForces(asNumpy=True)
        forces = quantity.value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        energies = []
        for step in (1e-4, -1e-4):
            context.setPositions(systems.positions_nm + step * direction)
            energies.append(energy_kj(context))
        difference = float(np.sum(forces * direction)) + (energies[0] - energies[1]) / 2e-4
        found[f"force_off_difference_at_{value:g}"] = difference / float(np.sqrt((forces[near] ** 2).mean()))
    return found


def _smooth(system: openmm.System) -> openmm.System:
    """A copy without jumps of the energy at the cutoff."""
    smooth = copy.deepcopy(system)
    for force in smooth.getForces():
        if isinstance(force, openmm.NonbondedForce):
            force.setEwaldErrorTolerance(1e-6)
            force.setUseSwitchingFunction(True)
            force.setSwitchingDistance(0.8 * force.getCutoffDistance())
    return smooth
