"""Mass density of a periodic system over time, and its compressibility from the fluctuations of the cell."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.blocks import BlockAverage, average_of
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.npt import compressibility_per_bar, fluctuating
from openmm_allegro.analysis.pictures import times_or_numbers, with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import element_masses
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Density:
    """Mass density of each frame and its average."""

    time_ps: NDArray[np.float64]
    """(frames,)"""
    density_g_per_cm3: NDArray[np.float64]
    """(frames,)"""
    average: BlockAverage
    """Mean and standard error [g/cm³]."""
    compressibility: Measured | None
    """Isothermal, in 1/bar; None where no temperature was given."""

    @property
    def name(self) -> str:
        return "density"

    def write_csv(self, path: str | Path) -> Path:
        return write_table(path, {"time_ps": self.time_ps, "density_g_per_cm3": self.density_g_per_cm3})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        x, x_label = times_or_numbers(self.time_ps)
        (line,) = axes.plot(x, self.density_g_per_cm3, linewidth=0.8)
        mean = f"{with_error(self.average.mean, self.average.error)} g/cm³"
        color = "black" if label is None else line.get_color()
        text = mean if label is None else f"{label}: {mean}"
        axes.axhline(self.average.mean, color=color, linestyle="--", linewidth=0.8, label=text)
        axes.set_xlabel(x_label)
        axes.set_ylabel("density / (g/cm³)")
        axes.ticklabel_format(useOffset=False)
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        found = {"density_g_per_cm3": Measured(self.average.mean, self.average.error)}
        if self.compressibility is not None:
            found["compressibility_per_bar"] = self.compressibility
        return found

    def curve(self) -> Curve | None:
        return None


def mass_density(
    frames: Frames | mdtraj.Trajectory, *, temperature_k: float | None = None, n_blocks: int = 10
) -> Density:
    """Mass density of every frame, from the masses of the topology's elements and the volume of the cell.

    With the temperature of a run at constant pressure also the isothermal compressibility, with a jackknife error over
    `n_blocks` blocks of frames; see `npt.compressibility_per_bar`. The error of the density is from blocks.
    """
    frames = Frames.of(frames)
    volumes = np.linalg.det(frames.cells_for("a density"))
    density = element_masses(frames.topology).sum() / volumes * units.DALTON_PER_NM3_TO_G_PER_CM3
    compressibility = None
    if temperature_k is not None:
        compressibility = compressibility_per_bar(fluctuating(volumes, "the trajectory"), temperature_k, n_blocks)
    return Density(frames.times_ps, density, average_of(density, "the density"), compressibility)
