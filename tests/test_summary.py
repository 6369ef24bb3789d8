"""What models say of themselves: the same in memory as in their files, and a small table in a notebook."""

from html.parser import HTMLParser

import pytest
import torch
from conftest import small_model
from ensembles import deep_ensemble, last_layer_ensemble

from openmm_allegro import describe_model
from openmm_allegro.checkpoint import load_model, save_model
from openmm_allegro.ensemble import Factors, in_precision
from openmm_allegro.ensemble_file import load_ensemble, save_ensemble
from openmm_allegro.summary import LONGEST_SHOWN, Description

OF_FILES = ("kind", "format_version")
"""What only a file has."""
SHIFTS = {"H": -13.6, "O": -2041.25}


class Table(HTMLParser):
    """Names and values of a table's rows, its caption and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(html)
        self.caption, *rest = self.cells
        self.rows = dict(zip(rest[::2], rest[1::2], strict=True))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("caption", "th", "td"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


def test_a_model_says_in_memory_what_its_file_says(tmp_path):
    save_model(small_model(), tmp_path / "m.safetensors", {"program": "a test", "training": {"step": 7}})
    said = describe_model(tmp_path / "m.safetensors")
    assert {name: value for name, value in said.items() if name not in OF_FILES} == load_model(
        tmp_path / "m.safetensors"
    ).describe()


@pytest.mark.parametrize("make", [deep_ensemble, last_layer_ensemble])
def test_an_ensemble_says_in_memory_what_its_file_says(tmp_path, make):
    ensemble = make(factors=Factors(2.0, 3.0))
    ensemble.provenance = {"kind": "of a test"}
    save_ensemble(ensemble, tmp_path / "e.safetensors")
    said = describe_model(tmp_path / "e.safetensors")
    assert {name: value for name, value in said.items() if name not in OF_FILES} == load_ensemble(
        tmp_path / "e.safetensors"
    ).describe()


def test_weights_are_counted_without_scales_shifts_and_frequencies():
    model = small_model(bessel_trainable=True)
    counted = sum(p.numel() for name, p in model.named_parameters() if name not in ("scales", "shifts"))
    assert model.describe()["n_weights"] == counted - model.config.num_bessels
    assert last_layer_ensemble().describe()["n_weights"] == small_model().describe()["n_weights"]


def test_the_table_of_a_model_has_what_a_reader_wants_first():
    model = small_model(torch.float32, per_type_energy_shifts=SHIFTS)
    model.provenance = {
        "train_files": ["a.xyz", "b.xyz"],
        "config": "x" * (LONGEST_SHOWN + 1),
        "training": {"validation_loss": 0.0168595123},
    }
    table = Table(model._repr_html_())
    assert table.caption == "openmm-allegro model"
    assert table.rows == {
        "types": "H, O",
        "cutoff": "4",
        "l_max": "2",
        "layers": "2",
        "scalar features": "8",
        "tensor features": "4",
        "weights": str(model.describe()["n_weights"]),
        "dtype": "float32",
        "units": "length angstrom, energy eV",
        "free atoms": "H -13.6, O -2041.25",
        "train_files": "a.xyz, b.xyz",
        "validation_loss": "0.0168595",
    }
    assert table.tags == {"table", "caption", "tr", "th", "td"}


def test_energies_of_free_atoms_that_are_trained_are_called_so():
    model = small_model(per_type_energy_shifts=SHIFTS, per_type_energy_shifts_trainable=True)
    rows = Table(model._repr_html_()).rows
    assert rows["free atoms, trainable"] == "H -13.6, O -2041.25"
    assert "free atoms" not in rows


def test_the_table_of_an_ensemble_counts_models_and_keeps_to_what_they_share():
    rows = Table(deep_ensemble()._repr_html_()).rows  # two alike, and one with another number of layers
    assert (rows["models"], rows["types"], rows["cutoff"]) == ("3", "H, O", "4")
    assert "layers" not in rows
    alike = Table(last_layer_ensemble()._repr_html_())
    assert (alike.caption, alike.rows["models"], alike.rows["layers"]) == ("openmm-allegro ensemble", "6", "2")


@pytest.mark.parametrize("where", ["name", "value", "inner name", "inner value", "types", "format"])
def test_html_in_a_description_is_shown_and_not_run(where):
    attack = "<script>alert('&')</script>"
    said = Description(config={"type_names": ["H"]}, provenance={})
    if where in ("types", "format"):
        said |= {"type_names": [attack]} if where == "types" else {"format": attack}
    elif where.startswith("inner"):
        said["provenance"] = {"training": {attack: 1} if where == "inner name" else {"step": attack}}
    else:
        said["provenance"] = {attack: 1} if where == "name" else {"program": attack}
    table = Table(Description(said)._repr_html_())
    assert "script" not in table.tags
    assert attack in table.cells


def test_what_runs_as_it_is_has_a_table_too():
    said = Description(kind="nequip TorchScript", runs="as it is: no Allegro model", type_names="H O", r_max="5.0")
    table = Table(said._repr_html_())
    assert table.caption == "nequip TorchScript"
    assert table.rows == {"runs": "as it is: no Allegro model", "types": "H O", "cutoff": "5.0"}


def test_provenance_goes_with_a_model_into_another_precision():
    model = small_model()
    model.provenance = {"program": "a test"}
    assert in_precision(model, torch.float32).provenance == model.provenance
