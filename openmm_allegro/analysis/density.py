"""Mass density of a periodic system over time."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from openmm_allegro.analysis.blocks import BlockAverage, block_average
from openmm_allegro.analysis.frames import cells_nm, element_masses, times_of
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DALTON_PER_NM3_TO_G_PER_CM3 = 1.66053906660e-24 / 1e-21


@dataclass(frozen=True)
class Density:
    """Mass density of each frame and its average."""

    time_ps: np.ndarray
    """(frames,)"""
    density_g_per_cm3: np.ndarray
    """(frames,)"""
    average: BlockAverage
    """Mean and standard error [g/cm³]."""

    def write_csv(self, path: str | Path) -> Path:
        return write_table(path, {"time_ps": self.time_ps, "density_g_per_cm3": self.density_g_per_cm3})

    def draw(self, axes: "Axes") -> None:
        axes.plot(self.time_ps, self.density_g_per_cm3, linewidth=0.8)
        label = f"{with_error(self.average.mean, self.average.error)} g/cm³"
        axes.axhline(self.average.mean, color="black", linestyle="--", linewidth=0.8, label=label)
        axes.set_xlabel("time / ps")
        axes.set_ylabel("density / (g/cm³)")
        axes.ticklabel_format(useOffset=False)
        axes.legend(frameon=False, fontsize="small")


def mass_density(trajectory: mdtraj.Trajectory, times_ps: np.ndarray | None = None) -> Density:
    """Mass density of every frame, from the masses of the topology's elements and the volume of the cell."""
    volumes = np.linalg.det(cells_nm(trajectory, "a density"))
    density = element_masses(trajectory.topology).sum() / volumes * DALTON_PER_NM3_TO_G_PER_CM3
    return Density(times_of(trajectory, times_ps), density, block_average(density))
