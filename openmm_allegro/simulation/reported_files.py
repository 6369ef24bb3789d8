"""Log and trajectory of a run that goes on: cut back to its checkpoint, or put together from two files.

Everything is written at multiples of `report_every`, the checkpoint last, so a checkpoint at step s belongs to
s // report_every frames and log lines; what is in the files beyond was written after it and is done again.
"""

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from openmm_allegro.checkpoint import write_whole

DCD_HEADER = 276
"""Bytes before the first frame of a DCD file as OpenMM and LAMMPS write it."""
XTC_MAGIC = 1995
"""First number of each frame of an XTC file, as in GROMACS' xtcio.cpp."""
COPIED_AT_ONCE = 2**24


def cut_back(trajectory: Path, log: Path, step: int, report_every: int) -> int:
    """Take away what was reported after a step; returns the number of frames that are left."""
    n_frames = step // report_every
    if n_frames > 0:
        cut_log(log, n_frames)
        _cut_frames(trajectory, n_frames)
    return n_frames


def join(trajectory: Path, continuation: Path, n_frames: int, report_every: int) -> None:
    """Move the frames of a continuation to where the trajectory ends, so that it has `n_frames`.

    Frames that are there already are replaced: a kill on the way leaves what the next call puts right.
    """
    if not continuation.is_file():
        return
    first_step = _first_step(continuation)
    if first_step is not None:
        _cut_frames(trajectory, first_step // report_every - 1)
        with continuation.open("rb") as source, trajectory.open("ab") as target:
            source.seek(DCD_HEADER if trajectory.suffix == ".dcd" else 0)
            shutil.copyfileobj(source, target, COPIED_AT_ONCE)
        _cut_frames(trajectory, n_frames)
        with trajectory.open("rb") as file:
            os.fsync(file.fileno())
    continuation.unlink()


def _first_step(path: Path) -> int | None:
    """That of the first frame; None when there is no whole one."""
    with path.open("rb") as file:
        header, size = file.read(DCD_HEADER), path.stat().st_size
        if path.suffix == ".dcd":
            is_there = len(header) == DCD_HEADER and size >= DCD_HEADER + _dcd_frame_bytes(header)
            return int(struct.unpack_from("<i", header, 12)[0]) if is_there else None
        is_there = any(True for _ in _xtc_frame_ends(file, size, 1))
        return int(struct.unpack_from(">i", header, 8)[0]) if is_there else None


def _cut_frames(trajectory: Path, n_frames: int) -> None:
    (cut_dcd if trajectory.suffix == ".dcd" else cut_xtc)(trajectory, n_frames)


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
            raise ValueError(f"`{path}` is not a DCD file of OpenMM or LAMMPS; move it away and start a new run")
        first_step, interval = struct.unpack_from("<2i", header, 12)
        frame_bytes = _dcd_frame_bytes(header)
        found = (os.path.getsize(path) - DCD_HEADER) // frame_bytes
        if found < n_frames:
            raise ValueError(_too_short(path, found, n_frames, "frames"))
        file.seek(8)
        file.write(struct.pack("<i", n_frames))
        file.seek(20)
        file.write(struct.pack("<i", first_step + (n_frames - 1) * interval))
        file.truncate(DCD_HEADER + n_frames * frame_bytes)


def _dcd_frame_bytes(header: bytes) -> int:
    has_box = struct.unpack_from("<i", header, 48)[0]
    n_atoms = struct.unpack_from("<i", header, 268)[0]
    return int(56 * has_box + 3 * (8 + 4 * n_atoms))


def cut_xtc(path: Path, n_frames: int) -> None:
    """Keep the first frames."""
    with _opened(path, n_frames) as file:
        ends = list(_xtc_frame_ends(file, os.path.getsize(path), n_frames))
        if len(ends) < n_frames:
            raise ValueError(_too_short(path, len(ends), n_frames, "frames"))
        file.truncate(ends[-1])


def whole_frames(path: Path, start: int) -> tuple[int, int]:
    """How many whole frames there are from a byte on, 0 for all, and the byte where they end."""
    if not path.is_file():
        return 0, start
    with path.open("rb") as file:
        size = os.path.getsize(path)
        if path.suffix == ".xtc":
            ends = list(_xtc_frame_ends(file, size, size, start))
            return len(ends), ends[-1] if ends else start
        header = file.read(DCD_HEADER)
        if len(header) < DCD_HEADER:
            return 0, start
        start, frame_bytes = max(start, DCD_HEADER), _dcd_frame_bytes(header)
        n_frames = (size - start) // frame_bytes
        return n_frames, start + n_frames * frame_bytes


def remove_cells(path: Path, start: int, end: int) -> None:
    """Set the cell to zero, which is none to all readers, in the whole frames between two bytes, 0 for the first."""
    if end <= start:
        return
    with path.open("r+b") as file:
        if path.suffix == ".dcd":
            starts: Sequence[int] = range(max(start, DCD_HEADER), end, _dcd_frame_bytes(file.read(DCD_HEADER)))
            offset, n_bytes = 4, 48  # after the length of the record
        else:
            starts = (start, *_xtc_frame_ends(file, end, end, start))[:-1]
            offset, n_bytes = 16, 36  # after magic number, atoms, step and time
        for frame in starts:
            file.seek(frame + offset)
            file.write(bytes(n_bytes))


def _opened(path: Path, n_frames: int) -> BinaryIO:
    if not path.is_file():
        raise ValueError(_too_short(path, 0, n_frames, "frames"))
    return path.open("r+b")


def _xtc_frame_ends(file: BinaryIO, size: int, at_most: int, start: int = 0) -> Iterator[int]:
    """Where each whole frame ends, from a byte on at which one begins."""
    for _ in range(at_most):
        end = xtc_frame_end(file, start)
        if end is None or end > size:
            return
        yield end
        start = end


def xtc_frame_end(file: BinaryIO, start: int) -> int | None:
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
