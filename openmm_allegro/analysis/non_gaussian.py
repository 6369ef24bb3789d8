"""Non-Gaussian parameter: how unequal the atoms are in their displacements.

Symbols used in this file
    f  frames     k  paths     t  lags     m  blocks of frames
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import jackknife_errors
from openmm_allegro.analysis.displacements import lag_blocks
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.pictures import logarithmic_times
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NonGaussian:
    """α₂ of one species over the time between frames."""

    element: str
    """Element or selection."""
    lag_ps: Array
    """(t,)"""
    alpha2: Array
    """(t,)"""
    alpha2_error: Array
    """From blocks of frames, (t,)."""

    @property
    def name(self) -> str:
        return f"non_gaussian_{plain(self.element)}"

    def write_csv(self, path: str | Path) -> Path:
        return write_table(path, {"lag_ps": self.lag_ps, "alpha2": self.alpha2, "alpha2_error": self.alpha2_error})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        (line,) = axes.plot(self.lag_ps, self.alpha2, linewidth=1.2, label=self.element if label is None else label)
        low, high = self.alpha2 - self.alpha2_error, self.alpha2 + self.alpha2_error
        axes.fill_between(self.lag_ps, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        axes.axhline(0.0, color="black", linewidth=0.6)
        logarithmic_times(axes, self.lag_ps)
        axes.set_ylabel("non-Gaussian parameter α₂")
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        highest = int(np.argmax(self.alpha2))
        return {
            "highest_alpha2": Measured(float(self.alpha2[highest]), float(self.alpha2_error[highest])),
            "highest_at_ps": Measured(float(self.lag_ps[highest])),
        }

    def curve(self) -> Curve:
        return Curve(self.lag_ps, self.alpha2, self.alpha2_error, "time between frames / ps", "α₂")


def non_gaussian_parameter(
    frames: Frames | mdtraj.Trajectory,
    element: str,
    *,
    n_lags: int = 30,
    n_blocks: int = 5,
    n_origins: int = 100,
    centres: str = "atoms",
    relative_to: str = "all",
) -> NonGaussian:
    """Non-Gaussian parameter α₂ = 3⟨r⁴⟩/(5⟨r²⟩²) − 1 of the displacements r of an element or selection.

    0 for diffusion of equal atoms, large where a few have hopped and the others not (A. Rahman, Phys. Rev. 136, A405
    (1964)). At `n_lags` times on a logarithmic scale up to half a block; errors by jackknife of `n_blocks` blocks of
    frames, each with at most `n_origins` origins. centres, relative_to: as in `msd`.
    """
    frames = Frames.of(frames)
    if n_lags < 2 or n_origins < 1:
        raise ValueError(f"`n_lags` is {n_lags} and `n_origins` {n_origins}; they must be at least 2 and 1")
    slices, longest = lag_blocks(frames.n_frames, n_blocks)
    (paths,) = collect_paths(frames, [element], centres=centres, relative_to=relative_to)
    lags = np.unique(np.geomspace(1, longest - 1, n_lags).round().astype(int))
    moments = np.zeros((n_blocks, 2, len(lags)))
    for moved in paths.blocks():
        for block, part in enumerate(slices):
            piece = moved[part]
            for column, lag in enumerate(lags):
                every = math.ceil((len(piece) - lag) / n_origins)
                steps = piece[lag::every] - piece[:-lag:every]
                squares = np.einsum("fkx,fkx->fk", steps, steps)
                moments[block, 0, column] += squares.mean(axis=0).sum()
                moments[block, 1, column] += (squares**2).mean(axis=0).sum()
    moments /= paths.n_paths
    mean = moments.mean(axis=0)
    if not np.all(mean[0] > 0):
        raise ValueError(f"{element} does not move, so that there is no non-Gaussian parameter; choose another element")
    return NonGaussian(element, paths.spacing_ps * lags, _alpha2(mean), jackknife_errors(_alpha2, moments))


def _alpha2(moments: Array) -> Array:
    """moments: ⟨r²⟩ and ⟨r⁴⟩, (2, t). Returns (t,)."""
    return 3 * moments[1] / (5 * moments[0] ** 2) - 1
