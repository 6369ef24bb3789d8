"""Errors on test sets after some minutes of training, and those of nequip-allegro after as many on the same frames.

    python tests/benchmarks/accuracy.py DATA --sets acac 3bpa --minutes 30 --threads 2 --peer --output accuracy

Each set is trained by its recipe in `examples`, with the time changed; nequip's training gets the same architecture,
frames, batch, atomic energies and scales, its own optimiser settings (Adam 0.002, plateau, moving average), and is
evaluated with its averaged weights. Seeds are those of the recipes. Models, logs and `accuracy.json` are left in the
output folder; a set that is in the table already is not trained again.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import ase.io
import torch
from lightning.pytorch import seed_everything

from openmm_allegro.bench_peers import nequip_options
from openmm_allegro.checkpoint import save_model
from openmm_allegro.model import Allegro
from openmm_allegro.nequip import copy_nequip_weights
from openmm_allegro.training.config import LabelOptions, TrainingConfig, load_config
from openmm_allegro.training.evaluation import evaluate_files
from openmm_allegro.training.run import train
from openmm_allegro.training.speed import labelled_atoms, nequip_training
from openmm_allegro.training.splits import read_frame_sets
from openmm_allegro.training.starting_model import starting_model

EXAMPLES = Path(__file__).parents[2] / "examples"
SETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "acac": ("acac.toml", "", ("acac/test_MD_300K.xyz.xz", "acac/test_MD_600K.xyz.xz")),
    "3bpa": ("recipes/3bpa.toml", "", ("3bpa/test_300K.xyz.xz", "3bpa/test_600K.xyz.xz")),
    "ethanol": ("recipes/rmd17.toml", "ethanol", ("rmd17/rmd17_ethanol_test_01.npz",)),
    "aspirin": ("recipes/rmd17.toml", "aspirin", ("rmd17/rmd17_aspirin_test_01.npz",)),
}
"""Recipe, molecule to put into it, and test files."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the published sets")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=["acac"])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", action="store_true", help="also train with nequip")
    parser.add_argument("--output", type=Path, default=Path("accuracy"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(exist_ok=True)
    for name in arguments.sets:
        config = recipe(name, arguments.data, arguments.minutes, arguments.threads)
        tests = [arguments.data / path for path in SETS[name][2]]
        report(arguments.output, f"{name}-{arguments.minutes:g}", ours, config, tests)
        if arguments.peer:
            report(arguments.output, f"{name}-{arguments.minutes:g}-nequip", theirs, config, tests)


def recipe(name: str, data: Path, minutes: float, threads: int) -> TrainingConfig:
    """The recipe of a set with other limits."""
    path, molecule, _ = SETS[name]
    config = load_config(EXAMPLES / path, data)
    options = config.data
    if molecule:
        options = options.model_copy(update={"train": (data / "rmd17" / f"rmd17_{molecule}_train_01.npz",)})
    limits = {"max_time_minutes": minutes, "max_epochs": None, "max_steps": None, "num_threads": threads}
    run = config.run.model_copy(update=limits)
    return config.model_copy(update={"data": options, "run": run})


def report(output: Path, name: str, trained, config: TrainingConfig, tests: list[Path]) -> None:
    """Train unless that is done, evaluate, and add the figures to the table."""
    table_file = output / "accuracy.json"
    table = json.loads(table_file.read_text()) if table_file.is_file() else {}
    if name not in table:
        model, steps = trained(config, output / name)
        labels = LabelOptions(units=config.data.units)
        errors = {test.name: evaluate_files(model, [test], options=labels).overall.as_dict() for test in tests}
        table[name] = {"steps": steps, "threads": torch.get_num_threads(), "torch": torch.__version__, **errors}
        table_file.write_text(json.dumps(table, indent=1))
    for test in tests:
        errors = table[name][test.name]
        print(
            f"{name} ({table[name]['steps']} steps), {test.name}: forces MAE "
            f"{errors['forces_mae_mev_per_angstrom']:.1f} RMSE {errors['forces_rmse_mev_per_angstrom']:.1f} meV/Å, "
            f"energy MAE {errors['energy_mae_mev']:.1f} RMSE {errors['energy_rmse_mev']:.1f} meV",
            flush=True,
        )


def ours(config: TrainingConfig, folder: Path) -> tuple[Path, int]:
    """Train here; the best model and the number of steps."""
    result = train(config, folder)
    return result.best_model, result.steps


def theirs(config: TrainingConfig, folder: Path) -> tuple[Path, int]:
    """Train with nequip in a process of its own; its averaged weights as a model of ours, and the number of steps."""
    frames = read_frame_sets(config.data, config.loss)
    start = starting_model(config, frames)
    folder = folder.resolve()
    folder.mkdir()
    for name, own in (("train", frames.train), ("validation", frames.validation)):
        ase.io.write(folder / f"{name}.xyz", [labelled_atoms(frame) for frame in own], format="extxyz")
    files = {"train_file_path": str(folder / "train.xyz"), "val_file_path": str(folder / "validation.xyz")}
    minutes, seconds = divmod(round(60 * (config.run.max_time_minutes or 0)), 60)
    limits = {
        "max_epochs": 1_000_000,
        "max_time": f"00:{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}",
        "accelerator": "cpu",
        "callbacks": [
            {
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                "dirpath": str(folder),
                "save_last": True,
                "save_on_train_epoch_end": True,
            }
        ],
    }
    plateau = {"factor": 0.6, "patience": 5, "threshold": 0.2, "min_lr": 1e-6}
    scheduler = {
        "scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", **plateau},
        "monitor": "val0_epoch/weighted_sum",
        "interval": "epoch",
        "frequency": 1,
    }
    model = nequip_options(start.model.config, start.model.dtype)
    table = nequip_training(model, start.model.config, files, config.run.batch_size, limits)
    table["training_module"] = {**cast(dict[str, object], table["training_module"]), "lr_scheduler": scheduler}
    (folder / "nequip.yaml").write_text(json.dumps(table))
    command = [sys.executable, "-P", "-c", "from nequip.scripts.train import main; main()", "-cp", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with (folder / "nequip.log").open("w") as log:
        words = [*command, "-cn", "nequip", f"hydra.run.dir={folder}"]
        subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, env=environment, check=True)
    return as_our_model(folder / "last.ckpt", start.model, folder / "model.safetensors")


def as_our_model(checkpoint: Path, like: Allegro, path: Path) -> tuple[Path, int]:
    """The averaged weights of a nequip checkpoint in a model file, and the steps it has seen."""
    from nequip.model.saved_models.checkpoint import ModelFromCheckpoint
    from nequip.utils.global_state import set_global_state

    set_global_state()
    copy_nequip_weights(ModelFromCheckpoint(str(checkpoint))["sole_model"], like)
    save_model(like, path)
    return path, int(torch.load(checkpoint, map_location="cpu", weights_only=False)["global_step"])


if __name__ == "__main__":
    seed_everything(1, verbose=False)
    main()
