"""Water around a solute, by distance to its nearest atom.

Symbols used in this file
    f  frames     s  shells     d  bins of distance
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import average_of, block_average, block_slices, standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import pairs_within
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of, plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Hydration:
    """How many waters there are within each distance of the solute."""

    solute: str
    water: str
    times_ps: Array
    """(f,)"""
    shells_nm: tuple[float, ...]
    """Outer radius of each shell, (s,)."""
    counts: Array
    """Waters in each shell, divided by the number of solute atoms if so asked, (f, s)."""
    distance_nm: Array
    """Distance to the nearest solute atom, (d,)."""
    number: Array
    """Mean number of waters up to that distance, (d,)."""
    error: Array
    """Standard error from blocks of frames, (d,)."""

    @property
    def name(self) -> str:
        return f"hydration_{plain(self.solute)}"

    def write_csv(self, path: str | Path) -> Path:
        columns = {"distance_nm": self.distance_nm, "waters_within": self.number, "error": self.error}
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        (line,) = axes.plot(self.distance_nm, self.number, linewidth=1.2, label=label)
        low, high = self.number - self.error, self.number + self.error
        axes.fill_between(self.distance_nm, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        for radius in self.shells_nm:
            axes.axvline(radius, color="black", linestyle=":", linewidth=0.8)
        if label is None:
            inner = (0.0, *self.shells_nm[:-1])
            shells = zip(inner, self.shells_nm, self.figures().values(), strict=True)
            words = "\n".join(f"{low:g}–{high:g} nm: {with_error(*waters)}" for low, high, waters in shells)
            axes.text(0.03, 0.97, words, transform=axes.transAxes, va="top", fontsize="small")
        curve = self.curve()
        axes.set_xlabel(curve.x_label)
        axes.set_ylabel(curve.y_label)
        axes.set_xlim(0.0, float(self.distance_nm[-1]))
        axes.set_ylim(bottom=0.0)
        if label is not None:
            axes.legend(frameon=False)

    def figures(self) -> dict[str, Measured]:
        averages = [block_average(shell) for shell in self.counts.T]
        inner = (0.0, *self.shells_nm[:-1])
        return {
            f"waters_from_{low:g}_to_{high:g}_nm": Measured(each.mean, each.error)
            for low, high, each in zip(inner, self.shells_nm, averages, strict=True)
        }

    def curve(self) -> Curve:
        label = f"distance to nearest atom of {self.solute} / nm"
        return Curve(self.distance_nm, self.number, self.error, label, "waters within distance")


def hydration(
    frames: Frames | mdtraj.Trajectory,
    solute: str,
    *,
    water: str = "water and element O",
    shells_nm: tuple[float, ...] = (0.35, 0.6),
    per_atom: bool = False,
    bin_width_nm: float = 0.005,
) -> Hydration:
    """Waters in shells about a solute, each counted once, by the distance of its oxygen to the nearest solute atom.

    per_atom: divide by the number of solute atoms, as for ions of one kind. Without residue names, as in frames of ab
    initio dynamics, `water` may be the element O. Errors are from blocks of frames; the counts of whole shells are
    correlated in time, which these respect.
    """
    if bin_width_nm <= 0:
        raise ValueError(f"`bin_width_nm` is {bin_width_nm}; it must be positive")
    if not shells_nm or np.any(np.diff((0.0, *shells_nm)) <= 0):
        raise ValueError(f"`shells_nm` is {shells_nm}; give increasing radii above zero, such as (0.35, 0.6)")
    frames = Frames.of(frames)
    solutes, waters = atoms_of(frames.topology, solute), atoms_of(frames.topology, water)
    shared = np.intersect1d(solutes, waters)
    if len(shared):
        raise ValueError(
            f"atom {shared[0]} ({frames.topology.atom(int(shared[0]))}) is in both `{solute}` and `{water}`; "
            f"give the water without it, for example `water` as `({water}) and not ({solute})`"
        )
    atoms = np.union1d(solutes, waters)
    here, there = np.searchsorted(atoms, solutes), np.searchsorted(atoms, waters)
    edges = bin_width_nm * np.arange(int(np.ceil(shells_nm[-1] / bin_width_nm - 1e-9)) + 1, dtype=np.float64)
    bounds = np.array([0.0, *shells_nm])
    per_frame = np.empty((frames.n_frames, len(edges) - 1))
    counts = np.empty((frames.n_frames, len(shells_nm)))
    for f, positions in enumerate(frames.positions_nm(atoms)):
        cell = None if frames.cells_nm is None else frames.cells_nm[f]
        pairs = pairs_within(positions[here], positions[there], cell, edges[-1])
        nearest = np.full(len(waters), np.inf)
        np.minimum.at(nearest, pairs.neighbour, pairs.distance_nm)
        per_frame[f] = np.histogram(nearest, edges)[0]
        counts[f] = np.histogram(nearest, bounds)[0]
    for k, radius in enumerate(shells_nm):
        average_of(counts[:, k], f"the waters up to {radius:g} nm")
    divisor = len(solutes) if per_atom else 1
    running = np.cumsum(per_frame, axis=1) / divisor
    parts = block_slices(frames.n_frames, min(5, frames.n_frames))
    errors = standard_errors(np.stack([running[part].mean(axis=0) for part in parts]))
    return Hydration(
        solute, water, frames.times_ps, tuple(shells_nm), counts / divisor, edges[1:], running.mean(axis=0), errors
    )
