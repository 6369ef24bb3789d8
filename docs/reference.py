"""Pages of reference that the package knows itself: verbs, options, analyses."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence, Set
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from openmm_allegro.analysis.catalogue import described
from openmm_allegro.cli import app
from openmm_allegro.config import AllegroConfig
from openmm_allegro.lammps.config import LammpsConfig
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.stage_options import Stage
from openmm_allegro.training.config import DataOptions, HeadOptions, OptimizerOptions, RunOptions
from openmm_allegro.training.loss_options import LossOptions

TRAINING = {
    "data": DataOptions,
    "model": AllegroConfig,
    "loss": LossOptions,
    "optimizer": OptimizerOptions,
    "run": RunOptions,
}
FROM_FRAMES = ("type_names", "avg_num_neighbors", "per_type_energy_scales", "per_type_energy_shifts")
"""Options of the model that training takes from its frames where they are not given."""


def write_reference(folder: Path) -> None:
    """Write `cli.md`, `training_options.md`, `simulation_options.md` and `analyses.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "cli": "# Command line\n\n" + "\n".join(_verb_section(verb) for verb in _verbs()),
        "training_options": training_options(),
        "simulation_options": "# Options of a simulation\n\n"
        + _option_table("Of the whole run", SimulateConfig)
        + _option_table("stages", Stage)
        + _option_table("In LAMMPS", LammpsConfig),
        "analyses": f"# Analyses by name\n\n```text\n{described()}\n```\n",
    }
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def training_options() -> str:
    """The page of the options of a training file."""
    sections = [_option_table(f"[{name}]", options, FROM_FRAMES) for name, options in TRAINING.items()]
    heads = "[heads.NAME], in place of [data] with its options and these"
    sections.append(_option_table(heads, HeadOptions, left_out=set(DataOptions.model_fields)))
    return "# Options of a training file\n\n" + "\n".join(sections)


def _verbs() -> list[str]:
    return [command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback] + [
        group.name for group in app.registered_groups if group.name
    ]


def _verb_section(verb: str) -> str:
    """The help of a verb as it is printed."""
    done = subprocess.run(
        [sys.executable, "-c", "from openmm_allegro.cli import entry_point; entry_point()", verb, "--help"],
        env=os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"## {verb}\n\n```text\n{done.stdout.strip()}\n```\n"


def _option_table(
    title: str, options: type[BaseModel], from_frames: Sequence[str] = (), left_out: Set[str] = frozenset()
) -> str:
    """Name, default and meaning of each option."""
    lines = [f"## {title}\n"]
    for name, field in options.model_fields.items():
        if name not in left_out:
            said = "not given: from the training frames" if name in from_frames else _default(field)
            meaning = (field.description or "").replace("\n", "\n  ")
            lines.append(f"`{name}` ({said})\n: {meaning}\n")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = json.dumps(field.get_default(call_default_factory=True), default=str)
    return "not given" if default == "null" else f"default `{default}`"
