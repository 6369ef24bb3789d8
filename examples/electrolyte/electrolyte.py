"""Lithium in the superionic conductor Li6.75P3S11: from ab initio frames to its diffusion, with errors from ten runs.

    python examples/electrolyte/electrolyte.py DATA

DATA is the folder that holds `lips_83atom`, see `examples/recipes/lips.toml` for where the frames come from.
1. train a model on 900 frames of 83 atoms (`electrolyte.toml`), 30 minutes;
2. run it ten times from different frames at 520 K, 50 ps each;
3. compare radial distributions and angles with those of the ab initio frames, see whether the runs stay stable, and
   take lithium's diffusion coefficient with its error over the runs, beside the ab initio 1.37·10⁻⁵ cm²/s (NequIP,
   Batzner et al., Nat. Commun. 13, 2453, 2022);
4. leave `report.png`, `figures.json` and the tables in the output folder.
"""

import argparse
import json
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before mdtraj, which loads openmm: else TorchForce is not found)
import ase.io
import numpy as np
from rich.console import Console

from openmm_allegro.analysis.asked import finite_or_none, plain_figures, results_as_asked
from openmm_allegro.analysis.compare import Comparison, compare
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.result import Result
from openmm_allegro.analysis.stability import Stability, structure_stability
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.run import SimulateResult, simulate
from openmm_allegro.training.config import TrainingConfig, load_config
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.run import train

HERE = Path(__file__).parent
FRAMES = "lips_83atom/lips_val1000.xyz.xz"
KELVIN = 520.0
AB_INITIO_CM2_PER_S = 1.37e-5
STRUCTURE = ("rdf:r_max_nm=0.55", "angles:triplet=S-P-S", "angles:triplet=S-Li-S")
WARM_UP_PS = 5.0


def main() -> None:
    """Parse the options and do the four things."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("electrolyte-output"), help="a new folder")
    parser.add_argument("--weights", type=Path, help="a model file to go on with, instead of training one")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--ps", type=float, default=50.0, help="length of each run")
    parser.add_argument("--quick", action="store_true", help="a little of everything, in two minutes")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.ps = 2, 1.6
    output: Path = options.output
    if output.exists():
        parser.error(f"`{output}` exists already and is kept as it is; name another folder with `--output`")
    console = Console()

    model, training_errors = options.weights, None
    if model is None:
        console.rule("training")
        trained = train(training_config(options.data, options.minutes, options.quick), output / "training")
        model, training_errors = trained.best_model, trained.validation.as_dict()
        console.print(trained.validation.table())

    console.rule(f"{options.runs} runs at {KELVIN:g} K")
    frames = read_frames(options.data / FRAMES)
    chosen = np.linspace(0, len(frames) - 1, options.runs).astype(int)
    runs = [run(frames[start], model, options.ps, output / f"run-{r}", r + 1) for r, start in enumerate(chosen)]

    console.rule("beside the ab initio frames")
    start_ps = min(WARM_UP_PS, options.ps / 5)
    opened = [open_trajectory(each.trajectory, each.final_structure, start_ps=start_ps) for each in runs]
    comparisons, motion, stability = analyses(opened, open_trajectory(options.data / FRAMES))
    figures = {
        "model": str(model),
        "validation": training_errors,
        "runs": options.runs,
        "ps": options.ps,
        "ns_per_day": [each.ns_per_day for each in runs],
        "structure": {each.name: finite_or_none(each.summary()) for each in comparisons},
        "lithium": plain_figures(motion),
        "ab_initio_diffusion_cm2_per_s": AB_INITIO_CM2_PER_S,
        "stable_runs": sum(not each.failed for each in stability),
    }
    (output / "figures.json").write_text(json.dumps(figures, indent=1, allow_nan=False))
    for each in comparisons:
        each.write_csv(output / f"{each.name}.csv")
    motion.write_csv(output / f"{motion.name}.csv")
    picture = save_picture(output / "report.png", [*(each.draw for each in comparisons), motion.draw])
    report(console, comparisons, motion, stability)
    console.print(f"model: {model}\npicture: {picture}")


def training_config(data: Path, minutes: float, quick: bool) -> TrainingConfig:
    """What `electrolyte.toml` says, for so many minutes; quick: a few steps."""
    config = load_config(HERE / "electrolyte.toml", data)
    if not quick:
        return config.model_copy(update={"run": config.run.model_copy(update={"max_time_minutes": minutes})})
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"n_train": 100, "n_validation": 10}),
            "optimizer": config.optimizer.model_copy(update={"warmup_steps": 10}),
            "run": config.run.model_copy(update={"max_time_minutes": None, "max_steps": 300}),
        }
    )


def run(frame: Frame, model: Path, ps: float, folder: Path, seed: int) -> SimulateResult:
    """One run from one frame, with a gentle thermostat."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    start = folder.with_suffix(".extxyz")
    ase.io.write(start, frame.atoms())
    config = SimulateConfig(
        model=model,
        structure=start,
        duration_ps=ps,
        timestep_fs=2.0,
        temperature_k=KELVIN,
        friction_per_ps=0.1,
        minimize=False,
        report_every=5,
        trajectory_format="xtc",
        seed=seed,
    )
    return simulate(config, folder)


def analyses(runs: list[Frames], reference: Frames) -> tuple[list[Comparison], Result, list[Stability]]:
    """Structure beside the reference, the motion of lithium, and how long each run was stable."""
    comparisons = compare(results_as_asked(STRUCTURE, [reference]), results_as_asked(STRUCTURE, runs))
    (motion,) = results_as_asked(["msd:element=Li"], runs)
    stability = [structure_stability(frames, reference, threshold_angstrom=1.0, by_element=False) for frames in runs]
    return comparisons, motion, stability


def report(console: Console, comparisons: list[Comparison], motion: Result, stability: list[Stability]) -> None:
    """The figures for a reader."""
    for each in comparisons:
        console.print(f"{each.name}: differs by {each.summary()['difference_per_cent']:.1f} % of its area")
    value, error = motion.figures()["diffusion_cm2_per_s"]
    console.print(f"D(Li) = {value:.2e} ± {error:.1e} cm²/s at {KELVIN:g} K; ab initio {AB_INITIO_CM2_PER_S:.2e}")
    stable = sum(not each.failed for each in stability)
    console.print(f"{stable} of {len(stability)} runs stable")


if __name__ == "__main__":
    main()
