"""How many frames does another level of theory need, from a model trained at the first one and from nothing?

Usage: OPENMM_ALLEGRO_DATA=... python tests/benchmarks/fine_tuning.py [--minutes 5] [--threads 2] [--frames 10 50 200]
Trains a model on PBE0+TS water, then on some frames of SCAN water from that model (its atomic energies fitted anew) and
from random weights, each for the same time. Printed are the errors over 60 other SCAN frames, the same for all runs,
which also choose the best model of each run.
"""

import argparse
import os
import tempfile
from pathlib import Path

from openmm_allegro.training.config import load_config
from openmm_allegro.training.metrics import ErrorTable
from openmm_allegro.training.run import train

PBE0, SCAN = "water_pbe0ts_deepmd", "water_scan_dplr"
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
max_time_minutes = {minutes}
num_threads = {threads}
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
    defaults = {"data_options": "", "model_options": MODEL, "run_options": "", "lr": 0.02}
    path.write_text(TOML.format(**(defaults | options)), encoding="utf-8")
    return train(load_config(path), folder / name, pictures=False).validation


def row(what: str, errors: ErrorTable) -> str:
    """One row of the table."""
    return (
        f"| {what} | {errors.forces_mae_mev_per_angstrom:.1f} / {errors.forces_rmse_mev_per_angstrom:.1f} "
        f"| {errors.energy_per_atom_mae_mev:.2f} |"
    )


def main() -> None:
    """Train all models and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--lr", type=float, default=0.005, help="highest learning rate of fine-tuning")
    options = parser.parse_args()
    data = {name: next(Path(os.environ["OPENMM_ALLEGRO_DATA"], name).glob("*.xyz.xz")) for name in (PBE0, SCAN)}
    shared = {"minutes": options.minutes, "threads": options.threads}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = [
            row(
                "PBE0+TS: 380 frames, errors there", trained(folder, "pbe0", data=data[PBE0], n_validation=20, **shared)
            )
        ]
        for count in options.frames:
            chosen = {"data": data[SCAN], "n_validation": 60, "data_options": f"n_train = {count}"} | shared
            rows.append(row(f"SCAN, {count} frames from nothing", trained(folder, f"scratch-{count}", **chosen)))
            tuned = {
                "data_options": f'n_train = {count}\nisolated_atoms = "fit"',
                "model_options": "",
                "run_options": 'start_from = "pbe0/best.safetensors"',
                "lr": options.lr,
            }
            rows.append(
                row(f"SCAN, {count} frames from PBE0+TS", trained(folder, f"tuned-{count}", **(chosen | tuned)))
            )
    print("| model | forces MAE / RMSE [meV/Å] | energy MAE [meV/atom] |\n|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
