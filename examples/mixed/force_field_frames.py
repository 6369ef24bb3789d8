"""Frames of alanine dipeptide labelled by its force field, and a small model that learns them."""

from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import ase
import ase.io
import numpy as np
import openmm
from ase.calculators.singlepoint import SinglePointCalculator
from openmm import app, unit
from openmmtools import testsystems

from openmm_allegro import units
from openmm_allegro.systems.solvated import FORCE_FIELD
from openmm_allegro.training.config import load_config
from openmm_allegro.training.run import train

HERE = Path(__file__).parent
N_FRAMES = 200
N_FRAMES_QUICK = 100
KELVIN = 400.0


def train_on_the_force_field(folder: Path, quick: bool) -> Path:
    """A model of Amber14's peptide in vacuum, by `force_field.toml`."""
    write_frames(folder / "frames.extxyz", N_FRAMES_QUICK if quick else N_FRAMES)
    config = load_config(HERE / "force_field.toml", folder)
    if quick:
        config = config.model_copy(
            update={"run": config.run.model_copy(update={"max_time_minutes": None, "max_steps": 400})}
        )
    return train(config, folder / "training").best_model


def write_frames(path: Path, n_frames: int) -> None:
    """Frames 0.1 ps apart at 400 K without water, energies and forces by Amber14."""
    vacuum = testsystems.AlanineDipeptideVacuum()
    system = app.ForceField(*FORCE_FIELD).createSystem(vacuum.topology, constraints=None)
    integrator = openmm.LangevinMiddleIntegrator(KELVIN, 5.0, 0.0005)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(vacuum.positions)
    context.setVelocitiesToTemperature(KELVIN, 1)
    symbols = [atom.element.symbol for atom in vacuum.topology.atoms()]
    frames = []
    for _ in range(n_frames):
        integrator.step(200)
        state = context.getState(positions=True, energy=True, forces=True)
        atoms = ase.Atoms(symbols, state.getPositions(asNumpy=True).value_in_unit(unit.angstrom))
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) / units.EV_TO_KJ_PER_MOL
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        forces = np.asarray(forces) / units.EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    ase.io.write(path, frames)
