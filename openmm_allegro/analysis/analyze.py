"""All analyses of one trajectory: CSV files, one picture and the figures of merit."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj

from openmm_allegro.analysis.density import mass_density
from openmm_allegro.analysis.energy import energy_drift
from openmm_allegro.analysis.frames import cells_nm, element_symbols, load_trajectory
from openmm_allegro.analysis.msd import mean_squared_displacement
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.rdf import (
    RadialDistribution,
    longest_distance_nm,
    mean_absolute_difference,
    radial_distribution,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = Callable[["Axes"], None]
Figures = dict[str, dict[str, float | None]]
ANALYSES = ("rdf", "msd", "density")


def analyze_trajectory(
    trajectory_path: str | Path,
    topology_path: str | Path,
    *,
    what: Sequence[str] = ANALYSES,
    log: str | Path | None = None,
    reference: str | Path | None = None,
    output_dir: str | Path,
    start_ps: float = 0.0,
    timestep_ps: float | None = None,
    r_max_nm: float | None = None,
    fit_window_ps: tuple[float, float] | None = None,
) -> dict[str, object]:
    """Run the named analyses for every element or pair of elements and write CSV files and `analysis.png`.

    `log` is a StateDataReporter log, for the drift of the total energy. `reference` is a trajectory of the same
    topology, all of which is compared: its RDFs are drawn beside and the mean absolute difference is given. Returns
    figures ready for JSON, units in their names, None where a number cannot be had.
    """
    for name in what:
        if name not in ANALYSES:
            raise ValueError(f"there is no analysis `{name}`; choose from {', '.join(ANALYSES)}")
    if not what and log is None:
        raise ValueError(f"nothing was asked for; choose from {', '.join(ANALYSES)} or give a `log`")
    if reference is not None and "rdf" not in what:
        raise ValueError("a reference is compared through its radial distributions; add `rdf` to the analyses")
    trajectory = load_trajectory(trajectory_path, topology_path, timestep_ps=timestep_ps, start_ps=start_ps)
    reference_trajectory = load_trajectory(reference, topology_path, needs_times=False) if reference else None
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    symbols = element_symbols(trajectory.topology).tolist()
    elements = [symbol for symbol in dict.fromkeys(symbols) if symbol != "VS"]  # in the topology's order

    figures: dict[str, object] = {
        "n_atoms": trajectory.n_atoms,
        "n_frames": trajectory.n_frames,
        "start_ps": float(trajectory.time[0]),
        "end_ps": float(trajectory.time[-1]),
    }
    panels: list[Panel] = []
    files: list[Path] = []
    if "rdf" in what:
        figures["rdf"] = _rdf(trajectory, reference_trajectory, elements, r_max_nm, output, panels, files)
    if "msd" in what:
        figures["msd"] = _msd(trajectory, elements, fit_window_ps, output, panels, files)
    if "density" in what:
        density = mass_density(trajectory)
        files.append(density.write_csv(output / "density.csv"))
        panels.append(density.draw)
        figures["density"] = _finite(
            mean_g_per_cm3=density.average.mean,
            error_g_per_cm3=density.average.error,
        ) | {"error_converged": density.average.converged}
    if log is not None:
        drift = energy_drift(log, trajectory.n_atoms, start_ps=start_ps)
        files.append(drift.write_csv(output / "energy.csv"))
        panels.append(drift.draw)
        figures["energy"] = _finite(
            drift_mev_per_atom_per_ns=drift.drift_mev_per_atom_per_ns,
            drift_error_mev_per_atom_per_ns=drift.drift_error_mev_per_atom_per_ns,
            drift_over_run_mev_per_atom=drift.drift_over_run_mev_per_atom,
            fluctuation_mev_per_atom=drift.fluctuation_mev_per_atom,
        )
    files.append(save_picture(output / "analysis.png", panels))
    figures["files"] = [str(path) for path in files]
    return figures


def _rdf(
    trajectory: mdtraj.Trajectory,
    reference: mdtraj.Trajectory | None,
    elements: list[str],
    r_max_nm: float | None,
    output: Path,
    panels: list[Panel],
    files: list[Path],
) -> Figures:
    """Every pair of elements; with a reference both on the bins that fit both cells."""
    if r_max_nm is None:
        both = [trajectory] if reference is None else [trajectory, reference]
        r_max_nm = min(longest_distance_nm(cells_nm(each, "a radial distribution function")) for each in both)
    symbols = element_symbols(trajectory.topology).tolist()
    figures: Figures = {}
    for pair in combinations_with_replacement(elements, 2):
        if pair[0] == pair[1] and symbols.count(pair[0]) < 2:
            continue
        name = "-".join(pair)
        found = radial_distribution(trajectory, pair, r_max_nm, n_blocks=min(5, trajectory.n_frames))
        files.append(found.write_csv(output / f"rdf_{name}.csv"))
        figures[name] = _finite(highest_peak_nm=found.highest_peak_nm(), highest_peak_g=float(found.g.max()))
        other = None
        if reference is not None:
            other = radial_distribution(reference, pair, r_max_nm, n_blocks=min(5, reference.n_frames))
            files.append(other.write_csv(output / f"rdf_{name}_reference.csv"))
            figures[name] |= _finite(mean_absolute_difference=mean_absolute_difference(found, other))
        panels.append(_rdf_panel(found, other))
    return figures


def _rdf_panel(found: RadialDistribution, reference: RadialDistribution | None) -> Panel:
    def draw(axes: "Axes") -> None:
        if reference is None:
            found.draw(axes)
        else:
            found.draw(axes, "trajectory")
            axes.plot(reference.r_nm, reference.g, "k--", linewidth=0.9, label="reference")
            axes.legend(frameon=False)

    return draw


def _msd(
    trajectory: mdtraj.Trajectory,
    elements: list[str],
    fit_window_ps: tuple[float, float] | None,
    output: Path,
    panels: list[Panel],
    files: list[Path],
) -> Figures:
    """Every element, drawn on one panel."""
    results = [mean_squared_displacement(trajectory, element, fit_window_ps=fit_window_ps) for element in elements]

    def draw(axes: "Axes") -> None:
        for result in results:
            result.draw(axes)

    panels.append(draw)
    files.extend(result.write_csv(output / f"msd_{result.element}.csv") for result in results)
    return {
        result.element: _finite(
            diffusion_cm2_per_s=result.diffusion_cm2_per_s,
            diffusion_error_cm2_per_s=result.diffusion_error_cm2_per_s,
            fit_start_ps=result.fit_window_ps[0],
            fit_end_ps=result.fit_window_ps[1],
        )
        for result in results
    }


def _finite(**numbers: float) -> dict[str, float | None]:
    """None in place of nan and infinity, which JSON does not have."""
    return {name: float(number) if math.isfinite(number) else None for name, number in numbers.items()}
