"""Losses and optimisers beside each other: errors on the validation frames after equally many gradients.

Usage: python tests/benchmarks/training_options.py examples/acac.toml --data-root DATA [--only NAME ...] [--seeds 1 2 3]
Each run has the frames, model and batch size of the recipe and ends with --gradients gradients, on one thread; an
option that needs two of them a step makes half the steps. Printed are the errors of the averaged weights at the end
of the run, not those of the best moment. The frames of the validation are the same for all seeds.
"""

import argparse
import logging
import tempfile
from pathlib import Path

from openmm_allegro.checkpoint import load_model
from openmm_allegro.training.config import LossOptions, OptimizerOptions, TrainingConfig, load_config
from openmm_allegro.training.metrics import ErrorTable, evaluate
from openmm_allegro.training.run import train
from openmm_allegro.training.splits import read_frame_sets

CHANGES: dict[str, dict[str, dict]] = {
    "recipe": {},
    "lr-0.01": {"optimizer": {"lr": 0.01}},
    "adamw": {"optimizer": {"name": "adamw", "weight_decay": 0.01}},
    "schedule-free-0.01": {"optimizer": {"name": "schedule_free", "schedule": "constant", "lr": 0.01}},
    "schedule-free-0.03": {"optimizer": {"name": "schedule_free", "schedule": "constant", "lr": 0.03}},
    "muon-0.02": {"optimizer": {"name": "muon"}},
    "muon-0.05": {"optimizer": {"name": "muon", "lr": 0.05}},
    "decay-0.03": {"optimizer": {"weight_decay": 0.03}},
    "decay-0.1": {"optimizer": {"weight_decay": 0.1}},
    "decay-0.3": {"optimizer": {"weight_decay": 0.3}},
    "swa": {"optimizer": {"average": "swa", "final_lr_fraction": 0.1}},
    "sam": {"optimizer": {"sam_rho": 0.05}},
    "huber": {"loss": {"kind": "huber"}},
    "muon-huber": {"optimizer": {"name": "muon", "lr": 0.05}, "loss": {"kind": "huber"}},
    "forces-10": {"loss": {"forces": 10.0}},
    "energy-ramp": {"loss": {"energy_end": 100.0}},
    "energy-switch": {"loss": {"energy_end": 100.0, "ramp": [0.75, 0.75]}},
    "paper": {"loss": {"forces": 1000.0, "per_atom_energy": False}},
}
"""What each run changes in the recipe."""


def changed(recipe: TrainingConfig, change: dict[str, dict], gradients: int, seed: int) -> TrainingConfig:
    """The recipe with a change, ended by its gradients."""
    sections = {"loss": LossOptions, "optimizer": OptimizerOptions}
    updates: dict[str, object] = {
        name: kind.model_validate(getattr(recipe, name).model_dump(exclude_unset=True) | change.get(name, {}))
        for name, kind in sections.items()
    }
    steps = gradients // 2 if "sam_rho" in change.get("optimizer", {}) else gradients
    ends = {"max_steps": steps, "max_epochs": None, "max_time_minutes": None}
    updates["run"] = recipe.run.model_copy(update={**ends, "seed": seed, "num_threads": 1, "device": "cpu"})
    return recipe.model_copy(update=updates)


def errors_of(config: TrainingConfig) -> tuple[ErrorTable, float]:
    """Errors of the last weights on the validation frames, and the seconds of the training."""
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, Path(folder) / "run", progress=False, pictures=False)
        frames = read_frame_sets(config.data, config.loss).validation
        return evaluate(load_model(result.last_model), frames), result.seconds


def main() -> None:
    """Train with every change and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="TOML file of the run to change")
    parser.add_argument("--data-root", help="folder of its data")
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), help="these changes")
    parser.add_argument("--gradients", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    logging.disable(logging.INFO)
    recipe = load_config(options.recipe, options.data_root)
    print("| | seed | forces MAE / RMSE, meV/Å | energy MAE, meV | seconds |\n|---|---|---|---|---|")
    for name in options.only:
        for seed in options.seeds:
            errors, seconds = errors_of(changed(recipe, CHANGES[name], options.gradients, seed))
            mae, rmse = errors.forces_mae_mev_per_angstrom, errors.forces_rmse_mev_per_angstrom
            print(
                f"| {name} | {seed} | {mae:.1f} / {rmse:.1f} | {errors.energy_mae_mev:.2f} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
