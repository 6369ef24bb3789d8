"""Where a mean-squared displacement has become diffusive, and the best straight line from there on.

Symbols used in this file
    t  lags     l  lags of the line     m  blocks of frames     i, j  lags in frames
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.result import Measured

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

TOLERANCE = 0.1
"""How far the log–log slope of a diffusive displacement may be from 1 where its error does not explain more."""
LAGS_OF_A_LINE = 16
"""Lags of the line, equally spaced on a logarithmic scale: neighbours tell the same."""


class Walkers(NamedTuple):
    """How much there is to average over."""

    n_paths: int
    n_frames: int


@dataclass(frozen=True)
class DiffusiveWindow:
    """Lags where the displacement grows linearly."""

    indices: Indices
    """Lags of the line, in frames, (l,)."""
    log_slope: Measured
    """d log MSD / d log t over the first factor of two of the window: 1 for diffusion, 2 for flight, 0 for a cage."""
    diffusive: bool
    """Whether it is 1 within a tenth or three standard errors."""

    def warn_unless_diffusive(self, what: str, longest_ps: float, guessed: str) -> None:
        """Say that the lines' slopes are not yet those of diffusion. guessed: what comes from them."""
        if not self.diffusive:
            warnings.warn(
                f"the motion of {what} does not become diffusive within {longest_ps:g} ps: its log–log slope is "
                f"{self.log_slope.value:.2f} where 1 is expected, so that {guessed} is a guess; run longer, or use "
                f"fewer `n_blocks` for longer lags",
                stacklevel=3,
            )


def diffusive_window(
    lags_ps: Array, of_all: Array, of_blocks: Array, walkers: Walkers, asked_ps: tuple[float, float] | None
) -> DiffusiveWindow:
    """The asked window, or from the first lag after which log–log slopes do not differ from 1, to the last lag.

    lags_ps: (t,). of_all: (t,). of_blocks: (m, t). Slopes are taken over a factor of two in time. One differs where it
    is away from 1 by more than a tenth and by more than three standard errors: those from blocks of frames, and at
    least those of so many independent Brownian walkers, because few blocks may agree by chance. What comes before the
    last such slope (flight, rattling in a cage) is left out, also where it passes through 1 on its way.
    """
    last = len(lags_ps) - 1
    if asked_ps is not None:
        slack = 1e-9 * lags_ps[-1]
        inside = np.flatnonzero((lags_ps >= asked_ps[0] - slack) & (lags_ps <= asked_ps[1] + slack) & (lags_ps > 0))
        if len(inside) < 2:
            raise ValueError(
                f"the fit window {asked_ps[0]:g} to {asked_ps[1]:g} ps holds {len(inside)} of the lags up to "
                f"{lags_ps[-1]:g} ps, but a slope needs 2; choose a wider one, a smaller `n_blocks` or more frames"
            )
        first, final = int(inside[0]), int(inside[-1])
    else:
        starts = _spread_lags(1, last // 2)
        slopes = [_log_slope(of_all, of_blocks, start, walkers) for start in starts]
        differs = np.flatnonzero([not _is_one(slope) for slope in slopes])
        beyond = differs[-1] + 1 if len(differs) else 0
        first, final = int(starts[min(beyond, len(starts) - 1)]), last
    slope = _log_slope(of_all, of_blocks, min(first, last // 2), walkers)
    return DiffusiveWindow(_spread_lags(first, final), slope, _is_one(slope))


@dataclass(frozen=True)
class StraightLine:
    """a + b t through mean products of displacements."""

    slope: Measured
    """nm²/ps for displacements in nm; the standard error is from blocks of frames."""
    intercept: float
    block_slopes: Array
    """(m,)"""

    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the slope, by Student's t of the blocks."""
        reach = float(student.ppf(0.975, len(self.block_slopes) - 1)) * self.slope.error
        return self.slope.value - reach, self.slope.value + reach


class LineFit:
    """Generalised least squares with the covariance that displacements of Brownian motion have.

    Mean-squared displacements at different lags share their data. With the covariance of free diffusion with static
    noise (J. T. Bullerjahn, S. von Bülow and G. Hummer, J. Chem. Phys. 153, 024116 (2020)) the line has the smallest
    error that a linear estimate can have; a plain line through long lags has several times as much. The covariance
    decides about weights only: any weights give the slope of what is linear, and errors come from blocks.
    """

    def __init__(self, indices: Indices, of_all: Array, n_frames: int, block_length: int) -> None:
        """indices: lags of the line [frames], (l,). of_all: displacement that sets the ratio of noise to step, (t,)."""
        self._indices = indices
        noise, before = 0.0, -1.0
        for _ in range(3):
            if noise != before:
                before, weights = noise, line_weights(indices, n_frames, noise)
            intercept, slope = weights @ of_all[indices]
            noise = min(max(intercept, 0.0) / (2 * slope), 1e3) if slope > 0 else 1e3
        self._of_all = weights if noise == before else line_weights(indices, n_frames, noise)
        self._of_block = line_weights(indices, block_length, noise)

    def line(self, of_all: Array, of_blocks: Array, spacing_ps: float) -> StraightLine:
        """of_all: (t,). of_blocks: (m, t)."""
        intercept, slope = self._of_all @ of_all[self._indices]
        slopes = of_blocks[:, self._indices] @ self._of_block[1] / spacing_ps
        return StraightLine(Measured(slope / spacing_ps, float(standard_errors(slopes))), float(intercept), slopes)


def line_weights(indices: Indices, n_frames: int, noise: float) -> Array:
    """Rows that give intercept and slope per frame of the best line through displacements at these lags, (2, l).

    noise: variance of a position about its Brownian path over the variance of a Brownian step.
    """
    covariance = brownian_covariance(indices, n_frames, noise)
    scale = np.sqrt(np.diag(covariance))
    design = np.stack([np.ones(len(indices)), indices.astype(float)], axis=1) / scale[:, None]
    inverse = np.linalg.pinv(covariance / np.outer(scale, scale), rcond=1e-12, hermitian=True)
    return np.linalg.solve(design.T @ inverse @ design, design.T @ inverse) / scale


def brownian_covariance(indices: Indices, n_frames: int, noise: float) -> Array:
    """Covariance of time-averaged squared displacements of one Brownian path along one axis, (l, l).

    In units of the squared variance of a step. Displacements are Gaussian, so that squares of two of them have twice
    their squared covariance: the overlap of the two stretches, and the noise of ends that they share.
    """
    covariance = np.empty((len(indices), len(indices)))
    for row, i in enumerate(indices):
        for column, j in enumerate(indices[: row + 1]):
            apart = np.arange(-j, i + 1)  # start of the second stretch after that of the first
            pairs = np.minimum(n_frames - i, n_frames - j - apart) - np.maximum(0, -apart)
            shared = np.minimum(i, apart + j) - np.maximum(0, apart).astype(float)
            shared += noise * ((apart == 0) + 1.0 * (apart + j == i) - (apart == i) - (apart + j == 0))
            total = 2 * (np.maximum(pairs, 0) * shared**2).sum() / ((n_frames - i) * (n_frames - j))
            covariance[row, column] = covariance[column, row] = total
    return covariance


def _log_slope(of_all: Array, of_blocks: Array, start: int, walkers: Walkers) -> Measured:
    """Over lags `start` to twice that. of_all: (t,). of_blocks: (m, t)."""
    if not (of_all[start] > 0 and of_all[2 * start] > 0):
        return Measured(0.0, 0.0)  # nothing moves
    slope = np.log(of_all[2 * start] / of_all[start]) / np.log(2)
    change = of_blocks[:, 2 * start] / of_all[2 * start] - of_blocks[:, start] / of_all[start]
    ends = np.array([start, 2 * start])
    relative = brownian_covariance(ends, walkers.n_frames, 0.0) / np.outer(ends, ends) / (3 * walkers.n_paths)
    independent = np.sqrt(relative[0, 0] + relative[1, 1] - 2 * relative[0, 1])
    return Measured(float(slope), max(float(standard_errors(change)), float(independent)) / np.log(2))


def _is_one(slope: Measured) -> bool:
    return abs(slope.value - 1) <= max(TOLERANCE, 3 * slope.error)


def _spread_lags(first: int, last: int) -> Indices:
    """Whole numbers from first to last, each once, at most LAGS_OF_A_LINE and closer at short lags."""
    return np.unique(np.geomspace(first, max(first, last), LAGS_OF_A_LINE).round().astype(np.int64))
