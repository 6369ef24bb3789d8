"""λ led from the force field to the model, dynamics with the model, and the picture of both."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
import openmm
from mixed_systems import LAMBDA, MixedSystems, energy_kj, platform
from numpy.typing import NDArray
from openmm import app
from rich.progress import track

from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.ramachandran import Ramachandran, ramachandran
from openmm_allegro.analysis.stability import Stability, bond_stability
from openmm_allegro.analysis.trajectory_file import open_trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figures = dict[str, float | list[float] | Mapping[str, float]]
KELVIN = 300.0
STEPS_BETWEEN_FRAMES = 20
N_LAMBDAS = 11


@dataclass(frozen=True)
class Ramp:
    """What was met on the way from the force field to the model."""

    lambdas: NDArray[np.float64]
    """(w,)"""
    mean_slopes: NDArray[np.float64]
    """Mean dU/dλ at each λ, less that at the start [kJ/mol], (w,)."""
    state: openmm.State
    """At its end."""


@dataclass(frozen=True)
class Run:
    """Dynamics with the model."""

    stability: Stability
    torsions: Ramachandran
    temperature_k: float
    """Mean of the second half."""
    milliseconds_per_step: float


def integrator(timestep_fs: float) -> openmm.Integrator:
    """Langevin dynamics at 300 K."""
    made = openmm.LangevinMiddleIntegrator(KELVIN, 2.0, timestep_fs / 1000)
    made.setRandomNumberSeed(1)
    return made


def lead_lambda(systems: MixedSystems, ps: float, timestep_fs: float) -> Ramp:
    """λ in eleven equal steps from 0 to 1, each for the same time; dU/dλ every tenth step of each second half."""
    context = openmm.Context(systems.interpolated, integrator(timestep_fs), platform())
    context.setPositions(systems.positions_nm)
    context.setVelocitiesToTemperature(KELVIN, 1)
    tens = max(2, round(1000 * ps / timestep_fs / N_LAMBDAS / 10))
    lambdas = np.linspace(0.0, 1.0, N_LAMBDAS)
    slopes = np.zeros((N_LAMBDAS, tens))
    for window, ten in track(list(np.ndindex(*slopes.shape)), description="leading λ", transient=True):
        context.setParameter(LAMBDA, lambdas[window])
        context.getIntegrator().step(10)
        slopes[window, ten] = _slope(context)
    means = slopes[:, tens // 2 :].mean(axis=1)
    context.setParameter(LAMBDA, 1.0)
    return Ramp(lambdas, means - means[0], context.getState(positions=True, velocities=True))


def _slope(context: openmm.Context) -> float:
    """dU/dλ, which is the energy at 1 less that at 0, since U is linear in λ [kJ/mol]."""
    now, energies = context.getParameter(LAMBDA), []
    for value in (1.0, 0.0):
        context.setParameter(LAMBDA, value)
        energies.append(energy_kj(context))
    context.setParameter(LAMBDA, now)
    return energies[0] - energies[1]


def run_with_the_model(systems: MixedSystems, start: openmm.State, ps: float, timestep_fs: float, folder: Path) -> Run:
    """Dynamics of the mixed system; the peptide's trajectory, its bonds and torsions."""
    simulation = app.Simulation(systems.topology, systems.with_model, integrator(timestep_fs), platform())
    simulation.context.setPositions(start.getPositions())
    simulation.context.setVelocities(start.getVelocities())
    _write_peptide(systems, start, folder / "start.pdb")
    xtc = app.XTCReporter(
        str(folder / "peptide.xtc"), STEPS_BETWEEN_FRAMES, enforcePeriodicBox=False, atomSubset=systems.ml_atoms
    )
    log_options = {"time": True, "potentialEnergy": True, "temperature": True}
    log = app.StateDataReporter(str(folder / "log.csv"), STEPS_BETWEEN_FRAMES, **log_options)
    simulation.reporters += [xtc, log]
    n_steps = round(1000 * ps / timestep_fs)
    began = time.perf_counter()
    for _ in track(range(n_steps // STEPS_BETWEEN_FRAMES), description="dynamics", transient=True):
        simulation.step(STEPS_BETWEEN_FRAMES)
    seconds = time.perf_counter() - began
    simulation.reporters.clear()
    del xtc, log
    temperatures = np.loadtxt(folder / "log.csv", delimiter=",", skiprows=1, ndmin=2)[:, -1]
    frames = open_trajectory(folder / "peptide.xtc", folder / "start.pdb")
    return Run(
        bond_stability(frames),
        ramachandran(frames),
        float(temperatures[len(temperatures) // 2 :].mean()),
        1000 * seconds / n_steps,
    )


def _write_peptide(systems: MixedSystems, state: openmm.State, path: Path) -> None:
    modeller = app.Modeller(systems.topology, state.getPositions())
    modeller.delete([atom for atom in systems.topology.atoms() if atom.index not in set(systems.ml_atoms)])
    with path.open("w") as file:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, file)


def draw_report(path: Path, ramp: Ramp, run: Run) -> Path:
    """The way of λ, bonds and torsions."""

    def slopes(axes: "Axes") -> None:
        axes.plot(ramp.lambdas, ramp.mean_slopes, "o-")
        axes.set_xlabel("λ")
        axes.set_ylabel("⟨dU/dλ⟩ less that at 0 / kJ/mol")

    return save_picture(path, [slopes, run.stability.draw, run.torsions.draw])
