"""Trajectory files to frames, chunk by chunk."""

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mdtraj
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from openmm_allegro.analysis.data_set import load_data_set
from openmm_allegro.analysis.frames import Frames, last_digit_ps
from openmm_allegro.analysis.selection import element_symbols
from openmm_allegro.analysis.topology_file import read_topology, warn_of_another_order
from openmm_allegro.xyz_text import is_xyz

BYTES_OF_A_CHUNK = 2**25
SLOW_BYTES = 2**28
"""A pass over more than so many bytes of positions shows a bar."""
WITH_TIMES = (".xtc", ".trr", ".nc", ".ncdf", ".netcdf", ".h5", ".hdf5", ".dtr", ".stk")
"""Formats that hold the times of their frames; for all others mdtraj takes the number of a frame for picoseconds."""


class OtherAtomsError(ValueError):
    """A topology is not of the atoms of a data set."""


def open_trajectory(
    trajectory_path: str | Path,
    topology_path: str | Path | None = None,
    *,
    timestep_ps: float | None = None,
    start_ps: float = 0.0,
    stride: int = 1,
    progress: bool = False,
) -> Frames:
    """Frames of a .dcd, .xtc or other trajectory that mdtraj reads in chunks, from `start_ps` on, every `stride`-th.

    Data sets as extended XYZ (.xyz or .extxyz, compressed or not) are read too, if all frames have the same atoms in
    the same order; they need no topology, but take names, residues and bonds from one. `timestep_ps` is the time
    between frames of the file, the first at zero; without it the file's own times are used. A .dcd file, a data set and
    most formats of text, such as .pdb and .lammpstrj, have none: structure can be analysed then, kinetics is refused.
    The file is read once for times and cells, and again by each analysis; frames that a run adds after that are left
    out.
    progress: show a bar on standard error where reading is long.
    """
    path = Path(trajectory_path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file `{path}`")
    if timestep_ps is not None and timestep_ps <= 0:
        raise ValueError(f"`timestep_ps` is {timestep_ps}; the time between frames must be positive")
    if stride < 1:
        raise ValueError(f"`stride` is {stride}; it must be 1 or more")
    if is_xyz(path):
        return _of_data_set(path, topology_path, timestep_ps, start_ps, stride)
    if topology_path is None:
        raise ValueError(f"`{path.name}` holds no elements; give a structure file of the same atoms beside it")
    topology = read_topology(topology_path)
    length = max(1, BYTES_OF_A_CHUNK // (12 * topology.n_atoms))
    times, cells = _survey(path, topology, length)
    times = _times(path, times, timestep_ps)
    kept = _kept(path, times, start_ps, stride)

    def chunks(atoms: NDArray[np.int64] | None) -> Iterator[mdtraj.Trajectory]:
        parts = _read(path, topology, length, atoms)
        n_parts = -(-len(times) // length)
        shown = progress and 12 * topology.n_atoms * len(times) > SLOW_BYTES
        console = Console(stderr=True)
        bar = track(
            parts, "reading", n_parts, console=console, transient=True, disable=not (shown and console.is_terminal)
        )
        first = 0
        for part in bar:
            if first + part.n_frames > len(times):  # its run goes on meanwhile
                part = part[: len(times) - first]
            mine = kept[(kept >= first) & (kept < first + part.n_frames)]
            if len(mine):
                part.time = times[first : first + part.n_frames]
                yield part if len(mine) == part.n_frames else part[mine - first]
            first += part.n_frames

    frames = Frames(topology, times[kept], None if cells is None else cells[kept], chunks)
    warn_of_another_order(frames, path.name)
    return frames


def _times(path: Path, times: NDArray[np.float64], timestep_ps: float | None) -> NDArray[np.float64]:
    """Times of all frames, nan where neither the file nor the user knows them."""
    if timestep_ps is not None:
        _warn_of_other_times(path, times, timestep_ps)
        return timestep_ps * np.arange(len(times), dtype=np.float64)
    return times if _holds_times(path) else np.full(len(times), np.nan)


def _warn_of_other_times(path: Path, times: NDArray[np.float64], timestep_ps: float) -> None:
    """Say so where the file has good times of its own, as when the step of the integrator was given."""
    if len(times) < 2 or not _holds_times(path) or np.any(np.diff(times) < 0):
        return
    spacing = (times[-1] - times[0]) / (len(times) - 1)
    rounding = 2 * float(np.spacing(np.float32(np.abs(times).max()))) / (len(times) - 1)  # of XTC files
    if spacing > 0 and abs(timestep_ps - spacing) > 1e-3 * spacing + rounding:
        warnings.warn(
            f"the frames of `{path.name}` are {spacing:g} ps apart by its own times, and `timestep_ps` of "
            f"{timestep_ps:g} takes their place; leave it out if the file is right",
            stacklevel=4,
        )


def _holds_times(path: Path) -> bool:
    if path.suffix.lower() != ".gro":
        return path.suffix.lower() in WITH_TIMES
    with path.open() as file:
        return "t=" in file.readline()


def _kept(path: Path, times: NDArray[np.float64], start_ps: float, stride: int) -> NDArray[np.int64]:
    """Numbers of the frames that are analysed."""
    if start_ps > 0 and np.isnan(times).any():
        raise ValueError(
            f"`{path}` holds no times, so that nothing is known to be before {start_ps} ps; "
            "give the time between its frames, `timestep_ps`"
        )
    known = not np.isnan(times).any()
    kept = np.flatnonzero(times >= start_ps - last_digit_ps(times)) if known else np.arange(len(times))
    if len(kept) == 0:
        raise ValueError(
            f"`{path}` has no frame at or after {start_ps:g} ps; its {len(times)} frames end "
            f"at {times[-1] if len(times) else 0.0:g} ps"
        )
    return kept[::stride]


def _of_data_set(
    path: Path, topology_path: str | Path | None, timestep_ps: float | None, start_ps: float, stride: int
) -> Frames:
    trajectory = load_data_set(path)
    if topology_path is not None:
        topology = read_topology(topology_path)
        if not np.array_equal(element_symbols(topology), element_symbols(trajectory.topology)):
            raise OtherAtomsError(
                f"`{path.name}` has {trajectory.n_atoms} atoms and `{Path(topology_path).name}` {topology.n_atoms}, or "
                f"their elements differ; give a topology with the same atoms in the same order, or none"
            )
        trajectory.topology = topology
    times = _times(path, np.full(len(trajectory), np.nan), timestep_ps)
    kept = _kept(path, times, start_ps, stride)
    trajectory = trajectory[kept]
    trajectory.time = times[kept]
    frames = Frames.of(trajectory)
    warn_of_another_order(frames, path.name)
    return frames


def _survey(
    path: Path, topology: mdtraj.Topology, length: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Times (f,) and cells (f, 3, 3) of all frames; the positions of all atoms are read, so that a bad file shows."""
    times, cells = [], []
    for part in _read(path, topology, length, None):
        times.append(part.time)
        if part.unitcell_vectors is not None:
            cells.append(part.unitcell_vectors)
    all_times = np.concatenate(times).astype(np.float64) if times else np.zeros(0)
    all_cells = np.concatenate(cells).astype(np.float64) if cells else np.zeros((0, 3, 3))
    return all_times, all_cells if len(all_cells) == len(all_times) > 0 else None


def _read(
    path: Path, topology: mdtraj.Topology, length: int, atoms: NDArray[np.int64] | None
) -> Iterator[mdtraj.Trajectory]:
    parts = mdtraj.iterload(str(path), top=topology, chunk=length, atom_indices=atoms)
    while True:
        try:
            with _nothing_printed():
                part = next(parts)
        except StopIteration:
            return
        except ImportError as error:  # PyTables, for HDF5
            raise ValueError(
                f"`{path}` is of a kind that mdtraj reads with a package that is not installed; install it, such as "
                f"`tables` for HDF5, or write the trajectory as XTC or DCD"
            ) from error
        except Exception as error:  # of many kinds, by format
            if any(words in str(error) for words in ("same atoms", "xyz must be shape")):
                raise _of_another_topology(path, topology) from error
            raise ValueError(
                f"`{path}` cannot be read to its end ({error}); it was cut off, as when a run is stopped while it "
                f"writes, or is another kind of file than its name says"
            ) from error
        if part.n_atoms != (topology.n_atoms if atoms is None else len(atoms)):  # formats with a topology of their own
            raise _of_another_topology(path, topology)
        yield part


def _of_another_topology(path: Path, topology: mdtraj.Topology) -> ValueError:
    return ValueError(
        f"`{path}` does not hold the {topology.n_atoms} atoms of the topology; give the topology that it was written "
        f"with"
    )


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Drop what mdtraj's DCD reader prints from C about every file; a program may expect JSON on standard output."""
    sys.stdout.flush()
    libc, stdout, nowhere = ctypes.CDLL(None), os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        libc.fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)
