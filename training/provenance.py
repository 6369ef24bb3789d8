"""Where a model file comes from, and what a resumed run must share with its beginning."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import JsonValue

from openmm_allegro.checkpoint import load_model
from openmm_allegro.summary import TRAINED_ON
from openmm_allegro.training.config import DataOptions, TrainingConfig
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.splits import FrameSets
from openmm_allegro.training.statistics import isolated_energies
from openmm_allegro.training.trained_on import fingerprints, kept_in

FRAMES = "the frames"


def shared_by_resumed_runs(config: TrainingConfig, frames: Mapping[str, FrameSets]) -> dict[str, str]:
    """What a resumed run must share with its beginning; its length and its device may change."""
    dump = config.model_dump(mode="json")
    kept = ("batch_size", "group_by_size", "validate_every", "precision", "matmul", "seed", "freeze")
    run = {name: dump["run"][name] for name in kept}
    sections = {"model": dump["model"], "loss": dump["loss"], "optimizer": dump["optimizer"], "run": run}
    for name, head in config.all_heads().items():
        sections[f"heads.{name}" if name else "data"] = {"isolated_atoms": _isolated_atoms(head)}
    for name, table in dump["heads"].items():
        sections[f"heads.{name}"] |= {key: table[key] for key in ("weight", "loss")}
    options = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    if config.heads:
        options["order of heads"] = list(config.heads)  # weights are kept by number
    if config.run.start_from is not None:
        options |= _start_model(config.run.start_from)
    fingerprints = {f"{FRAMES} of {name}" if name else FRAMES: sets.fingerprint() for name, sets in frames.items()}
    return {name: repr(value) for name, value in options.items()} | fingerprints


def _isolated_atoms(data: DataOptions) -> object:
    """The option, of a file what stands in it: the run may be resumed from elsewhere."""
    choice = data.isolated_atoms
    if not isinstance(choice, Path):
        return choice
    return dict(sorted(isolated_energies(read_frames(choice, data), f"`{choice}`").items()))


def _start_model(path: Path) -> dict[str, object]:
    """The options of a model file: what a resumed run does not get with its weights."""
    options = load_model(path).config.model_dump(mode="json")
    return {f"{name} of run.start_from": value for name, value in options.items()}


def check_same_run(path: Path, run_id: dict[str, str]) -> None:
    """Refuse to resume a run that was started with other options or frames.

    An option that the version before did not know is one that was not given.
    """
    try:
        before = torch.load(path, map_location="cpu", weights_only=True)["run_id"]
    except Exception as error:  # torch raises whatever the broken bytes lead it to
        raise ValueError(f"cannot read `{path}`: {error}; start again in another folder") from error
    for name in sorted({*before, *run_id}):
        was, now = before.get(name, "None"), run_id.get(name, "None")
        if was != now:
            was, now = ("others", "changed") if name.startswith(FRAMES) else (was, now)
            raise ValueError(
                f"the run in `{path.parent}` was started with another `{name}` ({was}, now {now}); "
                "undo the change to resume it, or start in another folder"
            )


def provenance(config: TrainingConfig, head: str, frames: FrameSets) -> dict[str, JsonValue]:
    """Where the model file of a head comes from."""
    start = config.run.start_from
    before = set() if start is None else kept_in(load_model(start).provenance)
    return {
        **({"head": head, "heads": list(config.heads)} if head else {}),
        "program": f"openmm-allegro {version('openmm-allegro')}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "config": config.toml_text,
        "train_files": [path.name for path in config.all_heads()[head].train],
        "n_train": len(frames.train),
        "n_validation": len(frames.validation),
        "frames_sha256": frames.fingerprint(),
        TRAINED_ON: [*fingerprints(frames.train_digests, before)],
    }
