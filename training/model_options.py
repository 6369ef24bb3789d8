"""The `[model]` section: AllegroConfig, in which what describes the data may be left out."""

from typing import TypeAlias

from openmm_allegro.config import AllegroConfig
from openmm_allegro.options import checked

ModelOptions: TypeAlias = dict[str, str | int | float | bool | list[str] | dict[str, float | dict[str, float]]]


def check_model_options(options: ModelOptions) -> None:
    """Refuse what is wrong already now, before any data are read, as far as that can be told."""
    known_later: ModelOptions = {"type_names": _types_named(options), "avg_num_neighbors": 1.0}
    allegro_config(known_later | options)


def allegro_config(options: ModelOptions) -> AllegroConfig:
    """The model's configuration, or what is wrong with it in words."""
    return checked(dict(options), AllegroConfig, "model")


def check_same_model(options: ModelOptions, config: AllegroConfig) -> None:
    """Refuse options that differ from those of the model a run starts from."""
    asked = allegro_config(config.model_dump() | options)
    for name, value in options.items():
        if getattr(asked, name) != getattr(config, name):
            raise ValueError(
                f"`model.{name}` is {value!r}, but the model of `run.start_from` has {getattr(config, name)!r}; "
                "leave it out"
            )


def _types_named(options: ModelOptions) -> list[str]:
    tables = ["avg_num_neighbors", "per_type_energy_scales", "per_type_energy_shifts"]
    for table in tables:
        value = options.get(table)
        if isinstance(value, dict):
            return list(value)
    cutoffs = options.get("per_edge_type_cutoff")
    if not isinstance(cutoffs, dict):
        return ["H"]
    names = dict.fromkeys(cutoffs)
    for by_neighbour in cutoffs.values():
        if isinstance(by_neighbour, dict):
            names.update(dict.fromkeys(by_neighbour))
    return list(names)
