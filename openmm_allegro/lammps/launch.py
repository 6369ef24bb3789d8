"""A LAMMPS run from a model and a structure: start its ranks, and show how far it is."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from openmm_allegro.lammps.config import LammpsConfig
from openmm_allegro.lammps.input import ATOMS, DYNAMICS, SCRIPT, SETUP
from openmm_allegro.lammps.mpi_library import check_world, is_launched, load_lammps, mpiexec
from openmm_allegro.lammps.prepare import prepare
from openmm_allegro.lammps.run import ERROR, LAMMPS_LOG, Tell, run_rank
from openmm_allegro.simulation import run_lock


def run_lammps(
    config: LammpsConfig,
    output_dir: Path | str,
    ranks: int | None = None,
    dry_run: bool = False,
    resume: bool = False,
) -> dict[str, object] | None:
    """Run a structure with a model in LAMMPS on some ranks, and write trajectory, log and structures into a folder.

    ranks: None starts one for each CUDA device, or one. Called by ranks that `mpiexec` or `srun` have started, it is
    their part of the run, and only the first one gets the answer. dry_run: write the input and no more. resume: go on
    from the last checkpoint in the folder, or from the start where there is none yet, on any number of ranks; without
    thermostat the result is that of a run that was never stopped, to rounding, and with one the random forces differ.
    """
    folder = Path(output_dir).resolve()
    if dry_run and resume:
        raise ValueError("`dry_run` writes a new input, and `resume` goes on with a run; choose one of them")
    if is_launched() and not dry_run:
        return _run_launched(config, folder, ranks, resume)
    if ranks is not None and ranks < 1:
        raise ValueError(f"`ranks` is {ranks}; it must be at least 1")
    if not dry_run:
        load_lammps()  # or say what is missing before anything is written
        check_world(1)
    with run_lock.held(folder):
        prepare(config, folder, resume)
        if dry_run:
            return {"output_dir": folder, "input": [ATOMS, SETUP, DYNAMICS, SCRIPT]}
        with _bar(config, Console(stderr=True)) as tell:
            return _launch(folder, ranks or max(1, torch.cuda.device_count()), tell)


def _run_launched(config: LammpsConfig, folder: Path, ranks: int | None, resume: bool) -> dict[str, object] | None:
    load_lammps()
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    check_world(world.Get_size())
    if ranks is not None and ranks != world.Get_size():
        raise ValueError(f"`ranks` is {ranks}, but {world.Get_size()} ranks have been started; leave it out")
    is_first, console = world.Get_rank() == 0, Console(stderr=True)
    with contextlib.ExitStack() as stack:
        failure: Exception | None = None
        if is_first:
            try:
                stack.enter_context(run_lock.held(folder))
                prepare(config, folder, resume)
            except Exception as error:  # whatever it is, the other ranks must not wait for this one
                failure = error
        if world.bcast(failure is not None) and not is_first:
            raise SystemExit(1)  # the first rank says why
        if failure is not None:
            raise failure
        tell = stack.enter_context(_bar(config, console)) if is_first else _nothing
        try:
            return run_rank(folder, tell)
        except Exception as error:
            print(f"openmm-allegro: {error}", file=sys.stderr, flush=True)
            world.Abort(1)
            raise


def _launch(folder: Path, ranks: int, tell: Tell) -> dict[str, object]:
    """Start the ranks and listen to the first one until they end, with a result or an error."""
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "openmm_allegro.lammps.run", str(folder)]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ  # a rank a core
    answer: dict[str, object] = {}
    (folder / ERROR).unlink(missing_ok=True)
    with (
        _sigterm_interrupts(),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                answer |= _heard(line, tell)
        except KeyboardInterrupt:
            process.terminate()
            raise KeyboardInterrupt(
                f"stopped; what there is of the run is in `{folder}`, `--resume` goes on with it"
            ) from None
        except BaseException:
            process.terminate()
            raise
    if (folder / ERROR).is_file():
        raise ValueError((folder / ERROR).read_text())
    if process.returncode != 0 or not isinstance(answer.get("result"), dict):
        raise RuntimeError(
            f"the ranks ended with status {process.returncode} before the run did; `{folder / LAMMPS_LOG}` says how "
            "far it came, and `--resume` goes on from the last checkpoint"
        )
    return dict(answer["result"])  # type: ignore[call-overload]


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, which ends a job whose time is over, as Ctrl-C: it reaches this process and not its ranks."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _heard(line: str, tell: Tell) -> dict[str, object]:
    """What a line of the ranks adds to the answer."""
    if not line.startswith("{"):
        print(line, end="", file=sys.stderr)
        return {}
    message = json.loads(line)
    tell(message)
    return {} if "step" in message else message


@contextlib.contextmanager
def _bar(config: LammpsConfig, console: Console) -> Iterator[Tell]:
    """What shows messages of ranks as a bar on a terminal."""
    words = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"))
    hidden = not console.is_terminal or console.is_jupyter
    with Progress(*words, TimeRemainingColumn(), console=console, disable=hidden) as bar:
        task = bar.add_task(config.ensemble, total=config.n_steps, speed="")
        begun: list[tuple[float, int]] = []

        def tell(message: dict[str, object]) -> None:
            step, now = message.get("step"), time.perf_counter()
            if not isinstance(step, int):
                return
            begun.append((now, step))
            seconds, steps = now - begun[0][0], step - begun[0][1]
            del begun[1:]
            speed = config.ns_per_day(steps, seconds) if seconds > 0 else 0.0
            bar.update(task, completed=step, speed=f"{speed:.3g} ns/day")

        yield tell


def _nothing(message: dict[str, object]) -> None:
    """What other ranks than the first tell."""
