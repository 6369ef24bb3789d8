"""How many frames does another level of theory need, from a model trained at the first one and from nothing?

Usage: OPENMM_ALLEGRO_DATA=... python tests/benchmarks/fine_tuning.py [--minutes 5] [--frames 10 50 200]
Trains a model on PBE0+TS water, then on some frames of PBE water from that model (its atomic energies fitted anew) and
from random weights, each for the same minutes of one thread's computing and validated about every 200 steps. Printed
are the errors over 60 other PBE frames, the same for all runs, which also choose the best model of each run. The
models are left in --output.
"""

import argparse
import os
from pathlib import Path

from processor_clock import UseProcessorClock

from openmm_allegro.training.config import load_config
from openmm_allegro.training.metrics import ErrorTable
from openmm_allegro.training.run import train

STEPS_BETWEEN_VALIDATIONS = 200
PBE0, PBE = "water_pbe0ts_deepmd", "water_scan_dplr"
TOML = """
[data]
train = "{data}"
n_validation = {n_validation}
{data_options}
[model]
{model_options}
[optimizer]
lr = {lr}
[run]
batch_size = 1
validate_every = {validate_every}
max_time_minutes = {minutes}
num_threads = 1
device = "cpu"
{run_options}
"""
MODEL = """
type_names = ["H", "O"]
r_max = 4.5
num_layers = 1
num_scalar_features = 32
num_tensor_features = 8
scalar_embed_mlp_hidden_layers_width = 32
allegro_mlp_hidden_layers_width = 32
"""


def trained(folder: Path, name: str, **options: object) -> ErrorTable:
    """Errors of one run."""
    path = folder / f"{name}.toml"
    defaults = {"data_options": "", "model_options": MODEL, "run_options": "", "lr": 0.02, "validate_every": 1}
    path.write_text(TOML.format(**(defaults | options)), encoding="utf-8")
    return train(load_config(path), folder / name, pictures=False, callbacks=[UseProcessorClock()]).validation


def say(what: str, errors: ErrorTable) -> None:
    """Print one row of the table."""
    forces = f"{errors.forces_mae_mev_per_angstrom:.1f} / {errors.forces_rmse_mev_per_angstrom:.1f}"
    print(f"| {what} | {forces} | {errors.energy_per_atom_mae_mev:.2f} |", flush=True)


def main() -> None:
    """Train all models and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run")
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--lr", type=float, default=0.005, help="highest learning rate of fine-tuning")
    parser.add_argument("--output", type=Path, default=Path("fine-tuning"), help="a new folder")
    options = parser.parse_args()
    data = {name: next(Path(os.environ["OPENMM_ALLEGRO_DATA"], name).glob("*.xyz.xz")) for name in (PBE0, PBE)}
    shared = {"minutes": options.minutes}
    folder = options.output
    folder.mkdir(parents=True)
    print("| model | forces MAE / RMSE [meV/Å] | energy MAE [meV/atom] |\n|---|---|---|")
    first = trained(folder, "pbe0", data=data[PBE0], n_validation=20, **shared)
    say("PBE0+TS: 380 frames, errors there", first)
    for count in options.frames:
        chosen = {"data": data[PBE], "n_validation": 60, "data_options": f"n_train = {count}"} | shared
        chosen["validate_every"] = max(1, STEPS_BETWEEN_VALIDATIONS // count)
        say(f"PBE, {count} frames from nothing", trained(folder, f"scratch-{count}", **chosen))
        tuned = {
            "data_options": f'n_train = {count}\nisolated_atoms = "fit"',
            "model_options": "",
            "run_options": 'start_from = "pbe0/best.safetensors"',
            "lr": options.lr,
        }
        say(f"PBE, {count} frames from PBE0+TS", trained(folder, f"tuned-{count}", **(chosen | tuned)))


if __name__ == "__main__":
    main()
