"""Structures turned onto another one.

Symbols used in this file
    f  frames     k  atoms     l  atoms of the other structure     s  atoms of both that are laid on each other
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def superposed(positions: Array, target: Array, here: Indices, there: Indices) -> Array:
    """Positions turned and shifted so that the squared distances of some atoms from those of the target are least.

    The rotation comes from a singular value decomposition (W. Kabsch, Acta Cryst. A 34, 827 (1978)), which small, flat
    and linear molecules have too; mdtraj's iteration ends at none for some of them.
    positions: (f, k, 3); target: (l, 3); here, there: (s,), atoms of either. Returns (f, k, 3).
    """
    mine, theirs = positions[:, here].mean(axis=1, keepdims=True), target[there].mean(axis=0)
    covariance = np.swapaxes(positions[:, here] - mine, 1, 2) @ (target[there] - theirs)
    u, _, vt = np.linalg.svd(covariance)
    u[:, :, -1] *= np.sign(np.linalg.det(u @ vt))[:, None]  # no reflection
    return (positions - mine) @ (u @ vt) + theirs
