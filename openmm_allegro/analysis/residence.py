"""Residence times: how long neighbours stay.

Symbols used in this file
    t  lags     m  blocks of time origins
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import block_slices, standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.intervals import Intervals, intervals_together, surviving
from openmm_allegro.analysis.neighbours import pairs_within
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
N_LAGS = 120


@dataclass(frozen=True)
class ResidenceTime:
    """Survival of neighbours of one kind."""

    pair: tuple[str, str]
    lag_ps: Array
    """(t,)"""
    survival: Array
    """Share of the neighbours that have stayed since, (t,)."""
    survival_error: Array
    """Standard error from blocks of time origins, (t,)."""
    coordination: float
    """Mean number of neighbours of the first kind's atoms, absences within the tolerance included."""
    fitted_ps: Measured
    """Decay time of A exp(−t/τ)."""
    integral_ps: Measured
    """∫ survival dt, continued by the fitted exponential beyond the longest lag."""
    amplitude: float
    """A of the fit."""

    @property
    def name(self) -> str:
        return f"residence_{'-'.join(self.pair).replace(' ', '_')}"

    def write_csv(self, path: str | Path) -> Path:
        columns = {"lag_ps": self.lag_ps, "survival": self.survival, "survival_error": self.survival_error}
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        words = f"{'–'.join(self.pair) if label is None else label}: τ = {with_error(*self.fitted_ps)} ps"
        (line,) = axes.plot(self.lag_ps, self.survival, linewidth=1.2, label=words)
        low, high = self.survival - self.survival_error, self.survival + self.survival_error
        axes.fill_between(self.lag_ps, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        fit = self.amplitude * np.exp(-self.lag_ps / self.fitted_ps.value)
        axes.plot(self.lag_ps, fit, "k--", linewidth=0.8)
        axes.set(xlabel="time / ps", ylabel="share of neighbours that stayed", ylim=(0.0, 1.05))
        axes.set_xlim(0.0, float(self.lag_ps[-1]))
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        return {
            "residence_fitted_ps": self.fitted_ps,
            "residence_integral_ps": self.integral_ps,
            "coordination": Measured(self.coordination),
        }

    def curve(self) -> Curve:
        return Curve(self.lag_ps, self.survival, self.survival_error, "time / ps", "share of neighbours that stayed")


def residence_time(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str],
    cutoff_nm: float,
    *,
    tolerance_ps: float = 0.0,
    longest_ps: float | None = None,
    n_blocks: int = 5,
) -> ResidenceTime:
    """How long atoms of the second kind stay within a distance of one of the first; absences are forgiven for a while.

    The survival function of R. W. Impey, P. A. Madden and I. R. McDonald, J. Phys. Chem. 87, 5071 (1983), whose t* is
    `tolerance_ps`: a neighbour that is back within that time has not left. Its decay time is fitted where the survival
    is between 0.9 and 0.1, and given as its integral beside. Lags reach `longest_ps`, by default half the trajectory.
    Errors are from `n_blocks` blocks of time origins.
    """
    frames = Frames.of(frames)
    spacing = frames.spacing_ps()
    if cutoff_nm <= 0 or tolerance_ps < 0:
        raise ValueError(
            f"`cutoff_nm` is {cutoff_nm} and `tolerance_ps` {tolerance_ps}; they must be positive and not negative"
        )
    longest = frames.n_frames // 2 if longest_ps is None else round(longest_ps / spacing)
    if not 2 <= longest < frames.n_frames - n_blocks:
        raise ValueError(
            f"`longest_ps` of {longest * spacing:g} ps must be at least two frames ({2 * spacing:g} ps) and shorter "
            f"than the trajectory of {frames.n_frames} frames"
        )
    first, second = (atoms_of(frames.topology, selection) for selection in pair)
    intervals = intervals_together(_neighbours(frames, first, second, cutoff_nm), round(tolerance_ps / spacing))
    n_together = int((intervals.end - intervals.begin + 1).sum())
    if n_together == 0:
        raise ValueError(f"no {pair[1]} is within {cutoff_nm} nm of any {pair[0]}; choose a longer `cutoff_nm`")
    lags = np.unique(np.geomspace(1, longest + 1, N_LAGS).round().astype(int)) - 1
    whole, of_blocks = _survival(intervals, lags, frames.n_frames, n_blocks)
    times = spacing * lags
    amplitude, decay = _exponential(times, whole)
    fits = [_exponential(times, block) for block in of_blocks]
    integrals = [_integral(times, block, tau) for block, (_, tau) in zip(of_blocks, fits, strict=True)]
    return ResidenceTime(
        pair=pair,
        lag_ps=times,
        survival=whole,
        survival_error=standard_errors(of_blocks),
        coordination=n_together / frames.n_frames / len(first),
        fitted_ps=Measured(decay, _error([tau for _, tau in fits])),
        integral_ps=Measured(_integral(times, whole, decay), _error(integrals)),
        amplitude=amplitude,
    )


def _neighbours(
    frames: Frames, first: NDArray[np.int64], second: NDArray[np.int64], cutoff_nm: float
) -> Iterator[NDArray[np.int64]]:
    """Of each frame the numbers a·b + b of pairs that are near. first: (a,). second: (b,)."""
    of_one = np.array_equal(first, second)
    if not of_one and len(np.intersect1d(first, second)):
        raise ValueError("the two selections of the pair share atoms; choose the same or different ones")
    cells = None if frames.cells_nm is None else frames.cells_for("a residence time")
    for f, positions in enumerate(frames.positions_nm()):
        others = None if of_one else positions[second]
        near = pairs_within(positions[first], others, None if cells is None else cells[f], cutoff_nm)
        mine = near.centre != near.neighbour if of_one else slice(None)
        yield near.centre[mine] * len(second) + near.neighbour[mine]


def _survival(intervals: Intervals, lags: Array, n_frames: int, n_blocks: int) -> tuple[Array, Array]:
    """Of the whole, (t,), and of blocks of the origins that every lag has, (m, t)."""
    whole, of_blocks = np.empty(len(lags)), np.empty((n_blocks, len(lags)))
    slices = block_slices(n_frames - int(lags[-1]), n_blocks)
    for column, lag in enumerate(lags):
        together, until = surviving(intervals, slice(0, n_frames), int(lag), n_frames)
        whole[column] = until / max(together, 1)
        for block, origins in enumerate(slices):
            together, until = surviving(intervals, origins, int(lag), n_frames)
            of_blocks[block, column] = until / max(together, 1)
    return whole, of_blocks


def _exponential(times: Array, survival: Array) -> tuple[float, float]:
    """A and τ of a straight line through log survival between 0.9 and 0.1, or where few lags are there through all.

    An infinite time where none leaves, nan where all have left after a frame.
    """
    inside = (survival < 0.9) & (survival > 0.1)
    if inside.sum() < 3:
        inside = survival > 0.02
        inside[0] = inside.sum() < 4
    if inside.sum() < 2:
        return float("nan"), float("nan")
    slope, start = np.polyfit(times[inside], np.log(survival[inside]), 1, w=survival[inside])
    return float(np.exp(start)), float(-1 / slope) if slope < 0 else float("inf")


def _error(of_blocks: list[float]) -> float:
    return float(standard_errors(np.array(of_blocks))) if np.all(np.isfinite(of_blocks)) else float("nan")


def _integral(times: Array, survival: Array, decay: float) -> float:
    rest = survival[-1] * decay if survival[-1] > 0 else 0.0
    return float(np.trapezoid(survival, times)) + rest
