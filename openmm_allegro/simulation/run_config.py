"""Options that runs in OpenMM and in LAMMPS have in common, from a TOML file and flags on top."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openmm_allegro import options
from openmm_allegro.simulation.stage_options import Ensemble


class RunConfig(BaseModel):
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
    temperature_k: float = Field(default=300.0, gt=0)
    """Temperature of the thermostat and of the first velocities [K]."""
    friction_per_ps: float = Field(default=1.0, ge=0)
    """Friction of the Langevin thermostat [1/ps]; 0 takes the thermostat away (NVE)."""
    pressure_bar: float | None = None
    """Pressure of the barostat [bar]; without it the box stays as it is."""
    seed: int = Field(default=1, ge=1, lt=2**31)
    """Seed of velocities, thermostat and barostat."""

    minimize: bool = True
    """Whether the energy is minimised before the first step, by moves of 0.1 Å at most."""
    minimize_tolerance_kj: float = Field(default=10.0, gt=0)
    """Root-mean-square force at which minimisation ends [kJ/mol/nm]."""
    minimize_iterations: int = Field(default=1000, ge=0)
    """Most iterations of the minimiser; 0 goes on until it converges."""

    report_every: int = Field(default=100, gt=0)
    """Steps between frames of the trajectory and lines of the log."""
    trajectory_format: Literal["dcd", "xtc"] = "dcd"
    """`dcd` is exact to float32, `xtc` to 0.01 Å and a third of the size."""

    checkpoint_every: int = Field(default=1000, gt=0)
    """Steps between checkpoints."""

    precision: Literal["single", "double"] = "single"
    """Precision of the model's arithmetic."""
    device: str = "auto"
    """Where the model runs: `auto`, `cpu`, `cuda` or `cuda:1`."""

    def check_length(self) -> None:
        """Refuse options of which the length of the run does not follow."""
        if (self.steps is None) == (self.duration_ps is None):
            raise ValueError("say how long to run: either `steps` or `duration_ps`, one of the two")

    @model_validator(mode="after")
    def _check_run(self) -> Self:
        self.check_length()
        if self.n_steps < 1:
            raise ValueError(f"`duration_ps` is {self.duration_ps}, shorter than one step of {self.timestep_fs} fs")
        if min(self.replicate) < 1:
            raise ValueError(f"`replicate` is {list(self.replicate)}; each number must be at least 1")
        if self.pressure_bar is not None and self.friction_per_ps == 0:
            raise ValueError("`pressure_bar` needs a thermostat; set `friction_per_ps` above 0")
        return self

    @property
    def n_steps(self) -> int:
        """Length of the run in steps."""
        if self.steps is not None:
            return self.steps
        assert self.duration_ps is not None
        return round(1000 * self.duration_ps / self.timestep_fs)

    @property
    def ensemble(self) -> Ensemble:
        """What is held constant."""
        if self.friction_per_ps == 0:
            return "NVE"
        return "NVT" if self.pressure_bar is None else "NPT"

    def ns_per_day(self, steps: int, seconds: float) -> float:
        """Speed at which so many steps take so many seconds."""
        return steps * self.timestep_fs * 1e-6 / seconds * 86400

    def to_toml(self) -> str:
        """The options as a file that `load_run_config` reads."""
        return as_toml(self.model_dump(mode="json", exclude_none=True))


def as_toml(values: Mapping[str, object]) -> str:
    """Lines of a TOML file: strings, numbers, booleans and lists of these are written as in JSON."""
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


Config = TypeVar("Config", bound=RunConfig)


def load_run_config(path: Path | str | None, flags: Mapping[str, object], kind: type[Config]) -> Config:
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
    return options.checked(table | given, kind)
