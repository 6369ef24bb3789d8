"""Profiles of density along an axis of the cell: slabs, interfaces, layers at a wall.

Symbols used in this file
    n  atoms of the selection     x  slices parallel to the two other lattice vectors     m  blocks of frames
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from openmm_allegro import units
from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.pictures import draw_curve
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, check_masses, element_masses, file_name
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = ("a", "b", "c")
UNITS = {"number": ("nm⁻³", "per_nm3"), "mass": ("g/cm³", "g_per_cm3")}


@dataclass(frozen=True)
class DensityProfile:
    """Density of a selection in slices of the cell."""

    selection: str
    axis: str
    """Lattice vector that leaves the slices: a, b or c."""
    quantity: str
    """`number` or `mass`."""
    position_nm: np.ndarray
    """Middles of the slices along the normal of the two other lattice vectors, at the mean height of the cell, (x,)."""
    density: np.ndarray
    """In 1/nm³ or g/cm³, (x,)."""
    error: np.ndarray
    """Standard error from blocks of frames, (x,); nan with one block."""

    @property
    def name(self) -> str:
        return f"profile_{file_name((self.selection,))}"

    def figures(self) -> dict[str, Measured]:
        unit = UNITS[self.quantity][1]
        highest, lowest = int(np.argmax(self.density)), int(np.argmin(self.density))
        return {
            f"mean_density_{unit}": Measured(float(self.density.mean())),
            f"highest_density_{unit}": Measured(float(self.density[highest]), float(self.error[highest])),
            f"lowest_density_{unit}": Measured(float(self.density[lowest]), float(self.error[lowest])),
            "highest_density_at_nm": Measured(float(self.position_nm[highest])),
        }

    def curve(self) -> Curve:
        unit = UNITS[self.quantity][0]
        labels = (f"position along {self.axis} / nm", f"{self.quantity} density of {self.selection} / ({unit})")
        return Curve(self.position_nm, self.density, self.error, *labels)

    def write_csv(self, path: str | Path) -> Path:
        unit = UNITS[self.quantity][1]
        columns = {"position_nm": self.position_nm, f"density_{unit}": self.density}
        return write_table(path, columns | {f"density_error_{unit}": self.error})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        draw_curve(axes, self.curve(), label)
        width = self.position_nm[0]  # half a slice
        axes.set_xlim(float(self.position_nm[0] - width), float(self.position_nm[-1] + width))
        axes.set_ylim(bottom=0.0)


def density_profile(
    frames: Frames | mdtraj.Trajectory,
    selection: str,
    *,
    axis: str = "c",
    quantity: str = "number",
    bin_width_nm: float = 0.02,
    centred_on: str = "",
    n_blocks: int = 5,
) -> DensityProfile:
    """Density of a selection in equal slices of the cell along the lattice vector `axis`: a, b or c.

    quantity: `number` of atoms or `mass`. centred_on: a selection whose centre of mass is put into the middle of the
    cell in every frame, so that a slab that wanders stays sharp; it is averaged on a circle, over which it may be cut
    (L. Bai and D. Breen, J. Graph. Tools 13, 53 (2008)). Any triclinic cell, which may change: slices are fractions of
    it. Errors come from `n_blocks` blocks of frames.
    """
    if axis not in AXES:
        raise ValueError(f"`axis` is `{axis}`; choose a, b or c, a lattice vector")
    if quantity not in UNITS:
        raise ValueError(f"`quantity` is `{quantity}`; choose number or mass")
    frames = Frames.of(frames)
    cells, k = frames.cells_for("a profile of density"), AXES.index(axis)
    heights = 1 / np.linalg.norm(np.linalg.inv(cells), axis=1)[:, k]
    height = float(heights.mean())
    n_bins = int(np.rint(height / bin_width_nm)) if bin_width_nm > 0 else 0
    if n_bins < 1:
        raise ValueError(f"`bin_width_nm` is {bin_width_nm}; it must be positive and at most {height:.4f} nm")
    sets = Selections.of(frames.topology, (selection, centred_on) if centred_on else (selection,))
    counted, masses = sets.places[0], element_masses(frames.topology)[sets.atoms]
    if centred_on:
        check_masses(masses[sets.places[1]], "centred_on", centred_on)
    weights = masses * units.DALTON_PER_NM3_TO_G_PER_CM3 if quantity == "mass" else np.ones(len(sets.atoms))
    blocks, n_used = np.zeros((n_blocks, n_bins)), 0
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        assert cell is not None
        along = positions @ np.linalg.inv(cell)[:, k]  # (n,) fractional
        if centred_on:
            along += 0.5 - _middle_of_circle(along[sets.places[1]], masses[sets.places[1]])
        along -= np.floor(along)
        bins = np.minimum((along[counted] * n_bins).astype(np.int64), n_bins - 1)
        volume = np.linalg.det(cell) / n_bins
        blocks[block] += np.bincount(bins, weights[counted], minlength=n_bins) / volume
        n_used += 1
    blocks *= n_blocks / n_used
    middles = height * (np.arange(n_bins) + 0.5) / n_bins
    return DensityProfile(selection, axis, quantity, middles, blocks.mean(axis=0), standard_errors(blocks))


def _middle_of_circle(fractions: np.ndarray, masses: np.ndarray) -> float:
    """Centre of mass of positions on a circle of length one; (n,) each."""
    mean = np.sum(masses * np.exp(2j * np.pi * fractions))
    return float(np.angle(mean) / (2 * np.pi))
