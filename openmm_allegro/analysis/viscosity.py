"""Shear viscosity by Green and Kubo from the pressure tensor over time.

Symbols used in this file
    f  lines of the log     t  lags     m  blocks of lines
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import curve_fit

from openmm_allegro import units
from openmm_allegro.analysis.blocks import block_slices, jackknife_errors, standard_errors
from openmm_allegro.analysis.energy import TIME, VOLUME, read_log
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.tables import write_table
from openmm_allegro.analysis.velocities import autocorrelation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

PRESSURES = tuple(f"P{ab} (bar)" for ab in ("xx", "yy", "zz", "xy", "xz", "yz"))
SCATTER = 0.4
"""The fit ends where running integrals of blocks scatter by this share of their mean."""


@dataclass(frozen=True)
class Viscosity:
    """Running integral of the stress correlation and the value that it approaches."""

    lag_ps: Array
    """(t,)"""
    running_mpa_s: Array
    """Mean of blocks, (t,)."""
    running_error_mpa_s: Array
    """(t,)"""
    viscosity_mpa_s: Measured
    """Limit of the fit."""
    fit_mpa_s: Array
    """The fit at each lag, (t,)."""
    fit_end_ps: float
    """Last lag of the fit."""

    @property
    def name(self) -> str:
        return "viscosity"

    def write_csv(self, path: str | Path) -> Path:
        columns = {
            "lag_ps": self.lag_ps,
            "running_mpa_s": self.running_mpa_s,
            "running_error_mpa_s": self.running_error_mpa_s,
            "fit_mpa_s": self.fit_mpa_s,
        }
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        words = f"{'' if label is None else f'{label}: '}η = {with_error(*self.viscosity_mpa_s)} mPa s"
        (line,) = axes.plot(self.lag_ps, self.running_mpa_s, linewidth=1.2, label=words)
        low, high = self.running_mpa_s - self.running_error_mpa_s, self.running_mpa_s + self.running_error_mpa_s
        axes.fill_between(self.lag_ps, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        fitted = self.lag_ps <= self.fit_end_ps
        axes.plot(self.lag_ps[fitted], self.fit_mpa_s[fitted], "k--", linewidth=0.9)
        axes.set(
            xlabel="integrated to / ps",
            ylabel="viscosity / (mPa s)",
            xlim=(0.0, min(2 * self.fit_end_ps, float(self.lag_ps[-1]))),
        )
        axes.set_ylim(0.0, 1.6 * float(self.fit_mpa_s.max()))
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        return {"viscosity_mpa_s": self.viscosity_mpa_s, "fit_end_ps": Measured(self.fit_end_ps)}

    def curve(self) -> Curve:
        return Curve(
            self.lag_ps, self.running_mpa_s, self.running_error_mpa_s, "integrated to / ps", "viscosity / (mPa s)"
        )


def shear_viscosity(
    log_path: str | Path,
    temperature_k: float,
    *,
    volume_nm3: float | None = None,
    start_ps: float = 0.0,
    longest_ps: float | None = None,
    n_blocks: int = 10,
) -> Viscosity:
    """Shear viscosity of a liquid in equilibrium from a CSV log of its pressure tensor, written every few femtoseconds.

    η = V/(10 kT) ∫ ⟨P(0):P(t)⟩ dt of the symmetric traceless part P (P. J. Daivis and D. J. Evans, J. Chem. Phys. 100,
    541 (1994), equation A5), by the time decomposition of Y. Zhang, A. Otani and E. J. Maginn (J. Chem. Theory Comput.
    11, 3537 (2015)): running integrals of `n_blocks` blocks up to `longest_ps`, by default a quarter of a block, are
    averaged; two exponentials that approach a limit are fitted to the mean, weighted by the power law of its scatter,
    up to where that is 40 %. Neither may be slower than a quarter of the fit, so that a plateau is inside it. The error
    is by jackknife of the blocks. Columns are `Time (ps)`, `Pxx (bar)` and so on
    for yy, zz, xy, xz, yz, and `Box Volume (nm^3)` unless `volume_nm3` is given.
    """
    if temperature_k <= 0 or (volume_nm3 is not None and volume_nm3 <= 0):
        raise ValueError(f"`temperature_k` is {temperature_k} and `volume_nm3` {volume_nm3}; both must be positive")
    if n_blocks < 3:
        raise ValueError(f"`n_blocks` is {n_blocks}; the scatter of blocks needs 3 or more")
    columns = _read(Path(log_path), volume_nm3 is None, start_ps)
    spacing = float(np.diff(columns[TIME]).mean())
    slices = block_slices(len(columns[TIME]), n_blocks)
    length = slices[0].stop - slices[0].start
    n_lags = length // 4 if longest_ps is None else 1 + round(longest_ps / spacing)
    if not 8 <= n_lags <= length // 2:
        raise ValueError(
            f"running integrals over {n_lags} lines of blocks of {length} cannot be had; it takes at least 8 and at "
            f"most half a block; give a longer log, or `shear_viscosity` another `longest_ps` or fewer `n_blocks`"
        )
    volume = float(columns[VOLUME].mean()) if volume_nm3 is None else volume_nm3
    scale = 1e3 * 1e10 * 1e-27 * 1e-12 * volume / (10 * units.BOLTZMANN_J_PER_K * temperature_k)  # bar² nm³ ps to mPa s
    stress = _traceless(columns)
    correlations = np.stack([autocorrelation(stress[part], n_lags) for part in slices])
    running = scale * cumulative_trapezoid(correlations, dx=spacing, axis=1, initial=0)
    lags = spacing * np.arange(n_lags)
    end, weights = _until_noise(lags, running)
    fitted = np.unique(np.geomspace(1, end, 200).astype(int))

    def limit(mean: Array) -> Array:
        return np.array(_fit(lags[fitted], mean[fitted], weights[fitted])[0])

    parameters = _fit(lags[fitted], running.mean(axis=0)[fitted], weights[fitted])
    return Viscosity(
        lag_ps=lags,
        running_mpa_s=running.mean(axis=0),
        running_error_mpa_s=standard_errors(running),
        viscosity_mpa_s=Measured(float(parameters[0]), float(jackknife_errors(limit, running))),
        fit_mpa_s=_approach(lags, *parameters),
        fit_end_ps=float(lags[end]),
    )


def _traceless(columns: dict[str, Array]) -> Array:
    """Components whose squares sum to P:P, in bar, (f, 6)."""
    diagonal = np.stack([columns[name] for name in PRESSURES[:3]], axis=1)
    others = np.stack([columns[name] for name in PRESSURES[3:]], axis=1)
    return np.concatenate([diagonal - diagonal.mean(axis=1, keepdims=True), np.sqrt(2) * others], axis=1)


def _until_noise(lags: Array, running: Array) -> tuple[int, Array]:
    """Last lag of the fit and standard deviations of all by a power law. running: (m, t)."""
    mean, scatter = running.mean(axis=0), running.std(axis=0, ddof=1)
    noisy = np.flatnonzero(scatter[1:] > SCATTER * mean[1:])
    end = int(noisy[0]) if len(noisy) else len(lags) - 1
    if end < 8:
        raise ValueError(
            f"blocks of the log already scatter by more than {100 * SCATTER:.0f} % after {lags[max(end, 1)]:g} ps, so "
            f"that there is no plateau; run longer or use fewer `n_blocks`"
        )
    power, start = np.polyfit(np.log(lags[1 : end + 1]), np.log(scatter[1 : end + 1]), 1)
    return end, np.concatenate([[np.inf], np.exp(start) * lags[1:] ** power])


def _fit(lags: Array, running: Array, deviations: Array) -> Array:
    """Limit, share of the first exponential and the two times."""
    highest, end = float(running.max()), float(lags[-1])
    start = (highest, 0.5, end / 50, end / 8)
    bounds = ([0.0, 0.0, lags[0] / 10, lags[0] / 10], [10 * highest, 1.0, end / 4, end / 4])
    return curve_fit(_approach, lags, running, start, deviations / deviations.max(), bounds=bounds, max_nfev=5000)[0]


def _approach(lags: Array, limit: float, share: float, first_ps: float, second_ps: float) -> Array:
    return limit * (share * -np.expm1(-lags / first_ps) + (1 - share) * -np.expm1(-lags / second_ps))


def _read(path: Path, with_volume: bool, start_ps: float) -> dict[str, Array]:
    """Columns by name from `start_ps` on, equally spaced in time, (f,) each."""
    names = (TIME, *PRESSURES, *([VOLUME] if with_volume else []))
    columns = read_log(path, names, "write the pressure tensor and the volume (or give `volume_nm3`)")
    kept = columns[TIME] >= start_ps
    if kept.sum() < 2:
        raise ValueError(f"`{path.name}` has {kept.sum()} lines from {start_ps:g} ps on; start earlier or run longer")
    columns = {name: values[kept] for name, values in columns.items()}
    steps = np.diff(columns[TIME])
    if not np.allclose(steps, steps.mean(), rtol=1e-2) or steps.mean() <= 0:
        raise ValueError(f"the lines of `{path.name}` are not equally spaced in time; give one log of one run")
    return columns
