"""Mean-squared displacement and the self-diffusion coefficient.

Symbols used in this file
    t  lags     axes are x, y, z
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.diffusive import LineFit, StraightLine, Walkers, diffusive_window
from openmm_allegro.analysis.displacements import lag_blocks, squared_displacements
from openmm_allegro.analysis.finite_size import box_correction_cm2_per_s
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.pictures import logarithmic_times, with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeanSquaredDisplacement:
    """Mean-squared displacement of one species and the diffusion coefficient from its slope."""

    element: str
    """Element or selection."""
    lag_ps: Array
    """Times between two frames, up to half the length of a block, (t,)."""
    msd_nm2: Array
    """Mean over paths and over all pairs of frames, (t,)."""
    msd_error_nm2: Array
    """Standard error from blocks of frames, (t,)."""
    msd_xyz_nm2: Array
    """Along each axis, (t, 3)."""
    msd_xyz_error_nm2: Array
    """(t, 3)"""
    line: StraightLine
    """Through `msd_nm2` in the fit window."""
    diffusion_xyz_cm2_per_s: tuple[Measured, Measured, Measured]
    """Along x, y and z."""
    fit_window_ps: tuple[float, float]
    """First and last lag of the line."""
    log_slope: Measured
    """d log MSD / d log t at the start of the window, over a factor of two in time; 1 for diffusion."""
    diffusive: bool
    """Whether it is 1 within a tenth or three standard errors; if not, the motion is slower than the trajectory."""
    box_correction_cm2_per_s: float | None
    """To be added for an infinite box; None where no viscosity was given."""

    @property
    def name(self) -> str:
        return f"msd_{plain(self.element)}"

    @property
    def diffusion_cm2_per_s(self) -> float:
        return self.line.slope.value / 6 * units.NM2_PER_PS_TO_CM2_PER_S

    @property
    def diffusion_error_cm2_per_s(self) -> float:
        return self.line.slope.error / 6 * units.NM2_PER_PS_TO_CM2_PER_S

    def write_csv(self, path: str | Path) -> Path:
        columns = {"lag_ps": self.lag_ps, "msd_nm2": self.msd_nm2, "msd_error_nm2": self.msd_error_nm2}
        for axis, letter in enumerate("xyz"):
            columns[f"msd_{letter}_nm2"] = self.msd_xyz_nm2[:, axis]
            columns[f"msd_{letter}_error_nm2"] = self.msd_xyz_error_nm2[:, axis]
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """On logarithmic axes, where diffusion has slope 1; the fit window is drawn over in black."""
        diffusion = with_error(self.diffusion_cm2_per_s, self.diffusion_error_cm2_per_s)
        doubt = "" if self.diffusive else ", not diffusive"
        text = f"{self.element if label is None else label}: D = {diffusion} cm²/s{doubt}"
        t, y = self.lag_ps[1:], self.msd_nm2[1:]
        (line,) = axes.plot(t, y, linewidth=1.2, label=text)
        low = np.maximum(y - self.msd_error_nm2[1:], 0.1 * y)
        axes.fill_between(t, low, y + self.msd_error_nm2[1:], color=line.get_color(), alpha=0.3, linewidth=0)
        if label is None:
            for axis, dashes in enumerate(((4, 2), (1, 1), (4, 1, 1, 1))):
                words = "x, y, z" if axis == 0 and "x, y, z" not in axes.get_legend_handles_labels()[1] else None
                along = self.msd_xyz_nm2[1:, axis]
                axes.plot(t, along, color=line.get_color(), linewidth=0.6, dashes=dashes, label=words)
        inside = np.geomspace(*self.fit_window_ps, 50)
        style = "-" if self.diffusive else ":"
        fit = self.line.intercept + self.line.slope.value * inside
        words = None if "line of D" in axes.get_legend_handles_labels()[1] else "line of D"
        axes.plot(inside[fit > 0], fit[fit > 0], f"k{style}", linewidth=1.0, label=words)
        moves = any(np.any(np.asarray(each.get_ydata()) > 0) for each in axes.lines)
        logarithmic_times(axes, t)
        axes.set(yscale="log" if moves else "linear", ylabel="mean-squared displacement / nm²")
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        low, high = (bound / 6 * units.NM2_PER_PS_TO_CM2_PER_S for bound in self.line.interval())
        diffusion = Measured(self.diffusion_cm2_per_s, self.diffusion_error_cm2_per_s)
        found = {
            "diffusion_cm2_per_s": diffusion,
            "diffusion_low_cm2_per_s": Measured(low),
            "diffusion_high_cm2_per_s": Measured(high),
        }
        for letter, along in zip("xyz", self.diffusion_xyz_cm2_per_s, strict=True):
            found[f"diffusion_{letter}_cm2_per_s"] = along
        if self.box_correction_cm2_per_s is not None:
            corrected = diffusion.value + self.box_correction_cm2_per_s
            found["diffusion_infinite_box_cm2_per_s"] = Measured(corrected, diffusion.error)
        found["log_slope"] = self.log_slope
        found["fit_start_ps"], found["fit_end_ps"] = map(Measured, self.fit_window_ps)
        return found

    def curve(self) -> Curve:
        return Curve(
            self.lag_ps,
            self.msd_nm2,
            self.msd_error_nm2,
            "time between frames / ps",
            f"mean-squared displacement of {self.element} / nm²",
        )


def mean_squared_displacement(
    frames: Frames | mdtraj.Trajectory,
    element: str,
    *,
    fit_window_ps: tuple[float, float] | None = None,
    n_blocks: int = 5,
    centres: str = "atoms",
    relative_to: str = "all",
    temperature_k: float | None = None,
    viscosity_mpa_s: float | None = None,
) -> MeanSquaredDisplacement:
    """Mean-squared displacement and self-diffusion of an element or selection, in all and along x, y and z.

    Einstein's D is a sixth of the slope. The line begins where the displacement has become diffusive
    (`diffusive.diffusive_window`) unless `fit_window_ps` is given, and is weighted (`diffusive.LineFit`). Errors are
    from `n_blocks` blocks of frames; lags reach half a block. centres: `atoms`, or centres of mass of the selected
    atoms of `residues` or bonded `molecules`. relative_to: atoms whose centre of mass is at rest; `none` for no such.
    With a temperature and a viscosity D is corrected for the size of the cubic box (`finite_size`).
    """
    frames = Frames.of(frames)
    correction = None
    if viscosity_mpa_s is not None:
        if temperature_k is None:
            raise ValueError("`viscosity_mpa_s` is given without `temperature_k`; the correction needs both")
        cells = frames.cells_for("the correction for the size of the box")
        correction = box_correction_cm2_per_s(cells, temperature_k, viscosity_mpa_s)
    slices, n_lags = lag_blocks(frames.n_frames, n_blocks)
    (paths,) = collect_paths(frames, [element], centres=centres, relative_to=relative_to)
    of_all, of_blocks = squared_displacements(paths, slices, n_lags)
    lags = paths.spacing_ps * np.arange(n_lags, dtype=np.float64)
    total, total_of_blocks = of_all.sum(axis=1), of_blocks.sum(axis=2)
    window = diffusive_window(lags, total, total_of_blocks, Walkers(paths.n_paths, paths.n_frames), fit_window_ps)
    window.warn_unless_diffusive(element, float(lags[-1]), "D")
    fit = LineFit(window.indices, total, paths.n_frames, slices[0].stop - slices[0].start)
    along = [fit.line(of_all[:, axis], of_blocks[:, :, axis], paths.spacing_ps).slope for axis in range(3)]
    x, y, z = (Measured(*(number / 2 * units.NM2_PER_PS_TO_CM2_PER_S for number in slope)) for slope in along)
    return MeanSquaredDisplacement(
        element=element,
        lag_ps=lags,
        msd_nm2=total,
        msd_error_nm2=standard_errors(total_of_blocks),
        msd_xyz_nm2=of_all,
        msd_xyz_error_nm2=standard_errors(of_blocks),
        line=fit.line(total, total_of_blocks, paths.spacing_ps),
        diffusion_xyz_cm2_per_s=(x, y, z),
        fit_window_ps=(float(lags[window.indices[0]]), float(lags[window.indices[-1]])),
        log_slope=window.log_slope,
        diffusive=window.diffusive,
        box_correction_cm2_per_s=correction,
    )
