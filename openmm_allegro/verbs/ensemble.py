"""The verbs about ensembles: make one, calibrate it, choose frames with it."""

from pathlib import Path
from typing import Annotated

import typer

from openmm_allegro.outputs import check_new_outputs
from openmm_allegro.verbs.answers import answering
from openmm_allegro.verbs.options import (
    AsJson,
    Device,
    EnergyKey,
    ForcesKey,
    Units,
    label_options,
    options_of_the_command,
)

LastLayer = Annotated[bool, typer.Option("--last-layer", help="Make members from one model and its training frames.")]


def ensemble(
    models: Annotated[list[Path], typer.Argument(help="Model files; one with --last-layer.")],
    output: Annotated[Path, typer.Option(help="Ensemble file to write.")] = Path("ensemble.safetensors"),
    last_layer: LastLayer = False,
    train: Annotated[list[Path] | None, typer.Option(help="Frames that the model was trained on.")] = None,
    members: Annotated[
        int | None, typer.Option(help="Members of a last-layer ensemble; an even number.  [default: 32]")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the members of a last-layer ensemble.  [default: 1]", min=0, max=2**32 - 1),
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    units: Units = None,
    as_json: AsJson = False,
) -> None:
    """Make models whose spread says how far to trust their mean.

    They are trained apart, or variants of one. With --last-layer nothing is trained again: the variants differ in the
    last layer, as much as the training frames leave open. Calibrate the ensemble before its spreads are used.

    \b
    Examples:
      openmm-allegro ensemble a.safetensors b.safetensors c.safetensors --output water-ensemble.safetensors
      openmm-allegro ensemble water.safetensors --last-layer --train train.extxyz --output water-ensemble.safetensors
    """  # noqa: D301
    with answering(as_json) as answer, options_of_the_command():
        from openmm_allegro.training.ensembles import make_ensemble_file
        from openmm_allegro.training.last_layer import LastLayerOptions

        check_new_outputs([output], [*models, *(train or [])])
        given = {name: value for name, value in (("n_members", members), ("seed", seed)) if value is not None}
        if given and not last_layer:
            raise ValueError("`--members` and `--seed` are for `--last-layer`; leave them out, or add it")
        options = LastLayerOptions(**given) if last_layer else None
        labels = label_options(energy_key, forces_key, units=units)
        answer(make_ensemble_file(models, output, last_layer=options, train=train or [], labels=labels))


def calibrate(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file; the factors are written into it.")],
    data: Annotated[Path, typer.Argument(help="Labelled frames that no member was trained on.")],
    picture: Annotated[Path | None, typer.Option(help="PNG file for the reliability of the spreads.")] = None,
    device: Device = "auto",
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    units: Units = None,
    as_json: AsJson = False,
) -> None:
    """Make an ensemble's spreads the size of its errors.

    They are scaled to be standard deviations on frames that no member was trained on.

    \b
    Example:
      openmm-allegro calibrate water-ensemble.safetensors validation.extxyz --picture reliability.png
    """  # noqa: D301
    with answering(as_json) as answer, options_of_the_command():
        from openmm_allegro.training.ensembles import calibrate_file

        labels = label_options(energy_key, forces_key, units=units)
        answer(calibrate_file(ensemble, data, labels=labels, device=device, picture=picture))


def select(
    trajectory: Annotated[Path, typer.Argument(help="Trajectory: DCD, XTC; or extended XYZ frames.")],
    topology: Annotated[Path | None, typer.Argument(help="Structure file of the trajectory's atoms.")] = None,
    *,
    model: Annotated[Path, typer.Option(help="Ensemble file.")],
    count: Annotated[int, typer.Option(help="Frames to choose.", min=1)] = 50,
    output: Annotated[
        Path, typer.Option(help="Extended XYZ file to write; spreads go to a CSV file beside it.")
    ] = Path("selected.extxyz"),
    max_spread: Annotated[
        float, typer.Option(help="Skip frames with a larger force spread [meV/Å] as broken.", min=0)
    ] = 2000.0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Choose frames of a trajectory to label and train on next.

    Those whose forces are most uncertain, and which are unlike each other.

    \b
    Example:
      openmm-allegro select run/trajectory.dcd run/start.pdb --model water-ensemble.safetensors --count 50
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.selection import select_frames

        check_new_outputs([output, output.with_suffix(".csv")], [trajectory, topology, model])
        answer(select_frames(trajectory, topology, model, output, count=count, max_spread=max_spread, device=device))
