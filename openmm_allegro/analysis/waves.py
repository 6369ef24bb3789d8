"""Density waves of a periodic cell: ρ(q) = Σ exp(i q·r) over atoms, for vectors q of its reciprocal lattice.

Symbols used in this file
    v  vectors q, as integers h, k, l     n  atoms
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
ATOMS_AT_ONCE = 2048
DENSE = 1 / 25
"""Filling of a plane of vectors above which a matrix product over the whole plane is faster than its own vectors."""


def lattice_vectors(cell_nm: Array, q_max_per_nm: float, bin_width_per_nm: float, per_bin: int) -> Indices:
    """Integers h, k, l of vectors up to `q_max_per_nm`, one of each ±q, sorted; (v, 3).

    Bins of length with more than `per_bin` vectors take each of theirs with equal chance, so as to have about so many.
    """
    for option, value in (("q_max_per_nm", q_max_per_nm), ("bin_width_per_nm", bin_width_per_nm)):
        if not value > 0:
            raise ValueError(f"`{option}` is {value}; it must be positive")
    if per_bin < 1:
        raise ValueError(f"`vectors_per_bin` is {per_bin}; it must be 1 or more")
    reciprocal = 2 * np.pi * np.linalg.inv(cell_nm).T  # rows
    largest = np.floor(q_max_per_nm * np.linalg.norm(cell_nm, axis=1) / (2 * np.pi)).astype(int)
    density = np.linalg.det(cell_nm) / (2 * np.pi) ** 3
    k, m = (axis.ravel() for axis in np.mgrid[-largest[1] : largest[1] + 1, -largest[2] : largest[2] + 1])
    random = np.random.default_rng(0)
    planes = []
    for h in range(largest[0] + 1):
        plane = np.stack([np.full_like(k, h), k, m], axis=1)
        if h == 0:
            plane = plane[(k > 0) | ((k == 0) & (m > 0))]
        length = np.linalg.norm(plane @ reciprocal, axis=1)
        low = np.floor(length / bin_width_per_nm) * bin_width_per_nm
        in_bin = density * 2 / 3 * np.pi * ((low + bin_width_per_nm) ** 3 - low**3)  # one of each ±q
        planes.append(plane[(length <= q_max_per_nm) & (random.uniform(size=len(plane)) * in_bin < per_bin)])
    return np.concatenate(planes)


def amplitudes(indices: Indices, fractional: Array) -> NDArray[np.complex128]:
    """ρ of every vector, (v,). indices: (v, 3), sorted by h. fractional: positions in units of the cell, (n, 3)."""
    found = np.zeros(len(indices), dtype=np.complex128)
    if len(indices) == 0:
        return found
    low, high = indices.min(axis=0), indices.max(axis=0)
    starts = np.searchsorted(indices[:, 0], np.arange(low[0], high[0] + 2))
    for first in range(0, len(fractional), ATOMS_AT_ONCE):
        part = 2j * np.pi * fractional[first : first + ATOMS_AT_ONCE]
        along_h, along_k, along_l = (
            np.exp(np.arange(low[axis], high[axis] + 1)[:, None] * part[:, axis]) for axis in range(3)
        )  # (vectors of the axis, n)
        for plane, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
            rows, columns = indices[start:stop, 1] - low[1], indices[start:stop, 2] - low[2]
            left = along_h[plane] * along_k
            if len(rows) > DENSE * len(along_k) * len(along_l):
                found[start:stop] += (left @ along_l.T)[rows, columns]
            else:
                found[start:stop] += np.einsum("vn,vn->v", left[rows], along_l[columns])
    return found
