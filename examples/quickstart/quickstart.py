"""From ab initio frames to a checked simulation of liquid water, in one command and about five minutes.

    python examples/quickstart/quickstart.py

1. train a small Allegro model on 180 frames of water (`quickstart.toml`);
2. measure its errors on frames of a trajectory that it never saw;
3. run eight copies of the box with it in OpenMM (`simulate.toml`), with a thermostat and then without;
4. compare with the ab initio trajectory: structure, diffusion, and whether energy is conserved;
5. draw all of it: `quickstart-output/report.png`.
"""

import argparse
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before mdtraj, which loads openmm: else TorchForce is not found)
from report import compare, draw_report
from rich.console import Console

from openmm_allegro.checkpoint import load_model
from openmm_allegro.simulation import config as simulation_config
from openmm_allegro.simulation.run import SimulateResult, simulate
from openmm_allegro.training.config import TrainingConfig, load_config
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.metrics import error_table, predict_frames
from openmm_allegro.training.run import train

HERE = Path(__file__).parent
STEPS_WITHOUT_THERMOSTAT = 500


def main() -> None:
    """Parse the options and do the five things."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("quickstart-output"), help="a new folder")
    parser.add_argument("--weights", type=Path, help="a model file to go on with, instead of training one")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    options = parser.parse_args()
    output: Path = options.output
    if output.exists():
        parser.error(f"`{output}` exists already and is kept as it is; name another folder with `--output`")
    console = Console()

    model, history = options.weights, None
    if model is None:
        console.rule("training")
        trained = train(training_config(options.quick), output / "training")
        model, history = trained.best_model, trained.history
        console.print(f"{trained.steps} steps in {trained.seconds:.0f} s")

    console.rule("errors on frames of the reference trajectory, which the model never saw")
    frames = read_frames(HERE / "data" / "test.extxyz.xz")
    predictions = predict_frames(load_model(model), frames)
    console.print(error_table(frames, predictions).table())

    console.rule("molecular dynamics, with a thermostat and then without")
    hot = run(options.quick, output / "nvt", model=str(model))
    go_on = {"structure": str(hot.final_structure), "replicate": (1, 1, 1), "friction_per_ps": 0.0}
    free = run(options.quick, output / "nve", model=str(model), steps=STEPS_WITHOUT_THERMOSTAT, **go_on)
    console.print(f"{hot.n_atoms} atoms, {hot.time_ps:g} + {free.time_ps:g} ps, {hot.ns_per_day:.2g} ns/day")

    console.rule("beside the ab initio trajectory")
    comparison = compare(hot, free, HERE / "data")
    console.print(comparison.table())

    picture = draw_report(output / "report.png", comparison, frames, predictions, history)
    console.print(f"model: {model}\npicture: {picture}")


def training_config(quick: bool) -> TrainingConfig:
    """What `quickstart.toml` says, or a few steps of it."""
    config = load_config(HERE / "quickstart.toml")
    if not quick:
        return config
    few_frames = config.data.model_copy(update={"n_train": 30, "n_validation": 5})
    few_steps = config.run.model_copy(update={"max_time_minutes": None, "max_steps": 60, "num_threads": 1})
    return config.model_copy(update={"data": few_frames, "run": few_steps})


def run(quick: bool, folder: Path, **flags: object) -> SimulateResult:
    """What `simulate.toml` says, with some options changed."""
    if quick:
        flags |= {"steps": 60, "report_every": 1, "timestep_fs": 0.5, "replicate": (1, 1, 1)}
    return simulate(simulation_config.load_config(HERE / "simulate.toml", flags), folder)


if __name__ == "__main__":
    main()
