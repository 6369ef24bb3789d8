"""Errors of averages over correlated frames, from averages over blocks of frames.

Symbols used in this file
    n  values of the series     b  values in a block     m  blocks
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ENOUGH_TO_TELL = 64
"""Of fewer values up to three quarters of the series look correlated by chance; of so many one in a thousand."""
FEWEST_BLOCKS = 4
"""Fewer scatter too little too often: of ten values one error in six was below a third of the true one."""


@dataclass(frozen=True)
class BlockAverage:
    """Mean of a correlated series with its standard error."""

    mean: float
    error: float
    """Standard error of the mean; nan for a single value."""
    block_length: int
    """Values in a block at which the error was read."""
    converged: bool
    """Whether the series is long enough for the error to have stopped growing with the block length."""


def block_average(values: np.ndarray) -> BlockAverage:
    """Mean and standard error of a correlated series. values: (n,).

    Neighbouring values are averaged in pairs again and again (H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91,
    461 (1989)); the error is read at the smallest block with b³ > 2 n (error_b / error_1)⁴ (R. M. Lee et al., Phys.
    Rev. E 83, 066706 (2011)). Where four blocks are not that long, the largest error seen with eight blocks or more is
    given, which is then a lower bound.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"a block average needs a series of numbers, not an array of shape {values.shape}")
    n, mean = len(values), float(values.mean())
    if n < 2:
        return BlockAverage(mean, float("nan"), 1, False)
    first_error = standard_error(values)
    largest, largest_length = first_error, 1
    blocks, length = values, 1
    while len(blocks) >= FEWEST_BLOCKS:
        error = standard_error(blocks)
        if error == 0.0 or length**3 > 2 * n * (error / first_error) ** 4:
            return BlockAverage(mean, error, length, True)
        if len(blocks) >= 8 and error > largest:
            largest, largest_length = error, length
        m = len(blocks) // 2
        blocks, length = blocks[: 2 * m].reshape(m, 2).mean(axis=1), 2 * length
    return BlockAverage(mean, largest, largest_length, False)


def average_of(values: np.ndarray, what: str) -> BlockAverage:
    """Block average with a warning where the error is too small. what: the series in words."""
    average = block_average(values)
    if not average.converged and len(values) >= ENOUGH_TO_TELL:
        warnings.warn(
            f"the run is short beside the memory of {what}, so that the error of its mean is a lower bound; run "
            f"longer, or several times",
            stacklevel=3,
        )
    return average


def standard_error(independent: np.ndarray) -> float:
    """Standard error of the mean of independent values. independent: (m,)."""
    return float(standard_errors(independent[:, None])[0])


def standard_errors(independent: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the first axis, nan for one block. independent: (m, k). Returns (k,)."""
    m = len(independent)
    if m < 2:
        return np.full(independent.shape[1:], np.nan)
    return independent.std(axis=0, ddof=1) / np.sqrt(m)


def jackknife_errors(function: Callable[[np.ndarray], np.ndarray | float], blocks: np.ndarray) -> np.ndarray:
    """Standard error of a function of a mean, such as a quotient, by leaving out one block after the other.

    blocks: independent values, (m, ...), whose mean over the first axis is what the function takes. nan for one block,
    and where the function is not finite without one of them.
    """
    m = len(blocks)
    if m < 2:
        return np.full(np.shape(function(blocks[0])), np.nan)
    return _scatter([function((blocks.sum(axis=0) - block) / (m - 1)) for block in blocks])


def block_slices(n: int, n_blocks: int, what: str = "frames") -> list[slice]:
    """Cut n values into equally long blocks; the remainder is left out at the start, where a run is least settled.

    what: the values in words, for the error where they are too few.
    """
    if n_blocks < 1:
        raise ValueError(f"`n_blocks` is {n_blocks}; it must be 1 or more")
    if n < n_blocks:
        raise ValueError(f"{n} {what} cannot be cut into {n_blocks} blocks; use more frames or a smaller `n_blocks`")
    length = n // n_blocks
    start = n - length * n_blocks
    return [slice(start + k * length, start + (k + 1) * length) for k in range(n_blocks)]


def jackknife(
    estimate: Callable[[NDArray[np.int64]], NDArray[np.float64] | float], n: int, n_blocks: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimates from all n frames and their standard errors, from leaving out one of `n_blocks` blocks at a time.

    For what is no average, such as a variance: estimate takes the frames to use and returns a number or (k,). Right
    where a block is longer than the memory of the series (B. Efron, The Jackknife, the Bootstrap and Other Resampling
    Plans, SIAM 1982, eq. 3.13). The error is nan for fewer than two blocks or three frames.
    """
    frames = np.arange(n)
    value = np.asarray(estimate(frames), dtype=np.float64)
    m = min(n_blocks, n)
    if m < 2 or n < 3:
        return value, np.full(value.shape, np.nan)
    left_out = [np.concatenate([frames[: part.start], frames[part.stop :]]) for part in block_slices(n, m)]
    return value, _scatter([estimate(kept) for kept in left_out])


def _scatter(without_one: Sequence[np.ndarray | float]) -> np.ndarray:
    """Jackknife error from the estimates that lack one block each (R. G. Miller, Biometrika 61, 1 (1974))."""
    found = np.stack([np.asarray(each, dtype=np.float64) for each in without_one])
    found = np.where(np.isfinite(found), found, np.nan)
    return np.sqrt((len(found) - 1) * found.var(axis=0))
