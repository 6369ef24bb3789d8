"""A number of each frame: its course, its mean and its distribution."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import BlockAverage, average_of, block_average, block_slices, standard_errors
from openmm_allegro.analysis.pictures import times_or_numbers, with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
N_BINS = 40


@dataclass(frozen=True)
class Series:
    """One number over time; compared through the distribution of its values."""

    name: str
    quantity: str
    """In words: `radius of gyration`."""
    symbol: str
    """Name of the column and the figure, with the unit: `gyration_radius_nm`."""
    unit: str
    times_ps: Array
    """(f,)"""
    values: Array
    """(f,)"""

    def __post_init__(self) -> None:
        average_of(self.values, f"the {self.quantity}")

    @property
    def average(self) -> BlockAverage:
        """Mean and its standard error, from blocks of frames."""
        return block_average(self.values)

    def write_csv(self, path: str | Path) -> Path:
        return write_table(path, {"time_ps": self.times_ps, self.symbol: self.values})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        average = self.average
        mean = f"{with_error(average.mean, average.error)} {self.unit}"
        x, x_label = times_or_numbers(self.times_ps)
        (line,) = axes.plot(x, self.values, linewidth=0.8)
        axes.axhline(
            average.mean,
            color=line.get_color(),
            linestyle="--",
            linewidth=0.8,
            label=mean if label is None else f"{label}: {mean}",
        )
        axes.set_xlabel(x_label)
        axes.set_ylabel(f"{self.quantity} / {self.unit}")
        axes.ticklabel_format(useOffset=False)
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        average = self.average
        return {self.symbol: Measured(average.mean, average.error)}

    def curve(self) -> Curve | None:
        """Probability density of the values, with errors from five blocks of frames; None where all are the same."""
        low, high = float(self.values.min()), float(self.values.max())
        if not high - low > 1e-6 * abs(low):
            return None
        width = (high - low) / N_BINS
        edges = low + width * np.arange(-1.0, N_BINS + 2)  # an empty bin at either end: the density is zero from there
        edges[-2] = np.nextafter(high, np.inf)  # a bin is open at its upper edge
        slices = block_slices(len(self.values), min(5, len(self.values)))
        blocks = np.stack([np.histogram(self.values[part], edges, density=True)[0] for part in slices])
        whole = np.histogram(self.values, edges, density=True)[0]
        centres = (edges[1:] + edges[:-1]) / 2
        label = f"{self.quantity} / {self.unit}"
        density_label = f"probability density / (1/{self.unit})"
        return Curve(centres, whole, standard_errors(blocks), label, density_label, outside=0.0)
