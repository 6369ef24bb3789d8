"""Notebooks of the examples: run from top to bottom, small, of no machine, and of names that the package still has."""

import ast
import importlib
import json
from contextlib import chdir
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from openmm_allegro.training.config import load_config

QUICKER = {
    '"max_steps": 600': '"max_steps": 30',
    "steps=2000": "steps=60",
    "simulation.step(100)": "simulation.step(2)",
}
"""The quickstart's notebook with fewer steps."""
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


def test_every_case_study_and_the_quickstart_have_a_notebook():
    assert [path.stem for path in NOTEBOOKS] == ["electrolyte", "liquid_water", "quickstart", "salt_water"]


def test_cells_were_run_once_from_the_top_without_errors_and_pictures_are_kept(notebook):
    cells = code_of(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2


def test_the_structure_and_the_model_are_shown(notebook):
    outputs = [output.get("data", {}) for cell in code_of(notebook) for output in cell["outputs"]]
    pages = ["".join(data["text/html"]) for data in outputs if "text/html" in data]
    assert sum("addModel" in page and "addUnitCell" in page for page in pages) == 1
    assert sum("<caption" in page and "openmm-allegro model" in page for page in pages) == 1


def test_a_notebook_is_small_and_names_no_machine(notebook_file):
    text = notebook_file.read_text(encoding="utf-8")
    assert len(text) < 400_000
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


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # a notebook may show what warns
def test_the_cells_of_the_quickstart_run(tmp_path, capsys):
    pytest.importorskip("py3Dmol", reason="py3Dmol is not installed")
    pytest.importorskip("IPython", reason="IPython is not installed, without which nothing is shown")
    folder = EXAMPLES / "quickstart"
    for name in ("data", "quickstart.toml"):
        (tmp_path / name).symlink_to(folder / name)
    cells = code_of(json.loads((folder / "quickstart.ipynb").read_text(encoding="utf-8")))
    text = "\n".join("".join(cell["source"]) for cell in cells)
    for long, short in QUICKER.items():
        assert long in text
        text = text.replace(long, short)
    names: dict[str, object] = {"__name__": "__main__"}
    plt.close("all")  # of earlier tests
    try:
        with chdir(tmp_path):
            exec(compile(text, "quickstart.ipynb", "exec"), names)
        assert len(plt.get_fignums()) == 2
    finally:
        plt.close("all")
    assert names["run"].n_atoms == 96
    assert "potential energy" in capsys.readouterr().out
