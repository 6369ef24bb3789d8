"""What a run begins with: an untrained model that fits its frames, or a given one fitted to them."""

import warnings
from typing import NamedTuple

import torch

from openmm_allegro.checkpoint import load_model
from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.config import TrainingConfig
from openmm_allegro.training.fine_tuning import fitted_to_the_rest, freeze, new_types, rebased, with_types
from openmm_allegro.training.model_options import check_same_model
from openmm_allegro.training.splits import FrameSets
from openmm_allegro.training.statistics import (
    Statistics,
    average_neighbours,
    complete_model_options,
    energy_shifts,
    force_scales,
    types_in,
)


class Start(NamedTuple):
    """What a run begins with."""

    model: Allegro
    train: FrameDataset
    validation: FrameDataset
    statistics: Statistics | None
    """What an untrained model took from the frames; None for a given model."""


def starting_model(config: TrainingConfig, frames: FrameSets) -> Start:
    """The model of a run as it is before the first step, and the frames to train and to validate on."""
    dtype = torch.float64 if config.run.precision == "float64" else torch.float32
    torch.manual_seed(config.run.seed)
    statistics = None
    if config.run.start_from is not None:
        model, train_set = _given(config, frames, dtype)
    else:
        model, train_set, statistics = _untrained(config, frames, dtype)
    freeze(model, config.run.freeze)
    names, cutoff = model.config.type_names, model.config.r_max
    validation = FrameDataset(frames.validation, names, cutoff, dtype, config.data.min_distance)
    return Start(model, train_set, validation, statistics)


def _untrained(
    config: TrainingConfig, frames: FrameSets, dtype: torch.dtype
) -> tuple[Allegro, FrameDataset, Statistics]:
    names = _named_types(config) or types_in(frames.train)
    _warn_of_unseen(names, frames)
    cutoff = float(str(config.model["r_max"]))
    train_set = FrameDataset(frames.train, names, cutoff, dtype, config.data.min_distance)
    statistics = Statistics(
        type_names=names,
        avg_num_neighbors=average_neighbours(train_set),
        energy_scales=force_scales(frames.train, names),
        energy_shifts=energy_shifts(frames.train, frames.one_atom, names, config.data),
    )
    return Allegro(complete_model_options(config.model, statistics), dtype), train_set, statistics


def _given(config: TrainingConfig, frames: FrameSets, dtype: torch.dtype) -> tuple[Allegro, FrameDataset]:
    assert config.run.start_from is not None
    model = load_model(config.run.start_from, dtype=dtype)
    new = new_types(model, _named_types(config))
    _warn_of_unseen(new, frames)
    names = (*model.config.type_names, *new)
    train_set = FrameDataset(frames.train, names, model.config.r_max, dtype, config.data.min_distance)
    if new:
        model = with_types(model, new, force_scales(frames.train, new), average_neighbours(train_set))
    check_same_model({name: value for name, value in config.model.items() if name != "type_names"}, model.config)
    choice = "keep" if config.data.isolated_atoms is None else config.data.isolated_atoms
    if choice in ("keep", "fit"):
        fitted = new if choice == "keep" else names
        if fitted:
            rebased(model, fitted_to_the_rest(model, train_set, fitted, config.run.batch_size))
    else:
        rebased(model, energy_shifts(frames.train, frames.one_atom, names, config.data))
    return model, train_set


def _named_types(config: TrainingConfig) -> tuple[str, ...] | None:
    named = config.model.get("type_names")
    return tuple(named) if isinstance(named, list) else None


def _warn_of_unseen(names: tuple[str, ...] | list[str], frames: FrameSets) -> None:
    found = types_in(frames.train)
    unseen = [name for name in names if name not in found]
    if unseen:
        warnings.warn(f"no training frame has {', '.join(unseen)}, which `model.type_names` names", stacklevel=5)
