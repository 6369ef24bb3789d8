"""What a simulation leaves so that it can go on after a kill at any moment; its reports are in `reported_files`."""

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from openmm_allegro.checkpoint import write_whole  # isort: skip  (torch, before openmm)
import numpy as np
import openmm
from openmm import app, unit

from openmm_allegro.simulation.reported_files import xtc_frame_end

CHECKPOINT = "checkpoint.chk"
STATE = "state.xml"
LOG = "log.csv"
FASTEST_ATOM = 100.0
"""No atom of a molecule is this fast [nm/ps]: a hydrogen would have 50 eV."""


def save_checkpoint(simulation: app.Simulation, folder: Path, reported: list[Path]) -> None:
    """Write OpenMM's checkpoint and the portable State; the old ones stay until the new ones are complete.

    reported: files whose content must be on the disk before a checkpoint says that it is.
    """
    state = simulation.context.getState(positions=True, velocities=True, parameters=True, integratorParameters=True)
    _check_sane(state)
    for path in reported:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    write_whole(folder / CHECKPOINT, simulation.context.createCheckpoint())
    write_whole(folder / STATE, openmm.XmlSerializer.serialize(state).encode())


def _check_sane(state: openmm.State) -> None:
    """A model can throw atoms apart without ever giving a NaN; such a state must not replace a good one."""
    if not np.isfinite(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)).all():
        raise FloatingPointError("a coordinate is NaN")
    fastest = np.linalg.norm(state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond), axis=1)
    if fastest.max() > FASTEST_ATOM:
        raise FloatingPointError(f"atom {fastest.argmax()} moves at {fastest.max():.3g} nm/ps")


class CheckpointReporter:
    """Saves a checkpoint every so many steps; the last in the list of reporters, see above."""

    def __init__(self, folder: Path, interval: int, reported: list[Path], forget: Callable[[], None]) -> None:
        """forget: see `build_simulation`."""
        self.folder = folder
        self.interval = interval
        self.reported = reported
        self.forget = forget

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, object]:  # noqa: N802 (OpenMM's name)
        """Called by OpenMM."""
        return {"steps": self.interval - simulation.currentStep % self.interval, "periodic": None, "include": []}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Called by OpenMM."""
        save_checkpoint(simulation, self.folder, self.reported)
        self.forget()


class XTCReporter(app.XTCReporter):
    """OpenMM's, which does not notice a full disk and goes on without its frames."""

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Called by OpenMM."""
        path = Path(self._fileName)
        start = path.stat().st_size
        super().report(simulation, state)
        end = path.stat().st_size
        with path.open("rb") as file:
            if xtc_frame_end(file, start) != end:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def saved_step(folder: Path) -> int | None:
    """Step of the last State in a folder; None when the run was stopped before its first one."""
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        return openmm.XmlSerializer.deserialize(path.read_text()).getStepCount()
    except (openmm.OpenMMException, ValueError, AttributeError) as error:  # no XML, no text, or that of a System
        raise ValueError(
            f"`{path}` is not the whole State that a run goes on from ({error or 'it is empty'}); put it back, or "
            "start a new run from the last structure"
        ) from error


def check_not_lost(folder: Path, reported: list[Path]) -> None:
    """Refuse to start again what has been reported, since the first State is there before. reported: files of it."""
    if (folder / STATE).is_file():
        return
    for path in reported:
        if path.is_file() and path.stat().st_size > 0:
            raise ValueError(
                f"`{folder}` has `{path.name}`, but no `{STATE}`, from which the run would go on; put it back, or "
                "start a new run in another folder"
            )


def load_checkpoint(simulation: app.Simulation, folder: Path) -> None:
    """Put a simulation where the last checkpoint was; the State serves where the checkpoint does not fit."""
    try:
        simulation.loadCheckpoint(str(folder / CHECKPOINT))
    except Exception as error:  # OpenMM's own, or a missing file
        warnings.warn(
            f"the checkpoint cannot be read here ({error}); the run goes on from `{folder / STATE}` with new random "
            "numbers, so not bit by bit as it would have",
            stacklevel=2,
        )
        simulation.loadState(str(folder / STATE))
