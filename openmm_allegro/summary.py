"""What a model says of itself, in files and in memory; and what of it a reader wants first, a table in a notebook."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final, cast

from pydantic import JsonValue

MODEL_FORMAT: Final = "openmm-allegro model"
ENSEMBLE_FORMAT: Final = "openmm-allegro ensemble"
UNITS: dict[str, JsonValue] = {"length": "angstrom", "energy": "eV"}
TRAINED_ON: Final = "trained_on"
"""Name of the fingerprints of frames in a provenance: for `openmm_allegro.training`, and not for readers."""
LONGEST_SHOWN = 60
"""Provenance of more characters (a whole configuration, a checksum) is left to `openmm-allegro info`."""
LEFT = 'style="text-align: left"'
FIRST = {
    "runs": "runs",
    "members": "models",
    "type_names": "types",
    "r_max": "cutoff",
    "l_max": "l_max",
    "num_layers": "layers",
    "num_scalar_features": "scalar features",
    "num_tensor_features": "tensor features",
    "n_weights": "weights",
    "dtype": "dtype",
    "units": "units",
    "per_type_energy_shifts": "free atoms",
}
"""What a reader wants first, by its name in a description, and what a table calls it."""


class Description(dict[str, JsonValue]):
    """What a model says of itself; a notebook shows the part that a reader wants first, as a table."""

    def __init__(self, said: Mapping[str, JsonValue] | None = None, /, **more: JsonValue) -> None:
        super().__init__({**(said or {}), **more})
        if "provenance" in self:
            self["provenance"] = _for_readers(self["provenance"])

    def first(self) -> dict[str, JsonValue]:
        """That part, without what is not said."""
        said = {**self._config(), **self}
        return {name: said[name] for name in FIRST if said.get(name) is not None}

    def _repr_html_(self) -> str:
        rows = [f"<tr><th {LEFT}>{escape(name)}</th><td {LEFT}>{escape(text)}</td></tr>" for name, text in self._rows()]
        title = escape(_text(self.get("format", self.get("kind", "model"))))
        return f"<table><caption {LEFT}>{title}</caption>{''.join(rows)}</table>"

    def _rows(self) -> Iterator[tuple[str, str]]:
        for name, value in self.first().items():
            yield FIRST[name] + self._trainable(name), _text(value)
        provenance = self.get("provenance", {})
        assert isinstance(provenance, dict)
        for name, value in provenance.items():
            if isinstance(value, dict):
                yield from ((inner, _text(each)) for inner, each in value.items() if _is_short(each))
            elif _is_short(value):
                yield name, _text(value)

    def _trainable(self, name: str) -> str:
        return ", trainable" if self._config().get(f"{name}_trainable") else ""

    def _config(self) -> dict[str, JsonValue]:
        """Options of the model; of several those that are the same for all."""
        configs = cast(list[dict[str, JsonValue]], self.get("configs") or [self.get("config") or {}])
        return {
            name: value
            for name, value in configs[0].items()
            if all(name in each and each[name] == value for each in configs)
        }


def of_models(configs: Sequence[dict[str, JsonValue]], has_centre: bool) -> dict[str, JsonValue]:
    """How many members an ensemble has, and their configuration: one if all have the same."""
    alike = all(config == configs[0] for config in configs)
    return {"members": len(configs) - has_centre, **({"config": configs[0]} if alike else {"configs": list(configs)})}


def count_weights(sizes: Mapping[str, int]) -> int:
    """Numbers in the weights of a model, by the names of its tensors: of all linear maps, without scales and shifts."""
    return sum(size for name, size in sizes.items() if name.endswith("weight"))


def _for_readers(provenance: JsonValue) -> JsonValue:
    """Without the fingerprints of frames, of a model and of each in an ensemble."""
    if not isinstance(provenance, dict):
        return provenance
    return {name: _for_readers(value) for name, value in provenance.items() if name != TRAINED_ON}


def _is_short(value: JsonValue) -> bool:
    return not isinstance(value, dict) and len(_text(value)) <= LONGEST_SHOWN


def _text(value: JsonValue) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
