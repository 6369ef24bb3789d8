"""Analyses of one trajectory: CSV files, one picture and the figures of merit."""

import math
from collections.abc import Sequence
from pathlib import Path

from openmm_allegro.analysis.catalogue import Request, parse_request, run
from openmm_allegro.analysis.energy import energy_drift
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.result import Result
from openmm_allegro.analysis.trajectory_file import open_trajectory

DEFAULT = ("rdf", "msd", "density")


def analyze_trajectory(
    trajectory_path: str | Path,
    topology_path: str | Path,
    *,
    what: Sequence[str] = DEFAULT,
    log: str | Path | None = None,
    output_dir: str | Path,
    start_ps: float = 0.0,
    timestep_ps: float | None = None,
    stride: int = 1,
    progress: bool = False,
) -> dict[str, object]:
    """Run the named analyses and write a CSV file for each result, and `analysis.png`.

    what: requests as `catalogue.parse_request` reads them. `log` is a StateDataReporter log, for the drift of the total
    energy. Returns figures ready for JSON, by analysis and result, units in their names, errors beside them, None where
    a number cannot be had.
    """
    requests = [parse_request(text) for text in what]
    if not requests and log is None:
        raise ValueError("nothing was asked for; name an analysis or give a `log`")
    frames = open_trajectory(
        trajectory_path, topology_path, timestep_ps=timestep_ps, start_ps=start_ps, stride=stride, progress=progress
    )
    by_analysis = results_of(requests, frames)
    if log is not None:
        by_analysis["energy"] = [energy_drift(log, frames.n_atoms, start_ps=start_ps)]
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    results = [result for group in by_analysis.values() for result in group]
    files = [result.write_csv(output / f"{result.name}.csv") for result in results]
    files.append(save_picture(output / "analysis.png", [result.draw for result in results]))
    return {
        "n_atoms": frames.n_atoms,
        "n_frames": frames.n_frames,
        "start_ps": float(frames.times_ps[0]),
        "end_ps": float(frames.times_ps[-1]),
        **{name: {result.name: plain_figures(result) for result in group} for name, group in by_analysis.items()},
        "files": [str(path) for path in files],
    }


def results_of(requests: Sequence[Request], frames: Frames) -> dict[str, list[Result]]:
    """What each analysis gives, by its name."""
    found: dict[str, list[Result]] = {}
    for request in requests:
        found.setdefault(request.name, []).extend(run(request, frames))
    return found


def plain_figures(result: Result) -> dict[str, float | None]:
    """Figures of a result for JSON, each with its error under `NAME_error`; None for what is not finite."""
    plain: dict[str, float | None] = {}
    for name, measured in result.figures().items():
        plain[name] = float(measured.value) if math.isfinite(measured.value) else None
        plain[f"{name}_error"] = float(measured.error) if math.isfinite(measured.error) else None
    return plain
