"""Recipes of the examples: they are read, their comments name them, and they train on their data."""

import re
from pathlib import Path

import pytest
import torch

from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.training.config import DataOptions, TrainingConfig, load_config
from openmm_allegro.training.heads import own_file
from openmm_allegro.training.run import train

EXAMPLES = Path(__file__).parents[1] / "examples"
OURS = sorted(EXAMPLES.glob("recipes/*.toml")) + [EXAMPLES / "acac.toml"]
PAPER = sorted(EXAMPLES.glob("paper/*.toml"))


def named(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def shortened(config: TrainingConfig) -> TrainingConfig:
    """Two steps on a few frames."""
    run = {"max_steps": 2, "max_epochs": None, "batch_size": 2, "device": "cpu", "num_threads": 1}
    few = {name: with_few_frames(head) for name, head in config.all_heads().items()}
    data = {"heads": few} if config.heads else {"data": few[""]}
    return config.model_copy(update={**data, "run": config.run.model_copy(update=run)})


def with_few_frames(data: DataOptions) -> DataOptions:
    return data.model_copy(update={"n_train": 4} | ({"n_validation": 2} if data.validation is None else {}))


@pytest.mark.parametrize("path", OURS + PAPER, ids=named)
def test_the_comment_of_a_recipe_has_its_commands_address_and_split(path):
    config, text = load_config(path, "data"), path.read_text(encoding="utf-8")
    command = rf"#   openmm-allegro train examples/{named(path)} --data-root DATA --output (\w+)\n"
    (output,) = re.findall(command, text)
    for model in re.findall(r"openmm-allegro evaluate (\S+)", text):
        assert model in {f"{output}/{own_file('best.safetensors', head)}" for head in config.all_heads()}
    if path.name != "acac.toml":
        assert re.search(r"https?://|doi:", text)
        assert re.search("licen|CC0|CC BY|those of examples/recipes", text)
        assert re.search("[Ss]plit", text)
    assert all(file.parts[0] == "data" for head in config.all_heads().values() for file in head.train)


@pytest.mark.parametrize("path", OURS, ids=named)
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")
def test_a_recipe_trains_on_its_data(tmp_path, ab_initio_data, path):
    config = load_config(path, ab_initio_data)
    result = train(shortened(config), tmp_path / "out", progress=False, pictures=False)
    assert result.steps == 2
    for head in result.heads.values():
        assert head.validation.energy_mae_mev is not None
        assert (head.validation.forces_mae_mev_per_angstrom is None) == (path.name == "qm9.toml")


@pytest.mark.parametrize("path", [path for path in PAPER if "3po4" in path.name or "ag" in path.name], ids=named)
def test_the_two_body_network_is_as_wide_as_the_papers(path):
    """Its input: one number for each Bessel function, and one for each type of both atoms."""
    names = {"li3po4": ("Li", "O", "P"), "ag": ("Ag",)}[path.stem]
    options = load_config(path, "data").model | {"type_names": names, "avg_num_neighbors": 20.0}
    model = Allegro(AllegroConfig.model_validate(options), torch.float32)
    widths = {"li3po4": [(14, 32), (32, 64)], "ag": [(10, 16), (16, 32)]}[path.stem]
    assert [tuple(weight.shape) for weight in model.two_body_mlp.parameters()] == widths
