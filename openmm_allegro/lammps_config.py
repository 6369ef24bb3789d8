"""Options of a run in LAMMPS: those of `simulate` where they mean the same, from a TOML file and flags on top."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openmm_allegro import options
from openmm_allegro.stages import Ensemble


class LammpsConfig(BaseModel):
    """One run of a structure in which every atom feels the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    model: Path
    """Model file."""
    structure: Path
    """Where the atoms start: PDB, mmCIF, extended XYZ or what else ASE reads; the box comes from it."""
    replicate: tuple[int, int, int] = (1, 1, 1)
    """Copies of the box along each of its vectors."""
    hydrogen_mass_amu: float | None = Field(default=None, gt=0)
    """Mass of hydrogen; a larger one allows longer steps and leaves equilibrium averages as they are."""

    steps: int | None = Field(default=None, gt=0)
    """Length of the run in steps; or give `duration_ps`."""
    duration_ps: float | None = Field(default=None, gt=0)
    """Length of the run in picoseconds; or give `steps`."""
    timestep_fs: float = Field(default=0.5, gt=0)
    """Length of a step [fs]."""
    ensemble: Literal["nve", "nvt", "npt"] | None = None
    """What is held constant; not given: `npt` with a `pressure_bar`, else `nvt`."""
    temperature_k: float = Field(default=300.0, gt=0)
    """Temperature of the thermostat and of the first velocities [K]."""
    friction_per_ps: float = Field(default=1.0, gt=0)
    """Friction of the Langevin thermostat [1/ps]."""
    pressure_bar: float | None = None
    """Pressure of the barostat [bar]."""
    barostat_ps: float = Field(default=1.0, gt=0)
    """Period of the Nosé–Hoover barostat, which scales the box alike in all directions [ps]."""
    seed: int = Field(default=1, ge=1, lt=2**31)
    """Seed of velocities and thermostat."""

    minimize: bool = True
    """Whether the energy is minimised before the first step."""
    minimize_tolerance_kj: float = Field(default=10.0, gt=0)
    """Root-mean-square force at which minimisation ends [kJ/mol/nm]."""
    minimize_iterations: int = Field(default=1000, gt=0)
    """Most iterations of the minimiser."""

    report_every: int = Field(default=100, gt=0)
    """Steps between frames of the trajectory and lines of the log."""
    trajectory_format: Literal["dcd", "xtc"] = "dcd"
    """`dcd` is exact to float32, `xtc` to 0.01 Å and a third of the size."""

    precision: Literal["single", "double"] = "single"
    """Precision of the model's arithmetic."""
    device: str = "auto"
    """Where the model runs: `auto` gives each rank of a machine one of its CUDA devices in turn, or `cpu`, `cuda:1`."""
    skin_nm: float = Field(default=0.1, ge=0)
    """Reach of neighbour list and ghosts beyond the cutoff [nm]."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.steps is None) == (self.duration_ps is None):
            raise ValueError("say how long to run: either `steps` or `duration_ps`, one of the two")
        if self.n_steps < 1:
            raise ValueError(f"`duration_ps` is {self.duration_ps}, shorter than one step of {self.timestep_fs} fs")
        if min(self.replicate) < 1:
            raise ValueError(f"`replicate` is {list(self.replicate)}; each number must be at least 1")
        if self.ensemble == "npt" and self.pressure_bar is None:
            raise ValueError("`ensemble` is npt; say at which `pressure_bar`")
        if self.ensemble in ("nve", "nvt") and self.pressure_bar is not None:
            raise ValueError(f"`pressure_bar` is {self.pressure_bar}, but `ensemble` is {self.ensemble}; take npt")
        return self

    @property
    def n_steps(self) -> int:
        """Length of the run in steps."""
        if self.steps is not None:
            return self.steps
        assert self.duration_ps is not None
        return round(1000 * self.duration_ps / self.timestep_fs)

    @property
    def held_constant(self) -> Ensemble:
        """What is held constant, named as `simulate` does."""
        names: dict[str | None, Ensemble] = {"nve": "NVE", "nvt": "NVT", "npt": "NPT"}
        return names.get(self.ensemble, "NVT" if self.pressure_bar is None else "NPT")

    def to_toml(self) -> str:
        """The options as a file that `load_config` reads."""
        values = self.model_dump(mode="json", exclude_none=True)
        # strings, numbers, booleans and lists of numbers are written alike in JSON and TOML
        return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def load_config(path: Path | str | None, flags: Mapping[str, object]) -> LammpsConfig:
    """Options from a TOML file, if there is one, with flags on top; its paths are relative to its folder."""
    table: dict[str, object] = {}
    if path is not None:
        table = options.read_table(path)
        for name in ("model", "structure"):
            value = table.get(name)
            if isinstance(value, str):
                table[name] = str(Path(path).parent / value)
    given = {name: value for name, value in flags.items() if value is not None}
    for length, other in (("steps", "duration_ps"), ("duration_ps", "steps")):
        if length in given and other not in given:
            table.pop(other, None)
    return options.checked(table | given, LammpsConfig)
