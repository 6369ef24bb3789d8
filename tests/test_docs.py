"""Every block of code in the manual runs, page after page in one folder; long work is made short by name."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from openmm_allegro.options import checked
from openmm_allegro.training.config import HeadOptions, TrainingConfig

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
from blocks import BLOCK, run_page  # noqa: E402
from reference import training_options  # noqa: E402

FIRST = "quickstart"
PAGES = sorted(page.stem for page in DOCS.glob("*.md"))
QUICKER = {
    "examples/quickstart/quickstart.toml": "quick.toml",
    "max_time_minutes = 30": "max_steps = 20",
    "max_time_minutes = 5": "max_steps = 5",
    "--duration-ps 10": "--steps 400",
    "duration_ps = 5": "duration_ps = 0.02",
    "--uncertainty-every 100": "--uncertainty-every 10 --report-every 10",
    "--count 5": "--count 5 --max-spread 1e9",
    "simulation.step(20000)": "simulation.step(2000)",
    "simulation.step(100)": "simulation.step(5)",
}
"""The commands of the manual with fewer steps."""
READ_ONLY = {"console", "text"}
"""Languages of blocks that are not run: installation, and what programs print."""
QUICK_TRAINING = """
[data]
train = "examples/quickstart/data/train.extxyz.xz"
n_validation = 20

[model]
type_names = ["H", "O"]
r_max = 4.0
num_layers = 1
num_scalar_features = 16
num_tensor_features = 4

[optimizer]
lr = 0.02

[run]
batch_size = 1
max_steps = 30
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands of the first page have been run, which the other pages go on from."""
    path = tmp_path_factory.mktemp("manual")
    (path / "quick.toml").write_text(QUICK_TRAINING)
    run_page(DOCS / f"{FIRST}.md", path, QUICKER)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("default")  # a page may show what warns
def test_the_blocks_of_a_page_run(folder, page):
    if page != FIRST:
        run_page(DOCS / f"{page}.md", folder, QUICKER)
    assert (folder / "water" / "best.safetensors").is_file()


@pytest.mark.parametrize("long", QUICKER)
def test_what_is_made_short_is_in_the_manual(long):
    assert any(long in page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))


def test_every_fence_is_a_block_that_is_run_or_known_not_to_be():
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        languages = [language for language, _ in BLOCK.findall(text)]
        assert set(languages) <= {"python", "bash", "toml"} | READ_ONLY, page
        directives = text.count("```{")
        assert text.count("```") == 2 * (len(languages) + directives), f"{page} has a fence without a language"


def test_a_block_that_fails_is_an_error(tmp_path):
    (tmp_path / "page.md").write_text("```bash\nopenmm-allegro info nothing.extxyz\n```\n")
    with pytest.raises(RuntimeError, match="this block failed:\nopenmm-allegro info nothing.extxyz"):
        run_page(tmp_path / "page.md", tmp_path / "run")


def test_the_manual_has_every_option_of_a_training_file_and_requires_what_training_requires():
    page = training_options()
    config = checked(tomllib.loads(QUICK_TRAINING), TrainingConfig)
    sections = [getattr(config, name) for name in ("data", "loss", "optimizer", "run")]
    heads = HeadOptions(**dict(config.data))
    names = {name for section in [*sections, heads] for name in type(section).model_fields}
    assert [name for name in sorted(names) if f"`{name}` (" not in page] == []
    # what the smallest file must give; the rest of the model comes from the frames
    assert re.findall(r"`(\w+)` \(required\)", page) == ["train", "r_max"]
