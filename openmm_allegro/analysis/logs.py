"""What the log of a run tells: whatever its columns allow."""

import csv
from pathlib import Path

import numpy as np

from openmm_allegro.analysis.energy import TIME, TOTAL_ENERGY, VOLUME, energy_drift, read_log
from openmm_allegro.analysis.npt import ATMOSPHERE_BAR, POTENTIAL_ENERGY, npt_fluctuations
from openmm_allegro.analysis.result import Result
from openmm_allegro.analysis.viscosity import PRESSURES, shear_viscosity


def log_results(
    log: Path,
    n_atoms: int,
    start_ps: float = 0.0,
    temperature_k: float | None = None,
    pressure_bar: float = ATMOSPHERE_BAR,
) -> list[Result]:
    """Drift of the total energy; with a temperature also what follows from fluctuations of volume and pressure.

    Thermal expansion, at the pressure of the barostat, and compressibility need the potential energy and a volume that
    changes, viscosity the pressure tensor.
    """
    columns = _columns(log)
    results: list[Result] = []
    if TOTAL_ENERGY in columns:
        results.append(energy_drift(log, n_atoms, start_ps=start_ps))
    if temperature_k is not None and {POTENTIAL_ENERGY, VOLUME} <= columns and _volume_changes(log, start_ps):
        fluctuations = npt_fluctuations(log, temperature_k=temperature_k, pressure_bar=pressure_bar, start_ps=start_ps)
        results.append(fluctuations)
    if temperature_k is not None and set(PRESSURES) <= columns:
        results.append(shear_viscosity(log, temperature_k, start_ps=start_ps))
    if not results:
        raise ValueError(
            f"`{log.name}` has neither `{TOTAL_ENERGY}` nor, with a `temperature_k`, volumes or a pressure tensor; "
            "write one of them"
        )
    return results


def _volume_changes(log: Path, start_ps: float) -> bool:
    """From a time on: a run at constant volume may begin with a stage under a barostat."""
    found = read_log(log, (TIME, VOLUME))
    volumes = found[VOLUME][found[TIME] >= start_ps]
    return len(volumes) == 0 or float(np.ptp(volumes)) > 1e-6 * float(volumes.max())


def _columns(log: Path) -> set[str]:
    if not log.is_file():
        raise FileNotFoundError(f"there is no file `{log}`")
    with log.open(newline="") as file:
        return set(next(csv.reader(line.removeprefix("#") for line in file), []))
