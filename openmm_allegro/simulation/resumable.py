"""Whether a run may go on: as it was started, from the files it was started with."""

import hashlib
import json
from collections.abc import Iterable, Set
from pathlib import Path

from openmm_allegro.simulation.run_config import RunConfig
from openmm_allegro.simulation.stage_options import Stage

INPUTS = "inputs.json"
"""SHA-256 of the model and the structure."""


def digests(config: RunConfig) -> dict[str, str]:
    """What tells whether the files a run was made from are still the same."""
    files = {"model": config.model, "structure": config.structure}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def check_same_files(config: RunConfig, folder: Path) -> None:
    """Refuse to go on with another model or structure than those of the run in the folder."""
    before = json.loads((folder / INPUTS).read_text()) if (folder / INPUTS).is_file() else {}
    for name in ("model", "structure"):
        if not getattr(config, name).is_file():
            raise FileNotFoundError(
                f"`{name}`, {getattr(config, name)}, is not there; if it was moved, say where to by `--{name}`"
            )
    for name, digest in digests(config).items():
        if before.get(name, digest) != digest:
            raise ValueError(
                f"`{name}`, {getattr(config, name)}, has changed since the run in `{folder}` was started; put the old "
                "file back or start a new run"
            )


def check_same_options(old: RunConfig, new: RunConfig, folder: Path, may_change: Set[str]) -> None:
    """Refuse to go on with options that would make it another run."""
    known_by_content = {"model", "structure"} if (folder / INPUTS).is_file() else set()  # they may have moved
    for name in type(new).model_fields:
        before, now = getattr(old, name), getattr(new, name)
        if name not in may_change | known_by_content and before != now:
            raise ValueError(
                f"`{name}` is {_shown(now)}, but the run in `{folder}` was started with {_shown(before)}; continue "
                f"it as it was started (only {', '.join(sorted(may_change))} may change) or start a new one"
            )


def check_not_beyond(step: int | None, n_steps: int, folder: Path) -> None:
    """Refuse a length that the run has passed. step: that of its last checkpoint, if there is one."""
    if step is not None and step > n_steps:
        raise ValueError(f"the run in `{folder}` is at step {step} already, beyond the {n_steps} asked for")


def check_empty(folder: Path, options: str, written: Iterable[str]) -> None:
    """Refuse to overwrite files. options: the file by which a run goes on; written: names of all that a run writes."""
    if (folder / options).exists():
        raise FileExistsError(
            f"`{folder}` already has `{options}` of another run; choose a new folder, or go on with that run by "
            "`--resume`"
        )
    for name in written:
        if (folder / name).exists():
            raise FileExistsError(
                f"`{folder}` already has `{name}`, which this run would overwrite or mix with its own; choose a new "
                "folder, or move that file away"
            )


def check_exists(file: Path) -> None:
    """Refuse to go on where there is no run. file: its options."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no run to resume in `{file.parent}`: it has no `{file.name}`")


def _shown(value: object) -> str:
    if isinstance(value, tuple) and any(isinstance(each, Stage) for each in value):
        return ", ".join(stage.name for stage in value) + " with the options in its file"
    return "not set" if value is None or value == () else str(value)
