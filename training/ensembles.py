"""Ensembles as files: made of models, calibrated on labelled frames, and compared with such."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import cast

import torch
from pydantic import JsonValue

from openmm_allegro.checkpoint import load_model
from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.ensemble_file import load_ensemble, save_ensemble
from openmm_allegro.model import Allegro
from openmm_allegro.outputs import check_ending, check_outputs
from openmm_allegro.summary import TRAINED_ON
from openmm_allegro.training.calibration import (
    compare,
    likeliest_factors,
    spreads_of_frames,
    uncertainty_table,
)
from openmm_allegro.training.calibration_picture import draw_reliability
from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.evaluation import check_folder, offset_of, read_groups
from openmm_allegro.training.evaluation import compare as compare_with_labels
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.last_layer import LastLayerOptions, last_layer_ensemble
from openmm_allegro.training.metrics import FramePrediction
from openmm_allegro.training.sums import digest
from openmm_allegro.training.trained_on import fingerprints, warn_of_trained


def make_ensemble_file(
    models: Sequence[Path],
    output: Path,
    *,
    last_layer: LastLayerOptions | None = None,
    train: Sequence[Path] = (),
    labels: LabelOptions | None = None,
) -> dict[str, object]:
    """Write an ensemble file. Returns what was written, for a reader.

    last_layer: make variants of one model with its training frames, in the files `train`; None puts models together
    that were trained apart.
    """
    check_outputs([output], [*models, *train])
    if last_layer is None:
        if train:
            raise ValueError("`--train` is for `--last-layer`; models that were trained apart need no frames")
        if labels is not None and labels.model_fields_set:
            raise ValueError("names and units of labels are for `--last-layer`; without it no frames are read,")
        return _deep_ensemble_file(models, output)
    if len(models) != 1:
        raise ValueError(f"`--last-layer` makes variants of one model, but {len(models)} are given")
    if not train:
        raise ValueError("`--last-layer` needs the frames that the model was trained on; give `--train FILE`")
    return _last_layer_ensemble_file(models[0], train, output, last_layer, labels)


def _deep_ensemble_file(models: Sequence[Path], output: Path) -> dict[str, object]:
    if len(models) < 2:
        raise ValueError(
            f"an ensemble needs two or more models, but only `{models[0]}` is given; to make one of this model "
            "alone, give `--last-layer --train` and its training frames"
        )
    loaded = [load_model(path) for path in models]
    for (path, model), (other_path, other) in combinations(zip(models, loaded, strict=True), 2):
        if _are_copies(model, other):
            raise ValueError(
                f"`{path}` and `{other_path}` have the same weights, which would make the spread too small; give "
                "models that were trained apart, each once"
            )
    ensemble = Ensemble(loaded)
    provenance: JsonValue = {str(path): dict(model.provenance) for path, model in zip(models, loaded, strict=True)}
    return _written(ensemble, output, {"kind": "deep", "models": provenance})


def _are_copies(model: Allegro, other: Allegro) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return model.config == other.config and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def _last_layer_ensemble_file(
    model: Path, train: Sequence[Path], output: Path, options: LastLayerOptions, labels: LabelOptions | None
) -> dict[str, object]:
    frames = read_frames(train, labels)
    centre = load_model(model)
    ensemble = last_layer_ensemble(centre, frames, options)
    provenance: dict[str, JsonValue] = {
        "kind": "last layer",
        "models": {str(model): dict(centre.provenance)},
        "train_files": [path.name for path in train],
        "n_train": len(frames),
        TRAINED_ON: [*fingerprints(map(digest, frames))],
        **options._asdict(),
    }
    return _written(ensemble, output, provenance)


def _written(ensemble: Ensemble, output: Path, provenance: Mapping[str, JsonValue]) -> dict[str, object]:
    ensemble.provenance = provenance
    save_ensemble(ensemble, output)
    return {"file": output, "kind": provenance["kind"], "members": len(ensemble.members), "is_calibrated": False}


def calibrate_file(
    path: Path, data: Path, *, labels: LabelOptions | None = None, device: str = "auto", picture: Path | None = None
) -> dict[str, object]:
    """Find the factors of an ensemble's spreads on validation frames and write them into its file.

    picture: PNG file for the reliability of the calibrated spreads. Returns the figures, for a reader.
    """
    check_outputs([] if picture is None else [picture], [path, data])
    check_ending(picture, ".png")
    ensemble = load_ensemble(path)
    place = chosen_device(device)
    frames = read_frames(data, labels)
    warn_of_trained(frames, [data], ensemble.provenance)
    ensemble.factors = None
    raw = spreads_of_frames(ensemble, frames, place)
    ensemble.factors = factors = likeliest_factors(compare(frames, raw))
    spreads = [spread.scaled(factors) for spread in raw]
    table = uncertainty_table(ensemble, frames, spreads)
    figures = {"data": data.name, **table.as_dict()}
    ensemble.calibration = cast(dict[str, JsonValue], figures)
    if picture is not None:
        draw_reliability(compare(frames, spreads), picture)
    save_ensemble(ensemble, path)
    return {"file": path, "factors": factors._asdict(), "picture": picture, **table.as_dict()}


def evaluate_ensemble(
    ensemble: Ensemble,
    frames: Sequence[Frame],
    device: torch.device | None = None,
    groups: Sequence[str] | None = None,
    shift: str | None = None,
    output: Path | None = None,
) -> dict[str, object]:
    """Errors of the mean, as `evaluation.compare` has them; under `uncertainty` what the spreads are worth.

    Both are of the energies after the shift.
    """
    spreads = spreads_of_frames(ensemble, frames, device)
    predictions = []
    for frame, spread in zip(frames, spreads, strict=True):
        stress = -spread.virial.numpy() / frame.volume if frame.periodic else None
        predictions.append(FramePrediction(spread.energy, spread.forces.numpy(), stress))
    errors = compare_with_labels(frames, predictions, groups, shift, output)
    shifted = [
        spread._replace(energy=spread.energy + offset_of(frame, errors.shift_ev))
        for frame, spread in zip(frames, spreads, strict=True)
    ]
    return errors.as_dict() | {"uncertainty": uncertainty_table(ensemble, frames, shifted).as_dict()}


def evaluate_ensemble_files(
    path: Path,
    data: Sequence[Path],
    *,
    options: LabelOptions | None = None,
    device: str = "auto",
    group_by: str | None = None,
    shift: str | None = None,
    output: Path | None = None,
) -> dict[str, object]:
    """The same from files; the options are those of `evaluation.evaluate_files`."""
    check_folder(output)
    frames, groups = read_groups(data, options, group_by)
    ensemble = load_ensemble(path)
    warn_of_trained(frames, data, ensemble.provenance)
    return evaluate_ensemble(ensemble, frames, chosen_device(device), groups, shift, output)
