"""What a run begins with: untrained models that fit their frames, or a given one fitted to them."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from ase.data import atomic_numbers

from openmm_allegro.checkpoint import load_model
from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.config import DataOptions, TrainingConfig
from openmm_allegro.training.fine_tuning import (
    by_name,
    fitted_to_the_rest,
    freeze,
    mean_left_over,
    new_types,
    rebased,
    with_types,
)
from openmm_allegro.training.heads import another_head, completed, speaking_of
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

MOST_LEFT_OVER = 1.0
"""Energies beyond this [eV/atom] are not a matter of training; another zero of energy is."""


class Start(NamedTuple):
    """What one head begins with."""

    model: Allegro
    train: FrameDataset
    validation: FrameDataset
    statistics: Statistics | None
    """What an untrained model took from the frames; None for a given model."""


class _Head(NamedTuple):
    """The frames of one head, and the types that they tell of."""

    data: DataOptions
    frames: FrameSets
    train: FrameDataset
    own: tuple[str, ...]
    """All types but those that only other heads have, which are `others`."""
    others: tuple[str, ...]


def starting_models(config: TrainingConfig, frames: Mapping[str, FrameSets]) -> dict[str, Start]:
    """What each head is before the first step, and its frames; the models share all that `another_head` shares."""
    dtype = torch.float64 if config.run.precision == "float64" else torch.float32
    torch.manual_seed(config.run.seed)
    statistics: dict[str, Statistics] = {}
    if config.run.start_from is not None:
        given = load_model(config.run.start_from, dtype=dtype)
        new = new_types(given, _named_types(config))
        _warn_of_unseen(new, frames)
        heads = _heads(config, frames, (*given.config.type_names, *new), given.config.r_max, dtype)
        models = _given(config, given, new, heads)
    else:
        names = _named_types(config) or _types_of_all(frames)
        _warn_of_unseen(names, frames)
        heads = _heads(config, frames, names, float(str(config.model["r_max"])), dtype)
        statistics = _statistics(heads, names)
        models = _untrained(config, statistics, dtype)
    starts = {}
    for name, head in heads.items():
        model = models[name]
        freeze(model, config.run.freeze)
        if model.shifts.requires_grad and config.optimizer.weight_decay > 0:
            raise ValueError(
                "`optimizer.weight_decay` would draw the energies of the free atoms, which are trained here, towards "
                'zero; set it to 0, or leave them as they are by `run.freeze = ["shifts"]`'
            )
        with speaking_of(name):
            options = model.config.type_names, model.config.r_max, dtype, head.data.min_distance
            validation = FrameDataset(head.frames.validation, *options)
        took = statistics.get(name)
        if took is not None:  # the energies of the free atoms may be given in `[model]` in place of those of the frames
            took = replace(took, energy_shifts=by_name(model.config, model.shifts))
        starts[name] = Start(model, head.train, validation, took)
    return starts


def _heads(
    config: TrainingConfig, frames: Mapping[str, FrameSets], names: tuple[str, ...], cutoff: float, dtype: torch.dtype
) -> dict[str, _Head]:
    """names: all types, in the order of the type index. cutoff: [Å]."""
    heads = {}
    found = {name: types_in(sets.train) for name, sets in frames.items()}
    for name, data in config.all_heads().items():
        elsewhere = {symbol for other, symbols in found.items() if other != name for symbol in symbols}
        own = tuple(symbol for symbol in names if symbol in found[name] or symbol not in elsewhere)
        others = tuple(symbol for symbol in names if symbol not in own)
        if others:
            warnings.warn(
                f"no training frame of head `{name}` has {', '.join(others)}: the atomic energies and scales there "
                "are those of another head, unless `isolated_atoms` or `run.start_from` has them",
                stacklevel=4,
            )
        with speaking_of(name):
            train = FrameDataset(frames[name].train, names, cutoff, dtype, data.min_distance)
        heads[name] = _Head(data, frames[name], train, own, others)
    return heads


def _statistics(heads: Mapping[str, _Head], names: tuple[str, ...]) -> dict[str, Statistics]:
    """What untrained models take from the frames."""
    shifts = {}
    for name, head in heads.items():
        with speaking_of(name):
            shifts[name] = energy_shifts(head.frames.train, head.frames.one_atom, head.own, head.data, head.others)
    shifts = completed(shifts, names)
    scales = completed({name: force_scales(head.frames.train, head.own) for name, head in heads.items()}, names)
    neighbours = average_neighbours(*(head.train for head in heads.values()))
    return {name: Statistics(names, neighbours, scales[name], shifts[name]) for name in heads}


def _untrained(config: TrainingConfig, statistics: Mapping[str, Statistics], dtype: torch.dtype) -> dict[str, Allegro]:
    configs = {name: complete_model_options(config.model, figures) for name, figures in statistics.items()}
    first, *others = configs
    models = {first: Allegro(configs[first], dtype)}
    for name in others:
        own = configs[name]
        models[name] = another_head(models[first], own.per_type_energy_scales, own.per_type_energy_shifts)
    return models


def _given(config: TrainingConfig, model: Allegro, new: list[str], heads: Mapping[str, _Head]) -> dict[str, Allegro]:
    """new: types that the model does not know."""
    first, *others = heads
    tables = {name: force_scales(head.frames.train, [n for n in new if n in head.own]) for name, head in heads.items()}
    scales = completed(tables, new)
    if new:
        model = with_types(model, new, scales[first], average_neighbours(*(head.train for head in heads.values())))
    check_same_model({name: value for name, value in config.model.items() if name != "type_names"}, model.config)
    models = {first: model}
    for name in others:
        scaled = new and model.config.per_type_energy_scales is not None
        own_scales = by_name(model.config, model.scales) | scales[name] if scaled else None
        models[name] = another_head(model, own_scales, shifts=None)
    size = config.run.batch_size
    shifts = {name: _shifts_of_given(models[name], new, head, size) for name, head in heads.items()}
    for name, head in heads.items():
        loss = config.all_heads()[name].loss or config.loss
        if _choice(head.data) == "keep" and loss.largest("energy") > 0:
            _warn_of_another_zero(name, mean_left_over(models[name], head.train, shifts[name], size))
    for name, table in completed(shifts, model.config.type_names).items():
        if table != by_name(model.config, models[name].shifts):
            rebased(models[name], table)
    return models


def _shifts_of_given(model: Allegro, new: list[str], head: _Head, batch_size: int) -> dict[str, float]:
    """Energies of the free atoms [eV] as the head asks, without new types that it does not have."""
    kept = {n: shift for n, shift in by_name(model.config, model.shifts).items() if n not in new}
    choice = _choice(head.data)
    if choice in ("keep", "fit"):
        fitted = [n for n in head.own if choice == "fit" or n in new]
        shifts = fitted_to_the_rest(model, head.train, fitted, batch_size) if fitted else {}
        return kept | {n: shifts[n] for n in fitted}
    return kept | energy_shifts(head.frames.train, head.frames.one_atom, head.own, head.data, head.others)


def _choice(data: DataOptions) -> dict[str, float] | Path | str:
    """Where a run that starts from a model takes the energies of the free atoms."""
    return "keep" if data.isolated_atoms is None else data.isolated_atoms


def _warn_of_another_zero(head: str, left: float) -> None:
    """left: mean distance of the training frames' energies from those of the model [eV/atom]."""
    if left > MOST_LEFT_OVER:
        option = f"heads.{head}.isolated_atoms" if head else "data.isolated_atoms"
        warnings.warn(
            f"the energies of the training frames are {left:.4g} eV/atom away from what the model of `run.start_from` "
            "says, and its energies of the free atoms are kept; if they are of another level of theory or have another "
            f'zero, set `{option} = "fit"`, else the first steps spoil the forces',
            stacklevel=5,
        )


def _named_types(config: TrainingConfig) -> tuple[str, ...] | None:
    named = config.model.get("type_names")
    if named is not None and not isinstance(named, list):
        raise ValueError(f'option `model.type_names` is {named!r}; expected a list of symbols, such as ["H", "O"]')
    return None if named is None else tuple(named)


def _types_of_all(frames: Mapping[str, FrameSets]) -> tuple[str, ...]:
    """Chemical symbols of all atoms, by atomic number."""
    found = {name for sets in frames.values() for name in types_in(sets.train)}
    return tuple(sorted(found, key=lambda name: atomic_numbers[name]))


def _warn_of_unseen(names: tuple[str, ...] | list[str], frames: Mapping[str, FrameSets]) -> None:
    found = _types_of_all(frames)
    unseen = [name for name in names if name not in found]
    if unseen:
        warnings.warn(f"no training frame has {', '.join(unseen)}, which `model.type_names` names", stacklevel=4)
