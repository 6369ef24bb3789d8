"""Residence times: how long neighbours stay.

Symbols used in this file
    t  lags     m  blocks of time origins     n  groups of neighbours
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import block_slices, jackknife, standard_errors
from openmm_allegro.analysis.cutoffs import cutoff_from_shell
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.intervals import Intervals, intervals_together, of_pairs, surviving
from openmm_allegro.analysis.neighbours import pairs_within
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of, file_name
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
N_LAGS = 120
N_GROUPS = 10
"""Groups of neighbours that are left out one after the other."""


@dataclass(frozen=True)
class ResidenceTime:
    """Survival of neighbours of one kind."""

    pair: tuple[str, str]
    lag_ps: Array
    """(t,)"""
    survival: Array
    """Share of the neighbours that have stayed since, (t,)."""
    survival_error: Array
    """The larger of the standard errors from blocks of time origins and from groups of neighbours, (t,)."""
    coordination: float
    """Mean number of neighbours of the first kind's atoms, absences within the tolerance included."""
    fitted_ps: Measured
    """Decay time of A exp(−t/τ)."""
    integral_ps: Measured
    """∫ survival dt, continued by the fitted exponential beyond the longest lag."""
    amplitude: float
    """A of the fit."""
    cutoff_nm: float

    @property
    def name(self) -> str:
        return f"residence_{file_name(self.pair)}"

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
            "cutoff_nm": Measured(self.cutoff_nm),
        }

    def curve(self) -> Curve:
        return Curve(self.lag_ps, self.survival, self.survival_error, "time / ps", "share of neighbours that stayed")


def residence_time(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str],
    cutoff_nm: float | None = None,
    *,
    tolerance_ps: float = 0.0,
    longest_ps: float | None = None,
    n_blocks: int = 5,
) -> ResidenceTime:
    """How long atoms of the second kind stay within a distance of one of the first; absences are forgiven for a while.

    The survival function of R. W. Impey, P. A. Madden and I. R. McDonald, J. Phys. Chem. 87, 5071 (1983), whose t* is
    `tolerance_ps`: a neighbour that is back within that time has not left. Its decay time is fitted where the survival
    is between 0.9 and 0.1, and given as its integral beside. `cutoff_nm` is by default the first minimum of g(r) of the
    pair. Lags reach `longest_ps`, by default half the trajectory.
    Errors are from `n_blocks` blocks of time origins, or by jackknife over groups of atoms of the second kind where
    that gives more: blocks next to each other have long stays in common and agree too well.
    """
    frames = Frames.of(frames)
    spacing = frames.spacing_ps()
    if tolerance_ps < 0:
        raise ValueError(f"`tolerance_ps` is {tolerance_ps}; it must be zero or more")
    longest = frames.n_frames // 2 if longest_ps is None else round(longest_ps / spacing)
    if not 2 <= longest < frames.n_frames - n_blocks:
        raise ValueError(
            f"`longest_ps` of {longest * spacing:g} ps, by default half the trajectory, is {longest} of its "
            f"{frames.n_frames} frames; it must be at least 2 and leave more than `n_blocks`, {n_blocks}: use a longer "
            f"trajectory or another `longest_ps`"
        )
    cutoff_nm = cutoff_from_shell(frames, pair, cutoff_nm, "cutoff_nm")
    first, second = (atoms_of(frames.topology, selection) for selection in pair)
    intervals = intervals_together(_neighbours(frames, first, second, cutoff_nm), round(tolerance_ps / spacing))
    n_together = int((intervals.end - intervals.begin + 1).sum())
    if n_together == 0:
        raise ValueError(f"no {pair[1]} is within {cutoff_nm:.4g} nm of any {pair[0]}; choose a longer `cutoff_nm`")
    lags = np.unique(np.geomspace(1, longest + 1, N_LAGS).round().astype(int)) - 1
    whole, of_blocks = _survival(intervals, lags, frames.n_frames, n_blocks)
    times = spacing * lags
    amplitude, decay = _exponential(times, whole)
    if not np.isfinite(decay):
        slow = np.isinf(decay)
        warnings.warn(
            f"{'too few' if slow else 'all'} {pair[1]} leave {pair[0]} within {times[-1 if slow else 1]:g} ps, so that "
            f"their residence time is not known; {'run longer' if slow else 'write frames more often'}",
            stacklevel=2,
        )
    of_times = np.array([_times(times, block) for block in of_blocks])  # (m, 2)
    survival_error, time_errors = _errors_of_groups(intervals, lags, frames.n_frames, spacing, len(second))
    of_times[~np.isfinite(of_times)] = np.nan
    fitted, integral = np.fmax(standard_errors(of_times), time_errors).tolist()
    return ResidenceTime(
        pair=pair,
        lag_ps=times,
        survival=whole,
        survival_error=np.fmax(standard_errors(of_blocks), survival_error),
        coordination=(1 + np.array_equal(first, second)) * n_together / frames.n_frames / len(first),
        fitted_ps=Measured(decay, fitted),
        integral_ps=Measured(_integral(times, whole, decay), integral),
        amplitude=amplitude,
        cutoff_nm=cutoff_nm,
    )


def _neighbours(
    frames: Frames, first: NDArray[np.int64], second: NDArray[np.int64], cutoff_nm: float
) -> Iterator[NDArray[np.int64]]:
    """Of each frame the numbers a·b + b of pairs that are near, of one kind once. first: (a,). second: (b,)."""
    of_one = np.array_equal(first, second)
    if not of_one and len(np.intersect1d(first, second)):
        raise ValueError("the two selections of the pair share atoms; choose the same or different ones")
    cells = None if frames.cells_nm is None else frames.cells_for("a residence time")
    for f, positions in enumerate(frames.positions_nm()):
        others = None if of_one else positions[second]
        near = pairs_within(positions[first], others, None if cells is None else cells[f], cutoff_nm)
        a, b = near.centre, near.neighbour
        mine = (a < b) == ((a + b) % 2 == 0) if of_one else slice(None)  # either of a and b as often the second
        yield a[mine] * len(second) + b[mine]


def _survival(intervals: Intervals, lags: Array, n_frames: int, n_blocks: int) -> tuple[Array, Array]:
    """Of the whole, (t,), and of blocks of the origins that every lag has, (m, t)."""
    slices = [slice(0, n_frames), *block_slices(n_frames - int(lags[-1]), n_blocks)]
    counts = np.array([[surviving(intervals, origins, int(lag), n_frames) for lag in lags] for origins in slices])
    shares = counts[..., 1] / np.maximum(counts[..., 0], 1)
    return shares[0], shares[1:]


def _errors_of_groups(
    intervals: Intervals, lags: Array, n_frames: int, spacing_ps: float, n_neighbours: int
) -> tuple[Array, Array]:
    """Jackknife errors of the survival, (t,), and of both times, (2,), over groups of atoms of the second kind."""
    group = intervals.pair % n_neighbours * min(N_GROUPS, n_neighbours) // n_neighbours
    groups = np.unique(group)
    counts = np.array(
        [
            [surviving(of_pairs(intervals, group == each), slice(0, n_frames), int(lag), n_frames) for lag in lags]
            for each in groups
        ]
    )  # (n, t, 2)

    def estimates(kept: NDArray[np.int64]) -> Array:
        together, until = counts[kept].sum(axis=0).T
        survival = until / np.maximum(together, 1)
        return np.append(survival, _times(spacing_ps * lags, survival))

    errors = jackknife(estimates, len(groups), len(groups))[1]
    return errors[:-2], errors[-2:]


def _times(times: Array, survival: Array) -> tuple[float, float]:
    """Fitted and integrated [ps]."""
    decay = _exponential(times, survival)[1]
    return decay, _integral(times, survival, decay)


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


def _integral(times: Array, survival: Array, decay: float) -> float:
    rest = survival[-1] * decay if survival[-1] > 0 else 0.0
    return float(np.trapezoid(survival, times)) + rest
