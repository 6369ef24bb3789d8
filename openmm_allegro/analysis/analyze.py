"""Analyses of trajectory files, of one system or beside a reference: tables, one picture and the figures of merit."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from openmm_allegro.analysis.asked import finite_or_none, plain_figures, results_of_runs
from openmm_allegro.analysis.catalogue import parse_request
from openmm_allegro.analysis.compare import compare, write_comparisons
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.logs import log_results
from openmm_allegro.analysis.npt import ATMOSPHERE_BAR
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.selection import elements_of
from openmm_allegro.analysis.trajectory_file import OtherAtomsError, open_trajectory

DEFAULT = ("rdf", "msd", "density")
Figures = dict[str, object]


def analyze_trajectories(
    runs: Sequence[str | Path],
    topology: str | Path | None,
    *,
    what: Sequence[str] = DEFAULT,
    log: str | Path | None = None,
    temperature_k: float | None = None,
    pressure_bar: float | None = None,
    output_dir: str | Path,
    start_ps: float = 0.0,
    timestep_ps: float | None = None,
    stride: int = 1,
    progress: bool = False,
) -> Figures:
    """Run the named analyses and write a CSV file for each result, and `analysis.png`.

    runs: trajectories of one system; with several, means and errors are over the runs. what: requests as
    `catalogue.parse_request` reads them. log: of a StateDataReporter; `logs.log_results` says what a temperature adds,
    and for what the pressure of a barostat is needed, by default one atmosphere.
    Returns figures ready for JSON, by analysis and result, units in their names, errors beside them, None where a
    number cannot be had.
    """
    requests = [parse_request(text) for text in what]
    if not requests and log is None:
        raise ValueError("nothing was asked for; name an analysis or give a `log`")
    if temperature_k is not None and log is None:
        raise ValueError(
            "`temperature_k` is for what a `log` tells, and there is none; give it to an analysis as an option of its "
            "own, such as `density:temperature_k=300`"
        )
    if pressure_bar is not None and temperature_k is None:
        raise ValueError(
            "`pressure_bar` is for the thermal expansion from a `log`, which needs a `temperature_k` too; give that"
        )
    if log is not None and not Path(log).is_file():
        raise FileNotFoundError(f"there is no file `{log}`")
    opened = _opened(runs, topology, timestep_ps, start_ps, stride, progress)
    by_analysis = results_of_runs(requests, opened, runs if len(runs) > 1 else ())
    if log is not None:
        pressure = ATMOSPHERE_BAR if pressure_bar is None else pressure_bar
        by_analysis["log"] = log_results(Path(log), opened[0].n_atoms, start_ps, temperature_k, pressure)
    results = [result for group in by_analysis.values() for result in group]
    twice = [name for name, count in Counter(result.name for result in results).items() if count > 1]
    if twice:
        raise ValueError(f"`{twice[0]}` was asked for twice, which would be one file; ask for it once, or in two runs")
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    files = [result.write_csv(output / f"{result.name}.csv") for result in results]
    files.append(save_picture(output / "analysis.png", [result.draw for result in results]))
    return {
        **_described(opened),
        **{name: {result.name: plain_figures(result) for result in group} for name, group in by_analysis.items()},
        "files": [str(path) for path in files],
    }


def compare_trajectories(
    reference: str | Path,
    runs: Sequence[str | Path],
    topology: str | Path | None,
    *,
    reference_topology: str | Path | None = None,
    what: Sequence[str] = ("rdf",),
    output_dir: str | Path,
    start_ps: float = 0.0,
    timestep_ps: float | None = None,
    reference_start_ps: float = 0.0,
    reference_timestep_ps: float | None = None,
    stride: int = 1,
    progress: bool = False,
) -> Figures:
    """Run the named analyses of a reference and of runs, and write how much they differ: CSV, `comparison.png`.

    The reference may be a data set of ab initio frames (extended XYZ), which needs no topology; that of the runs gives
    it names and residues where it has the same atoms. Other arguments and what is returned are as in
    `analyze_trajectories`, with the differences and their errors beside both values.
    """
    requests = [parse_request(text) for text in what]
    if not requests:
        raise ValueError("nothing was asked for; name an analysis")
    opened = _opened(runs, topology, timestep_ps, start_ps, stride, progress)
    of_reference = (reference_timestep_ps, reference_start_ps, 1, progress)
    try:
        theirs = _opened([reference], reference_topology or topology, *of_reference)
    except OtherAtomsError:
        if reference_topology is not None:
            raise
        theirs = _opened([reference], None, *of_reference)  # a data set of other atoms than the runs have
    elements = elements_of(opened[0].topology)  # the reference may have them in another order, as pairs in names
    ours = results_of_runs(requests, opened, runs)
    wanted = results_of_runs(requests, theirs, [reference], elements)
    compared = {name: compare(wanted[name], ours[name]) for name in wanted}
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    comparisons = [each for group in compared.values() for each in group]
    files = [each.write_csv(output / f"{each.name}.csv") for each in comparisons if each.curve is not None]
    files.append(write_comparisons(comparisons, output / "figures.csv"))
    files.append(save_picture(output / "comparison.png", [each.draw for each in comparisons]))
    return {
        **_described(opened),
        "n_reference_frames": theirs[0].n_frames,
        **{name: {each.name: finite_or_none(each.summary()) for each in group} for name, group in compared.items()},
        "files": [str(path) for path in files],
    }


def _opened(
    paths: Sequence[str | Path],
    topology: str | Path | None,
    timestep_ps: float | None,
    start_ps: float,
    stride: int,
    progress: bool,
) -> list[Frames]:
    return [
        open_trajectory(path, topology, timestep_ps=timestep_ps, start_ps=start_ps, stride=stride, progress=progress)
        for path in paths
    ]


def _described(runs: Sequence[Frames]) -> Figures:
    first, last = runs[0].times_ps[0], runs[0].times_ps[-1]
    return {
        "n_atoms": runs[0].n_atoms,
        "n_runs": len(runs),
        "n_frames": sum(frames.n_frames for frames in runs),
        **finite_or_none({"start_ps": first, "end_ps": last}),
    }
