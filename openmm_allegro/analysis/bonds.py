"""Bond lengths: distances of neighbours closer than a cutoff.

Symbols used in this file
    x  bins of length
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from openmm_allegro.analysis.blocks import standard_error
from openmm_allegro.analysis.cutoffs import cutoff_from_shell
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.histograms import Density, Histogram
from openmm_allegro.analysis.neighbours import pairs_of
from openmm_allegro.analysis.pictures import draw_curve, with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, file_name
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class BondLengths:
    """Distribution of the lengths of one kind of bond."""

    pair: tuple[str, str]
    lengths: Density
    """In nm and 1/nm."""
    bonds_per_atom: Measured
    """Neighbours within the cutoff around an atom of the first selection."""
    shortest_nm: float
    """Shortest distance met in any frame."""
    cutoff_nm: float

    @property
    def name(self) -> str:
        return f"bonds_{file_name(self.pair)}"

    def figures(self) -> dict[str, Measured]:
        return {
            "mean_length_nm": self.lengths.mean,
            "length_spread_nm": self.lengths.spread,
            "shortest_length_nm": Measured(self.shortest_nm),
            "bonds_per_atom": self.bonds_per_atom,
            "cutoff_nm": Measured(self.cutoff_nm),
        }

    def curve(self) -> Curve:
        labels = (f"length of {'–'.join(self.pair)} / nm", "probability density / nm⁻¹")
        return Curve(self.lengths.middles, self.lengths.density, self.lengths.error, *labels, outside=0.0)

    def write_csv(self, path: str | Path) -> Path:
        columns = {"length_nm": self.lengths.middles, "density_per_nm": self.lengths.density}
        return write_table(path, columns | {"density_error_per_nm": self.lengths.error})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        draw_curve(axes, self.curve(), label)
        if label is None:
            axes.set_title(f"mean {with_error(*self.lengths.mean)} nm", loc="left", fontsize="medium")
        filled = self.lengths.middles[self.lengths.density > 0]
        axes.set_xlim(float(filled[0]) - 0.005, self.cutoff_nm)
        axes.set_ylim(bottom=0.0)


def bond_lengths(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str],
    *,
    cutoff_nm: float | None = None,
    bin_width_nm: float = 0.001,
    n_blocks: int = 5,
) -> BondLengths:
    """Lengths of the bonds between two selections, in any cell or none; errors from `n_blocks` blocks of frames.

    A bond is a pair closer than `cutoff_nm`, by default the first minimum of g(r) of the pair.
    """
    frames = Frames.of(frames)
    cutoff = cutoff_from_shell(frames, pair, cutoff_nm, "cutoff_nm")
    sets = Selections.of(frames.topology, pair)
    first, second = sets.places
    histogram = Histogram(0.0, cutoff, bin_width_nm, n_blocks, "bin_width_nm")
    shortest = float("inf")
    frames_of_block = np.zeros(n_blocks)
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        lengths = pairs_of(positions, first, second, cell, cutoff).distance_nm  # of one set in both orders
        histogram.add(block, lengths)
        shortest = min(shortest, lengths.min(initial=np.inf))
        frames_of_block[block] += 1
    per_atom = histogram.moments[:, 0] / (frames_of_block * len(first))
    return BondLengths(
        pair=pair,
        lengths=histogram.density(f"pairs {'–'.join(pair)} closer than {cutoff:.4g} nm"),
        bonds_per_atom=Measured(float(per_atom.mean()), standard_error(per_atom)),
        shortest_nm=float(shortest),
        cutoff_nm=cutoff,
    )
