"""Mean-squared displacement and the diffusion coefficient.

Symbols used in this file
    f  frames     k  atoms of the element     x  Cartesian axis     t  lags
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from openmm_allegro.analysis.blocks import block_slices, standard_error, standard_errors
from openmm_allegro.analysis.frames import atoms_of, times_of
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.tables import write_table
from openmm_allegro.analysis.unwrap import remove_drift, unwrapped_positions_nm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NM2_PER_PS_TO_CM2_PER_S = 1e-14 / 1e-12


@dataclass(frozen=True)
class MeanSquaredDisplacement:
    """Mean-squared displacement of one element and the diffusion coefficient from its slope."""

    element: str
    lag_ps: np.ndarray
    """Times between two frames, up to half the length of a block, (t,)."""
    msd_nm2: np.ndarray
    """Mean over atoms and over all pairs of frames, (t,)."""
    msd_error_nm2: np.ndarray
    """Standard error from independent blocks, (t,)."""
    diffusion_cm2_per_s: float
    """Slope of a straight line through the fit window, divided by six; not corrected for the size of the box."""
    diffusion_error_cm2_per_s: float
    """Standard error from the slopes of independent blocks; cautious, about 1.4 times the true one of a random walk."""
    fit_window_ps: tuple[float, float]
    """First and last lag of the straight line."""
    n_blocks: int

    def write_csv(self, path: str | Path) -> Path:
        columns = {"lag_ps": self.lag_ps, "msd_nm2": self.msd_nm2, "msd_error_nm2": self.msd_error_nm2}
        return write_table(path, columns)

    def draw(self, axes: "Axes") -> None:
        diffusion = with_error(self.diffusion_cm2_per_s, self.diffusion_error_cm2_per_s)
        label = f"{self.element}: D = {diffusion} cm²/s"
        (line,) = axes.plot(self.lag_ps, self.msd_nm2, linewidth=1.2, label=label)
        low, high = self.msd_nm2 - self.msd_error_nm2, self.msd_nm2 + self.msd_error_nm2
        axes.fill_between(self.lag_ps, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        inside = _window(self.lag_ps, self.fit_window_ps)
        slope, start = np.polyfit(self.lag_ps[inside], self.msd_nm2[inside], 1)
        axes.plot(self.lag_ps[inside], start + slope * self.lag_ps[inside], "k--", linewidth=0.8)
        axes.set_xlabel("time between frames / ps")
        axes.set_ylabel("mean-squared displacement / nm²")
        axes.set_xlim(0.0, float(self.lag_ps[-1]))
        axes.set_ylim(bottom=0.0)
        axes.legend(frameon=False, fontsize="small")


def mean_squared_displacement(
    trajectory: mdtraj.Trajectory,
    element: str,
    times_ps: np.ndarray | None = None,
    *,
    fit_window_ps: tuple[float, float] | None = None,
    n_blocks: int = 4,
    drift_removed: bool = True,
) -> MeanSquaredDisplacement:
    """Mean-squared displacement of the atoms of one element, from frames equally spaced in time.

    Lags reach half the length of one of the `n_blocks` blocks, so that every value has a fair error. The straight line
    goes through `fit_window_ps`, by default from a fifth of the longest lag to all of it. `drift_removed` takes
    positions relative to the centre of mass of all atoms.
    """
    if n_blocks < 2:
        raise ValueError(f"`n_blocks` is {n_blocks}; the error of a diffusion coefficient needs 2 or more")
    atoms = atoms_of(trajectory.topology, element)
    times = times_of(trajectory, times_ps)
    slices = block_slices(len(times), n_blocks)
    length = slices[0].stop - slices[0].start
    if length < 6:
        raise ValueError(
            f"{len(times)} frames in {n_blocks} blocks leave {length} a block, but a slope needs at least 6; "
            f"use more frames or a smaller `n_blocks`"
        )
    spacing = (times[-1] - times[0]) / (len(times) - 1)
    last_digit = 2 * float(np.spacing(np.float32(np.abs(times).max())))  # XTC files keep times in single precision
    if not np.allclose(np.diff(times), spacing, rtol=1e-3, atol=last_digit):
        raise ValueError("the frames are not equally spaced in time; use a part of the trajectory where they are")
    positions = unwrapped_positions_nm(trajectory)
    if drift_removed:
        positions = remove_drift(positions, trajectory.topology)
    positions = positions[:, atoms]

    lags = spacing * np.arange(length // 2 + 1)
    window = fit_window_ps or (0.2 * lags[-1], lags[-1])
    inside = _window(lags, window)
    if inside.sum() < 2:
        raise ValueError(
            f"the fit window {window[0]:g} to {window[1]:g} ps holds {inside.sum()} of the lags up to {lags[-1]:g} ps, "
            f"but a slope needs 2; choose a wider one, a smaller `n_blocks` or a longer trajectory"
        )
    of_blocks = np.stack([displacements_by_fft(positions[frames], len(lags)) for frames in slices])
    of_all = displacements_by_fft(positions, len(lags))
    to_diffusion = NM2_PER_PS_TO_CM2_PER_S / 6
    block_slopes = np.polyfit(lags[inside], of_blocks[:, inside].T, 1)[0]
    return MeanSquaredDisplacement(
        element=element,
        lag_ps=lags,
        msd_nm2=of_all,
        msd_error_nm2=standard_errors(of_blocks),
        diffusion_cm2_per_s=float(np.polyfit(lags[inside], of_all[inside], 1)[0]) * to_diffusion,
        diffusion_error_cm2_per_s=standard_error(block_slopes) * to_diffusion,
        fit_window_ps=(float(lags[inside][0]), float(lags[inside][-1])),
        n_blocks=n_blocks,
    )


def displacements_by_fft(positions: np.ndarray, n_lags: int) -> np.ndarray:
    """Mean-squared displacement at lags 0 … n_lags − 1 frames, over atoms and time origins. positions: (f, k, 3).

    |r(i+t) − r(i)|² = r(i+t)² + r(i)² − 2 r(i+t)·r(i), whose last sum over i is an autocorrelation (V. Calandrini et
    al., Collection SFN 12, 201 (2011), section 4.2).
    """
    f, k, _ = positions.shape
    displacement = np.zeros(n_lags)
    origins = f - np.arange(n_lags)
    for start in range(0, k, 256):  # bounds the memory of the transforms
        chunk = positions[:, start : start + 256]
        chunk = chunk - chunk.mean(axis=0)  # the large constant part would only cost digits
        transform = np.fft.rfft(chunk, n=2 * f, axis=0)
        correlation = np.fft.irfft((transform * transform.conj()).real.sum(axis=(1, 2)), n=2 * f)[:n_lags]
        squares = np.concatenate([[0.0], np.cumsum((chunk**2).sum(axis=(1, 2)))])  # (f + 1,) sums of the first frames
        ends = squares[origins] + (squares[-1] - squares[:n_lags])
        displacement += (ends - 2 * correlation) / origins
    displacement[0] = 0.0
    return displacement / k


def _window(lags_ps: np.ndarray, window_ps: tuple[float, float]) -> np.ndarray:
    """Which lags lie in the window, ends included; a billionth of slack for rounding."""
    slack = 1e-9 * lags_ps[-1]
    return (lags_ps >= window_ps[0] - slack) & (lags_ps <= window_ps[1] + slack)
