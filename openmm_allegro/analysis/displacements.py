"""Mean products of displacements over all time origins, by Fourier transforms.

Symbols used in this file
    f  frames     k  paths     t  lags     m  blocks of frames     axes are x, y, z
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from openmm_allegro.analysis.blocks import block_slices
from openmm_allegro.analysis.paths import Paths

Array = NDArray[np.float64]
SHORTEST_BLOCK = 8


def lag_blocks(n_frames: int, n_blocks: int, what: str = "frames") -> tuple[list[slice], int]:
    """Equally long blocks of frames and the number of lags from 0 to half a block, where every block still has origins.

    With the usual five blocks lags reach a tenth of the trajectory. what: the frames in words, for errors.
    """
    if n_frames < 2 * SHORTEST_BLOCK:
        raise ValueError(
            f"the trajectory has {n_frames} {what}, but displacements with an error need {2 * SHORTEST_BLOCK} or more, "
            f"two blocks of {SHORTEST_BLOCK}; run longer, or write frames more often"
        )
    if n_blocks < 2:
        raise ValueError(f"`n_blocks` is {n_blocks}; an error needs 2 or more")
    slices = block_slices(n_frames, n_blocks, what)
    length = slices[0].stop - slices[0].start
    if length < SHORTEST_BLOCK:
        raise ValueError(
            f"{n_frames} {what} in {n_blocks} blocks leave {length} a block, but {SHORTEST_BLOCK} are needed; "
            f"use more frames or a smaller `n_blocks`"
        )
    return slices, length // 2 + 1


def squared_displacements(paths: Paths, slices: list[slice], n_lags: int) -> tuple[Array, Array]:
    """Mean over paths and time origins of the whole, (t, 3), and of each block of frames, (m, t, 3), in nm²."""
    of_all, of_blocks = np.zeros((n_lags, 3)), np.zeros((len(slices), n_lags, 3))
    for moved in paths.blocks():
        of_all += displacement_products(moved, moved, n_lags) / paths.n_paths
        for block, frames in enumerate(slices):
            of_blocks[block] += displacement_products(moved[frames], moved[frames], n_lags) / paths.n_paths
    return of_all, of_blocks


def displacement_products(first: Array, second: Array, n_lags: int) -> Array:
    """Mean over origins i of the sum over paths of (a(i+t) − a(i)) (b(i+t) − b(i)). first, second: (f, k, 3).

    Returns (t, 3). The product is a b at both ends less two correlations (V. Calandrini et al., Collection SFN 12, 201
    (2011), section 4.2).
    """
    f = len(first)
    a = np.ascontiguousarray((first - first.mean(axis=0)).transpose(2, 1, 0))  # (3, k, f); a constant only costs digits
    b = a if second is first else np.ascontiguousarray((second - second.mean(axis=0)).transpose(2, 1, 0))
    size = next_fast_len(f + n_lags, real=True)
    a_hat = rfft(a, size)
    b_hat = a_hat if b is a else rfft(b, size)
    spectrum = (a_hat.real * b_hat.real + a_hat.imag * b_hat.imag).sum(axis=1)  # even part: both orders of a and b
    correlation = irfft(spectrum, size)[:, :n_lags]  # (3, t)
    squares = np.zeros((3, f + 1))
    np.cumsum((a * b).sum(axis=1), axis=1, out=squares[:, 1:])  # sums of the first frames
    origins = f - np.arange(n_lags)
    ends = squares[:, origins] + (squares[:, -1:] - squares[:, :n_lags])
    mean = ((ends - 2 * correlation) / origins).T
    mean[0] = 0.0
    return mean
