"""The verb about models of other programs."""

from pathlib import Path
from typing import Annotated

import typer

from openmm_allegro.answers import answering
from openmm_allegro.cli_options import AsJson
from openmm_allegro.outputs import check_new_outputs


def convert(
    model: Annotated[Path, typer.Argument(help="Model of nequip-allegro 0.5-0.8: .ckpt, .nequip.zip or .nequip.pth.")],
    output: Annotated[Path, typer.Option(help="Model file to write.")] = Path("model.safetensors"),
    energy_units: Annotated[
        str | None, typer.Option(help="Of the model's training data: eV, kcal/mol, kJ/mol or Hartree.")
    ] = None,
    length_units: Annotated[
        str | None, typer.Option(help="Of the model's training data: angstrom, nm or bohr.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model trained with nequip-allegro as one of this package: the same function, evaluated faster.

    Hyperparameters and weights are read from the file, without running code in it and without nequip; of a checkpoint
    the weights that nequip itself takes for inference. What units it was trained in no file of nequip says, unless the
    model has the ZBL repulsion (eV and angstrom).

    \b
    Example:
      openmm-allegro convert last.ckpt --energy-units eV --length-units angstrom --output water.safetensors
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.model_file import convert_file

        check_new_outputs([output], [model])
        answer(convert_file(model, output, energy_units, length_units))
