"""The command line: each verb parses, calls one function of the library and prints the answer."""

import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel

from openmm_allegro.answers import answering, complain
from openmm_allegro.bench_config import BenchConfig
from openmm_allegro.cli_analysis import analyze, compare
from openmm_allegro.cli_build import build
from openmm_allegro.cli_ensemble import calibrate, ensemble, select
from openmm_allegro.cli_models import convert
from openmm_allegro.cli_options import AsJson
from openmm_allegro.cli_training import evaluate, info, prepare, train
from openmm_allegro.lammps_config import LammpsConfig
from openmm_allegro.options import nested_table
from openmm_allegro.simulate_config import SimulateConfig

app = typer.Typer(
    name="openmm-allegro",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Allegro interatomic potentials for OpenMM: train on quantum-mechanical data, run dynamics, analyse.",
    epilog="`openmm-allegro VERB --help` explains a verb and shows an example.",
)


def entry_point() -> None:
    """What the installed command runs."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a mistake of the user, 130 when stopped."""
    argv = sys.argv[1:] if argv is None else argv
    show_traceback = "--traceback" in argv
    words = [word for word in argv if word != "--traceback"]
    if words in ([], ["build"]):  # nothing to do: what there is
        words.append("--help")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("openmm_allegro").setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = app(args=words, standalone_mode=False)
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        return complain(_sentence(error), show_traceback, 1)
    except Exception as error:
        # typer carries its own click, whose exceptions have no public name
        if not hasattr(error, "format_message"):
            raise
        return complain(error.format_message(), show_traceback, 1)
    return status if isinstance(status, int) else 0


def _print_version(wanted: bool) -> None:
    if wanted:
        from openmm_allegro import __version__

        typer.echo(f"openmm-allegro {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all_verbs(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the program a mistake was found.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version, and leave.")
    ] = False,
) -> None:
    pass


def options_from(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add one option for each field of a model to a verb, which takes them as keywords; None when not given."""

    def add(verb: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(verb)
        kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        # a list of tables has no flag
        flags = [name for name, field in model.model_fields.items() if nested_table(field.annotation) is None]
        added = [_parameter(name, model) for name in flags]
        vars(verb)["__signature__"] = own.replace(parameters=kept + added)
        return verb

    return add


def _parameter(name: str, model: type[BaseModel]) -> inspect.Parameter:
    annotation = model.model_fields[name].annotation
    assert annotation is not None
    option = typer.Option(show_default=False, help=_help(name, model))
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=Annotated[annotation | None, option])


def _help(name: str, model: type[BaseModel]) -> str:
    field = model.model_fields[name]
    meaning = (field.description or name.replace("_", " ").capitalize()).replace("`", "")
    default = field.default
    if field.is_required() or default is None:
        return meaning
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    return f"{meaning}  [default: {str(default).lower() if isinstance(default, bool) else default}]"


for verb in (train, prepare, evaluate, info, convert, ensemble, calibrate, select, analyze, compare):
    app.command()(verb)
app.add_typer(build, name="build")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    structure: Annotated[
        Path | None, typer.Argument(help="Structure whose atoms feel the model, for torchforce and lammps.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, a folder for lammps.  [default: force.pt, model.nequip.pth, lammps, model.nequip.pt2]"
        ),
    ] = None,
    format: Annotated[
        Literal["torchforce", "nequip", "lammps", "aoti-ase", "aoti-lammps"], typer.Option(help="For which program.")
    ] = "torchforce",
    precision: Annotated[Literal["single", "double"], typer.Option(help="Of the model's arithmetic.")] = "single",
    skin_nm: Annotated[
        float | None,
        typer.Option(help="Reach of torchforce's neighbour list beyond the cutoff [nm].  [default: 0.1]", min=0),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="What the formats aoti-... are compiled for: cpu or cuda.  [default: cpu]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model for other programs.

    \b
    torchforce   the force on one system as TorchScript, for openmmtorch.TorchForce
    nequip       TorchScript for any system, for nequip's ASE calculator and LAMMPS' pair_style allegro
    lammps       a folder for LAMMPS with pair_style allegro: input, data file, model
    aoti-ase     compiled by AOTInductor, for nequip's ASE calculator; takes a minute and a C++ compiler
    aoti-lammps  the same for LAMMPS' pair_style allegro

    An ensemble is written as its mean.

    \b
    Examples:
      openmm-allegro export water.safetensors water.pdb --output water.pt
      openmm-allegro export water.safetensors --format nequip --output water.nequip.pth
      openmm-allegro export water.safetensors water.pdb --format lammps --output lammps
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.export_formats import export as export_model

        answer(export_model(model, structure, output, format, precision, skin_nm, device))


@app.command()
@options_from(SimulateConfig)
def simulate(
    config: Annotated[Path | None, typer.Argument(help="TOML file with any of the options below.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for trajectory, log, checkpoint and structures.")] = Path("run"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder; it needs no options.")
    ] = False,
    as_json: AsJson = False,
    **flags: object,
) -> None:
    """Run molecular dynamics in which every atom feels the model.

    Options come from the TOML file, flags on top of it. Without a pressure the box stays as it is (NVT); without
    friction there is no thermostat (NVE). A file may have [[stages]] that follow each other, such as melt and quench.

    \b
    Examples:
      openmm-allegro simulate --model water.safetensors --structure water.pdb --duration-ps 100 --output run
      openmm-allegro simulate water.toml --temperature-k 350 --pressure-bar 1 --output hot
      openmm-allegro simulate --resume --output hot
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.simulate import resume_config, simulate
        from openmm_allegro.simulate_config import load_config

        chosen = resume_config(output, config, flags) if resume else load_config(config, flags)
        answer(vars(simulate(chosen, output, resume)))


@app.command()
@options_from(LammpsConfig)
def lammps(
    config: Annotated[Path | None, typer.Argument(help="TOML file with any of the options below.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for input, trajectory, log and structures.")] = Path("run"),
    ranks: Annotated[
        int | None, typer.Option(help="MPI ranks to start; not given: one for each CUDA device, or one.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in the folder; it needs no options, and ranks may differ."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the input for LAMMPS and do not run it.")] = False,
    as_json: AsJson = False,
    **flags: object,
) -> None:
    """Run molecular dynamics in LAMMPS on many cores, GPUs or machines.

    Options come from the TOML file, flags on top of it, and mean what they mean for simulate.
    LAMMPS divides the atoms among MPI ranks, one for each core or GPU, which it needs not be told on one machine. On
    several machines put mpiexec or srun --mpi=pmi2 before the command and leave out --ranks.
    A run that was stopped goes on from its last checkpoint by --resume: without thermostat as if it had not been
    stopped, to rounding; with one correctly, but with other random forces, which LAMMPS does not keep.

    \b
    Examples:
      openmm-allegro lammps --model water.safetensors --structure water.pdb --duration-ps 100 --ranks 4 --output run
      srun --mpi=pmi2 -n 64 openmm-allegro lammps water.toml --pressure-bar 1 --output run
      srun --mpi=pmi2 -n 64 openmm-allegro lammps --resume --output run
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.lammps_config import load_config
        from openmm_allegro.lammps_launch import run_lammps
        from openmm_allegro.lammps_prepare import resume_config

        chosen = resume_config(output, config, flags) if resume else load_config(config, flags)
        result = run_lammps(chosen, output, ranks, dry_run, resume)
        if result is not None:
            answer(result)


@app.command()
@options_from(BenchConfig)
def bench(as_json: AsJson = False, **flags: object) -> None:
    """Time steps of dynamics, or of training, beside another program if a peer is named.

    Prints median, lowest and highest of the timed steps, the time of the model's matrix products alone, memory, and
    what was measured on what. Without options it is 615 atoms of water on the CPU.

    \b
    Examples:
      openmm-allegro bench
      openmm-allegro bench --peer openmm-ml --json
      openmm-allegro bench --model water.safetensors --system water.pdb --device cuda --bridge torchforce
      openmm-allegro bench --train --data train.extxyz --steps 100 --peer nequip
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.options import checked

        config = checked({name: value for name, value in flags.items() if value is not None}, BenchConfig)
        if config.train:
            from openmm_allegro.training.speed import training_speed

            answer(training_speed(config))
        else:
            from openmm_allegro.bench import bench

            answer(bench(config))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: `{error.filename}`" if error.filename else error.strerror
    return str(error)


def _show_warning(message: Warning | str, *details: object, **more: object) -> None:
    print(f"openmm-allegro: warning: {message}", file=sys.stderr)
