"""Drift of the total energy in a log written by OpenMM's StateDataReporter."""

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openmm_allegro import units
from openmm_allegro.analysis.blocks import block_slices
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIME = "Time (ps)"
TOTAL_ENERGY = "Total Energy (kJ/mole)"
TEMPERATURE = "Temperature (K)"
VOLUME = "Box Volume (nm^3)"


@dataclass(frozen=True)
class EnergyDrift:
    """Straight line through the total energy per atom."""

    time_ps: np.ndarray
    """(lines,)"""
    energy_mev_per_atom: np.ndarray
    """Relative to its mean, (lines,)."""
    drift_mev_per_atom_per_ns: float
    """Slope of the least-squares line."""
    drift_error_mev_per_atom_per_ns: float
    """Standard error of the slope, from the scatter of block means about their own line."""
    drift_over_run_mev_per_atom: float
    """Slope times the length of the run."""
    fluctuation_mev_per_atom: float
    """Root mean square of the energy about the line."""

    @property
    def name(self) -> str:
        return "energy"

    def write_csv(self, path: str | Path) -> Path:
        return write_table(path, {"time_ps": self.time_ps, "energy_mev_per_atom": self.energy_mev_per_atom})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        axes.plot(self.time_ps, self.energy_mev_per_atom, linewidth=0.8, label=label)
        line = self.drift_mev_per_atom_per_ns / 1000 * (self.time_ps - self.time_ps.mean())
        drift = with_error(self.drift_mev_per_atom_per_ns, self.drift_error_mev_per_atom_per_ns)
        axes.plot(self.time_ps, line, "k--", linewidth=0.8, label=f"drift {drift} meV/atom/ns")
        axes.set_xlabel("time / ps")
        axes.set_ylabel("total energy − mean / (meV/atom)")
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        drift = Measured(self.drift_mev_per_atom_per_ns, self.drift_error_mev_per_atom_per_ns)
        return {
            "drift_mev_per_atom_per_ns": drift,
            "drift_over_run_mev_per_atom": Measured(self.drift_over_run_mev_per_atom),
            "fluctuation_mev_per_atom": Measured(self.fluctuation_mev_per_atom),
        }

    def curve(self) -> Curve | None:
        return None


def energy_drift(log_path: str | Path, n_atoms: int, *, start_ps: float = 0.0, n_blocks: int = 10) -> EnergyDrift:
    """Drift of the column `Total Energy (kJ/mole)` against `Time (ps)`, from `start_ps` on.

    The error comes from `n_blocks` block means, which scatter independently about the line where a block is longer
    than the memory of the energy.
    """
    if n_blocks < 3:
        raise ValueError(f"`n_blocks` is {n_blocks}; the error of a slope needs 3 or more")
    if n_atoms < 1:
        raise ValueError(f"`n_atoms` is {n_atoms}; an energy per atom needs 1 or more")
    columns = read_log(log_path, (TIME, TOTAL_ENERGY))
    kept = columns[TIME] >= start_ps
    time = columns[TIME][kept]
    energy = columns[TOTAL_ENERGY][kept] * units.KJ_PER_MOL_TO_EV * units.EV_TO_MEV / n_atoms
    if len(time) < n_blocks:
        raise ValueError(
            f"`{Path(log_path).name}` has {len(time)} lines from {start_ps} ps on, fewer than the {n_blocks} blocks; "
            f"run longer, report more often or start earlier"
        )
    late = np.flatnonzero(np.diff(time) <= 0)
    if len(late):
        raise ValueError(
            f"time goes from {time[late[0]]} to {time[late[0] + 1]} ps in `{Path(log_path).name}`; "
            f"give one log for one run, or remove what was repeated"
        )
    energy = energy - energy.mean()
    slope, start = np.polyfit(time, energy, 1)
    return EnergyDrift(
        time_ps=time,
        energy_mev_per_atom=energy,
        drift_mev_per_atom_per_ns=float(slope) * 1000,
        drift_error_mev_per_atom_per_ns=_slope_error(time, energy, n_blocks) * 1000,
        drift_over_run_mev_per_atom=float(slope * (time[-1] - time[0])),
        fluctuation_mev_per_atom=float(np.sqrt(np.mean((energy - start - slope * time) ** 2))),
    )


def mean_temperature_k(log: str | Path, start_ps: float = 0.0) -> float:
    """Mean of the temperatures in a run's log from a time on [K]; far from the thermostat's the run is not settled."""
    columns = read_log(log, (TIME, TEMPERATURE))
    after = columns[TIME] >= start_ps
    if not after.any():
        raise ValueError(f"`{log}` ends at {columns[TIME][-1]:g} ps, before `start_ps` = {start_ps:g}")
    return float(columns[TEMPERATURE][after].mean())


def read_log(
    path: str | Path, names: tuple[str, ...], advice: str = "ask the StateDataReporter for it"
) -> dict[str, np.ndarray]:
    """Named columns of a StateDataReporter log, whose first line is `#"Step","Time (ps)",…`; each (lines,).

    advice: what to do where a column is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file `{path}`")
    with open(path, newline="") as file:
        header = next(csv.reader([file.readline().removeprefix("#")]), [])
    for name in names:
        if name not in header:
            raise ValueError(f"`{path.name}` has no column `{name}`, only {', '.join(header) or 'nothing'}; {advice}")
    picked = [header.index(name) for name in names]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an empty file
            numbers = np.loadtxt(path, delimiter=",", skiprows=1, usecols=picked, ndmin=2, comments=None)
    except (ValueError, UserWarning):
        numbers = np.full((1, 1), np.nan)
    if not np.all(np.isfinite(numbers)):
        numbers = _line_by_line(path, len(header), picked)
    return {name: numbers[:, k] for k, name in enumerate(names)}


def _line_by_line(path: Path, n_columns: int, picked: list[int]) -> np.ndarray:
    """The same, slowly; names the line that is not finite numbers. Returns (lines, columns)."""
    with open(path, newline="") as file:
        rows = [row for row in csv.reader(file) if row][1:]
    numbers = np.empty((len(rows), len(picked)))
    for k, row in enumerate(rows):
        try:
            numbers[k] = [float(row[column]) for column in picked]
        except (ValueError, IndexError):
            raise ValueError(
                f"line {k + 2} of `{path.name}` is not {n_columns} numbers: `{','.join(row)}`; remove it"
            ) from None
        if not np.all(np.isfinite(numbers[k])):
            raise ValueError(
                f"line {k + 2} of `{path.name}` is not finite: `{','.join(row)}`; the run has failed there"
            )
    return numbers


def _slope_error(time: np.ndarray, energy: np.ndarray, n_blocks: int) -> float:
    """Textbook standard error of a slope, on block means in place of correlated values."""
    slices = block_slices(len(time), n_blocks)
    block_time = np.array([time[lines].mean() for lines in slices])
    block_energy = np.array([energy[lines].mean() for lines in slices])
    slope, start = np.polyfit(block_time, block_energy, 1)
    residual = block_energy - start - slope * block_time
    spread = ((block_time - block_time.mean()) ** 2).sum()
    return float(np.sqrt((residual**2).sum() / (n_blocks - 2) / spread))
