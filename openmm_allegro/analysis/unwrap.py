"""Positions without jumps across the faces of the periodic cell.

Symbols used in this file
    n  atoms
"""

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.frames import Frames

Array = NDArray[np.float64]
ACROSS = 0.8
"""Share of the extent of all atoms beyond which a step is one through a face."""
SMALLEST_CELL_NM = 0.5


def unwrapped_nm(frames: Frames, atoms: NDArray[np.int64] | None = None) -> Iterator[Array]:
    """Positions followed from frame to frame, (n, 3) in nm for each; as they are in the file where there is no cell.

    Every frame is wrapped into its own cell first and the nearest-image steps are then added up, so that it does not
    matter how the trajectory was written, and a barostat's scaling is not mistaken for motion far from the origin (J.
    T. Bullerjahn et al., J. Chem. Theory Comput. 19, 3406 (2023)).
    """
    if frames.cells_nm is None:
        yield from _as_they_are(frames, atoms)
        return
    cells = frames.cells_for("unwrapping")
    longest = 0.0
    path = fractional = np.zeros((0, 3))
    for f, positions in enumerate(frames.positions_nm(atoms)):
        inverse = np.linalg.inv(cells[f])
        before, fractional = fractional, positions @ inverse
        fractional -= np.floor(fractional)
        if f == 0:
            path = positions
        else:
            changed = not np.array_equal(cells[f], cells[f - 1])
            step = fractional - (before @ (cells[f - 1] @ inverse) if changed else before)
            step -= np.rint(step)
            longest = max(longest, float(step.max()), -float(step.min()))
            path = path + step @ cells[f]
        yield path
    if longest > 0.4:
        warnings.warn(
            f"an atom moves by {longest:.2f} of the cell between two frames, so that its path is a guess; "
            f"write frames more often",
            stacklevel=2,
        )


def _as_they_are(frames: Frames, atoms: NDArray[np.int64] | None) -> Iterator[Array]:
    """Positions of the file, (n, 3); where atoms jump as through the faces of a cell, a warning at the end says so."""
    low, high, longest, before = np.full(3, np.inf), np.full(3, -np.inf), np.zeros(3), np.zeros((0, 3))
    for f, positions in enumerate(frames.positions_nm(atoms)):
        if f > 0:
            longest = np.maximum(longest, np.abs(positions - before).max(axis=0))
        low, high, before = np.minimum(low, positions.min(axis=0)), np.maximum(high, positions.max(axis=0)), positions
        yield positions
    if np.sum(longest > np.maximum(ACROSS * (high - low), SMALLEST_CELL_NM)) >= 2:
        warnings.warn(
            f"the trajectory has no periodic cell, and atoms move by up to {longest.max():.3g} nm between two frames, "
            f"across all of the system, as through the faces of a cell; if there was one, write the box vectors too",
            stacklevel=2,
        )
