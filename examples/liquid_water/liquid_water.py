"""Liquid water with RPBE-D3: from ab initio frames to structure, density and diffusion, beside experiment.

    python examples/liquid_water/liquid_water.py DATA

DATA is the folder that holds `water_rpbed3`, see `liquid_water.toml` for where the frames come from.
1. train a model on energies and forces of water and ice (`liquid_water.toml`), 30 minutes, and fine-tune it to frames
   of the liquid that another group computed with another program (`fine_tuning.toml`), 6 minutes;
2. run boxes of 64 molecules at 300 K, 50 ps each: four at experiment's density with the fine-tuned model, and four at
   1 bar with the first one, because frames of one density do not tell the pressure;
3. compare radial distributions with those of the frames of the liquid and with the peak of X-ray diffraction, take the
   density at 1 bar, and oxygen's diffusion with the correction for the size of the box;
4. leave `report.png`, `figures.json` and the tables in the output folder.

Nuclei are classical here. Of six functionals this one comes nearest to experiment in how water moves (P. Montero de
Hijes et al., arXiv:2606.18163, 2026).
"""

import argparse
import json
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before mdtraj, which loads openmm: else TorchForce is not found)
from report import EXPERIMENT, X_RAY_PEAK, draw_report, report
from rich.console import Console

from openmm_allegro.analysis.asked import finite_or_none, plain_figures, results_as_asked
from openmm_allegro.analysis.compare import Comparison, compare
from openmm_allegro.analysis.energy import mean_temperature_k
from openmm_allegro.analysis.finite_size import box_correction_cm2_per_s
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.run import SimulateResult, simulate
from openmm_allegro.simulation.stage_options import Stage
from openmm_allegro.systems.files import write_system
from openmm_allegro.systems.relaxation import relaxed
from openmm_allegro.systems.water import water_box
from openmm_allegro.training.config import TrainingConfig, load_config
from openmm_allegro.training.evaluation import evaluate_files
from openmm_allegro.training.run import train

HERE = Path(__file__).parent
LIQUID = "water_rpbed3/test-H2O_RPBE-D3.xyz.xz"
"""Frames of 64 molecules at 0.997 g/cm³."""
MOLECULES = 64
KELVIN = 300.0
STRUCTURE = tuple(f"rdf:pair={pair}:r_max_nm=0.6" for pair in ("O-O", "O-H", "H-H"))
MOTION = "msd:element=O:n_blocks=3"
"""In few blocks, which allows long times: its error is that over the runs."""
WARM_UP_PS = 10.0


def main() -> None:
    """Parse the options and do the four things."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("liquid-water-output"), help="a new folder")
    parser.add_argument(
        "--weights", type=Path, nargs=2, metavar=("FIRST", "FINE_TUNED"), help="model files in place of training"
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, before six of fine-tuning")
    parser.add_argument("--viscosity", type=float, help="for the size of the box [mPa s]; else that of `viscosity_of`")
    parser.add_argument("--runs", type=int, default=4, help="at experiment's density, and as many at 1 bar")
    parser.add_argument("--ps", type=float, default=50.0, help="length of each run, beside ten of warming up")
    parser.add_argument("--quick", action="store_true", help="a little of everything, in two minutes")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.ps = 2, 0.25
    output: Path = options.output
    if output.exists():
        parser.error(f"`{output}` exists already and is kept as it is; name another folder with `--output`")
    console = Console()

    models, errors = options.weights, None
    if models is None:
        models, errors = trained_models(options.data, options.minutes, options.quick, output, console)

    console.rule(f"{options.runs} runs at {EXPERIMENT.density_g_per_cm3:g} g/cm³ and {options.runs} at 1 bar")
    starts = [start_of_run(options.ps, output, seed + 1) for seed in range(options.runs)]
    runs = {
        pressure: [run(model, start, options.ps, pressure, output, seed + 1) for seed, start in enumerate(starts)]
        for model, pressure in zip(models, (1.0, None), strict=True)
    }

    console.rule("beside the ab initio frames and experiment")
    start_ps = warm_up_ps(options.ps)
    opened = {
        pressure: [open_trajectory(each.trajectory, each.final_structure, start_ps=start_ps) for each in same]
        for pressure, same in runs.items()
    }
    structure = structure_beside(opened[None], open_trajectory(options.data / LIQUID))
    viscosity = options.viscosity or viscosity_of(opened[None])
    corrected = f"{MOTION}:temperature_k={KELVIN}:viscosity_mpa_s={viscosity}"
    (motion,), (density,) = results_as_asked([corrected], opened[None]), results_as_asked(["density"], opened[1.0])
    figures = {
        "models": [str(model) for model in models],
        "errors": errors,
        "runs": options.runs,
        "ps": options.ps,
        "ns_per_day": [each.ns_per_day for same in runs.values() for each in same],
        "mean_temperatures_k": [mean_temperature_k(each.log, start_ps) for same in runs.values() for each in same],
        "structure": {each.name: finite_or_none(each.summary()) for each in structure},
        "oxygen": plain_figures(motion),
        "viscosity_mpa_s": viscosity,
        "density": plain_figures(density),
        "experiment": EXPERIMENT._asdict() | dict(zip(("peak_nm", "peak_g"), X_RAY_PEAK, strict=True)),
    }
    (output / "figures.json").write_text(json.dumps(figures, indent=1, allow_nan=False))
    for each in (*structure, motion, density):
        each.write_csv(output / f"{each.name}.csv")
    picture = draw_report(output / "report.png", structure, motion, density)
    report(console, structure, motion, density)
    console.print(f"models: {models[0]}, {models[1]}\npicture: {picture}")


def trained_models(
    data: Path, minutes: float, quick: bool, output: Path, console: Console
) -> tuple[list[Path], dict[str, object]]:
    """Train on water and ice, then fine-tune to the liquid; quick: a few steps of each. Returns files and errors."""
    console.rule("training")
    config = training_config("liquid_water.toml", data, quick)
    if not quick:
        config = config.model_copy(update={"run": config.run.model_copy(update={"max_time_minutes": minutes})})
    first = train(config, output / "training")
    on_liquid = evaluate_files(first.best_model, [data / LIQUID], shift="constant").overall
    console.rule("fine-tuning")
    config = training_config("fine_tuning.toml", data, quick)
    config = config.model_copy(update={"run": config.run.model_copy(update={"start_from": first.best_model})})
    second = train(config, output / "fine-tuning")
    errors = {"first": first.validation, "first, on the liquid": on_liquid, "fine-tuned": second.validation}
    for name, table in errors.items():
        console.print(name, table.table())
    return [first.best_model, second.best_model], {name: table.as_dict() for name, table in errors.items()}


def training_config(name: str, data: Path, quick: bool) -> TrainingConfig:
    """What this file says; quick: a few steps."""
    config = load_config(HERE / name, data)
    if not quick:
        return config
    fewer = {"max_time_minutes": None, "max_steps": 100, "validate_every": 1}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"n_train": 40, "n_validation": 5}),
            "optimizer": config.optimizer.model_copy(update={"warmup_steps": 10, "lr": 2.5 * config.optimizer.lr}),
            "run": config.run.model_copy(update=fewer),
        }
    )


def start_of_run(ps: float, output: Path, seed: int) -> Path:
    """A box of its own at experiment's density, in which TIP3P has parted the molecules."""
    box = water_box(MOLECULES, density_g_per_cm3=EXPERIMENT.density_g_per_cm3, seed=seed)
    return write_system(relaxed(box, min(ps, WARM_UP_PS), kelvin=KELVIN, seed=seed), output / f"start-{seed}.pdb").file


def warm_up_ps(ps: float) -> float:
    """How long a run warms up before so many picoseconds; short ones less."""
    return min(WARM_UP_PS, ps / 5)


def run(model: Path, start: Path, ps: float, pressure_bar: float | None, output: Path, seed: int) -> SimulateResult:
    """One run, after warming up.

    Averages do not depend on the masses, so with a pressure hydrogens are heavy and steps twice as long; motion does.
    The thermostat's 0.5/ps is little beside water's own friction, kT/(m D) = 60/ps, but takes away the heat that the
    liquid sets free while its hydrogen bonds find their places.
    """
    constant_volume = pressure_bar is None
    config = SimulateConfig(
        model=model,
        structure=start,
        stages=(
            Stage(name="warm-up", duration_ps=warm_up_ps(ps), friction_per_ps=5.0),
            Stage(name="production", duration_ps=ps),
        ),
        timestep_fs=1.0 if constant_volume else 2.0,
        hydrogen_mass_amu=None if constant_volume else 4.0,
        temperature_k=KELVIN,
        friction_per_ps=0.5 if constant_volume else 1.0,
        pressure_bar=pressure_bar,
        minimize_iterations=50,
        report_every=5,
        trajectory_format="xtc",
        seed=seed,
    )
    return simulate(config, output / f"{'nvt' if constant_volume else 'npt'}-{seed}")


def viscosity_of(runs: list[Frames]) -> float:
    """Viscosity [mPa s] at which the runs' oxygen, in an infinite box, has experiment's product of D and viscosity.

    A liquid that diffuses slower than water is more viscous by about as much (Stokes and Einstein), and with water's
    viscosity the correction would be too large: D + c/η is D∞ in an infinite box, and D∞ η = (D η)exp gives η.
    """
    (motion,) = results_as_asked([MOTION], runs)
    diffusion = motion.figures()["diffusion_cm2_per_s"].value
    product = EXPERIMENT.diffusion_cm2_per_s * EXPERIMENT.viscosity_mpa_s
    cells = runs[0].cells_for("the correction for the size of the box")
    return (product - box_correction_cm2_per_s(cells, KELVIN, 1.0)) / diffusion


def structure_beside(runs: list[Frames], reference: Frames) -> list[Comparison]:
    """Radial distributions of the runs and of the frames."""
    return compare(results_as_asked(STRUCTURE, [reference]), results_as_asked(STRUCTURE, runs))


if __name__ == "__main__":
    main()
