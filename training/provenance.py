"""Where a model file comes from, and what a resumed run must share with its beginning."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import JsonValue

from openmm_allegro.training.config import TrainingConfig
from openmm_allegro.training.splits import FrameSets


def shared_by_resumed_runs(config: TrainingConfig, frames: FrameSets) -> dict[str, str]:
    """What a resumed run must share with its beginning; its length and its device may change."""
    dump = config.model_dump(mode="json")
    kept = ("batch_size", "group_by_size", "validate_every", "precision", "matmul", "seed", "freeze")
    run = {name: dump["run"][name] for name in kept}
    sections = {"model": dump["model"], "loss": dump["loss"], "optimizer": dump["optimizer"], "run": run}
    sections["data"] = {"isolated_atoms": dump["data"]["isolated_atoms"]}
    options = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {name: repr(value) for name, value in options.items()} | {"the frames": frames.fingerprint()}


def check_same_run(path: Path, run_id: dict[str, str]) -> None:
    """Refuse to resume a run that was started with other options or frames."""
    try:
        before = torch.load(path, map_location="cpu", weights_only=True)["run_id"]
    except Exception as error:  # torch raises whatever the broken bytes lead it to
        raise ValueError(f"cannot read `{path}`: {error}; start again in another folder") from error
    for name in sorted({*before, *run_id}):
        if before.get(name) != run_id.get(name):
            was, now = ("others", "changed") if name == "the frames" else (before.get(name), run_id.get(name))
            raise ValueError(
                f"the run in `{path.parent}` was started with another `{name}` ({was}, now {now}); "
                "undo the change to resume it, or start in another folder"
            )


def provenance(config: TrainingConfig, frames: FrameSets) -> dict[str, JsonValue]:
    """Where a model file comes from."""
    return {
        "program": f"openmm-allegro {version('openmm-allegro')}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "config": config.toml_text,
        "train_files": [path.name for path in config.data.train],
        "n_train": len(frames.train),
        "n_validation": len(frames.validation),
        "frames_sha256": frames.fingerprint(),
    }
