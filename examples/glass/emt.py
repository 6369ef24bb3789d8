"""Copper and silver with ASE's EMT potential: frames to train on, and melting and quenching as in `simulate`."""

from pathlib import Path

import ase
import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from rich.progress import track

from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.stage_options import Leg
from openmm_allegro.simulation.stages import temperature_at

LATTICE_CONSTANT = 3.85  # Å, halfway from copper to silver


def random_alloy(seed: int) -> ase.Atoms:
    """108 atoms on a face-centred cubic lattice, half of them copper, half silver, in any order."""
    atoms = bulk("Cu", "fcc", a=LATTICE_CONSTANT, cubic=True).repeat(3)
    atoms.numbers = np.random.default_rng(seed).permutation(np.repeat([29, 47], len(atoms) // 2))
    return atoms


def training_frames(n_alloys: int, config: SimulateConfig) -> list[ase.Atoms]:
    """62 frames of each alloy: crystal, melt and what is left of it on a fast way down; energies, forces, stresses."""
    frames = []
    for seed in track(range(1, n_alloys + 1), "alloys", transient=True):
        rng = np.random.default_rng(seed)
        atoms = random_alloy(seed)
        crystal = Dynamics(atoms, 300 * seed, config, seed)
        for _ in range(12):
            crystal.run(20)
            frames.append(labelled(atoms, rng))
        melt = Dynamics(atoms, 2500, config, seed)
        melt.run(200)
        for kelvin in np.linspace(2500, 300, 50):
            melt.set_temperature(kelvin)
            melt.run(20)
            frames.append(labelled(atoms, rng))
    return frames


def labelled(atoms: ase.Atoms, rng: np.random.Generator) -> ase.Atoms:
    """A copy with its labels, strained a little so that stresses are not near zero.

    One of three is shaken, so that some atoms are closer to each other than in equilibrium.
    """
    frame = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    strain = np.eye(3) * rng.normal(0, 0.015) + rng.normal(0, 0.005, (3, 3))
    frame.set_cell(frame.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    if rng.random() < 1 / 3:
        frame.positions += rng.normal(0, 0.12, frame.positions.shape)
    frame.calc = EMT()
    frame.get_forces()
    frame.get_stress()
    return frame


class Dynamics:
    """Langevin dynamics with EMT from new velocities, and OpenMM's Monte Carlo barostat around it."""

    def __init__(self, atoms: ase.Atoms, kelvin: float, config: SimulateConfig, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.atoms, self.kelvin = atoms, kelvin
        self.pressure = (config.pressure_bar or 0.0) * units.bar
        self.every = config.barostat_every
        self.largest_step = 0.01 * atoms.get_volume()
        atoms.calc = EMT()
        thermalize_momenta(atoms, temperature_K=kelvin, rng=self.rng)
        self.langevin = Langevin(
            atoms,
            config.timestep_fs * units.fs,
            temperature_K=kelvin,
            friction=config.friction_per_ps / (1000 * units.fs),
            fixcm=False,
            rng=self.rng,
        )

    def run(self, steps: int) -> None:
        """So many steps, a multiple of those between two moves of the barostat."""
        for _ in range(steps // self.every):
            self.langevin.run(self.every)
            self._change_volume()

    def set_temperature(self, kelvin: float) -> None:
        """Of thermostat and barostat."""
        self.kelvin = kelvin
        self.langevin.set_temperature(temperature_K=kelvin)

    def _change_volume(self) -> None:
        """A trial move of the volume, accepted as in an ensemble at constant pressure; half of them should be."""
        atoms, kt = self.atoms, units.kB * self.kelvin
        before, cell, positions = atoms.get_potential_energy(), atoms.cell.copy(), atoms.positions.copy()
        volume = atoms.get_volume()
        change = self.rng.uniform(-self.largest_step, self.largest_step)
        atoms.set_cell(cell * (1 + change / volume) ** (1 / 3), scale_atoms=True)
        work = atoms.get_potential_energy() - before + self.pressure * change
        accepted = self.rng.random() < np.exp(min(0.0, len(atoms) * np.log(1 + change / volume) - work / kt))
        self.largest_step *= 1.02 if accepted else 1 / 1.02
        if not accepted:
            atoms.set_cell(cell)
            atoms.positions = positions


def melt_and_quench(atoms: ase.Atoms, config: SimulateConfig, folder: Path) -> np.ndarray:
    """The stages of a configuration with EMT; frames of the last stage are left in `trajectory.extxyz`.

    Returns time [ps], potential energy [eV] and volume [Å³] every `report_every` steps, (lines, 3).
    """
    odd = next((leg.name for leg in config.legs if leg.n_steps % config.barostat_every), None)
    if odd is not None:
        raise ValueError(f"stage `{odd}` must be a multiple of the {config.barostat_every} steps of `barostat_every`")
    run = Dynamics(atoms, config.first_temperature_k, config, config.seed)
    course, frames, legs, every = [], [], config.legs, config.barostat_every
    for step in track(range(0, config.n_steps, every), f"EMT, run {config.seed}", transient=True):
        leg = leg_at(legs, step)
        run.set_temperature(temperature_at(leg, step))
        run.run(every)
        if (step + every) % config.report_every == 0:
            ps = (step + every) * config.timestep_fs / 1000
            course.append((ps, atoms.get_potential_energy(), atoms.get_volume()))
            if leg is legs[-1]:
                frames.append(ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
    folder.mkdir(parents=True)
    write(folder / "trajectory.extxyz", frames)
    columns = np.array(course)
    np.savetxt(folder / "course.csv", columns, delimiter=",", header="time_ps,energy_ev,volume_angstrom3", comments="")
    return columns


def leg_at(legs: tuple[Leg, ...], step: int) -> Leg:
    """The stage that the next step belongs to."""
    return next(leg for leg in legs if step < leg.last_step)


def crystal_frames(config: SimulateConfig) -> list[ase.Atoms]:
    """The alloy as a crystal at the temperature of the glass: after 0.6 ps every 60 fs for 0.9 ps."""
    atoms = random_alloy(config.seed)
    run, frames = Dynamics(atoms, config.legs[-1].end_k, config, config.seed), []
    run.run(200)
    for _ in range(15):
        run.run(20)
        frames.append(ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
    return frames
