"""What the statistics of a set need of each frame: a few numbers, whether the frames are in memory or in a store.

Symbols used in this file
    f  frames        e  elements
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from openmm_allegro.training.frames import Array, Frame

WITHOUT_STRESS = 16
"""Bytes at the start of a frame's digest that do not depend on its stress."""


@dataclass(frozen=True)
class FrameSums:
    """One row for each frame, one column for each element that occurs, by atomic number."""

    symbols: tuple[str, ...]
    """Chemical symbols of the columns, (e,)."""
    counts: NDArray[np.int64]
    """Atoms of each element, (f, e)."""
    squared_forces: Array
    """Sum of the squared force components on each element [eV²/Å²], (f, e); NaN without forces."""
    energies: Array
    """[eV], (f,); NaN where it is not known."""

    def columns(self, type_names: Sequence[str]) -> list[int]:
        """Columns of some elements; -1 for one that does not occur."""
        return [self.symbols.index(name) if name in self.symbols else -1 for name in type_names]

    def counts_of(self, type_names: Sequence[str]) -> NDArray[np.int64]:
        """Atoms of these elements, (f, t)."""
        padded = np.pad(self.counts, ((0, 0), (0, 1)))
        return padded[:, self.columns(type_names)]

    def force_rms(self, name: str) -> float:
        """Root mean square of the force components on an element [eV/Å]; zero where there are none."""
        if name not in self.symbols:
            return 0.0
        column = self.symbols.index(name)
        known = np.isfinite(self.squared_forces[:, column])
        n_components = 3 * int(self.counts[known, column].sum())
        return float(np.sqrt(self.squared_forces[known, column].sum() / n_components)) if n_components else 0.0

    def rows(self, chosen: Sequence[int] | NDArray[np.int64]) -> "FrameSums":
        """The same of some of the frames, with the elements that they have."""
        counts = self.counts[chosen]
        here = np.flatnonzero(counts.sum(axis=0))
        symbols = tuple(self.symbols[column] for column in here)
        return FrameSums(symbols, counts[:, here], self.squared_forces[chosen][:, here], self.energies[chosen])


def sums_of_frame(frame: Frame) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Atomic numbers that occur (e,), the atoms of each (e,), and their summed squared forces (e,), NaN without."""
    numbers, element, counts = np.unique(frame.numbers, return_inverse=True, return_counts=True)
    if frame.forces is None:
        return numbers, counts, np.full(len(numbers), np.nan)
    squares = np.zeros(len(numbers))
    np.add.at(squares, element.reshape(-1), np.square(frame.forces).sum(axis=1))
    return numbers, counts, squares


def tabulate_sums(
    frame_of_row: NDArray[np.int64],
    numbers: NDArray[np.int64],
    counts: NDArray[np.int64],
    squares: Array,
    energies: Array,
) -> FrameSums:
    """Rows of single frames and elements, (r,), as one table. energies: (f,) [eV]."""
    elements, column = np.unique(numbers, return_inverse=True)
    table = np.zeros((len(energies), len(elements)), dtype=np.int64)
    table[frame_of_row, column.reshape(-1)] = counts
    squared = np.zeros(table.shape)
    squared[frame_of_row, column.reshape(-1)] = squares
    return FrameSums(tuple(chemical_symbols[number] for number in elements), table, squared, energies)


def sums_of_frames(frames: Sequence[Frame]) -> FrameSums:
    """The table of frames in memory."""
    parts = [sums_of_frame(frame) for frame in frames]
    frame_of_row = np.repeat(np.arange(len(frames)), [len(numbers) for numbers, _, _ in parts])
    energies = np.array([np.nan if frame.energy is None else frame.energy for frame in frames], dtype=np.float64)
    if not parts:
        return FrameSums((), np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0)), energies)
    numbers, counts, squares = (np.concatenate(column) for column in zip(*parts, strict=True))
    return tabulate_sums(frame_of_row, numbers, counts, squares, energies)


def digest(frame: Frame) -> bytes:
    """32 bytes that change when the frame or a label changes, the first `WITHOUT_STRESS` not with the stress.

    So a frame is known by these whether or not its stress was read.
    """
    with_stress = hashlib.sha256()
    for value in (frame.numbers, frame.cell, frame.positions, frame.energy, frame.forces):
        with_stress.update(_bytes(value))
    without = with_stress.copy()
    without.update(_bytes(None))
    with_stress.update(_bytes(frame.stress))
    return without.digest()[:WITHOUT_STRESS] + with_stress.digest()[WITHOUT_STRESS:]


def _bytes(value: NDArray[np.int64] | Array | float | None) -> bytes:
    return b"none" if value is None else np.ascontiguousarray(value, dtype=np.float64).tobytes()
