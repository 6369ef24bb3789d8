"""Ethylene carbonate and ethyl methyl carbonate, 3:7 by mass: structure, density, and whether the molecules hold.

    python examples/carbonate/carbonate.py DATA

DATA is the folder that holds `ecemc`, see `examples/recipes/ecemc.toml` for where the frames come from.
1. train a model on 180 frames of 4 EC and 8 EMC with their virials (`carbonate.toml`), 60 minutes;
2. run it at constant volume from four of the set's frames of 600 K, and at 300 K and 1 bar from four boxes built by
   `openmm_allegro.systems`, 50 ps each;
3. compare radial distributions with those of the frames of 600 K, take the density at 1 bar, the contacts of carbonyl
   oxygens and the time until a bond breaks ("Forces are not enough", arXiv:2210.07237);
4. leave `report.png`, `figures.json` and the tables in the output folder.

Building boxes needs `pip install "openmm-allegro[build]"`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before mdtraj, which loads openmm: else TorchForce is not found)
import ase
import ase.io
import numpy as np
from matplotlib.axes import Axes
from rich.console import Console

from openmm_allegro.analysis.analyze import finite_or_none, plain_figures, results_of_runs
from openmm_allegro.analysis.catalogue import parse_request
from openmm_allegro.analysis.compare import Comparison, compare
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.result import Result
from openmm_allegro.analysis.stability import Stability, bond_stability
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.simulate import SimulateResult, simulate
from openmm_allegro.simulate_config import SimulateConfig
from openmm_allegro.systems.files import write_system
from openmm_allegro.systems.liquid import liquid
from openmm_allegro.training.config import TrainingConfig, load_config
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.run import train

HERE = Path(__file__).parent
FRAMES = "ecemc/ECEMC.xyz.xz"
HOT_K, COLD_K = 600, 300
STRUCTURE = tuple(f"rdf:pair={pair}:r_max_nm=0.6" for pair in ("C-O", "O-O", "O-H"))
CARBONYL = "(resname EC and name O1) or (resname EMC and name O2)"
"""As `liquid` names the atoms of its molecules."""
IDEAL_G_PER_CM3 = 1.083
"""Of the pure liquids mixed without change of volume, 1.321 and 1.006 g/cm³: what `liquid` builds."""
WARM_UP_PS = 5.0


def main() -> None:
    """Parse the options and do the four things."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("carbonate-output"), help="a new folder")
    parser.add_argument("--weights", type=Path, help="a model file to go on with, instead of training one")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training")
    parser.add_argument("--runs", type=int, default=4, help=f"at {HOT_K} K, and as many at {COLD_K} K")
    parser.add_argument("--ps", type=float, default=50.0, help="length of each run")
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

    console.rule(f"{options.runs} runs at {HOT_K} K and {options.runs} at {COLD_K} K and 1 bar")
    frames = [frame for frame in read_frames(options.data / FRAMES) if frame.info.get("temperature") == HOT_K]
    reference = written(frames, output / "frames.extxyz")
    chosen = np.linspace(0, len(frames) - 1, options.runs).astype(int)
    hot = [at_constant_volume(frames[start], model, options.ps, output, r + 1) for r, start in enumerate(chosen)]
    cold = [at_constant_pressure(model, options.ps, output, r + 1) for r in range(options.runs)]

    console.rule("beside the ab initio frames")
    start_ps = min(WARM_UP_PS, options.ps / 5)
    hot_frames, cold_frames = opened(hot, start_ps), opened(cold, start_ps)
    structure = compare(together(STRUCTURE, [reference]), together(STRUCTURE, hot_frames))
    contacts = f"rdf:pair={CARBONYL}-{CARBONYL}:r_max_nm=0.6"
    density, carbonyls = together(["density", contacts], cold_frames)
    stability = bonds_of_runs(hot, reference) + bonds_of_runs(cold, None)
    figures = {
        "model": str(model),
        "validation": training_errors,
        "runs": options.runs,
        "ps": options.ps,
        "ns_per_day": [each.ns_per_day for each in (*hot, *cold)],
        "structure": {each.name: finite_or_none(each.summary()) for each in structure},
        "density": plain_figures(density),
        "ideal_density_g_per_cm3": IDEAL_G_PER_CM3,
        "carbonyl_oxygens": plain_figures(carbonyls),
        "stable_runs": sum(not each.failed for each in stability),
        "stable_ps": [each.figures()["stable_ps"].value for each in stability],
    }
    (output / "figures.json").write_text(json.dumps(figures, indent=1, allow_nan=False))
    for each in (*structure, density):
        each.write_csv(output / f"{each.name}.csv")
    carbonyls.write_csv(output / "rdf_carbonyl_oxygens.csv")
    picture = draw_report(output / "report.png", structure, carbonyls, density, stability[0])
    report(console, structure, density, stability)
    console.print(f"model: {model}\npicture: {picture}")


def training_config(data: Path, minutes: float, quick: bool) -> TrainingConfig:
    """What `carbonate.toml` says, for so many minutes; quick: a few steps."""
    config = load_config(HERE / "carbonate.toml", data)
    if not quick:
        return config.model_copy(update={"run": config.run.model_copy(update={"max_time_minutes": minutes})})
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"n_train": 100, "n_validation": 8}),
            "optimizer": config.optimizer.model_copy(update={"warmup_steps": 10, "lr": 0.05}),
            "run": config.run.model_copy(update={"max_time_minutes": None, "max_steps": 200}),
        }
    )


def written(frames: Sequence[Frame], file: Path) -> Frames:
    """Frames of the set in a file of their own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    atoms = [ase.Atoms(numbers=each.numbers, positions=each.positions, cell=each.cell, pbc=True) for each in frames]
    ase.io.write(file, atoms)
    return open_trajectory(file)


def at_constant_volume(frame: Frame, model: Path, ps: float, output: Path, seed: int) -> SimulateResult:
    """One run from a frame of the set, at its temperature."""
    start = output / f"nvt-{seed}.extxyz"
    written([frame], start)
    return simulate(simulation(model, start, ps, seed, kelvin=HOT_K), output / start.stem)


def at_constant_pressure(model: Path, ps: float, output: Path, seed: int) -> SimulateResult:
    """One run at 1 bar from a box of its own."""
    box = liquid(["EC", "EMC"], 12, parts=(1, 2), seed=seed)
    start = write_system(box, output / f"npt-{seed}.pdb").file
    config = simulation(model, start, ps, seed, kelvin=COLD_K)
    return simulate(config.model_copy(update={"minimize": True, "pressure_bar": 1.0}), output / start.stem)


def simulation(model: Path, start: Path, ps: float, seed: int, kelvin: float) -> SimulateConfig:
    """What both kinds of runs have in common."""
    return SimulateConfig(
        model=model,
        structure=start,
        duration_ps=ps,
        timestep_fs=0.5,
        temperature_k=kelvin,
        minimize=False,
        minimize_iterations=100,
        report_every=10,
        trajectory_format="xtc",
        seed=seed,
    )


def opened(runs: list[SimulateResult], start_ps: float) -> list[Frames]:
    """Frames of runs after warming up."""
    return [open_trajectory(each.trajectory, each.final_structure, start_ps=start_ps) for each in runs]


def together(requests: Sequence[str], runs: list[Frames]) -> list[Result]:
    """Analyses of all runs, with errors over them."""
    asked = [parse_request(text) for text in requests]
    return [each for group in results_of_runs(asked, runs).values() for each in group]


def bonds_of_runs(runs: list[SimulateResult], reference: Frames | None) -> list[Stability]:
    """From the first frame on; lengths of bonds by the reference, or by each run's first frame."""
    return [bond_stability(frames, reference) for frames in opened(runs, 0.0)]


def draw_report(
    path: Path, structure: list[Comparison], carbonyls: Result, density: Result, stability: Stability
) -> Path:
    """Radial distributions, density, and the bonds of the first run."""

    def contacts(axes: Axes) -> None:
        carbonyls.draw(axes)
        axes.set_ylabel(f"g(r) carbonyl oxygens, {COLD_K} K")

    return save_picture(path, [*(each.draw for each in structure), contacts, density.draw, stability.draw])


def report(console: Console, structure: list[Comparison], density: Result, stability: list[Stability]) -> None:
    """The figures for a reader."""
    for each in structure:
        console.print(f"{each.name}: differs by {each.summary()['difference_per_cent']:.1f} % of its area")
    value, error = density.figures()["density_g_per_cm3"]
    console.print(f"density {value:.3f} ± {error:.3f} g/cm³ at {COLD_K} K; ideal mixing {IDEAL_G_PER_CM3:g}")
    stable = sum(not each.failed for each in stability)
    console.print(f"{stable} of {len(stability)} runs without a broken bond")


if __name__ == "__main__":
    main()
