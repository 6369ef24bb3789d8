"""Frames of a trajectory as every analysis takes them: in memory, or read from a file chunk by chunk.

Symbols used in this file
    f  frames     n  atoms
"""

from collections.abc import Callable, Iterator
from typing import Self

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import block_slices

Array = NDArray[np.float64]
Chunks = Callable[[NDArray[np.int64] | None], Iterator[mdtraj.Trajectory]]
"""Yields all frames in order, each time it is called; with indices only those atoms."""


class Frames:
    """Frames of one trajectory, as often as they are asked for; those of a file are never in memory together."""

    def __init__(self, topology: mdtraj.Topology, times_ps: Array, cells_nm: Array | None, chunks: Chunks) -> None:
        """times_ps: (f,), nan where they are not known. cells_nm: rows, (f, 3, 3), or None without a periodic cell."""
        self.topology = topology
        self.times_ps = times_ps
        self.cells_nm = cells_nm
        self._chunks = chunks

    @classmethod
    def of(cls, source: "Frames | mdtraj.Trajectory") -> Self:
        """Take a trajectory in memory, with its own times, for frames; frames stay what they are."""
        if isinstance(source, cls):
            return source
        assert isinstance(source, mdtraj.Trajectory)
        cells = source.unitcell_vectors

        def chunks(atoms: NDArray[np.int64] | None) -> Iterator[mdtraj.Trajectory]:
            yield source if atoms is None else source.atom_slice(atoms)

        cells_nm = None if cells is None else cells.astype(np.float64)
        return cls(source.topology, np.asarray(source.time, dtype=np.float64), cells_nm, chunks)

    @property
    def n_frames(self) -> int:
        return len(self.times_ps)

    @property
    def n_atoms(self) -> int:
        return self.topology.n_atoms

    def chunks(self, atoms: NDArray[np.int64] | None = None) -> Iterator[mdtraj.Trajectory]:
        """Parts that fit in memory, for functions of mdtraj; of all atoms or of some, in their order."""
        return self._chunks(atoms)

    def positions_nm(self, atoms: NDArray[np.int64] | None = None, *, broken: bool = False) -> Iterator[Array]:
        """Positions of one frame after the other, (n, 3) float64, as they are in the file.

        broken: whether they may be not finite, as after a run has failed, which is refused otherwise.
        """
        done = 0
        for chunk in self.chunks(atoms):
            if not broken:
                refuse_broken(chunk.xyz, done)
            for positions in chunk.xyz:
                yield positions.astype(np.float64)
            done += chunk.n_frames

    def in_blocks(
        self, n_blocks: int, atoms: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[int, Array, Array | None]]:
        """Block, positions (n, 3) and cell (3, 3), None without one, of every frame that is in a block."""
        first = block_slices(self.n_frames, n_blocks)[0]
        length = first.stop - first.start
        cells = [None] * self.n_frames if self.cells_nm is None else self.cells_nm
        for frame, (positions, cell) in enumerate(zip(self.positions_nm(atoms), cells, strict=True)):
            if frame >= first.start:
                yield (frame - first.start) // length, positions, cell

    def cells_for(self, purpose: str) -> Array:
        """Lattice vectors of every frame as rows, (f, 3, 3) in nm; refused where a frame has none."""
        if self.cells_nm is None or not np.all(np.linalg.det(self.cells_nm) > 0):
            raise ValueError(
                f"the trajectory has no periodic cell, which {purpose} needs; write it with its box vectors"
            )
        return self.cells_nm

    def increasing_times_ps(self) -> Array:
        """Times of the frames, (f,), refused where they do not increase."""
        times = self.times_ps
        if np.isnan(times).any():
            raise ValueError("the frames have no times; give the time between those of the file, `timestep_ps`")
        late = np.flatnonzero(np.diff(times) <= 0)
        if len(late):
            k = int(late[0])
            raise ValueError(
                f"time does not increase from frame {k} ({times[k]:g} ps) to frame {k + 1} ({times[k + 1]:g} ps); "
                f"give the right times (`trajectory.time`, or `timestep_ps` when reading a file)"
            )
        return times

    def spacing_ps(self) -> float:
        """Time between two frames, refused where it is not the same for all."""
        times = self.increasing_times_ps()
        if len(times) < 2:
            raise ValueError("the trajectory has one frame; kinetics need two or more")
        spacing = (times[-1] - times[0]) / (len(times) - 1)
        if not np.allclose(np.diff(times), spacing, rtol=1e-3, atol=last_digit_ps(times)):
            steps = np.diff(times)
            k = int(np.argmax(np.abs(steps - np.median(steps))))
            raise ValueError(
                f"the frames are not equally spaced in time: frames {k} and {k + 1} are {steps[k]:g} ps apart, most "
                f"{np.median(steps):g} ps; use a part of the trajectory where they are, or give `timestep_ps`"
            )
        return float(spacing)


def last_digit_ps(times_ps: NDArray[np.float64]) -> float:
    """What times (f,) may be off by in XTC files, which keep them in single precision."""
    return 2 * float(np.spacing(np.float32(np.abs(times_ps).max(initial=0.0))))


def refuse_broken(xyz_nm: NDArray[np.float32], first: int) -> None:
    """Stop at positions that are not finite. xyz_nm: (f, n, 3), of frames from `first` on."""
    bad = np.flatnonzero(~np.isfinite(xyz_nm).all(axis=(1, 2)))
    if len(bad):
        raise ValueError(
            f"positions are not finite from frame {first + bad[0]} on, where the run has failed; analyse the frames "
            f"before it, or its `stability`"
        )
