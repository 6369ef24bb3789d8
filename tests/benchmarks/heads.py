"""What do frames of another level of theory give a model that has few of its own?

Usage: OPENMM_ALLEGRO_DATA=... python tests/benchmarks/heads.py [--minutes 5] [--frames 10 50]
Trains on some frames of PBE water alone, and on them together with 380 frames of PBE0+TS water as another head, each
for the same minutes of one thread's computing and validated about every 400 steps. Printed are the errors over 60 other
PBE frames, the same for all runs, which also choose the best model of each run (with two heads together with 20
PBE0+TS frames).
"""

import argparse
import os
import tempfile
from pathlib import Path

from processor_clock import UseProcessorClock

from openmm_allegro.training.config import load_config
from openmm_allegro.training.metrics import ErrorTable
from openmm_allegro.training.run import TrainResult, train

PBE0, PBE = "water_pbe0ts_deepmd", "water_scan_dplr"
TOML = """
{heads}
[model]
r_max = 4.5
num_layers = 1
num_scalar_features = 32
num_tensor_features = 8
scalar_embed_mlp_hidden_layers_width = 32
allegro_mlp_hidden_layers_width = 32
[optimizer]
lr = {lr}
[run]
batch_size = 1
max_time_minutes = {minutes}
num_threads = 1
seed = {seed}
validate_every = {validate_every}
device = "cpu"
"""
HEAD = """
[heads.{name}]
train = "{data}"
n_validation = {n_validation}
{options}
"""


def trained(folder: Path, name: str, **options: object) -> TrainResult:
    """One run."""
    path = folder / f"{name}.toml"
    path.write_text(TOML.format(**options), encoding="utf-8")
    return train(load_config(path), folder / name, pictures=False, callbacks=[UseProcessorClock()])


def say(what: str, steps: int, errors: ErrorTable) -> None:
    """Print one row of the table."""
    forces = f"{errors.forces_mae_mev_per_angstrom:.1f} / {errors.forces_rmse_mev_per_angstrom:.1f}"
    print(f"| {what} | {steps} | {forces} | {errors.energy_per_atom_mae_mev:.2f} |", flush=True)


def main() -> None:
    """Train all models and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run")
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0], help="of the PBE head beside PBE0+TS")
    parser.add_argument("--lr", type=float, default=0.02, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of weights and order")
    options = parser.parse_args()
    data = {name: next(Path(os.environ["OPENMM_ALLEGRO_DATA"], name).glob("*.xyz.xz")) for name in (PBE0, PBE)}
    shared = {name: getattr(options, name) for name in ("minutes", "lr", "seed")}
    pbe0 = HEAD.format(name="pbe0", data=data[PBE0], n_validation=20, options="")
    print("| model | steps | forces MAE / RMSE [meV/Å] | energy MAE [meV/atom] |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.frames:
            few = {"name": "pbe", "data": data[PBE], "n_validation": 60}
            pbe = HEAD.format(**few, options=f"n_train = {count}")
            alone = trained(Path(folder), f"alone-{count}", heads=pbe, validate_every=max(1, 400 // count), **shared)
            say(f"PBE, {count} frames alone", alone.steps, alone.validation)
            for weight in options.weights:
                pbe = HEAD.format(**few, options=f"n_train = {count}\nweight = {weight}")
                both = trained(Path(folder), f"both-{count}-{weight}", heads=pbe0 + pbe, validate_every=1, **shared)
                what = f"PBE, {count} frames of weight {weight:g}, beside 380 of PBE0+TS"
                say(what, both.steps, both.heads["pbe"].validation)
                say("the same run, errors of PBE0+TS", both.steps, both.heads["pbe0"].validation)


if __name__ == "__main__":
    main()
