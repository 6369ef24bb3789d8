"""Options that several verbs of the command line have."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openmm_allegro.training.config import LabelOptions

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Device = Annotated[str, typer.Option(help="Where the model runs: auto, cpu or cuda.")]
EnergyKey = Annotated[str | None, typer.Option(help="What the file calls the energy.")]
ForcesKey = Annotated[str | None, typer.Option(help="What the file calls the forces.")]
StressKey = Annotated[str | None, typer.Option(help="What the file calls the stress.")]
VirialKey = Annotated[str | None, typer.Option(help="Take the stress from this virial instead.")]
Units = Annotated[str | None, typer.Option(help="Unit of the file's energies: eV, kcal/mol, kJ/mol or Hartree.")]


def label_options(
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    units: str | None = None,
) -> "LabelOptions":
    """What the command line says of the labels in a data file."""
    from openmm_allegro.options import checked
    from openmm_allegro.training.config import LabelOptions

    keys = {"energy_key": energy_key, "forces_key": forces_key, "stress_key": stress_key, "virial_key": virial_key}
    given = {**keys, "units": units}
    return checked({name: value for name, value in given.items() if value is not None}, LabelOptions)


@contextmanager
def options_of_the_command() -> Iterator[None]:
    """What is refused about data names the options that a command has, not those of a TOML file for training."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(_of_the_command(str(error))) from error
    except ValueError as error:
        raise ValueError(_of_the_command(str(error))) from error


def _of_the_command(sentence: str) -> str:
    sentence = sentence.replace("; paths are relative to the TOML file or `--data-root`", "")
    sentence = re.sub(r" \(`data\.\w+`\)", "", sentence)  # of bounds, which commands do not let choose
    return re.sub(r"`data\.(\w+)`", lambda found: f"`--{found[1].replace('_', '-')}`", sentence)
