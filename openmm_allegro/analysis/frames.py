"""Trajectory files to frames, and the checks and selections that every analysis shares."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mdtraj
import numpy as np


def load_trajectory(
    trajectory_path: str | Path,
    topology_path: str | Path,
    *,
    timestep_ps: float | None = None,
    start_ps: float = 0.0,
    needs_times: bool = True,
) -> mdtraj.Trajectory:
    """Read a .dcd, .xtc or other trajectory that mdtraj knows, from `start_ps` on.

    `timestep_ps` is the time between frames, the first at zero; without it the file's own times are used, which a .dcd
    file does not have.
    """
    trajectory_path, topology_path = Path(trajectory_path), Path(topology_path)
    for path in (trajectory_path, topology_path):
        if not path.exists():
            raise FileNotFoundError(f"there is no file `{path}`")
    if timestep_ps is None and needs_times and trajectory_path.suffix.lower() == ".dcd":
        raise ValueError(f"`{trajectory_path.name}` holds no times; give the time between its frames, `timestep_ps`")
    if timestep_ps is not None and timestep_ps <= 0:
        raise ValueError(f"`timestep_ps` is {timestep_ps}; the time between frames must be positive")
    topology = mdtraj.load_topology(str(topology_path))
    try:
        with _stdout_to_stderr():
            trajectory = mdtraj.load(str(trajectory_path), top=topology)
    except ValueError as error:
        if "same atoms" not in str(error):
            raise
        raise ValueError(
            f"`{trajectory_path.name}` does not hold the {topology.n_atoms} atoms of `{topology_path.name}`; "
            f"give the topology that it was written with"
        ) from error
    if timestep_ps is not None:
        trajectory.time = timestep_ps * np.arange(trajectory.n_frames)
    kept = np.flatnonzero(trajectory.time >= start_ps) if needs_times else np.arange(trajectory.n_frames)
    if len(kept) == 0:
        raise ValueError(
            f"`{trajectory_path.name}` has no frame at or after {start_ps} ps; its {trajectory.n_frames} frames end "
            f"at {trajectory.time[-1] if trajectory.n_frames else 0.0} ps"
        )
    return trajectory if len(kept) == trajectory.n_frames else trajectory[kept]


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keep what mdtraj's DCD reader prints from C away from standard output, where a program may expect JSON."""
    sys.stdout.flush()
    libc, stdout = ctypes.CDLL(None), os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        libc.fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)


def element_symbols(topology: mdtraj.Topology) -> np.ndarray:
    """Chemical symbol of every atom, (n,); "VS" for a site without mass."""
    for atom in topology.atoms:
        if atom.element is None:
            raise ValueError(f"atom {atom.index} ({atom.name}) of the topology has no element; fill the element column")
    return np.array([atom.element.symbol for atom in topology.atoms])


def element_masses(topology: mdtraj.Topology) -> np.ndarray:
    """Mass of every atom in g/mol, (n,)."""
    element_symbols(topology)
    return np.array([atom.element.mass for atom in topology.atoms], dtype=np.float64)


def atoms_of(topology: mdtraj.Topology, element: str) -> np.ndarray:
    """Indices of the atoms of one element, (k,)."""
    symbols = element_symbols(topology)
    found = np.flatnonzero(symbols == element)
    if len(found) == 0:
        present = ", ".join(sorted(set(symbols.tolist())))
        raise ValueError(f"there is no {element} in the topology, which has {present}; choose one of these")
    return found


def cells_nm(trajectory: mdtraj.Trajectory, purpose: str) -> np.ndarray:
    """Lattice vectors of every frame as rows, (frames, 3, 3) in nm, float64."""
    vectors = trajectory.unitcell_vectors
    if vectors is None or not np.all(np.linalg.det(vectors) > 0):
        raise ValueError(f"the trajectory has no periodic cell, which {purpose} needs; write it with its box vectors")
    return vectors.astype(np.float64)


def times_of(trajectory: mdtraj.Trajectory, times_ps: np.ndarray | None = None) -> np.ndarray:
    """The given times or else the trajectory's own, (frames,) in ps, checked to increase."""
    times = np.asarray(trajectory.time if times_ps is None else times_ps, dtype=np.float64)
    if times.shape != (trajectory.n_frames,):
        raise ValueError(f"`times_ps` has shape {times.shape}, but the trajectory has {trajectory.n_frames} frames")
    late = np.flatnonzero(np.diff(times) <= 0)
    if len(late):
        k = int(late[0])
        raise ValueError(
            f"time does not increase from frame {k} ({times[k]} ps) to frame {k + 1} ({times[k + 1]} ps); "
            f"give the right times (`times_ps`, or `timestep_ps` when loading)"
        )
    return times
