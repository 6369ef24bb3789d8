"""Angles between the bonds of an atom, such as S–P–S.

Symbols used in this file
    b  atoms at the vertex     z  arms from a vertex to a neighbour     w  angles     x  bins of angle [degrees]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.cutoffs import cutoff_from_shell
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.histograms import Density, Histogram
from openmm_allegro.analysis.neighbours import Pairs, pairs_of
from openmm_allegro.analysis.pictures import draw_curve, with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, file_name
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ANGLES_AT_ONCE = 500_000
Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class AngleDistribution:
    """Distribution of the angle at the middle atom of a triplet."""

    triplet: tuple[str, str, str]
    angles: Density
    """In degrees and 1/degree; proportional to sin θ where directions are random."""
    cutoffs_nm: tuple[float, float]
    """Longest arm to the first and to the last selection."""

    @property
    def name(self) -> str:
        return f"angles_{file_name(self.triplet)}"

    def figures(self) -> dict[str, Measured]:
        most_probable = float(self.angles.middles[np.argmax(self.angles.density)])
        return {
            "mean_angle_degrees": self.angles.mean,
            "angle_spread_degrees": self.angles.spread,
            "most_probable_angle_degrees": Measured(most_probable),
            "first_cutoff_nm": Measured(self.cutoffs_nm[0]),
            "second_cutoff_nm": Measured(self.cutoffs_nm[1]),
        }

    def curve(self) -> Curve:
        labels = (f"angle {'–'.join(self.triplet)} / degree", "probability density / degree⁻¹")
        return Curve(self.angles.middles, self.angles.density, self.angles.error, *labels)

    def write_csv(self, path: str | Path) -> Path:
        """Beside the density the one of the cosine, in which random directions are flat."""
        density, error = self.angles.density, self.angles.error
        columns = {"angle_degrees": self.angles.middles, "density_per_degree": density}
        cosine = density / np.sin(np.radians(self.angles.middles)) * 180 / np.pi
        return write_table(path, columns | {"density_error_per_degree": error, "density_of_cosine": cosine})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        draw_curve(axes, self.curve(), label)
        if label is None:
            axes.set_title(f"mean {with_error(*self.angles.mean)}°", loc="left", fontsize="medium")
        axes.set_xlim(0.0, 180.0)
        axes.set_xticks(range(0, 181, 30))
        axes.set_ylim(bottom=0.0)


def angle_distribution(
    frames: Frames | mdtraj.Trajectory,
    triplet: tuple[str, str, str],
    *,
    cutoff_nm: float | None = None,
    second_cutoff_nm: float | None = None,
    bin_width_degrees: float = 1.0,
    n_blocks: int = 5,
) -> AngleDistribution:
    """Angles a–b–c at atom b, in any cell or none; errors from `n_blocks` blocks of frames.

    The arms b–a and b–c end at `cutoff_nm` and `second_cutoff_nm`. The first is by default the first minimum of g(r) of
    b and a; so is the second of b and c, but where a cutoff is given it holds for both. Each angle counts once.
    """
    frames = Frames.of(frames)
    a, b, c = triplet
    first_cutoff = cutoff_from_shell(frames, (b, a), cutoff_nm, "cutoff_nm")
    second_cutoff = second_cutoff_nm if second_cutoff_nm is not None else cutoff_nm
    if second_cutoff is None and a == c:
        second_cutoff = first_cutoff
    second_cutoff = cutoff_from_shell(frames, (b, c), second_cutoff, "second_cutoff_nm")
    sets = Selections.of(frames.topology, triplet)
    first, vertex, last = sets.places
    same = np.array_equal(first, last) and first_cutoff == second_cutoff
    either = np.union1d(first, last)
    shared = len(either) < len(first) + len(last)
    histogram = Histogram(0.0, 180.0, bin_width_degrees, n_blocks, "bin_width_degrees")
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        if shared:
            arms = sorted_arms(pairs_of(positions, vertex, either, cell, max(first_cutoff, second_cutoff)))
            end, length = either[arms.neighbour], arms.distance_nm
            of_first = np.isin(end, first) & (length < first_cutoff)
            of_last = of_first if same else np.isin(end, last) & (length < second_cutoff)
            found = angles_of_one_set(arms, of_first, of_last)
        else:
            arms = sorted_arms(pairs_of(positions, vertex, first, cell, first_cutoff))
            others = sorted_arms(pairs_of(positions, vertex, last, cell, second_cutoff))
            found = angles_of(arms, others)
        for degrees in found:
            histogram.add(block, degrees)
    return AngleDistribution(
        triplet, histogram.density(f"angles {'–'.join(triplet)} within the cutoffs"), (first_cutoff, second_cutoff)
    )


def sorted_arms(pairs: Pairs) -> Pairs:
    """The same pairs, those of one centre beside each other."""
    order = np.argsort(pairs.centre, kind="stable")
    return Pairs(pairs.centre[order], pairs.neighbour[order], pairs.distance_nm[order], pairs.vector_nm[order])


def angles_of(arms: Pairs, others: Pairs) -> Iterator[Array]:
    """Angles in degrees between each arm and each other one of the same centre, part by part; both sorted."""
    start = np.searchsorted(others.centre, arms.centre, side="left")
    count = np.searchsorted(others.centre, arms.centre, side="right") - start
    for arm, other in _in_parts(start, count):
        yield _degrees(arms.vector_nm[arm], others.vector_nm[other])


def angles_of_one_set(arms: Pairs, of_first: NDArray[np.bool_], of_last: NDArray[np.bool_]) -> Iterator[Array]:
    """The same between every two arms of which one may be the first and the other the last, (z,) each; each once."""
    start = np.arange(len(arms.centre)) + 1
    count = np.searchsorted(arms.centre, arms.centre, side="right") - start
    for arm, other in _in_parts(start, count):
        wanted = (of_first[arm] & of_last[other]) | (of_last[arm] & of_first[other])
        yield _degrees(arms.vector_nm[arm[wanted]], arms.vector_nm[other[wanted]])


def _in_parts(start: Indices, count: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Each arm with so many others from a start on, in parts that fit in memory; (z,)."""
    part = np.cumsum(count) // ANGLES_AT_ONCE
    for number in np.unique(part):
        chosen = np.flatnonzero(part == number)
        yield products(chosen, start[chosen], count[chosen])


def _degrees(u: Array, v: Array) -> Array:
    """Angles between vectors, (w, 3) each; (w,)."""
    cross = np.linalg.norm(np.cross(u, v), axis=1)
    return np.degrees(np.arctan2(cross, np.einsum("wx,wx->w", u, v)))


def products(items: Indices, starts: Indices, counts: Indices) -> tuple[Indices, Indices]:
    """Pair every item with `counts` consecutive numbers from its start; all (k,). Returns two arrays, (w,)."""
    ends = np.cumsum(counts)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return np.repeat(items, counts), np.repeat(starts, counts) + within
