"""Sodium chloride in water with revPBE0-D3: hydration of the ions, ion pairs and motion, from ab initio frames.

    python examples/salt_water/salt_water.py DATA

DATA is the folder that holds `nacl_water_revpbe0d3`, see `salt_water.toml` for where the frames come from.
1. train a model on energies and forces (`salt_water.toml`), 60 minutes;
2. run three pairs of ions in 60 molecules of water, 2.8 mol/kg, at 300 K from four of the set's frames of about
   the mean volume, 50 ps each;
3. compare radial distributions, shells of the ions and their pairs with those of the set's frames of that composition,
   see whether molecules stay whole, and take the time that water stays with sodium, and diffusion;
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
from openmm_allegro.analysis.energy import mean_temperature_k
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.pictures import save_picture, with_error
from openmm_allegro.analysis.result import Result
from openmm_allegro.analysis.stability import Stability, bond_stability
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.run import SimulateResult, simulate
from openmm_allegro.simulation.stage_options import Stage
from openmm_allegro.training.config import TrainingConfig, load_config
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.run import train

HERE = Path(__file__).parent
FRAMES = "nacl_water_revpbe0d3/nacl_water_revpbe0d3.xyz.xz"
GENERATION, N_SODIUM = "gen3", 3
"""The set's last frames, from dynamics with a model of the same functional, and their pairs of ions."""
KELVIN = 300.0
STRUCTURE = tuple(f"rdf:pair={pair}:r_max_nm=0.49" for pair in ("Na-O", "Cl-H", "Na-Cl", "O-O"))
SHELLS = (
    "solvation:selections=Na-O:cutoff_nm=0.33",
    "solvation:selections=Cl-H:cutoff_nm=0.3",
    "ion_pairs:pair=Na-Cl:contact_nm=0.35:separated_nm=0.49",
)
"""With one cutoff for frames and runs: the minima behind the first peaks."""
MOTION = ("residence:pair=Na-O:cutoff_nm=0.33:tolerance_ps=1", "msd:element=O", "msd:element=Na")
WARM_UP_PS = 10.0
X_RAYS = (0.2384, 5.5)
"""Of Na–O: distance [nm] and number of neighbours (M. Galib et al., J. Chem. Phys. 146, 084504, 2017)."""


def main() -> None:
    """Parse the options and do the four things."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("salt-water-output"), help="a new folder")
    parser.add_argument("--weights", type=Path, help="a model file to go on with, instead of training one")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--ps", type=float, default=50.0, help="length of each run, beside ten of warming up")
    parser.add_argument("--quick", action="store_true", help="a little of everything, in two minutes")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.ps = 2, 0.1
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
    frames = frames_to_compare(options.data)
    starts = nearest_the_mean_volume(frames)[: options.runs]
    runs = [run(frame, model, options.ps, output, r + 1) for r, frame in enumerate(starts)]

    console.rule("beside the ab initio frames")
    reference, after = written(frames, output / "frames.extxyz"), opened(runs, warm_up_ps(options.ps))
    requests = (*STRUCTURE, *SHELLS)
    structure = compare(results_as_asked(requests, [reference]), results_as_asked(requests, after))
    motion = [] if options.quick else results_as_asked(MOTION, after)
    stability = [bond_stability(frames) for frames in opened(runs, 0.0)]
    figures = {
        "model": str(model),
        "validation": training_errors,
        "runs": options.runs,
        "ps": options.ps,
        "ns_per_day": [each.ns_per_day for each in runs],
        "mean_temperatures_k": [mean_temperature_k(each.log, warm_up_ps(options.ps)) for each in runs],
        "structure": {each.name: finite_or_none(each.summary()) for each in structure},
        "motion": {each.name: plain_figures(each) for each in motion},
        "stable_runs": sum(not each.failed for each in stability),
    }
    (output / "figures.json").write_text(json.dumps(figures, indent=1, allow_nan=False))
    for each in (*structure, *motion):
        each.write_csv(output / f"{each.name}.csv")
    picture = save_picture(output / "report.png", [each.draw for each in (*structure, *motion)])
    report(console, structure, motion, stability)
    console.print(f"model: {model}\npicture: {picture}")


def training_config(data: Path, minutes: float, quick: bool) -> TrainingConfig:
    """What `salt_water.toml` says, for so many minutes; quick: a few steps."""
    config = load_config(HERE / "salt_water.toml", data)
    if not quick:
        return config.model_copy(update={"run": config.run.model_copy(update={"max_time_minutes": minutes})})
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"n_train": 100, "n_validation": 8}),
            "optimizer": config.optimizer.model_copy(update={"warmup_steps": 10, "lr": 0.05}),
            "run": config.run.model_copy(update={"max_time_minutes": None, "max_steps": 150}),
        }
    )


def frames_to_compare(data: Path) -> list[Frame]:
    """The set's frames with the composition of the runs."""
    last = [frame for frame in read_frames(data / FRAMES) if frame.info.get("origin") == GENERATION]
    return [frame for frame in last if np.sum(frame.numbers == 11) == N_SODIUM]


def nearest_the_mean_volume(frames: list[Frame]) -> list[Frame]:
    """Frames by how far their volumes are from the mean; those frames had a barostat, the runs have none."""
    volumes = np.array([np.linalg.det(frame.cell) for frame in frames])
    return [frames[i] for i in np.argsort(np.abs(volumes - volumes.mean()))]


def written(frames: list[Frame], file: Path) -> Frames:
    """Frames of the set in a file of their own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(file, [frame.atoms() for frame in frames])
    return open_trajectory(file)


def run(frame: Frame, model: Path, ps: float, output: Path, seed: int) -> SimulateResult:
    """One run at constant volume from a frame of the set, with a gentle thermostat."""
    start = output / f"run-{seed}.extxyz"
    written([frame], start)
    config = SimulateConfig(
        model=model,
        structure=start,
        stages=(
            Stage(name="warm-up", duration_ps=warm_up_ps(ps), friction_per_ps=5.0),
            Stage(name="production", duration_ps=ps),
        ),
        timestep_fs=0.5,
        temperature_k=KELVIN,
        friction_per_ps=0.5,
        minimize=False,
        report_every=20,
        trajectory_format="xtc",
        seed=seed,
    )
    return simulate(config, output / start.stem)


def warm_up_ps(ps: float) -> float:
    """How long a run warms up before so many picoseconds; short ones less."""
    return min(WARM_UP_PS, ps / 5)


def opened(runs: list[SimulateResult], start_ps: float) -> list[Frames]:
    """Frames of runs after warming up."""
    return [open_trajectory(each.trajectory, each.final_structure, start_ps=start_ps) for each in runs]


def report(console: Console, structure: list[Comparison], motion: list[Result], stability: list[Stability]) -> None:
    """The figures for a reader."""
    for each in structure:
        console.print(f"{each.name}: differs by {each.summary()['difference_per_cent']:.1f} % of its area")
        known = {name: figure for name, figure in each.figures.items() if np.isfinite(figure.difference.value)}
        for name, figure in known.items():
            console.print(f"  {name}: {with_error(*figure.predicted)}; frames {with_error(*figure.reference)}")
    console.print(f"X-rays have {X_RAYS[1]} O at {X_RAYS[0]} nm from Na")
    for each in motion:
        console.print(each.name)
        for name, figure in each.figures().items():
            console.print(f"  {name}: {with_error(*figure)}")
    stable = sum(not each.failed for each in stability)
    console.print(f"{stable} of {len(stability)} runs without a broken bond")


if __name__ == "__main__":
    main()
