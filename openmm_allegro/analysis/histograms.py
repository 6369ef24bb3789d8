"""Distributions of a quantity that is met many times in each frame, with errors from blocks of frames.

Symbols used in this file
    x  bins of the quantity     m  blocks of frames
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import standard_error, standard_errors
from openmm_allegro.analysis.result import Measured

Array = NDArray[np.float64]


class Density(NamedTuple):
    """A probability density on equal bins; its integral over all bins is one."""

    middles: Array
    """(x,)"""
    density: Array
    """Per unit of the quantity, (x,)."""
    error: Array
    """Standard error from blocks, (x,); nan with one block."""
    mean: Measured
    spread: Measured
    """Standard deviation of the quantity itself."""


class Histogram:
    """Counts on equal bins, with sums that make the mean and the spread independent of the bins."""

    def __init__(self, low: float, high: float, width: float, n_blocks: int, option: str) -> None:
        """option: what the user calls the width, for the error where it does not fit."""
        n_bins = int(np.ceil((high - low) / width - 1e-9)) if width > 0 else 0
        if n_bins < 1:
            raise ValueError(f"`{option}` is {width}; it must be positive and at most {high - low:g}")
        self.low, self.width = low, width
        self.counts = np.zeros((n_blocks, n_bins))
        self.moments = np.zeros((n_blocks, 3))
        """Number, sum and sum of squares of the values, (m, 3)."""

    def add(self, block: int, values: Array) -> None:
        """Count values of one frame, (k,); those at the upper end belong to the last bin."""
        n_bins = self.counts.shape[1]
        bins = np.minimum(((values - self.low) / self.width).astype(np.int64), n_bins - 1)
        self.counts[block] += np.bincount(bins, minlength=n_bins)
        self.moments[block] += len(values), values.sum(), (values**2).sum()

    def density(self, what: str) -> Density:
        """Normalised; where there were no values, which `what` names, it is refused."""
        if self.counts.sum() == 0:
            raise ValueError(f"there are no {what} in any frame; give a larger cutoff or other selections")
        return self.density_or_nan()

    def density_or_nan(self) -> Density:
        """Normalised; nan where there were no values."""
        middles = self.low + self.width * (np.arange(self.counts.shape[1], dtype=np.float64) + 0.5)
        if self.counts.sum() == 0:
            unknown = np.full(len(middles), np.nan)
            return Density(middles, unknown, unknown, Measured(float("nan")), Measured(float("nan")))
        totals = self.counts.sum(axis=1, keepdims=True)
        of_blocks = np.divide(self.counts, totals * self.width, out=np.zeros_like(self.counts), where=totals > 0)
        filled = self.moments[self.moments[:, 0] > 0]
        number, mean, square = filled[:, 0], filled[:, 1] / filled[:, 0], filled[:, 2] / filled[:, 0]
        spread = np.sqrt(np.maximum(square - mean**2, 0.0))
        all_mean = float(np.average(mean, weights=number))
        all_spread = float(np.sqrt(max(np.average(square, weights=number) - all_mean**2, 0.0)))
        return Density(
            middles=middles,
            density=self.counts.sum(axis=0) / (totals.sum() * self.width),
            error=standard_errors(of_blocks[totals[:, 0] > 0]),
            mean=Measured(all_mean, standard_error(mean)),
            spread=Measured(all_spread, standard_error(spread)),
        )
