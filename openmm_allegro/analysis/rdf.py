"""Radial distribution functions: how far the neighbours of one element are from another.

Symbols used in this file
    a, b  atoms of the first and the second element     r  bins of distance [nm]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from openmm_allegro.analysis.blocks import block_slices, standard_errors
from openmm_allegro.analysis.frames import atoms_of, cells_nm
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS_AT_ONCE = 20_000
"""Pairs whose distances are held in memory together: few enough to stay in a processor's cache."""


@dataclass(frozen=True)
class RadialDistribution:
    """Partial g(r) of an ordered pair of elements; 1 everywhere for an ideal gas."""

    pair: tuple[str, str]
    """Element at the centre, element counted around it."""
    r_nm: np.ndarray
    """Middles of the bins, (r,)."""
    g: np.ndarray
    """Mean over frames, each normalised by its own volume, (r,)."""
    g_error: np.ndarray
    """Standard error of g from blocks of frames, (r,); nan with one block."""
    coordination: np.ndarray
    """Mean number of neighbours up to the outer edge of each bin, `r_nm + bin_width_nm / 2`, (r,)."""
    bin_width_nm: float
    n_frames: int

    def highest_peak_nm(self) -> float:
        """Distance at which g is largest [nm]."""
        return float(self.r_nm[np.argmax(self.g)])

    def write_csv(self, path: str | Path) -> Path:
        columns = {"r_nm": self.r_nm, "g": self.g, "g_error": self.g_error, "coordination": self.coordination}
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """Draw g(r); where a bond towers over the rest, the axis is cut and the peak is written out."""
        (line,) = axes.plot(self.r_nm, self.g, linewidth=1.2, label=label)
        if np.all(np.isfinite(self.g_error)):
            low, high = self.g - self.g_error, self.g + self.g_error
            axes.fill_between(self.r_nm, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        axes.set_xlabel("distance r / nm")
        axes.set_ylabel(f"g(r) {'–'.join(self.pair)}")
        axes.set_xlim(0.0, float(self.r_nm[-1]) + self.bin_width_nm / 2)
        axes.set_ylim(bottom=0.0)
        beyond_bonds = float(self.g[len(self.g) // 3 :].max())
        if self.g.max() > 4 * beyond_bonds > 0:
            axes.set_ylim(top=2 * beyond_bonds)
            place = f"peak {self.g.max():.1f} at {self.highest_peak_nm():.3f} nm"
            axes.annotate(place, (self.highest_peak_nm(), 1.9 * beyond_bonds), (6, 0), textcoords="offset points")
        if label is not None:
            axes.legend(frameon=False)


def radial_distribution(
    trajectory: mdtraj.Trajectory,
    pair: tuple[str, str] = ("O", "O"),
    r_max_nm: float | None = None,
    bin_width_nm: float = 0.005,
    n_blocks: int = 5,
) -> RadialDistribution:
    """Partial radial distribution function up to `r_max_nm`, by default half the shortest height of the cell.

    Any triclinic cell, which may change from frame to frame. Memory stays bounded: pairs are counted
    `PAIRS_AT_ONCE`.
    """
    slices = block_slices(trajectory.n_frames, n_blocks)
    centres, others = (atoms_of(trajectory.topology, element) for element in pair)
    same = pair[0] == pair[1]
    if same and len(centres) < 2:
        raise ValueError(f"a distribution of {pair[0]} around {pair[0]} needs two atoms; the topology has one")
    cells = cells_nm(trajectory, "a radial distribution function")
    edges = _bin_edges(r_max_nm, bin_width_nm, longest_distance_nm(cells))
    volumes = np.linalg.det(cells)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    n_ordered_pairs = len(centres) * (len(others) - same)

    g_blocks = np.zeros((n_blocks, len(shells)))
    counts_sum = np.zeros(len(shells))
    for block, frames in enumerate(slices):
        for frame in range(frames.start, frames.stop):
            positions = trajectory.xyz[frame].astype(np.float64)
            counts = np.zeros(len(shells), dtype=np.int64)
            for distances in _distances(positions[centres], positions[others], cells[frame], edges[-1], same):
                bins = np.minimum((distances / edges[1]).astype(np.int64), len(shells) - 1)
                counts += np.bincount(bins, minlength=len(shells))
            counts *= 1 + same  # each pair of one element was met once and counts for both of its atoms
            counts_sum += counts
            g_blocks[block] += counts * volumes[frame] / (n_ordered_pairs * shells)
    n_used = n_blocks * (slices[0].stop - slices[0].start)
    g_blocks *= n_blocks / n_used
    return RadialDistribution(
        pair=pair,
        r_nm=(edges[1:] + edges[:-1]) / 2,
        g=g_blocks.mean(axis=0),
        g_error=standard_errors(g_blocks),
        coordination=np.cumsum(counts_sum) / (n_used * len(centres)),
        bin_width_nm=float(edges[1]),
        n_frames=n_used,
    )


def longest_distance_nm(cells: np.ndarray) -> float:
    """Half the shortest height of any cell: up to here a pair has one nearest image. cells: (frames, 3, 3)."""
    inverse_heights = np.linalg.norm(np.linalg.inv(cells), axis=1)
    return float(0.5 / inverse_heights.max())


def mean_absolute_difference(first: RadialDistribution, second: RadialDistribution) -> float:
    """Mean over r of |g₁ − g₂|, dimensionless; both on the same bins."""
    if first.pair != second.pair or first.g.shape != second.g.shape or not np.allclose(first.r_nm, second.r_nm):
        raise ValueError(
            f"the distributions {'-'.join(first.pair)} to {first.r_nm[-1]:.4f} nm and {'-'.join(second.pair)} to "
            f"{second.r_nm[-1]:.4f} nm are not on the same bins; give both the same `r_max_nm` and `bin_width_nm`"
        )
    return float(np.abs(first.g - second.g).mean())


def _bin_edges(r_max_nm: float | None, bin_width_nm: float, longest_nm: float) -> np.ndarray:
    """Equal bins of `bin_width_nm` from zero; the last whole bin ends at or before `r_max_nm`."""
    if r_max_nm is not None and r_max_nm > longest_nm:
        raise ValueError(
            f"`r_max_nm` is {r_max_nm}, but half the shortest height of the cell is {longest_nm:.4f} nm; "
            f"choose a smaller one"
        )
    reach = longest_nm if r_max_nm is None else r_max_nm
    n_bins = int(np.floor(reach / bin_width_nm + 1e-6)) if bin_width_nm > 0 else 0
    if n_bins < 1:
        raise ValueError(f"`bin_width_nm` is {bin_width_nm}; it must be positive and at most {reach:.4f} nm")
    return bin_width_nm * np.arange(n_bins + 1)


def _distances(
    centres: np.ndarray, others: np.ndarray, cell: np.ndarray, reach: float, same: bool
) -> Iterator[np.ndarray]:
    """Yield distances below `reach`, block by block of centres. centres: (a, 3), others: (b, 3), cell: (3, 3), nm.

    Rounding fractional coordinates finds the nearest image of every pair closer than half the shortest height, in any
    cell: such a vector has no fractional component above 1/2.
    """
    inverse, metric = np.linalg.inv(cell), cell @ cell.T
    a_fractional, b_fractional = (centres @ inverse).T.copy(), (others @ inverse).T.copy()  # (3, a), (3, b)
    rows = max(1, PAIRS_AT_ONCE // len(others))
    for start in range(0, len(centres), rows):
        first_other = start if same else 0
        steps = a_fractional[:, start : start + rows, None] - b_fractional[:, None, first_other:]  # (3, rows, b)
        steps -= np.rint(steps)
        squared = np.zeros(steps.shape[1:])
        for k, m in np.argwhere(metric):  # zeros of the metric, as in an orthorhombic cell, cost nothing
            squared += metric[k, m] * steps[k] * steps[m]
        near = squared < reach**2
        if same:
            near &= ~np.tri(
                near.shape[0], near.shape[1], dtype=bool
            )  # every pair of one element once, none with itself
        yield np.sqrt(np.maximum(squared[near], 0.0))
