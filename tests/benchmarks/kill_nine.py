"""Does a training run that is killed at random moments end with the weights of one that was not?

Usage: python tests/benchmarks/kill_nine.py [--kills 10] [--seed 1] [--epochs 200] [--keep FOLDER]
Trains a small model on the quickstart's data through the command line; kills it with signal 9, resumes it, kills it
again, and at last lets it end. Moments are drawn evenly from the first sign of life (a new folder, a new resume file)
on. Epochs are short and each is validated and saved, so that many of the kills fall into the writing of a file.
"""

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

DATA = Path(__file__).parents[2] / "examples" / "quickstart" / "data" / "train.extxyz.xz"
TOML = """
[data]
train = "{data}"
n_validation = 4
n_train = 12
[model]
type_names = ["H", "O"]
r_max = 3.0
num_layers = 1
l_max = 1
num_scalar_features = 8
num_tensor_features = 4
[run]
batch_size = 4
max_epochs = {epochs}
num_threads = 1
device = "cpu"
"""
COMMAND = [sys.executable, "-P", "-c", "from openmm_allegro.cli import entry_point; entry_point()", "train"]


def start(toml: Path, folder: Path, *flags: str) -> subprocess.Popen[str]:
    """The command, without waiting for it."""
    command = [*COMMAND, str(toml), "--output", str(folder), "--no-pictures", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(toml: Path, folder: Path, *flags: str) -> float:
    """Let a run end; returns its seconds."""
    began = time.monotonic()
    process = start(toml, folder, *flags)
    complaint = process.communicate()[1]
    if process.returncode != 0:
        raise SystemExit(f"the run failed: {complaint}")
    return time.monotonic() - began


def wait_for_life(process: subprocess.Popen[str], folder: Path) -> None:
    """Until a started run has made its folder, or a resumed one has saved its first epoch, or has ended."""
    resume_file = folder / "resume.ckpt"
    before = resume_file.stat().st_mtime_ns if resume_file.is_file() else 0
    while process.poll() is None:
        if folder.exists() and (before == 0 or resume_file.stat().st_mtime_ns != before):
            return
        time.sleep(0.002)


def found(folder: Path) -> str:
    """What a killed run has left: its last epoch, and files that were being written."""
    history = folder / "history.csv"
    rows = list(csv.DictReader(history.open())) if history.is_file() else []
    parts = [file.name for file in folder.glob("*.tmp")]
    epoch = f"after epoch {float(rows[-1]['epoch']):.0f}" if rows else "before the first validation was written"
    return epoch + (f", while writing {', '.join(parts)}" if parts else "")


def differences(one: Path, other: Path) -> list[str]:
    """Tensors of two model files that are not the same to the last bit, by file and name."""
    names = []
    for file in ("last.safetensors", "best.safetensors"):
        first, second = load_file(one / file), load_file(other / file)
        names += [f"{file}: {name}" for name in first if not torch.equal(first[name], second[name])]
    return names


def main() -> int:
    """Run, kill, resume and compare; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder for both runs; a temporary one when not given")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        toml, whole, killed = work / "run.toml", work / "whole", work / "killed"
        toml.write_text(TOML.format(data=DATA, epochs=options.epochs), encoding="utf-8")
        seconds = finish(toml, whole)
        with (whole / "history.csv").open() as file:
            training = float(list(csv.DictReader(file))[-1]["seconds"])
        print(f"uninterrupted: {seconds:.1f} s, of which {training:.1f} s of training")
        for kill in range(1, options.kills + 1):
            moment = moments.uniform(0, 1.5 * training / options.kills)
            process = start(toml, killed, *(["--resume"] if killed.exists() else []))
            wait_for_life(process, killed)
            try:
                process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            print(f"kill {kill:2}: status {process.returncode}, {moment:5.2f} s later, {found(killed)}", flush=True)
        finish(toml, killed, *(["--resume"] if killed.exists() else []))
        different = differences(whole, killed)
    print("verdict: the same weights, bit by bit" if not different else f"verdict: {', '.join(different)} differ")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
