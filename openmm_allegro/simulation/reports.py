"""What a simulation writes while it runs."""

from collections.abc import Callable
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
from openmm import app, unit

from openmm_allegro.pressure_reporter import PressureReporter
from openmm_allegro.simulation import restart
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.reported_files import cut_log
from openmm_allegro.uncertainty_reporter import UncertaintyReporter, steps_of_frames

PRESSURE = "pressure.csv"
UNCERTAINTY = "uncertainty.csv"
UNCERTAIN_FRAMES = "uncertain.extxyz"


def add_reporters(
    simulation: app.Simulation,
    config: SimulateConfig,
    folder: Path,
    trajectory: Path,
    append: bool,
    forget: Callable[[], None],
) -> None:
    """Frames, log, spreads and last the checkpoints.

    append: whether frames and log go on with existing files. forget: see `build_simulation`.
    """
    periodic = simulation.topology.getPeriodicBoxVectors() is not None
    real_mass = sum((atom.element.mass for atom in simulation.topology.atoms()), 0 * unit.dalton)
    table = app.StateDataReporter(
        str(folder / restart.LOG),
        config.report_every,
        step=True,
        time=True,
        potentialEnergy=True,
        kineticEnergy=True,
        totalEnergy=True,
        temperature=True,
        volume=periodic,
        density=periodic,
        speed=True,
        systemMass=real_mass,
        append=append,
    )
    # Not wrapped: each atom is a molecule of its own here, and wrapping would tear real ones apart.
    writer = app.DCDReporter if config.trajectory_format == "dcd" else restart.XTCReporter
    frames = writer(str(trajectory), config.report_every, append=append, enforcePeriodicBox=False)
    reported = [trajectory, folder / restart.LOG]
    checkpoints = restart.CheckpointReporter(folder, config.checkpoint_every, reported, forget)
    simulation.reporters.extend([frames, table])
    if config.pressure_every is not None:
        simulation.reporters.append(_pressure_reporter(simulation, config, folder / PRESSURE, config.pressure_every))
    if config.uncertainty_every is not None:
        simulation.reporters.append(_uncertainty_reporter(simulation, config, folder, config.uncertainty_every))
    simulation.reporters.append(checkpoints)


def _pressure_reporter(
    simulation: app.Simulation, config: SimulateConfig, table: Path, interval: int
) -> PressureReporter:
    """With its file cut back to the current step."""
    n_lines = simulation.currentStep // interval
    if n_lines > 0:
        cut_log(table, n_lines)
    return PressureReporter(
        table,
        interval,
        config.model,
        simulation.topology,
        model_units=config.model_units,
        precision=config.precision,
        device=config.device,
        append=n_lines > 0,
    )


def _uncertainty_reporter(
    simulation: app.Simulation, config: SimulateConfig, folder: Path, interval: int
) -> UncertaintyReporter:
    """With its table cut back to the current step. Frames stay: they are worth labelling, whatever comes now."""
    table, frames = folder / UNCERTAINTY, folder / UNCERTAIN_FRAMES
    n_lines = simulation.currentStep // interval
    if n_lines > 0:
        cut_log(table, n_lines)
    reporter = UncertaintyReporter(
        table,
        interval,
        config.model,
        simulation.topology,
        threshold=config.uncertainty_threshold,
        on_exceed=config.uncertainty_action,
        frames_file=frames,
        append=n_lines > 0,
        device=config.device,
    )
    reporter.saved_steps = steps_of_frames(frames)
    return reporter
