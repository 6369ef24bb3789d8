"""Verbs about trajectories: each parses, calls one function of the library and prints the answer."""

from pathlib import Path
from typing import Annotated

import typer

from openmm_allegro.verbs.answers import answering
from openmm_allegro.verbs.options import AsJson


def _print_list(wanted: bool) -> None:
    if wanted:
        from openmm_allegro.analysis.catalogue import described

        typer.echo(described())
        raise typer.Exit


Topology = Annotated[
    Path | None,
    typer.Argument(
        help="Structure file of the same atoms, such as start.pdb of the run; a data set takes only names from it."
    ),
]
What = Annotated[
    list[str],
    typer.Option(
        help="An analysis, as rdf or rdf:pair=Li-S (analyze --list shows all); again for more, names alone with commas."
    ),
]
List = Annotated[
    bool,
    typer.Option(
        "--list", is_eager=True, callback=_print_list, help="Show all analyses with their options, and leave."
    ),
]
Start = Annotated[float, typer.Option(help="Time to leave out at the beginning [ps].")]
Timestep = Annotated[float | None, typer.Option(help="Time between frames [ps]; a DCD or PDB file needs it.")]
Stride = Annotated[int, typer.Option(help="Take every so-many-th frame.", min=1)]


def analyze(
    trajectory: Annotated[
        Path, typer.Argument(help="Trajectory: DCD, XTC or what else mdtraj reads in parts; or a data set.")
    ],
    topology: Topology = None,
    more_runs: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Another run of the same system; errors are then over the runs. May be repeated."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = Path("analysis"),
    what: What = ["rdf", "msd", "density"],  # noqa: B006 (typer copies it)
    log: Annotated[
        Path | None, typer.Option(help="log.csv of the run, for the drift of its energy, or pressure.csv.")
    ] = None,
    temperature_k: Annotated[
        float | None,
        typer.Option(
            help="With --log: expansion and compressibility of log.csv with volumes, viscosity of pressure.csv."
        ),
    ] = None,
    pressure_bar: Annotated[
        float | None,
        typer.Option(
            help="With --temperature-k: what the barostat of the log's run kept, by default one atmosphere.",
            show_default=False,
        ),
    ] = None,
    start_ps: Start = 0.0,
    timestep_ps: Timestep = None,
    stride: Stride = 1,
    list_all: List = False,
    as_json: AsJson = False,
) -> None:
    """Structure and kinetics of trajectories, with error bars.

    Each analysis gives a table and figures, all of them together one picture. The file is read in parts and may be
    larger than memory. Errors are from blocks of frames, or over several runs.

    \b
    Examples:
      openmm-allegro analyze run/trajectory.dcd run/start.pdb --timestep-ps 0.05 --log run/log.csv
      openmm-allegro analyze run/trajectory.xtc run/start.pdb --what rdf:pair=Li-S --what msd:element=Li
      openmm-allegro analyze --list
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.analysis.analyze import analyze_trajectories

        figures = analyze_trajectories(
            [trajectory, *(more_runs or [])],
            topology,
            what=requests(what),
            log=log,
            temperature_k=temperature_k,
            pressure_bar=pressure_bar,
            output_dir=output,
            start_ps=start_ps,
            timestep_ps=timestep_ps,
            stride=stride,
            progress=True,
        )
        answer(figures)


def compare(
    reference: Annotated[Path, typer.Argument(help="Trajectory, or a data set of ab initio frames (extended XYZ).")],
    predicted: Annotated[list[Path], typer.Argument(help="Trajectories of one system, to be compared with it.")],
    topology: Annotated[
        Path | None, typer.Option(help="Structure file of the same atoms; of a data set too, where it has these.")
    ] = None,
    reference_topology: Annotated[
        Path | None, typer.Option(help="Structure file of the reference, if it is another.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = Path("comparison"),
    what: What = ["rdf"],  # noqa: B006 (typer copies it)
    start_ps: Start = 0.0,
    timestep_ps: Timestep = None,
    reference_start_ps: Annotated[float, typer.Option(help="The same for the reference [ps].")] = 0.0,
    reference_timestep_ps: Annotated[
        float | None, typer.Option(help="Time between frames of the reference [ps].")
    ] = None,
    stride: Annotated[int, typer.Option(help="Take every so-many-th frame of the trajectories.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Analyses of runs beside those of a reference.

    How much they differ, and how much that is in units of their errors. `openmm-allegro analyze --list` shows the
    analyses.

    \b
    Examples:
      openmm-allegro compare frames.extxyz run/trajectory.xtc --topology run/start.pdb --start-ps 5
      openmm-allegro compare aimd.xtc run-*/trajectory.xtc --topology start.pdb --what rdf --what msd:element=Li
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.analysis.analyze import compare_trajectories

        figures = compare_trajectories(
            reference,
            predicted,
            topology,
            reference_topology=reference_topology,
            what=requests(what),
            output_dir=output,
            start_ps=start_ps,
            timestep_ps=timestep_ps,
            reference_start_ps=reference_start_ps,
            reference_timestep_ps=reference_timestep_ps,
            stride=stride,
            progress=True,
        )
        answer(figures)


def requests(what: list[str]) -> list[str]:
    """Names with commas between them taken apart; a request with options has none to divide it."""
    parts = [[each] if ":" in each else each.split(",") for each in what]
    return [text.strip() for group in parts for text in group if text.strip()]
