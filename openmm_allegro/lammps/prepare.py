"""The folder of a LAMMPS run before ranks start: its input written, or found to be that of the run that goes on."""

import logging
from collections.abc import Mapping
from pathlib import Path

from openmm_allegro.ensemble_file import load_for_dynamics
from openmm_allegro.lammps.checkpoint import NAME as CHECKPOINT
from openmm_allegro.lammps.checkpoint import saved_step
from openmm_allegro.lammps.config import MAY_CHANGE, LammpsConfig, load_config
from openmm_allegro.lammps.input import ATOMS, CONFIG, DYNAMICS, SCRIPT, SETUP, TYPES, write_input
from openmm_allegro.lammps.log import LOG
from openmm_allegro.lammps.run import ERROR, LAMMPS_LOG
from openmm_allegro.simulation.resumable import (
    INPUTS,
    check_empty,
    check_exists,
    check_not_beyond,
    check_same_files,
    check_same_options,
)
from openmm_allegro.structure import read_structure, structure_files

WRITTEN = (
    *(LOG, LAMMPS_LOG, ERROR, INPUTS, ATOMS, TYPES, SETUP, DYNAMICS, SCRIPT),
    *(f"{name}.{suffix}" for name in ("trajectory", "continuation") for suffix in ("dcd", "xtc")),
    *(file for name in ("start", "final") for file in structure_files(name)),
)
"""What a run writes besides its options and checkpoints."""

log = logging.getLogger("openmm_allegro")


def resume_config(output_dir: Path | str, path: Path | str | None, flags: Mapping[str, object]) -> LammpsConfig:
    """Options to go on with: those of the run in a folder unless a TOML file is given, with flags on top."""
    before = Path(output_dir) / CONFIG
    check_exists(before)
    return load_config(path or before, flags)


def prepare(config: LammpsConfig, folder: Path, resume: bool) -> None:
    """Bring the folder to where ranks can start, and say what they begin with."""
    config = config.model_copy(update={"model": config.model.resolve(), "structure": config.structure.resolve()})
    step = None
    if resume:
        step = _prepare_to_resume(config, folder)
    else:
        step_there = saved_step(folder)
        checkpoint = [] if step_there is None else [CHECKPOINT.format(step_there)]
        check_empty(folder, CONFIG, [*checkpoint, *WRITTEN])
        _write_input(config, folder)
    if step is None and config.minimize:
        log.info("minimising the energy")


def _prepare_to_resume(config: LammpsConfig, folder: Path) -> int | None:
    """Refuse what is not this run; returns the step to go on from, None to start again as no checkpoint was reached."""
    old = resume_config(folder, None, {})
    check_same_options(old, config, folder, MAY_CHANGE)
    check_same_files(config, folder)
    step = saved_step(folder)
    check_not_beyond(step, config.n_steps, folder)
    if step is None:
        log.info(f"the run in `{folder}` has no checkpoint yet; it starts again")
    elif step == config.n_steps:
        log.info(f"the run in `{folder}` is finished: it has all of its {step} steps; a larger length goes on with it")
    else:
        log.info(f"going on from step {step} of {config.n_steps}")
    if config != old:
        _write_input(config, folder)
    return step


def _write_input(config: LammpsConfig, folder: Path) -> None:
    structure = read_structure(config.structure, config.replicate)
    if config.ensemble == "NPT" and structure.topology.getPeriodicBoxVectors() is None:
        raise ValueError(f"`pressure_bar` is set, but `{config.structure}` has no periodic box")
    model = load_for_dynamics(config.model)
    write_input(folder, config, model.config, structure)
