"""Losses, optimisers and models beside each other: errors after equally many gradients.

Usage: python tests/benchmarks/training_options.py examples/acac.toml --data-root DATA [--only NAME ...] [--seeds 1 2 3]
Each run has the frames and batch size of the recipe, and its model unless that is what changes, and ends with
--gradients gradients, on one thread; an option that needs two of them a step makes half the steps. Printed are the
errors of the averaged weights at the end of the run, not those of the best moment, on the validation frames and on as
many of those trained on. The frames of the validation are the same for all seeds; --validation takes more of them than
the recipe. With --beyond N the validation frames are not drawn: they are those of the file that have, of each pair of
elements, the N shortest distances, so that they lie beyond the frames that are trained on; of the other frames as many
as the recipe validates with, drawn with its seed, are held back too, and have a column of their own. Seconds are those
that the processor computes.
"""

import argparse
import itertools
import logging
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np

from openmm_allegro.checkpoint import load_model
from openmm_allegro.training.config import DataOptions, LossOptions, OptimizerOptions, TrainingConfig, load_config
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.metrics import ErrorTable, evaluate
from openmm_allegro.training.run import train
from openmm_allegro.training.speed import labelled_atoms
from openmm_allegro.training.splits import read_frame_sets

CHANGES: dict[str, dict[str, dict]] = {
    "recipe": {},
    "lr-0.01": {"optimizer": {"lr": 0.01}},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.02, "weight_decay": 0.01}},
    "schedule-free-0.01": {"optimizer": {"name": "schedule_free", "schedule": "constant", "lr": 0.01}},
    "schedule-free-0.03": {"optimizer": {"name": "schedule_free", "schedule": "constant", "lr": 0.03}},
    "muon-0.02": {"optimizer": {"name": "muon", "lr": 0.02}},
    "muon-0.05": {"optimizer": {"name": "muon", "lr": 0.05}},
    "decay-0.01": {"optimizer": {"weight_decay": 0.01}},
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
    "l_max-3": {"model": {"l_max": 3}},
    "layers-3": {"model": {"num_layers": 3}},
    "l_max-3-layers-3": {"model": {"l_max": 3, "num_layers": 3}},
    "deep": {"model": {"allegro_mlp_hidden_layers_depth": 2}},
    "wide-two-body": {
        "model": {"scalar_embed_mlp_hidden_layers_depth": 2, "scalar_embed_mlp_hidden_layers_width": 128}
    },
    "bessels-4": {"model": {"num_bessels": 4}},
    "bessels-16": {"model": {"num_bessels": 16}},
    "envelope-2": {"model": {"polynomial_cutoff_p": 2}},
}
"""What each run changes in the recipe."""


def changed(recipe: TrainingConfig, change: dict[str, dict], gradients: int, seed: int) -> TrainingConfig:
    """The recipe with a change, ended by its gradients."""
    sections = {"loss": LossOptions, "optimizer": OptimizerOptions}
    updates: dict[str, object] = {
        name: kind.model_validate(getattr(recipe, name).model_dump(exclude_unset=True) | change.get(name, {}))
        for name, kind in sections.items()
    }
    updates["model"] = recipe.model | change.get("model", {})
    steps = gradients // 2 if "sam_rho" in change.get("optimizer", {}) else gradients
    ends = {"max_steps": steps, "max_epochs": None, "max_time_minutes": None}
    updates["run"] = recipe.run.model_copy(update={**ends, "seed": seed, "num_threads": 1, "device": "cpu"})
    return recipe.model_copy(update=updates)


def errors_of(config: TrainingConfig, within: list[Frame]) -> tuple[list[ErrorTable], float]:
    """Errors of the last weights and the training's seconds.

    Errors are on the frames that validate, on others held back if there are any, and on as many trained ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        result = train(config, Path(folder) / "run", progress=False, pictures=False)
        seconds = time.process_time() - start
        assert config.data is not None
        frames = read_frame_sets(config.data, config.loss)
        sets = [frames.validation, within, frames.train[: len(frames.validation)]]
        model = load_model(result.last_model)
        return [evaluate(model, own) for own in sets if own], seconds


def with_extremes_held_back(recipe: TrainingConfig, per_pair: int, folder: Path) -> tuple[TrainingConfig, list[Frame]]:
    """The recipe without some other frames, and these.

    Its validation frames have the shortest distances of its file, so many of each pair of elements.
    """
    assert recipe.data is not None
    frames = [frame for file in recipe.data.train for frame in read_frames(file, recipe.data)]
    elements = sorted({symbol for frame in frames for symbol in frame.symbols})
    extremes: set[int] = set()
    for pair in itertools.combinations_with_replacement(elements, 2):
        nearest = np.array([shortest_distance(frame, pair) for frame in frames])
        chosen = np.argsort(nearest)[:per_pair]
        extremes.update(chosen[np.isfinite(nearest[chosen])].tolist())
    others = np.array([i for i in range(len(frames)) if i not in extremes])
    n_within = int(recipe.data.n_validation or 0)
    within, trained = np.split(np.random.default_rng(recipe.data.seed).permutation(others), [n_within])
    files = [folder / "beyond.extxyz", folder / "trained.extxyz"]
    for file, chosen in zip(files, (sorted(extremes), trained), strict=True):
        ase.io.write(file, [labelled_atoms(frames[i]) for i in chosen])
    print(f"of {len(frames)} frames {len(extremes)} are held back beyond the trained ones and {n_within} among them")
    data = DataOptions(train=(files[1],), validation=(files[0],), isolated_atoms=recipe.data.isolated_atoms)
    return recipe.model_copy(update={"data": data}), [frames[i] for i in within]


def shortest_distance(frame: Frame, pair: tuple[str, str]) -> float:
    """Between atoms of these elements [Å]."""
    distances = frame.atoms().get_all_distances(mic=bool(np.any(frame.periodic)))
    np.fill_diagonal(distances, np.inf)
    first, second = (np.array(frame.symbols) == element for element in pair)
    return float(distances[np.ix_(first, second)].min(initial=np.inf))


def main() -> None:
    """Train with every change and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="TOML file of the run to change")
    parser.add_argument("--data-root", help="folder of its data")
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), help="these changes")
    parser.add_argument("--gradients", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    held_back = parser.add_mutually_exclusive_group()
    held_back.add_argument("--validation", type=int, help="so many frames validate, and are not trained on")
    held_back.add_argument("--beyond", type=int, metavar="N", help="frames with the shortest distances validate")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    recipe = load_config(options.recipe, options.data_root)
    if options.validation is not None:
        assert recipe.data is not None
        data = recipe.data.model_copy(update={"n_validation": options.validation})
        recipe = recipe.model_copy(update={"data": data})
    with tempfile.TemporaryDirectory() as folder:
        within: list[Frame] = []
        if options.beyond is not None:
            recipe, within = with_extremes_held_back(recipe, options.beyond, Path(folder))
        print_table(recipe, within, options)


def print_table(recipe: TrainingConfig, within: list[Frame], options: argparse.Namespace) -> None:
    """A line for each change and seed, as soon as it is trained."""
    others = ["on others held back"] if within else []
    columns = ["", "seed", "forces MAE / RMSE, meV/Å", *others, "on trained frames", "energy MAE, meV", "seconds"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in options.only:
        for seed in options.seeds:
            errors, seconds = errors_of(changed(recipe, CHANGES[name], options.gradients, seed), within)
            forces = [force_errors(table) for table in errors]
            row = [name, str(seed), *forces, f"{errors[0].energy_mae_mev:.2f}", f"{seconds:.0f}"]
            print(f"| {' | '.join(row)} |", flush=True)


def force_errors(errors: ErrorTable) -> str:
    """MAE and RMSE."""
    return f"{errors.forces_mae_mev_per_angstrom:.2f} / {errors.forces_rmse_mev_per_angstrom:.2f}"


if __name__ == "__main__":
    main()
