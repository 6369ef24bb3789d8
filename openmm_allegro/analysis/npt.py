"""Thermal expansion and compressibility from the fluctuations of a run at constant pressure."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.blocks import BlockAverage, average_of, jackknife
from openmm_allegro.analysis.energy import TIME, VOLUME, read_log
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
POTENTIAL_ENERGY = "Potential Energy (kJ/mole)"
ATMOSPHERE_BAR = 1.01325


@dataclass(frozen=True)
class NptFluctuations:
    """Volume of a run at constant pressure, and what its fluctuations say."""

    time_ps: Array
    """(lines,)"""
    volume_nm3: Array
    """(lines,)"""
    enthalpy_kj_per_mol: Array
    """Potential energy and pressure times volume, (lines,)."""
    volume: BlockAverage
    """Mean and standard error [nm³]."""
    expansion: Measured
    """Isobaric thermal expansion coefficient [1/K]."""
    compressibility: Measured
    """Isothermal compressibility [1/bar]."""

    @property
    def name(self) -> str:
        return "npt"

    def write_csv(self, path: str | Path) -> Path:
        columns = {"volume_nm3": self.volume_nm3, "enthalpy_kj_per_mol": self.enthalpy_kj_per_mol}
        return write_table(path, {"time_ps": self.time_ps} | columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        axes.plot(self.time_ps, self.volume_nm3, linewidth=0.8, label=label)
        axes.axhline(self.volume.mean, color="black", linestyle="--", linewidth=0.8)
        axes.set_title(
            f"α = {with_error(*self.expansion)} 1/K, κ = {with_error(*self.compressibility)} 1/bar", fontsize="small"
        )
        axes.set_xlabel("time / ps")
        axes.set_ylabel("volume / nm³")
        axes.ticklabel_format(useOffset=False)
        if label is not None:
            axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        return {
            "volume_nm3": Measured(self.volume.mean, self.volume.error),
            "expansion_per_k": self.expansion,
            "compressibility_per_bar": self.compressibility,
        }

    def curve(self) -> Curve | None:
        return None


def npt_fluctuations(
    log_path: str | Path,
    *,
    temperature_k: float,
    pressure_bar: float = ATMOSPHERE_BAR,
    start_ps: float = 0.0,
    n_blocks: int = 10,
) -> NptFluctuations:
    """Expansion and compressibility from a StateDataReporter log with time, potential energy and volume.

    α = ⟨δV δ(U + PV)⟩ / (kT² ⟨V⟩) and κ = ⟨δV²⟩ / (kT ⟨V⟩) (M. P. Allen and D. J. Tildesley, Computer Simulation of
    Liquids, 2nd ed., section 2.5); the kinetic energy, which does not know the volume, is left out of α, where it would
    be noise. Errors by jackknife over `n_blocks` blocks of lines.
    """
    columns = read_log(log_path, (TIME, POTENTIAL_ENERGY, VOLUME))
    kept = columns[TIME] >= start_ps
    if not np.any(kept):
        raise ValueError(f"`{Path(log_path).name}` has no line at or after {start_ps} ps; start earlier")
    volume = fluctuating(columns[VOLUME][kept], f"`{Path(log_path).name}`")
    enthalpy = columns[POTENTIAL_ENERGY][kept] + pressure_bar * units.BAR_NM3_TO_KJ_PER_MOL * volume
    compressibility = compressibility_per_bar(volume, temperature_k, n_blocks)

    def expansion(lines: NDArray[np.int64]) -> float:
        v, h = volume[lines], enthalpy[lines]
        covariance = float(np.mean((v - v.mean()) * (h - h.mean())))
        return covariance / (units.BOLTZMANN_KJ_PER_MOL_K * temperature_k**2 * float(v.mean()))

    value, error = jackknife(expansion, len(volume), n_blocks)
    return NptFluctuations(
        time_ps=columns[TIME][kept],
        volume_nm3=volume,
        enthalpy_kj_per_mol=enthalpy,
        volume=average_of(volume, "the volume"),
        expansion=Measured(float(value), float(error)),
        compressibility=compressibility,
    )


def compressibility_per_bar(volumes_nm3: Array, temperature_k: float, n_blocks: int) -> Measured:
    """κ = ⟨δV²⟩ / (kT ⟨V⟩) in 1/bar, with a jackknife error over blocks. volumes_nm3: (f,)."""
    if temperature_k <= 0:
        raise ValueError(f"`temperature_k` is {temperature_k}; it must be positive")

    def estimate(frames: NDArray[np.int64]) -> float:
        v = volumes_nm3[frames]
        return float(v.var() / v.mean()) * units.BAR_NM3_TO_KJ_PER_MOL / (units.BOLTZMANN_KJ_PER_MOL_K * temperature_k)

    value, error = jackknife(estimate, len(volumes_nm3), n_blocks)
    return Measured(float(value), float(error))


def fluctuating(volumes_nm3: Array, source: str) -> Array:
    """The volumes, refused where they are all the same. volumes_nm3: (f,)."""
    if np.ptp(volumes_nm3) <= 1e-6 * float(volumes_nm3.max()):
        raise ValueError(
            f"the volume in {source} does not change, but a compressibility comes from its fluctuations; "
            f"run with a barostat, or ask for the density alone"
        )
    return volumes_nm3
