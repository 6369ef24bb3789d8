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


def unwrapped_nm(frames: Frames, atoms: NDArray[np.int64] | None = None) -> Iterator[Array]:
    """Positions followed from frame to frame, (n, 3) in nm for each; as they are in the file where there is no cell.

    Every frame is wrapped into its own cell first and the nearest-image steps are then added up, so that it does not
    matter how the trajectory was written, and a barostat's scaling is not mistaken for motion far from the origin (J.
    T. Bullerjahn et al., J. Chem. Theory Comput. 19, 3406 (2023)).
    """
    if frames.cells_nm is None:
        yield from frames.positions_nm(atoms)
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
