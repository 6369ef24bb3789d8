"""What a run leaves so that it can go on after a kill at any moment, and how its files are cut back to there.

Every reporter writes at multiples of `report_every`, the checkpoint last, so a checkpoint at step s belongs to
s // report_every frames and log lines; what is in the files beyond was written after it and is done again.
"""

import errno
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from openmm_allegro.checkpoint import write_whole  # isort: skip  (torch, before openmm)
import numpy as np
import openmm
from openmm import app, unit

CHECKPOINT = "checkpoint.chk"
STATE = "state.xml"
LOG = "log.csv"
FASTEST_ATOM = 100.0
"""No atom of a molecule is this fast [nm/ps]: a hydrogen would have 50 eV."""
DCD_HEADER = 276
"""Bytes before the first frame of a DCD file as `openmm.app.DCDFile` writes it."""
XTC_MAGIC = 1995
"""First number of each frame of an XTC file, as in GROMACS' xtcio.cpp."""


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

    def __init__(self, folder: Path, interval: int, reported: list[Path]) -> None:
        self.folder = folder
        self.interval = interval
        self.reported = reported

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, object]:  # noqa: N802 (OpenMM's name)
        """Called by OpenMM."""
        return {"steps": self.interval - simulation.currentStep % self.interval, "periodic": None, "include": []}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Called by OpenMM."""
        save_checkpoint(simulation, self.folder, self.reported)


class XTCReporter(app.XTCReporter):
    """OpenMM's, which does not notice a full disk and goes on without its frames."""

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Called by OpenMM."""
        path = Path(self._fileName)
        start = path.stat().st_size
        super().report(simulation, state)
        end = path.stat().st_size
        with path.open("rb") as file:
            if _xtc_frame_end(file, start) != end:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def saved_step(folder: Path) -> int | None:
    """Step of the last State in a folder; None when the run was stopped before its first one."""
    path = folder / STATE
    if not path.is_file():
        return None
    return openmm.XmlSerializer.deserialize(path.read_text()).getStepCount()


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


def cut_back(trajectory: Path, log: Path, step: int, report_every: int) -> int:
    """Take away what was reported after a step; returns the number of frames that are left."""
    n_frames = step // report_every
    if n_frames > 0:
        cut_log(log, n_frames)
        (cut_dcd if trajectory.suffix == ".dcd" else cut_xtc)(trajectory, n_frames)
    return n_frames


def cut_log(path: Path, n_lines: int) -> None:
    """Keep the header and the first lines."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    kept = [line for line in lines if line.endswith(b"\n")][: n_lines + 1]
    if len(kept) < n_lines + 1:
        raise ValueError(_too_short(path, max(len(kept) - 1, 0), n_lines, "lines"))
    write_whole(path, b"".join(kept))


def cut_dcd(path: Path, n_frames: int) -> None:
    """Keep the first frames and set the header's count of them."""
    with _opened(path, n_frames) as file:
        header = file.read(DCD_HEADER)
        if len(header) < DCD_HEADER or header[4:8] != b"CORD":
            raise ValueError(f"`{path}` is not a DCD file of OpenMM; move it away and start a new run")
        first_step, interval = struct.unpack_from("<2i", header, 12)
        has_box = struct.unpack_from("<i", header, 48)[0]
        n_atoms = struct.unpack_from("<i", header, 268)[0]
        frame_bytes = 56 * has_box + 3 * (8 + 4 * n_atoms)
        found = (os.path.getsize(path) - DCD_HEADER) // frame_bytes
        if found < n_frames:
            raise ValueError(_too_short(path, found, n_frames, "frames"))
        file.seek(8)
        file.write(struct.pack("<i", n_frames))
        file.seek(20)
        file.write(struct.pack("<i", first_step + (n_frames - 1) * interval))
        file.truncate(DCD_HEADER + n_frames * frame_bytes)


def cut_xtc(path: Path, n_frames: int) -> None:
    """Keep the first frames."""
    with _opened(path, n_frames) as file:
        ends = list(_xtc_frame_ends(file, os.path.getsize(path), n_frames))
        if len(ends) < n_frames:
            raise ValueError(_too_short(path, len(ends), n_frames, "frames"))
        file.truncate(ends[-1])


def _opened(path: Path, n_frames: int) -> BinaryIO:
    if not path.is_file():
        raise ValueError(_too_short(path, 0, n_frames, "frames"))
    return path.open("r+b")


def _xtc_frame_ends(file: BinaryIO, size: int, at_most: int) -> Iterator[int]:
    """Where each whole frame ends."""
    start = 0
    for _ in range(at_most):
        end = _xtc_frame_end(file, start)
        if end is None or end > size:
            return
        yield end
        start = end


def _xtc_frame_end(file: BinaryIO, start: int) -> int | None:
    """Where the frame that starts here should end. Numbers are big-endian; up to 9 atoms are plain floats."""
    file.seek(start)
    header = file.read(92)
    if len(header) < 56 or struct.unpack_from(">i", header)[0] != XTC_MAGIC:
        return None
    n_atoms = struct.unpack_from(">i", header, 52)[0]
    if n_atoms <= 9:
        return start + 56 + 12 * n_atoms
    if len(header) < 92:
        return None
    n_bytes = struct.unpack_from(">i", header, 88)[0]
    return start + 92 + (n_bytes + 3) // 4 * 4


def _too_short(path: Path, found: int, expected: int, what: str) -> str:
    return (
        f"`{path}` has {found} {what}, but the checkpoint beside it was written after {expected}; the file was "
        "changed since, so the run cannot go on: start a new one from the last structure"
    )
