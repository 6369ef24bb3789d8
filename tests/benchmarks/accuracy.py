r"""Errors on test sets after some minutes of training, and those of nequip-allegro after as many on the same frames.

    python tests/benchmarks/accuracy.py DATA --sets acac 3bpa --minutes 30 --threads 2 --peer --output accuracy
    python tests/benchmarks/accuracy.py DATA --sets acac 3bpa --minutes 30 --processor-time --peer --output accuracy
    python tests/benchmarks/accuracy.py DATA --sets aspirin --minutes 120 --processor-time \
        --model l_max=3 num_layers=3 r_max=6.0 --output accuracy

Each set is trained by its recipe in `examples`, with the time changed; nequip's training gets the same architecture,
frames, batch, atomic energies and scales, its own optimiser settings (Adam 0.002, plateau, moving average), and is
evaluated with its averaged weights. Seeds are those of the recipes. Sets without test frames of their own give every
tenth frame for them, from a place that no training sees. Models, logs and a table `NAME.json` for each run are left in
the output folder; a run that has its table is not trained again. `--processor-time` counts the minutes that one thread
computes, for machines that do other things meanwhile. `--model` changes sizes of the recipe's model; they are added to
the names of the runs.
"""

import argparse
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import ase.io
import torch
from lightning.pytorch import seed_everything
from processor_clock import UseProcessorClock

from openmm_allegro.bench.peers import nequip_options
from openmm_allegro.checkpoint import save_model
from openmm_allegro.model import Allegro
from openmm_allegro.nequip.weights import copy_nequip_weights
from openmm_allegro.training.config import LabelOptions, TrainingConfig, load_config
from openmm_allegro.training.evaluation import evaluate_files
from openmm_allegro.training.run import train
from openmm_allegro.training.speed import labelled_atoms, nequip_training
from openmm_allegro.training.splits import read_frame_sets
from openmm_allegro.training.starting_model import starting_models

EXAMPLES = Path(__file__).parents[2] / "examples"
SETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "acac": ("acac.toml", "", ("acac/test_MD_300K.xyz.xz", "acac/test_MD_600K.xyz.xz")),
    "3bpa": ("recipes/3bpa.toml", "", ("3bpa/test_300K.xyz.xz", "3bpa/test_600K.xyz.xz")),
    "ethanol": ("recipes/rmd17.toml", "ethanol", ("rmd17/rmd17_ethanol_test_01.npz",)),
    "aspirin": ("recipes/rmd17.toml", "aspirin", ("rmd17/rmd17_aspirin_test_01.npz",)),
    "lips": ("recipes/lips.toml", "", ()),
    "water": ("recipes/water.toml", "", ()),
}
"""Recipe, molecule to put into it, and test files."""
HELD_OUT = 10
"""Of so many frames one is a test frame, where a set has none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the published sets")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=["acac"])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor-time", action="store_true", help="minutes are those of one thread's computing")
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME=NUMBER", help="sizes to change in the model")
    parser.add_argument("--peer", action="store_true", help="also train with nequip")
    parser.add_argument("--only-peer", action="store_true", help="train with nequip alone")
    parser.add_argument("--output", type=Path, default=Path("accuracy"))
    arguments = parser.parse_args()
    threads = 1 if arguments.processor_time else arguments.threads
    torch.set_num_threads(threads)
    arguments.output.mkdir(exist_ok=True)
    for name in arguments.sets:
        config = with_sizes(recipe(name, arguments.data, arguments.minutes, threads), arguments.model)
        config, tests = with_test_frames(config, [arguments.data / path for path in SETS[name][2]], arguments.output)
        run = "-".join([name, f"{arguments.minutes:g}", *arguments.model])
        if not arguments.only_peer:
            report(arguments.output, run, ours, config, tests, arguments.processor_time)
        if arguments.peer or arguments.only_peer:
            report(arguments.output, f"{run}-nequip", theirs, config, tests, arguments.processor_time)


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


def with_sizes(config: TrainingConfig, sizes: list[str]) -> TrainingConfig:
    """The recipe with other sizes of its model, each as `l_max=3`."""
    changes = {name: json.loads(value) for name, value in (size.split("=") for size in sizes)}
    return config.model_copy(update={"model": {**config.model, **changes}})


def with_test_frames(config: TrainingConfig, tests: list[Path], output: Path) -> tuple[TrainingConfig, list[Path]]:
    """The test files of a set; where it has none, its file divided into one for training and one for tests."""
    if tests:
        return config, tests
    (source,) = config.data.train
    parts = [output / f"{source.name.split('.')[0]}-{part}.xyz" for part in ("train", "test")]
    if not all(part.is_file() for part in parts):
        with lzma.open(source, "rt") as file:
            frames = list(ase.io.iread(file, ":", format="extxyz"))
        for part, chosen in zip(parts, (lambda i: i % HELD_OUT != 0, lambda i: i % HELD_OUT == 0), strict=True):
            ase.io.write(part, [frame for i, frame in enumerate(frames) if chosen(i)], format="extxyz")
    return config.model_copy(update={"data": config.data.model_copy(update={"train": (parts[0],)})}), parts[1:]


def report(output: Path, name: str, trained, config: TrainingConfig, tests: list[Path], processor_time: bool) -> None:
    """Train unless that is done, evaluate, leave the figures in a table and print them."""
    table_file = output / f"{name}.json"
    if not table_file.is_file():
        model, steps = trained(config, output / name, processor_time)
        labels = LabelOptions(units=config.data.units)
        errors = {test.name: evaluate_files(model, [test], options=labels).overall.as_dict() for test in tests}
        how = {"threads": torch.get_num_threads(), "processor_time": processor_time, "torch": torch.__version__}
        table_file.write_text(json.dumps({"steps": steps, **how, **errors}, indent=1))
    table = json.loads(table_file.read_text())
    for test in tests:
        errors = table[test.name]
        print(
            f"{name} ({table['steps']} steps), {test.name}: forces MAE "
            f"{errors['forces_mae_mev_per_angstrom']:.1f} RMSE {errors['forces_rmse_mev_per_angstrom']:.1f} meV/Å, "
            f"energy MAE {errors['energy_mae_mev']:.1f} RMSE {errors['energy_rmse_mev']:.1f} meV",
            flush=True,
        )


def ours(config: TrainingConfig, folder: Path, processor_time: bool) -> tuple[Path, int]:
    """Train here; the best model and the number of steps."""
    result = train(config, folder, callbacks=[UseProcessorClock()] if processor_time else [])
    return result.best_model, result.steps


def theirs(config: TrainingConfig, folder: Path, processor_time: bool) -> tuple[Path, int]:
    """Train with nequip in a process of its own; its averaged weights as a model of ours, and the number of steps."""
    assert config.data is not None
    frames = read_frame_sets(config.data, config.loss)
    start = starting_models(config, {"": frames})[""]
    folder = folder.resolve()
    folder.mkdir()
    for name, own in (("train", frames.train), ("validation", frames.validation)):
        ase.io.write(folder / f"{name}.xyz", [labelled_atoms(frame) for frame in own], format="extxyz")
    files = {"train_file_path": str(folder / "train.xyz"), "val_file_path": str(folder / "validation.xyz")}
    whole = round(60 * (config.run.max_time_minutes or 0))
    minutes, seconds = divmod(whole, 60)
    stop = {"_target_": "processor_clock.StopByProcessorTime", "seconds": whole}
    limits = {
        "max_epochs": 1_000_000,
        "max_time": None if processor_time else f"00:{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}",
        "accelerator": "cpu",
        "callbacks": [
            *([stop] if processor_time else []),
            {
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                "dirpath": str(folder),
                "save_last": True,
                "save_on_train_epoch_end": True,
            },
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
    environment["PYTHONPATH"] = str(Path(__file__).parent)
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
