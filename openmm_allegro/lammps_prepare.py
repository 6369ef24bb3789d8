"""The folder of a LAMMPS run before ranks start: its input written, or found to be that of the run that goes on."""

import logging
from collections.abc import Mapping
from pathlib import Path

from openmm_allegro.ensemble_file import load_for_dynamics
from openmm_allegro.lammps_checkpoint import NAME, saved_step
from openmm_allegro.lammps_config import MAY_CHANGE, LammpsConfig, load_config
from openmm_allegro.lammps_input import CONFIG, write_input
from openmm_allegro.lammps_log import LOG
from openmm_allegro.resumable import check_exists, check_not_beyond, check_same_files, check_same_options
from openmm_allegro.structure import read_structure

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
        _check_empty(folder)
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


def _check_empty(folder: Path) -> None:
    step = saved_step(folder)
    checkpoint = [] if step is None else [NAME.format(step)]
    for name in (CONFIG, LOG, "trajectory.dcd", "trajectory.xtc", "continuation.dcd", "continuation.xtc", *checkpoint):
        if (folder / name).exists():
            raise FileExistsError(
                f"`{folder}` already has `{name}` of another run; choose a new folder, or go on with that run by "
                "`--resume`"
            )


def _write_input(config: LammpsConfig, folder: Path) -> None:
    structure = read_structure(config.structure, config.replicate)
    if config.ensemble == "NPT" and structure.topology.getPeriodicBoxVectors() is None:
        raise ValueError(f"`pressure_bar` is set, but `{config.structure}` has no periodic box")
    model = load_for_dynamics(config.model)
    folder.mkdir(parents=True, exist_ok=True)
    write_input(folder, config, model.config, structure)
