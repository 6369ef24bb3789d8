"""Checkpoints of a LAMMPS run: its restart files, of which there is always a complete one.

LAMMPS writes under a temporary name while it runs. A file gets its own name, with the step in it, only when it and all
that was reported before are on the disk; then the one before goes. So a kill at any moment leaves the last one whole.
"""

import ctypes
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openmm_allegro import units
from openmm_allegro.simulation.reported_files import remove_cells, whole_frames
from openmm_allegro.simulation.restart import FASTEST_ATOM

if TYPE_CHECKING:
    import lammps
    from mpi4py import MPI

NAME = "checkpoint.{}.restart"
UNFINISHED = ".tmp"


def saved_step(folder: Path) -> int | None:
    """Step of the last checkpoint in a folder; None when the run was stopped before its first one."""
    return max(_steps(folder, ""), default=None)


class Checkpoints:
    """Those of the run in the working folder; all ranks call its methods."""

    def __init__(
        self, lmp: "lammps.lammps", communicator: "MPI.Intracomm", every: int, log: Path, frames: "WrittenFrames"
    ) -> None:
        """log, frames: what must be on the disk before a checkpoint says that it is."""
        self.lmp = lmp
        self.communicator = communicator
        self.every = every
        self.log = log
        self.frames = frames
        self.last = -1
        """Step of the last one."""

    def start(self, step: int | None) -> None:
        """Let LAMMPS write regularly. step: of the checkpoint there is; None saves the first one."""
        if self.communicator.Get_rank() == 0:
            for unfinished in _steps(Path(), UNFINISHED):
                Path(NAME.format(unfinished) + UNFINISHED).unlink()
        self.communicator.Barrier()
        if step is None:
            self.save(0)
        else:
            self.last = step
        self.lmp.command(f"restart {self.every} {NAME.format('*')}{UNFINISHED}")

    def save(self, step: int) -> None:
        """Make one of this step unless there is one; LAMMPS sorts the atoms anew, so a `run` must begin with `pre`."""
        if step > self.last:
            self.lmp.command(f"write_restart {NAME.format(step)}{UNFINISHED}")
            self._keep(step)

    def keep(self, step: int) -> None:
        """Keep the last one that LAMMPS has written until this step, if it has."""
        written = step - step % self.every
        if written > self.last:
            self._keep(written)

    def _keep(self, step: int) -> None:
        self._check_sane(step)
        if self.communicator.Get_rank() == 0:
            path = Path(NAME.format(step))
            unfinished = Path(path.name + UNFINISHED)
            self.frames.check(step)
            for file in (self.frames.path, self.log, unfinished):
                _to_disk(file)
            os.replace(unfinished, path)
            for suffix in ("", UNFINISHED):
                for older in _steps(Path(), suffix):
                    if older != step:
                        Path(NAME.format(older) + suffix).unlink()
        self.last = step

    def _check_sane(self, step: int) -> None:
        """A model can throw atoms apart without ever giving a NaN; such a state must not replace a good one."""
        n_own = self.lmp.extract_setting("nlocal")
        velocities = np.array(self.lmp.numpy.extract_atom("v")).reshape(-1, 3)[:n_own]  # [Å/ps]
        fastest = float(np.linalg.norm(velocities, axis=1).max(initial=0)) * units.ANGSTROM_TO_NM
        fastest = max(self.communicator.allgather(fastest if np.isfinite(fastest) else np.inf))
        if fastest > FASTEST_ATOM:
            good = (
                "there is no checkpoint" if self.last < 0 else f"the last good checkpoint is that of step {self.last}"
            )
            raise FloatingPointError(
                f"the run blew up near step {step} (an atom moves at {fastest:.3g} nm/ps); {good}; try a smaller "
                "`timestep_fs`, `minimize`, or a model trained on configurations such as those in the last frames"
            )


class WrittenFrames:
    """The file to which LAMMPS writes frames; of xtc it does not notice that the disk is full.

    Where nothing is periodic it writes the box that it has drawn around the atoms, which is taken out.
    """

    def __init__(self, path: Path, first_step: int, every: int, periodic: bool) -> None:
        """first_step: that of the checkpoint after which the file begins; every: steps between frames."""
        self.path = path
        self.before = first_step // every
        self.every = every
        self.periodic = periodic
        self.end = 0
        """Byte where the frames end that have been found."""

    def look(self) -> None:
        """Find the frames that are there since the last look."""
        ctypes.CDLL(None).fflush(None)  # LAMMPS keeps frames of xtc back
        start = self.end
        found, self.end = whole_frames(self.path, start)
        self.before += found
        if not self.periodic:
            remove_cells(self.path, start, self.end)

    def check(self, step: int) -> None:
        """Refuse to go on when a frame is missing that should be there at this step."""
        self.look()
        if self.before < step // self.every:
            raise OSError(
                errno.ENOSPC,
                f"`{self.path}` lacks frames at step {step}; is the disk full? Make room and go on by `--resume` from "
                "the last checkpoint",
            )


def _to_disk(path: Path) -> None:
    if path.is_file():  # there is no trajectory before its first frame
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _steps(folder: Path, suffix: str) -> list[int]:
    pattern = re.escape(NAME + suffix).replace(r"\{\}", r"(\d+)")
    return [int(found[1]) for path in folder.glob("checkpoint.*") if (found := re.fullmatch(pattern, path.name))]
