"""Radial distribution functions: how far the neighbours of one element are from another.

Symbols used in this file
    a, b  atoms of the first and the second selection     r  bins of distance [nm]     m  blocks of frames
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from openmm_allegro.analysis.blocks import jackknife_errors, standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import distance_counts
from openmm_allegro.analysis.pictures import draw_curve
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, file_name
from openmm_allegro.analysis.shells import FirstShell, first_shell
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RadialDistribution:
    """Partial g(r) of an ordered pair of selections; 1 everywhere for an ideal gas."""

    pair: tuple[str, str]
    """Selection at the centre, selection counted around it."""
    r_nm: np.ndarray
    """Middles of the bins, (r,)."""
    g: np.ndarray
    """Mean over frames, each normalised by its own volume, (r,)."""
    g_error: np.ndarray
    """Standard error of g from blocks of frames, (r,); nan with one block."""
    coordination: np.ndarray
    """Mean number of neighbours up to the outer edge of each bin, `r_nm + bin_width_nm / 2`, (r,)."""
    coordination_error: np.ndarray
    """Standard error of it from blocks of frames, (r,); nan with one block."""
    shell: FirstShell
    """First peak and minima of g."""
    peak_error_nm: float
    """Standard error of the place of the first peak, by leaving out one block after the other (jackknife)."""
    bin_width_nm: float
    n_frames: int

    @property
    def name(self) -> str:
        return f"rdf_{file_name(self.pair)}"

    def highest_peak_nm(self) -> float:
        """Distance at which g is largest [nm]."""
        return float(self.r_nm[np.argmax(self.g)])

    def figures(self) -> dict[str, Measured]:
        """First peak, first minimum and the number of neighbours up to it; nan where g has none."""
        peak_error = minimum_error = float("nan")
        neighbours = Measured(float("nan"))
        if np.isfinite(self.shell.peak_nm):
            peak_error = float(self.g_error[np.argmin(np.abs(self.r_nm - self.shell.peak_nm))])
        if np.isfinite(self.shell.minimum_nm):
            k = int(np.argmin(np.abs(self.r_nm - self.shell.minimum_nm)))
            minimum_error = float(self.g_error[k])
            neighbours = Measured(float(self.coordination[k]), float(self.coordination_error[k]))
        return {
            "first_peak_nm": Measured(self.shell.peak_nm, self.peak_error_nm),
            "first_peak_g": Measured(self.shell.peak_g, peak_error),
            "first_minimum_nm": Measured(self.shell.minimum_nm),
            "first_minimum_g": Measured(self.shell.minimum_g, minimum_error),
            "coordination_number": neighbours,
        }

    def curve(self) -> Curve:
        return Curve(self.r_nm, self.g, self.g_error, "distance r / nm", f"g(r) {'–'.join(self.pair)}")

    def write_csv(self, path: str | Path) -> Path:
        columns = {"r_nm": self.r_nm, "g": self.g, "g_error": self.g_error}
        coordination = {"coordination": self.coordination, "coordination_error": self.coordination_error}
        return write_table(path, columns | coordination)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """Draw g(r); where a bond towers over the rest, the axis is cut and the peak is written out."""
        draw_curve(axes, self.curve(), label)
        axes.set_xlim(0.0, float(self.r_nm[-1]) + self.bin_width_nm / 2)
        axes.set_ylim(bottom=0.0)
        beyond_bonds = float(self.g[len(self.g) // 3 :].max())
        if self.g.max() > 4 * beyond_bonds > 0:
            axes.set_ylim(top=2 * beyond_bonds)
            place = f"peak {self.g.max():.1f} at {self.highest_peak_nm():.3f} nm"
            axes.annotate(place, (self.highest_peak_nm(), 1.9 * beyond_bonds), (6, 0), textcoords="offset points")


def radial_distribution(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str] = ("O", "O"),
    *,
    r_max_nm: float | None = None,
    bin_width_nm: float = 0.005,
    n_blocks: int = 5,
) -> RadialDistribution:
    """Partial radial distribution function up to `r_max_nm`, by default half the shortest height of the cell.

    Any triclinic cell, which may change from frame to frame. Errors come from `n_blocks` blocks of frames. Time grows
    as the number of pairs within `r_max_nm`, memory as the number of atoms.
    """
    frames = Frames.of(frames)
    sets = Selections.of(frames.topology, pair)
    centres, others = sets.places
    shared = len(np.intersect1d(centres, others))
    n_ordered_pairs = len(centres) * len(others) - shared
    if n_ordered_pairs == 0:
        raise ValueError(
            f"a distribution of {pair[0]} around {pair[1]} needs two atoms, but there is only one; choose others"
        )
    edges = _bin_edges(r_max_nm, bin_width_nm, longest_distance_nm(frames.cells_for("a radial distribution function")))
    shells = 4 / 3 * np.pi * np.diff(edges**3)

    g_blocks, counts_blocks = np.zeros((n_blocks, len(shells))), np.zeros((n_blocks, len(shells)))
    n_used = 0
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        assert cell is not None
        counts = distance_counts(positions[centres], positions[others], cell, edges)
        counts_blocks[block] += counts
        g_blocks[block] += counts * np.linalg.det(cell) / (n_ordered_pairs * shells)
        n_used += 1
    g_blocks *= n_blocks / n_used
    coordination_blocks = np.cumsum(counts_blocks, axis=1) * n_blocks / (n_used * len(centres))
    r, g, g_error = (edges[1:] + edges[:-1]) / 2, g_blocks.mean(axis=0), standard_errors(g_blocks)
    return RadialDistribution(
        pair=pair,
        r_nm=r,
        g=g,
        g_error=g_error,
        coordination=coordination_blocks.mean(axis=0),
        coordination_error=standard_errors(coordination_blocks),
        shell=first_shell(r, g, g_error),
        peak_error_nm=float(jackknife_errors(lambda g: first_shell(r, g, g_error).peak_nm, g_blocks)),
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
    if r_max_nm is not None and not r_max_nm > 0:
        raise ValueError(f"`r_max_nm` is {r_max_nm}; it must be positive")
    reach = longest_nm if r_max_nm is None else r_max_nm
    n_bins = int(np.floor(reach / bin_width_nm + 1e-6)) if bin_width_nm > 0 else 0
    if n_bins < 1:
        raise ValueError(f"`bin_width_nm` is {bin_width_nm}; it must be positive and at most {reach:.4f} nm")
    return bin_width_nm * np.arange(n_bins + 1)
