"""The command line: each verb parses, calls one function of the library and prints the answer."""

import logging
import sys
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Annotated

import typer

from openmm_allegro.verbs.analysis import analyze, compare
from openmm_allegro.verbs.answers import complain
from openmm_allegro.verbs.build import build
from openmm_allegro.verbs.dynamics import lammps, simulate
from openmm_allegro.verbs.ensemble import calibrate, ensemble, select
from openmm_allegro.verbs.models import convert, export
from openmm_allegro.verbs.speed import bench
from openmm_allegro.verbs.training import evaluate, info, prepare, train

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
        if type(error).__name__ == "OpenMMException":  # by name, for most verbs do without OpenMM
            return complain(str(error), show_traceback, 1)
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


VERBS: tuple[tuple[Callable[..., None], ...], ...] = (
    (info, prepare, train, evaluate),
    (ensemble, calibrate, select),
    (convert, export),
    (simulate, lammps, bench),
    (analyze, compare),
)
"""In the order of a reader's work."""
for verb in chain.from_iterable(VERBS):
    app.command()(verb)
app.add_typer(build, name="build")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: `{error.filename}`" if error.filename else error.strerror
    return str(error)


def _show_warning(message: Warning | str, *details: object, **more: object) -> None:
    print(f"openmm-allegro: warning: {message}", file=sys.stderr)
