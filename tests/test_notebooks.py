"""Notebooks of the examples: run from top to bottom, small, of no machine, and of names that the package still has."""

import ast
import importlib
import json
from pathlib import Path

import pytest

from openmm_allegro.training.config import load_config

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*/*.ipynb"))


def code_of(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook_file(request):
    return request.param


@pytest.fixture
def notebook(notebook_file):
    return json.loads(notebook_file.read_text(encoding="utf-8"))


def test_every_case_study_has_a_notebook():
    assert [path.stem for path in NOTEBOOKS] == ["carbonate", "electrolyte", "liquid_water"]


def test_cells_were_run_once_from_the_top_without_errors_and_pictures_are_kept(notebook):
    cells = code_of(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2


def test_a_notebook_is_small_and_names_no_machine(notebook_file):
    text = notebook_file.read_text(encoding="utf-8")
    assert len(text) < 300_000
    for trace in ("/work", "/home", "/tmp", "/root", "site-packages"):
        assert trace not in text


def test_a_notebook_says_that_its_numbers_are_no_results(notebook):
    assert "none of the numbers below is a result" in "".join(notebook["cells"][0]["source"])


def test_what_a_notebook_imports_is_still_there(notebook):
    names = 0
    for cell in code_of(notebook):
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("openmm_allegro"):
                module = importlib.import_module(node.module)
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []
                names += len(node.names)
    assert names >= 5


def test_the_training_options_of_a_notebook_are_read(notebook_file):
    config = load_config(notebook_file.with_suffix(".toml"), "data")
    assert all(file.parts[0] == "data" for file in config.data.train)
