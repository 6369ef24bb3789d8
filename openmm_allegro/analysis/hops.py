"""Hops of ions between places where they rattle.

Symbols used in this file
    f  frames     k  paths     w  frames of half a window     h  hops     m  blocks of frames
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.blocks import block_slices, standard_error
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
N_BINS = 40


@dataclass(frozen=True)
class Hops:
    """All hops of one species."""

    element: str
    """Element or selection."""
    n_paths: int
    time_ps: Array
    """As the frames have it, (h,)."""
    path: Indices
    """Which of the selected atoms, counted from zero, (h,)."""
    distance_nm: Array
    """Between the mean positions before and after, (h,)."""
    shortest_nm: float
    """What counts as a hop."""
    window_ps: float
    rate_per_ps: Measured
    """Hops of one ion in a picosecond."""

    @property
    def name(self) -> str:
        return f"hops_{plain(self.element)}"

    def write_csv(self, path: str | Path) -> Path:
        return write_table(path, {"time_ps": self.time_ps, "atom": self.path, "distance_nm": self.distance_nm})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        curve = self.curve()
        rate = with_error(1e3 * self.rate_per_ps.value, 1e3 * self.rate_per_ps.error)
        words = f"{self.element if label is None else label}: {rate} hops/ns"
        if len(self.distance_nm) == 0:
            axes.text(0.5, 0.5, f"{self.element}: no hops", transform=axes.transAxes, ha="center")
        else:
            (line,) = axes.step(curve.x, curve.y, where="mid", linewidth=1.2, label=words)
            low, high = curve.y - curve.error, curve.y + curve.error
            axes.fill_between(curve.x, low, high, step="mid", color=line.get_color(), alpha=0.3, linewidth=0)
            axes.set_ylim(bottom=0.0)
            axes.legend(frameon=False, fontsize="small")
        axes.set(xlabel="distance of a hop / nm", ylabel="hops per ion / (1/(ns nm))")

    def figures(self) -> dict[str, Measured]:
        """With the diffusion that hops in random directions would give, rate × ⟨distance²⟩ / 6."""
        squares = self.distance_nm**2
        mean = float(squares.mean()) if len(squares) else 0.0
        to_cm2_per_s = units.NM2_PER_PS_TO_CM2_PER_S / 6
        return {
            "rate_per_ns": Measured(1e3 * self.rate_per_ps.value, 1e3 * self.rate_per_ps.error),
            "n_hops": Measured(float(len(squares))),
            "mean_distance_nm": Measured(float(self.distance_nm.mean()) if len(squares) else float("nan")),
            "uncorrelated_diffusion_cm2_per_s": Measured(
                to_cm2_per_s * self.rate_per_ps.value * mean, to_cm2_per_s * self.rate_per_ps.error * mean
            ),
        }

    def curve(self) -> Curve:
        """Rate by distance, with the error of counting; zero where there are no hops."""
        longest = float(self.distance_nm.max(initial=self.shortest_nm))
        counts, edges = np.histogram(self.distance_nm, N_BINS, (0.0, 1.1 * longest))
        scale = 1e3 * self.rate_per_ps.value / max(1, len(self.distance_nm)) / edges[1]
        x = (edges[1:] + edges[:-1]) / 2
        label = f"hops of {self.element} / (1/(ns nm))"
        return Curve(x, scale * counts, scale * np.sqrt(counts), "distance of a hop / nm", label, outside=0.0)


def hops(
    frames: Frames | mdtraj.Trajectory,
    element: str,
    *,
    shortest_nm: float = 0.15,
    window_ps: float = 2.0,
    n_blocks: int = 5,
    centres: str = "atoms",
    relative_to: str = "all",
) -> Hops:
    """Hops of an element or selection, where the positions half a window before and after a moment are apart.

    The hop function of R. Candelier et al., Phys. Rev. Lett. 105, 135702 (2010): the root of the mean squared distance
    of either half of `window_ps` from the mean position of the other half, geometrically averaged. A hop is where it is
    highest and above `shortest_nm`, once within half a window: an ion that is back by then has not hopped. The window
    should be longer than the rattling and shorter than the rest. The error of the rate is from `n_blocks` blocks of
    frames. centres, relative_to: as in `msd`.
    """
    frames = Frames.of(frames)
    half = round(window_ps / frames.spacing_ps() / 2)
    if half < 2 or frames.n_frames < 2 * half + n_blocks:
        raise ValueError(
            f"`window_ps` is {window_ps}, which is {2 * half} frames of the {frames.n_frames} of the trajectory; it "
            f"must hold 4 or more, and the trajectory longer"
        )
    if shortest_nm <= 0:
        raise ValueError(f"`shortest_nm` is {shortest_nm}; it must be positive")
    (paths,) = collect_paths(frames, [element], centres=centres, relative_to=relative_to)
    when, who, far = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)]
    first = 0
    for moved in paths.blocks():
        squared, apart = hop_function(moved, half)
        moment, path = np.nonzero(_highest(squared, half) & (squared > shortest_nm**2))
        when.append(moment + half)
        who.append(path + first)
        far.append(apart[moment, path])
        first += moved.shape[1]
    moments = np.concatenate(when)
    order = np.argsort(moments, kind="stable")
    moments = moments[order]
    watched = frames.n_frames - 2 * half + 1
    blocks = block_slices(watched, n_blocks)
    edges = [half + blocks[0].start, *(half + part.stop for part in blocks)]
    per_block = np.histogram(moments, edges)[0] / (edges[1] - edges[0])
    per_frame = 1 / (paths.n_paths * paths.spacing_ps)
    return Hops(
        element=element,
        n_paths=paths.n_paths,
        time_ps=frames.times_ps[moments],
        path=np.concatenate(who)[order],
        distance_nm=np.concatenate(far)[order],
        shortest_nm=shortest_nm,
        window_ps=2 * half * paths.spacing_ps,
        rate_per_ps=Measured(len(moments) / watched * per_frame, standard_error(per_block) * per_frame),
    )


def hop_function(positions_nm: Array, half: int) -> tuple[Array, Array]:
    """Squared hop function and the distance of the mean positions, at moments w … f − w, (f − 2w + 1, k) each.

    positions_nm: (f, k, 3). Before: w frames up to the moment; after: w frames from it on. The mean squared distance
    from the other half's mean is the variance of this half plus the squared distance of the means.
    """
    sums = np.concatenate([np.zeros((1, *positions_nm.shape[1:])), np.cumsum(positions_nm, axis=0)])
    squares = np.concatenate([np.zeros((1, positions_nm.shape[1])), np.cumsum((positions_nm**2).sum(axis=2), axis=0)])
    means = (sums[half:] - sums[:-half]) / half  # of frames i … i + w − 1
    variances = (squares[half:] - squares[:-half]) / half - (means**2).sum(axis=2)
    variances = np.maximum(variances, 0)  # of atoms that do not move at all, but for rounding
    apart = ((means[half:] - means[:-half]) ** 2).sum(axis=2)
    return np.sqrt((variances[:-half] + apart) * (variances[half:] + apart)), np.sqrt(apart)


def _highest(values: Array, half: int) -> NDArray[np.bool_]:
    """Where a value is the highest within w frames on either side, the first of equals. values: (f, k)."""
    from scipy.ndimage import maximum_filter1d

    highest = values == maximum_filter1d(values, 2 * half + 1, axis=0, mode="constant", cval=-np.inf)
    highest[1:] &= ~(highest[:-1] & (values[1:] == values[:-1]))
    return highest
