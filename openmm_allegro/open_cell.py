"""A periodic cell for atoms that are periodic along some directions, or along none.

The model is strictly local, so a cell that is long enough along the open directions gives the very energy of atoms
without images there.

Symbols used in this file
    n  atoms        a  periodic directions
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class OpenCell:
    """Cells that stay as they are from step to step while atoms move little, so that a neighbour list can be kept."""

    def __init__(self, reach: float) -> None:
        """reach: how far apart images along an open direction must be [Å]."""
        self.reach = reach
        self.lengths: list[float] = []
        """Of the cell along its open directions [Å]."""

    def completed(self, positions: Array, cell: Array, pbc: NDArray[np.bool_]) -> Array:
        """The cell with every vector that is not periodic replaced, (3, 3) [Å]; zero if none is periodic.

        positions: (n, 3) [Å]; cell: (3, 3), rows are lattice vectors [Å]; pbc: (3,), which of them count.
        """
        if pbc.all() or not pbc.any():
            return cell if pbc.all() else np.zeros((3, 3))
        periodic = cell[pbc]  # (a, 3)
        normals = np.linalg.svd(periodic)[2][len(periodic) :]  # orthogonal to the periodic vectors, (3 - a, 3)
        extents = np.ptp(positions @ normals.T, axis=0)
        fits = len(self.lengths) == len(extents) and (np.array(self.lengths) > extents + self.reach).all()
        if not fits:
            self.lengths = [float(extent) + 2 * self.reach for extent in extents]
        whole = cell.copy()
        whole[~pbc] = normals * np.array(self.lengths)[:, None]
        return whole
