"""The verbs about data and training: train, prepare data for it, evaluate, look into models and data."""

from pathlib import Path
from typing import Annotated

import typer

from openmm_allegro.verbs.answers import answering
from openmm_allegro.verbs.options import (
    AsJson,
    Device,
    EnergyKey,
    ForcesKey,
    StressKey,
    Units,
    VirialKey,
    label_options,
    options_of_the_command,
)


def train(
    config: Annotated[Path, typer.Argument(help="TOML file with data, model, loss, optimiser and run.")],
    output: Annotated[Path, typer.Option(help="Folder for models, history and pictures.")] = Path("training"),
    data_root: Annotated[Path | None, typer.Option(help="Folder that the data's paths start from.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in the folder.")] = False,
    pictures: Annotated[bool, typer.Option(help="Draw the learning curve and predictions.")] = True,
    as_json: AsJson = False,
) -> None:
    """Train a model on energies and forces.

    \b
    Example:
      openmm-allegro train water.toml --output water
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.training.config import load_config
        from openmm_allegro.training.run import train

        answer(train(load_config(config, data_root), output, resume, pictures=pictures).as_dict())


def prepare(
    data: Annotated[list[Path], typer.Argument(help="Files of labelled frames: extended XYZ, npz, or what ASE reads.")],
    r_max: Annotated[float, typer.Option(help="Cutoff of the model that will be trained [Å].", min=0.1)],
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("store"),
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    units: Units = None,
    as_json: AsJson = False,
) -> None:
    """Write data larger than memory as a store.

    `train` reads it frame by frame (`data.train = "store"`).

    \b
    Example:
      openmm-allegro prepare part1.extxyz part2.extxyz.xz --output store --r-max 5.0
    """  # noqa: D301
    with answering(as_json) as answer, options_of_the_command():
        from openmm_allegro.training.prepare import prepare

        labels = label_options(energy_key, forces_key, stress_key, virial_key, units)
        answer(prepare(data, output, r_max, labels))


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    data: Annotated[list[Path], typer.Argument(help="Labelled frames: extended XYZ, npz, or what else ASE reads.")],
    group_by: Annotated[
        str | None, typer.Option(help="Errors also by composition, size, file, or a key of the frames.")
    ] = None,
    shift: Annotated[
        str | None, typer.Option(help="Remove a constant energy first, or one for each of the elements.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for errors.csv, parity.png and errors.png.")] = None,
    batch_size: Annotated[int, typer.Option(help="Most frames evaluated at once, by one model.", min=1)] = 10,
    batch_atoms: Annotated[
        int, typer.Option(help="Most atoms evaluated at once, of more than one frame, by one model.", min=1)
    ] = 4000,
    device: Device = "auto",
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    units: Units = None,
    as_json: AsJson = False,
) -> None:
    """Errors of a model, or of an ensemble, on labelled frames.

    Overall, by element and by group of frames, their percentiles, and the frames where they are largest. Of an ensemble
    also what its spreads are worth.

    \b
    Examples:
      openmm-allegro evaluate water/best.safetensors test.extxyz
      openmm-allegro evaluate best.safetensors a.xyz b.xyz --group-by config_type --shift elements --output errors
    """  # noqa: D301
    with answering(as_json) as answer, options_of_the_command():
        from openmm_allegro.checkpoint import is_ensemble
        from openmm_allegro.training.ensembles import evaluate_ensemble_files
        from openmm_allegro.training.evaluation import evaluate_files

        labels = label_options(energy_key, forces_key, stress_key, virial_key, units)
        if is_ensemble(model):
            answer(
                evaluate_ensemble_files(
                    model, data, options=labels, device=device, group_by=group_by, shift=shift, output=output
                )
            )
            return
        evaluation = evaluate_files(
            model,
            data,
            options=labels,
            batch_size=batch_size,
            batch_atoms=batch_atoms,
            device=device,
            group_by=group_by,
            shift=shift,
            output=output,
        )
        answer(evaluation.as_dict())


def info(
    path: Annotated[list[Path], typer.Argument(help="Model file, or files of frames: extended XYZ, npz, …")],
    r_max: Annotated[float, typer.Option(help="Data: neighbours are counted within this radius [Å].", min=0.1)] = 5.0,
    output: Annotated[Path | None, typer.Option(help="Data: JSON file for the statistics.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Data: PNG of energies, forces and distances.")] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    units: Units = None,
    as_json: AsJson = False,
) -> None:
    """What is in a model file, or in data and looks wrong there.

    Of a model, of this package or of nequip: elements, cutoff, size, units, how it was trained. Of data: counts,
    ranges, neighbours, shortest distances; then what is suspicious: units, doubles, energies that do not belong to the
    forces, net forces.

    \b
    Examples:
      openmm-allegro info water/best.safetensors
      openmm-allegro info train.extxyz --picture train.png --output statistics.json
    """  # noqa: D301
    with answering(as_json) as answer, options_of_the_command():
        from openmm_allegro.recognise import looks_like_model

        if len(path) == 1 and looks_like_model(path[0]):
            from openmm_allegro.model_file import describe_model

            if output is not None or picture is not None:
                raise ValueError(f"`--output` and `--picture` are for data, but `{path[0]}` is a model; leave them out")
            answer(describe_model(path[0]))
            return
        from openmm_allegro.training.hygiene import inspect_files

        labels = label_options(energy_key, forces_key, stress_key, virial_key, units)
        answer(inspect_files(path, options=labels, r_max=r_max, output=output, picture=picture).as_dict())
