"""Options of a run in LAMMPS: those of `simulate` where they mean the same, and its own."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from openmm_allegro.simulation.run_config import RunConfig, load_run_config


class LammpsConfig(RunConfig):
    """One run in LAMMPS of a structure in which every atom feels the model."""

    device: str = "auto"
    """Where the model runs: `auto` gives each rank of a machine one of its CUDA devices in turn, or `cpu`, `cuda:1`."""
    barostat_ps: float = Field(default=1.0, gt=0)
    """Period of the Nosé–Hoover barostat, which scales the box alike in all directions [ps]."""
    skin_nm: float = Field(default=0.1, ge=0)
    """Reach of neighbour list and ghosts beyond the cutoff [nm]."""


MAY_CHANGE = {"steps", "duration_ps", "checkpoint_every", "skin_nm", "device"}
"""What may be another when a run goes on."""


def load_config(path: Path | str | None, flags: Mapping[str, object]) -> LammpsConfig:
    """Options from a TOML file, if there is one, with flags on top; its paths are relative to its folder."""
    return load_run_config(path, flags, LammpsConfig)
