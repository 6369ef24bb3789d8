"""A simulation from a model and a structure: minimise, give velocities, run, and go on after a stop."""

import json
import logging
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import openmm
from openmm import app, unit
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from openmm_allegro.checkpoint import is_ensemble, write_whole
from openmm_allegro.minimize import minimize_energy
from openmm_allegro.model_file import loaded
from openmm_allegro.scripted import ScriptedModel
from openmm_allegro.simulation import restart, run_lock
from openmm_allegro.simulation.config import SimulateConfig, check_resumable, load_config
from openmm_allegro.simulation.reported_files import cut_back
from openmm_allegro.simulation.reports import PRESSURE, UNCERTAIN_FRAMES, UNCERTAINTY, add_reporters
from openmm_allegro.simulation.resumable import (
    INPUTS,
    check_empty,
    check_exists,
    check_not_beyond,
    check_same_files,
    digests,
)
from openmm_allegro.simulation.stage_options import Ensemble
from openmm_allegro.simulation.stages import Schedule, stage_structure
from openmm_allegro.simulation.system import build_simulation
from openmm_allegro.structure import Structure, read_structure, structure_files, write_structure
from openmm_allegro.uncertainty_reporter import SpreadExceeded

CONFIG = "simulation.toml"
SYSTEM = "system.xml"
SECONDS_BETWEEN_LOOKS = 0.5
"""How long OpenMM steps before progress is shown and a wish to stop is heard."""

log = logging.getLogger("openmm_allegro")


@dataclass(frozen=True)
class SimulateResult:
    """What a run made and how fast it was."""

    output_dir: Path
    trajectory: Path
    log: Path
    final_structure: Path
    checkpoint: Path
    ensemble: Ensemble
    """Of stages that of the last one."""
    n_atoms: int
    steps: int
    """Steps of the whole run."""
    steps_now: int
    """Steps done by this call."""
    time_ps: float
    """Length of the whole run [ps]."""
    ns_per_day: float | None
    """Speed of this call, None when there was nothing left to do."""
    stage_structures: dict[str, Path | None]
    """The structure after each stage."""


def simulate(
    config: SimulateConfig, output_dir: Path | str, resume: bool = False, progress: bool = True
) -> SimulateResult:
    """Run a simulation and write trajectory, log, checkpoint and structures into a folder.

    resume: go on from the last checkpoint in the folder, or from the start where there is none yet. After a kill the
    result is, bit by bit, that of a run that was never stopped; with a barostat, whose random numbers no checkpoint
    keeps, with a TorchForce, and after a stop by a signal between checkpoints it is another one as right as that.
    progress: show a bar when standard error is a terminal.
    """
    folder = Path(output_dir)
    with run_lock.held(folder):
        return _simulate(_with_absolute_paths(config), folder, resume, progress)


def _simulate(config: SimulateConfig, folder: Path, resume: bool, progress: bool) -> SimulateResult:
    trajectory = folder / f"trajectory.{config.trajectory_format}"
    last_step = None
    if resume:
        last_step = _step_to_resume(folder, config)
    else:
        check_empty(folder, CONFIG, _written(config))
    structure = read_structure(config.structure, config.replicate)
    _check_possible(config, structure)
    simulation, forget = build_simulation(config, structure, last_step)

    with _told_in_words(simulation, config, folder):
        if last_step is None or config != _with_absolute_paths(resume_config(folder, None, {})):
            _write_inputs(config, simulation, folder)  # a later resume goes on with these options
        if last_step is None:
            _start(simulation, config, folder)
            forget()
        else:
            restart.load_checkpoint(simulation, folder)
        n_frames = cut_back(trajectory, folder / restart.LOG, simulation.currentStep, config.report_every)
        add_reporters(simulation, config, folder, trajectory, n_frames > 0, forget)
        first_step, started = simulation.currentStep, time.perf_counter()
        _run(simulation, config, folder, progress)
        seconds = time.perf_counter() - started
        state = simulation.context.getState(positions=True)
        final_structure = write_structure(folder, "final", structure.topology, state)
    steps_now = simulation.currentStep - first_step
    return SimulateResult(
        output_dir=folder,
        trajectory=trajectory,
        log=folder / restart.LOG,
        final_structure=final_structure,
        checkpoint=folder / restart.CHECKPOINT,
        ensemble=config.ensemble,
        n_atoms=structure.topology.getNumAtoms(),
        steps=simulation.currentStep,
        steps_now=steps_now,
        time_ps=simulation.currentStep * config.timestep_fs / 1000,
        ns_per_day=config.ns_per_day(steps_now, seconds) if steps_now > 0 else None,
        stage_structures={leg.name: stage_structure(folder, leg.name) for leg in config.legs},
    )


def resume_config(output_dir: Path | str, path: Path | str | None, flags: Mapping[str, object]) -> SimulateConfig:
    """Options to go on with: those of the run in a folder unless a TOML file is given, with flags on top."""
    folder = Path(output_dir)
    check_exists(folder / CONFIG)
    return load_config(path or folder / CONFIG, flags)


def _with_absolute_paths(config: SimulateConfig) -> SimulateConfig:
    return config.model_copy(update={"model": config.model.resolve(), "structure": config.structure.resolve()})


def _written(config: SimulateConfig) -> list[str]:
    """What a run writes besides its options."""
    names = ["start", "final", *(stage.name for stage in config.stages)]
    structures = [file for name in names for file in structure_files(name)]
    checkpoint = [restart.CHECKPOINT, restart.STATE, SYSTEM, INPUTS]
    tables = [restart.LOG, PRESSURE, UNCERTAINTY, UNCERTAIN_FRAMES]
    return ["trajectory.dcd", "trajectory.xtc", *tables, *checkpoint, *structures]


def _check_possible(config: SimulateConfig, structure: Structure) -> None:
    """Refuse what this structure or this model cannot have, before anything is written."""
    if structure.topology.getPeriodicBoxVectors() is None:
        for name, is_set in (("pressure_bar", config.uses_pressure), ("pressure_every", config.pressure_every)):
            if is_set:
                raise ValueError(f"`{name}` is set, but `{config.structure}` has no periodic box")
    if config.uncertainty_every is not None and not is_ensemble(config.model):
        raise ValueError(
            f"`uncertainty_every` is set, but `{config.model}` is one model; make an ensemble of it by `openmm-allegro "
            "ensemble`"
        )
    if config.pressure_every is not None and isinstance(loaded(config.model, config.model_units), ScriptedModel):
        raise ValueError(
            f"`pressure_every` is set, but `{config.model}` runs as it is, and pressures are known of Allegro models "
            "only; leave `pressure_every` out"
        )


def _step_to_resume(folder: Path, config: SimulateConfig) -> int | None:
    """Step to go on from, or None to start again because no checkpoint was reached."""
    check_resumable(_with_absolute_paths(resume_config(folder, None, {})), config, folder)
    check_same_files(config, folder)
    last_step = restart.saved_step(folder)
    restart.check_not_lost(folder, [folder / f"trajectory.{config.trajectory_format}", folder / restart.LOG])
    check_not_beyond(last_step, config.n_steps, folder)
    return last_step


def _write_inputs(config: SimulateConfig, simulation: app.Simulation, folder: Path) -> None:
    write_whole(folder / INPUTS, json.dumps(digests(config)).encode())
    write_whole(folder / CONFIG, config.to_toml().encode())
    write_whole(folder / SYSTEM, openmm.XmlSerializer.serialize(simulation.system).encode())


def _start(simulation: app.Simulation, config: SimulateConfig, folder: Path) -> None:
    if config.minimize:
        log.info("minimising the energy")
        log.info(minimize_energy(simulation.context, config.minimize_tolerance_kj, config.minimize_iterations))
    simulation.context.setVelocitiesToTemperature(config.first_temperature_k * unit.kelvin, config.seed)
    write_structure(folder, "start", simulation.topology, simulation.context.getState(positions=True))
    restart.save_checkpoint(simulation, folder, [])


def _run(simulation: app.Simulation, config: SimulateConfig, folder: Path, progress: bool) -> None:
    """Step to the end, or until a signal asks to stop; a checkpoint is written either way."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with (
        _stop_signals() as stop,
        Progress(*columns, console=console, disable=not (progress and _shows(console))) as bar,
    ):
        first_step = simulation.currentStep
        schedule = Schedule.of(config)
        schedule.start(simulation, folder)
        task = bar.add_task(config.ensemble, total=config.n_steps, completed=first_step, speed="")
        chunk, started = 1, time.perf_counter()
        while simulation.currentStep < config.n_steps and not stop.is_set():
            chunk_started = time.perf_counter()
            schedule.step(simulation, min(chunk, config.n_steps - simulation.currentStep), folder)
            now = time.perf_counter()
            chunk = _next_chunk(chunk, now - chunk_started)
            speed = config.ns_per_day(simulation.currentStep - first_step, now - started)
            name = schedule.name_at(simulation.currentStep) or config.ensemble
            bar.update(task, completed=simulation.currentStep, speed=f"{speed:.3g} ns/day", description=name)
        restart.save_checkpoint(simulation, folder, [])
    simulation.reporters.clear()  # closes the files
    if stop.is_set() and simulation.currentStep < config.n_steps:
        raise KeyboardInterrupt(
            f"stopped at step {simulation.currentStep} of {config.n_steps}; its checkpoint is in `{folder}`, "
            "`--resume` goes on from there"
        )


def _next_chunk(chunk: int, seconds: float) -> int:
    """Steps that take about as long as wanted, growing at most twofold."""
    wanted = chunk * SECONDS_BETWEEN_LOOKS / max(seconds, 1e-6)
    return max(1, round(min(wanted, 2 * chunk)))


def _shows(console: Console) -> bool:
    return console.is_terminal and not console.is_jupyter


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event set by Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in previous:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _told_in_words(simulation: app.Simulation, config: SimulateConfig, folder: Path) -> Iterator[None]:
    """Say where an unstable run or a full disk leaves the user."""
    try:
        yield
    except SpreadExceeded as error:
        raise SpreadExceeded(
            f"{error}; {_last_good(folder)}, and `--resume` goes on from there with another `uncertainty_threshold` or "
            "`uncertainty_action`"
        ) from error
    except (openmm.OpenMMException, ValueError, FloatingPointError) as error:
        reason = str(error).strip().splitlines()[-1].split(".  For")[0]  # TorchScript ends with the sentence itself
        blew_up = re.search(r"NaN|infinite|not a finite number|are on one spot", reason) is not None
        if not isinstance(error, FloatingPointError) and not blew_up:
            if isinstance(error, openmm.OpenMMException):
                raise RuntimeError(reason) from error
            raise
        raise FloatingPointError(
            f"the simulation blew up near step {simulation.currentStep} ({reason}); "
            f"{_last_good(folder)}; try a `timestep_fs` below {config.timestep_fs}, "
            "`minimize`, or a model trained on configurations such as those in the last frames"
        ) from error
    except OSError as error:
        raise OSError(
            error.errno,
            f"a file of the run in `{folder}` could not be written at step {simulation.currentStep} "
            f"({error.strerror or error}); {_last_good(folder)}; make room and go on with `--resume`",
        ) from error


def _last_good(folder: Path) -> str:
    step = restart.saved_step(folder)
    return "there is no checkpoint yet" if step is None else f"the last good checkpoint is that of step {step}"
