"""The verbs that bring models from other programs and to them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from openmm_allegro.outputs import check_new_outputs
from openmm_allegro.verbs.answers import answering
from openmm_allegro.verbs.options import AsJson


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
    """Make a model of nequip-allegro one of this package.

    It is the same function, evaluated faster. Hyperparameters and weights are read from the file, without running code
    in it and without nequip; of a checkpoint the weights that nequip itself takes for inference. What units it was
    trained in no file of nequip says, unless the model has the ZBL repulsion (eV and angstrom).

    \b
    Example:
      openmm-allegro convert last.ckpt --energy-units eV --length-units angstrom --output water.safetensors
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.model_file import convert_file

        check_new_outputs([output], [model])
        answer(convert_file(model, output, energy_units, length_units))


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
