"""A glass of copper and silver by melting and quenching, beside the same with the potential that was learned.

    python examples/glass/glass.py

1. label frames of Cu50Ag50 with ASE's EMT potential: crystal, melt, supercooled; with stresses;
2. train a small Allegro model on them (`glass.toml`);
3. melt, hold, quench and anneal three random alloys with it at 1 bar (`glass_stages.toml`);
4. do the same with EMT itself in ASE;
5. compare radial distributions, density, energy and common neighbours of both glasses and of the crystal:
   `glass-output/report.png`, `figures.json`.
"""

import argparse
import json
import time
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm, which the training loads: else TorchForce is not found)
import numpy as np
from ase.io import write
from emt import crystal_frames, melt_and_quench, random_alloy, training_frames
from report import Glass, compared, draw, measured
from rich.console import Console
from rich.table import Table

from openmm_allegro import units
from openmm_allegro.analysis.asked import finite_or_none
from openmm_allegro.analysis.energy import TIME, VOLUME, read_log
from openmm_allegro.analysis.npt import POTENTIAL_ENERGY
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.simulation.config import SimulateConfig, load_config
from openmm_allegro.simulation.run import simulate
from openmm_allegro.training import config as training_config
from openmm_allegro.training.run import TrainResult, train

HERE = Path(__file__).parent
SETTLING = 0.4
"""Share of the last stage that is left out."""
QUICKER = 10


def main() -> None:
    """Parse the options and do the five things."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("glass-output"), help="a new folder")
    parser.add_argument("--model", type=Path, help="a model file to go on with, instead of training one")
    parser.add_argument("--runs", type=int, default=3, help="with the model, and as many with EMT")
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it runs")
    options = parser.parse_args()
    output: Path = options.output
    if output.exists():
        parser.error(f"`{output}` exists already and is kept as it is; name another folder with `--output`")
    output.mkdir(parents=True)
    console, runs = Console(), 2 if options.quick else options.runs

    model, errors = options.model, None
    if model is None:
        console.rule("training on frames labelled by EMT")
        trained = trained_model(output, options.quick)
        model, errors = trained.best_model, trained.validation.as_dict()
        console.print(trained.validation.table())
    console.rule(f"{runs} glasses with each potential")
    configs = [config_of(model, output, seed, options.quick) for seed in range(11, 11 + runs)]
    pairs = [(glass_of_emt(config, output), glass_of_allegro(config, output)) for config in configs]
    theirs, ours = zip(*pairs, strict=True)
    write(output / "crystal.extxyz", crystal_frames(configs[0]))

    console.rule("beside each other")
    crystal = open_trajectory(output / "crystal.extxyz")
    figures = measured(theirs, ours, crystal)
    structure = compared(theirs, ours)
    for each in structure:
        each.write_csv(output / f"{each.name}.csv")
    table = Table("", "crystal, EMT", "glass, EMT", "glass, Allegro")
    for name, row in figures.items():
        table.add_row(
            name, *(with_error(*row[which]) if which in row else "" for which in ("crystal", "EMT", "Allegro"))
        )
    for each in structure:
        found = each.summary()
        by_chance = found["difference_per_cent_from_errors"]
        table.add_row(
            f"{each.name}, difference, %", "", "", f"{found['difference_per_cent']:.2f}, errors {by_chance:.2f}"
        )
    console.print(table)
    written = {
        "model": str(model),
        "validation": errors,
        "ns_per_day": [each.ns_per_day for each in ours],
        "figures": {
            name: {which: finite_or_none(found._asdict()) for which, found in row.items()}
            for name, row in figures.items()
        },
        "structure": {each.name: finite_or_none(each.summary()) for each in structure},
    }
    (output / "figures.json").write_text(json.dumps(written, indent=1, allow_nan=False))
    picture = draw(output / "report.png", theirs, ours, crystal, structure, figures)
    console.print(f"model: {model}\npicture: {picture}")


def trained_model(output: Path, quick: bool) -> TrainResult:
    """A model of the frames, in the output folder."""
    protocol = load_config(HERE / "glass_stages.toml", {"model": output, "structure": output})
    write(output / "frames.extxyz", training_frames(1 if quick else 3, protocol))
    (output / "glass.toml").write_text((HERE / "glass.toml").read_text())
    config = training_config.load_config(output / "glass.toml")
    if quick:
        config = config.model_copy(update={"run": config.run.model_copy(update={"max_steps": 300})})
    return train(config, output / "training")


def config_of(model: Path, output: Path, seed: int, quick: bool) -> SimulateConfig:
    """The stages from one random alloy."""
    start = output / f"start-{seed}.extxyz"
    write(start, random_alloy(seed))
    config = load_config(HERE / "glass_stages.toml", {"model": model, "structure": start, "seed": seed})
    if not quick:
        return config
    shorter = [
        stage.model_copy(
            update={
                "duration_ps": stage.duration_ps and stage.duration_ps / QUICKER,
                "rate_k_per_ps": stage.rate_k_per_ps and stage.rate_k_per_ps * QUICKER,
            }
        )
        for stage in config.stages
    ]
    return config.model_copy(update={"stages": tuple(shorter)})


def glass_of_allegro(config: SimulateConfig, output: Path) -> Glass:
    """One run with the model in OpenMM."""
    run = simulate(config, output / f"Allegro-{config.seed}")
    log = read_log(run.log, (TIME, POTENTIAL_ENERGY, VOLUME))
    course = np.stack(
        (log[TIME], units.KJ_PER_MOL_TO_EV * log[POTENTIAL_ENERGY], units.NM_TO_ANGSTROM**3 * log[VOLUME]), axis=1
    )
    start_ps = settled_ps(config)
    frames = open_trajectory(run.trajectory, run.final_structure, start_ps=start_ps)
    return Glass.of(config, course, frames, start_ps, run.ns_per_day)


def glass_of_emt(config: SimulateConfig, output: Path) -> Glass:
    """The same with EMT in ASE."""
    folder = output / f"EMT-{config.seed}"
    started = time.perf_counter()
    course = melt_and_quench(random_alloy(config.seed), config, folder)
    days = (time.perf_counter() - started) / 86400
    start_ps = settled_ps(config)
    every_ps = config.report_every * config.timestep_fs / 1000
    last_stage_ps = config.legs[-1].first_step * config.timestep_fs / 1000 + every_ps  # its first frame
    frames = open_trajectory(
        folder / "trajectory.extxyz", timestep_ps=every_ps, start_ps=max(0, start_ps - last_stage_ps)
    )
    return Glass.of(config, course, frames, start_ps, course[-1, 0] / 1000 / days)


def settled_ps(config: SimulateConfig) -> float:
    """When the glass is looked at: after a part of the last stage."""
    end = config.legs[-1]
    return (end.first_step + SETTLING * end.n_steps) * config.timestep_fs / 1000


if __name__ == "__main__":
    main()
