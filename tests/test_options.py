"""Mistakes in option files are told in a sentence with the option's full name."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from openmm_allegro.options import checked, options_error, read_toml


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    energy_weight: float = Field(default=1.0, ge=0)
    kind: int | dict[str, float] = 1


class Outer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature_k: float
    loss: Inner = Inner()
    optional: Inner | None = None

    @model_validator(mode="after")
    def _not_five(self) -> "Outer":
        if self.temperature_k == 5:
            raise ValueError("`temperature_k` is 5; choose another")
        return self


def test_a_file_becomes_the_object_it_describes(tmp_path):
    (tmp_path / "options.toml").write_text("temperature_k = 300\n[loss]\nenergy_weight = 2\n")
    assert read_toml(tmp_path / "options.toml", Outer) == Outer(temperature_k=300, loss=Inner(energy_weight=2))


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            {"temperature_k": 1, "temperture_k": 1},
            r"^unknown option `temperture_k`; did you mean `temperature_k`\? known options: temperature_k",
        ),
        (
            {"temperature_k": 1, "loss": {"enrgy_weight": 1}},
            r"^unknown option `loss.enrgy_weight`; did you mean `energy_weight`\? known options: energy",
        ),
        (
            {"temperature_k": 1, "optional": {"x": 1}},
            r"^unknown option `optional.x`; known options: energy_weight",
        ),
        ({}, r"^option `temperature_k` is missing$"),
        ({"temperature_k": "hot"}, r"^option `temperature_k` is 'hot': input should be a valid number"),
        (
            {"temperature_k": 1, "loss": {"energy_weight": -1}},
            r"^option `loss.energy_weight` is -1: .*greater than",
        ),
        ({"temperature_k": 5}, r"^`temperature_k` is 5; choose another$"),
        ({"temperature_k": "hot", "x": 1}, r"^option `temperature_k` is 'hot'.*; unknown option `x`"),
    ],
)
def test_a_mistake_becomes_a_sentence_with_the_full_name(table, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked(table, Outer)


def test_alternatives_of_a_union_are_one_mistake():
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"temperature_k": 1, "loss": {"kind": "x"}})
    assert caught.value.error_count() == 2
    assert str(options_error(caught.value, Outer)).startswith("option `loss.kind` is 'x': ")
    assert ";" not in str(options_error(caught.value, Outer))


def test_a_section_name_goes_before_the_option():
    with pytest.raises(ValueError, match="^unknown option `model.x`"):
        checked({"x": 1}, Inner, section="model")


def test_a_missing_file_and_broken_toml_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_toml(tmp_path / "none.toml", Outer)
    (tmp_path / "broken.toml").write_text("temperature_k = \n")
    with pytest.raises(ValueError, match="is not TOML: Invalid value"):
        read_toml(tmp_path / "broken.toml", Outer)
