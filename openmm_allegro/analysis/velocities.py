"""Velocity autocorrelation and the diffusion coefficient that is its integral.

Symbols used in this file
    f  frames     k  paths     t  lags     m  blocks of frames
"""

import warnings
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.integrate import cumulative_trapezoid

from openmm_allegro import units
from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.displacements import lag_blocks
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of, plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
ROUNDED_NM = 1e-3
"""What XTC and GRO files round positions to."""
NOISE_SHARE = 0.02
"""Share of ⟨v²⟩ that is no motion of atoms, from which on it is said."""


@dataclass(frozen=True)
class VelocityCorrelation:
    """⟨v(0)·v(t)⟩ of one species."""

    element: str
    """Element or selection."""
    lag_ps: Array
    """(t,)"""
    correlation_nm2_per_ps2: Array
    """(t,)"""
    correlation_error_nm2_per_ps2: Array
    """From blocks of frames, (t,)."""
    diffusion_cm2_per_s: Array
    """A third of the integral up to each lag, (t,)."""
    diffusion_error_cm2_per_s: Array
    """(t,)"""

    @property
    def name(self) -> str:
        return f"vacf_{plain(self.element)}"

    def write_csv(self, path: str | Path) -> Path:
        columns = {
            "lag_ps": self.lag_ps,
            "correlation_nm2_per_ps2": self.correlation_nm2_per_ps2,
            "correlation_error_nm2_per_ps2": self.correlation_error_nm2_per_ps2,
            "diffusion_cm2_per_s": self.diffusion_cm2_per_s,
            "diffusion_error_cm2_per_s": self.diffusion_error_cm2_per_s,
        }
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        curve = self.curve()
        diffusion = with_error(float(self.diffusion_cm2_per_s[-1]), float(self.diffusion_error_cm2_per_s[-1]))
        words = f"{self.element if label is None else label}: D = {diffusion} cm²/s"
        (line,) = axes.plot(curve.x, curve.y, linewidth=1.2, label=words)
        low, high = curve.y - curve.error, curve.y + curve.error
        axes.fill_between(curve.x, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        axes.axhline(0.0, color="black", linewidth=0.6)
        axes.set(xlabel=curve.x_label, ylabel=curve.y_label, xlim=(0.0, float(curve.x[-1])))
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        return {
            "diffusion_cm2_per_s": Measured(
                float(self.diffusion_cm2_per_s[-1]), float(self.diffusion_error_cm2_per_s[-1])
            ),
            "integrated_to_ps": Measured(float(self.lag_ps[-1])),
        }

    def curve(self) -> Curve:
        """Relative to its start."""
        start = self.correlation_nm2_per_ps2[0]
        return Curve(
            self.lag_ps,
            self.correlation_nm2_per_ps2 / start,
            self.correlation_error_nm2_per_ps2 / start,
            "time / ps",
            "⟨v(0)·v(t)⟩ / ⟨v²⟩",
        )


def velocity_autocorrelation(
    frames: Frames | mdtraj.Trajectory,
    element: str,
    *,
    longest_ps: float = 2.0,
    n_blocks: int = 5,
    centres: str = "atoms",
    relative_to: str = "all",
) -> VelocityCorrelation:
    """Velocity autocorrelation of an element or selection, and Green and Kubo's D, a third of its integral.

    Velocities are displacements from frame to frame over the time between, so that what is faster is averaged; the
    integral does not suffer: it is exactly the slope of the mean-squared displacement at `longest_ps` (at most half a
    block), and D is read there. Rounded positions, as in XTC files, and a barostat raise the start of the curve, of
    which a warning says how much. Errors are from `n_blocks` blocks of frames. centres, relative_to: as in `msd`.
    """
    frames = Frames.of(frames)
    slices, n_lags = lag_blocks(frames.n_frames - 1, n_blocks, "steps between frames")
    spacing = frames.spacing_ps()
    n_lags = min(n_lags, 1 + round(longest_ps / spacing))
    if n_lags < 2:
        raise ValueError(f"`longest_ps` is {longest_ps}, but the frames are {spacing:g} ps apart; choose a longer one")
    (paths,) = collect_paths(frames, [element], centres=centres, relative_to=relative_to)
    of_all, of_blocks = np.zeros(n_lags), np.zeros((n_blocks, n_lags))
    for moved in paths.blocks():
        velocities = np.diff(moved, axis=0) / spacing
        of_all += autocorrelation(velocities, n_lags) / paths.n_paths
        for block, part in enumerate(slices):
            of_blocks[block] += autocorrelation(velocities[part], n_lags) / paths.n_paths
    if not of_all[0] > 0:
        raise ValueError(f"{element} does not move, so that there is no correlation; choose another element")
    rounding = 6 * rounding_variance_nm2(frames, element) / spacing**2  # of both ends of a step, in three directions
    if centres == "atoms" and rounding > NOISE_SHARE * of_all[0]:
        warnings.warn(
            f"the positions are rounded to {ROUNDED_NM:g} nm, as in XTC files, which in frames {spacing:g} ps apart is "
            f"about {100 * min(1.0, rounding / of_all[0]):.0f} % of ⟨v²⟩, to which the curve is relative; write a DCD "
            f"file",
            stacklevel=2,
        )
    warn_of_barostat(frames, float(of_all[0]))
    scale = units.NM2_PER_PS_TO_CM2_PER_S / 3 * spacing
    return VelocityCorrelation(
        element=element,
        lag_ps=spacing * np.arange(n_lags, dtype=np.float64),
        correlation_nm2_per_ps2=of_all,
        correlation_error_nm2_per_ps2=standard_errors(of_blocks),
        diffusion_cm2_per_s=scale * cumulative_trapezoid(of_all, initial=0),
        diffusion_error_cm2_per_s=standard_errors(scale * cumulative_trapezoid(of_blocks, axis=1, initial=0)),
    )


def rounding_variance_nm2(frames: Frames, selection: str) -> float:
    """Variance that rounding gives to each coordinate; zero where those of the second frame are not rounded."""
    positions = next(islice(frames.positions_nm(atoms_of(frames.topology, selection)), 1, None)) / ROUNDED_NM
    return ROUNDED_NM**2 / 12 if np.abs(positions - np.rint(positions)).max() < 0.02 else 0.0  # 0.02: of float32


def warn_of_barostat(frames: Frames, mean_square: float) -> float:
    """Say so where changes of the cell, which move atoms along, are much of ⟨v²⟩ [nm²/ps²]; returns their share."""
    if frames.cells_nm is None:
        return 0.0
    steps = np.diff(frames.cells_nm, axis=0) / frames.spacing_ps()
    share = float((steps**2).sum(axis=(1, 2)).mean()) / 12 / mean_square  # 1/12: variance of a place in the cell
    if share > NOISE_SHARE:
        warnings.warn(
            f"the cell changes from frame to frame, as by a barostat, which moves the atoms along and is about "
            f"{100 * min(1.0, share):.0f} % of ⟨v²⟩; run at constant volume for velocities",
            stacklevel=3,
        )
    return share


def autocorrelation(values: Array, n_lags: int) -> Array:
    """Mean over origins of the sum over the other axes of v(i+t) v(i). values: (f, ...). Returns (t,)."""
    f = len(values)
    series = np.ascontiguousarray(values.reshape(f, -1).T)
    size = next_fast_len(f + n_lags, real=True)
    spectrum = rfft(series, size)
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
    return irfft(power, size)[:n_lags] / (f - np.arange(n_lags))
