"""Options of a simulation: one TOML file, command-line flags on top, checked as a whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openmm_allegro import options
from openmm_allegro.stages import Ensemble, Leg, Stage, check_names, legs_of


class SimulateConfig(BaseModel):
    """One simulation of a structure in which every atom feels the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    model: Path
    """Model file, of this package or of nequip: .safetensors, .ckpt, .nequip.zip or .nequip.pth."""
    model_units: tuple[str, str] | None = None
    """Energy and length in the training data of a model of nequip, which its file does not say: `eV angstrom`."""
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
    barostat_every: int = Field(default=25, gt=0)
    """Steps between the barostat's trial moves."""
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
    checkpoint_every: int = Field(default=1000, gt=0)
    """Steps between checkpoints."""
    trajectory_format: Literal["dcd", "xtc"] = "dcd"
    """`dcd` is exact to float32, `xtc` to 0.01 Å and a third of the size."""

    uncertainty_every: int | None = Field(default=None, gt=0)
    """Steps between lines of `uncertainty.csv`; `model` must be an ensemble. Not given: none are written."""
    uncertainty_threshold: float | None = Field(default=None, gt=0)
    """Largest spread of the force on an atom [meV/Å]; frames beyond it are kept in `uncertain.extxyz`."""
    uncertainty_action: Literal["save", "stop"] = "save"
    """What happens beyond it: `save` goes on, `stop` ends the run."""

    platform: Literal["auto", "Reference", "CPU", "OpenCL", "CUDA", "HIP"] = "auto"
    """OpenMM's platform; `auto` takes the fastest."""
    precision: Literal["single", "double"] = "single"
    """Precision of the model's arithmetic."""
    bridge: Literal["auto", "torchforce", "python"] = "auto"
    """How OpenMM calls the model."""
    device: str = "auto"
    """Where the model runs: `auto`, `cpu`, `cuda` or `cuda:1`."""

    stages: tuple[Stage, ...] = ()
    """Stages that follow each other, each a table `[[stages]]`, instead of one length and temperature."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.stages:
            if self.steps is not None or self.duration_ps is not None:
                raise ValueError("each of the `stages` has its own length; leave out `steps` and `duration_ps`")
            check_names(self.stages)
        elif (self.steps is None) == (self.duration_ps is None):
            raise ValueError("say how long to run: either `steps` or `duration_ps`, one of the two")
        if self.n_steps < 1:  # of stages each is checked
            raise ValueError(f"`duration_ps` is {self.duration_ps}, shorter than one step of {self.timestep_fs} fs")
        if min(self.replicate) < 1:
            raise ValueError(f"`replicate` is {list(self.replicate)}; each number must be at least 1")
        if self.uncertainty_threshold is not None and self.uncertainty_every is None:
            raise ValueError("`uncertainty_threshold` needs `uncertainty_every`, the steps between looks at the spread")
        if self.uncertainty_action == "stop" and self.uncertainty_threshold is None:
            raise ValueError("`uncertainty_action` is stop, but there is no `uncertainty_threshold` to stop at; set it")
        if self.pressure_bar is not None and self.friction_per_ps == 0:
            raise ValueError("`pressure_bar` needs a thermostat; set `friction_per_ps` above 0")
        return self

    @property
    def n_steps(self) -> int:
        """Length of the run in steps."""
        if self.stages:
            return self.legs[-1].last_step
        if self.steps is not None:
            return self.steps
        assert self.duration_ps is not None
        return round(1000 * self.duration_ps / self.timestep_fs)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The stages one after another, with everything filled in."""
        return legs_of(
            self.stages,
            timestep_fs=self.timestep_fs,
            temperature_k=self.temperature_k,
            friction_per_ps=self.friction_per_ps,
            pressure_bar=self.pressure_bar,
            barostat_every=self.barostat_every,
        )

    @property
    def first_temperature_k(self) -> float:
        """That of the first velocities."""
        return self.legs[0].start_k if self.stages else self.temperature_k

    @property
    def uses_pressure(self) -> bool:
        """Whether the box changes at any time."""
        return any(leg.ensemble == "NPT" for leg in self.legs) if self.stages else self.pressure_bar is not None

    @property
    def ensemble(self) -> Ensemble:
        """What is held constant, of stages in the last one."""
        if self.stages:
            return self.legs[-1].ensemble
        if self.friction_per_ps == 0:
            return "NVE"
        return "NVT" if self.pressure_bar is None else "NPT"

    def to_toml(self) -> str:
        """The options as a file that `load_config` reads."""
        values = self.model_dump(mode="json", exclude_none=True)
        stages = values.pop("stages")
        return _toml(values) + "".join(f"\n[[stages]]\n{_toml(stage)}" for stage in stages)


def _toml(values: Mapping[str, object]) -> str:
    # Strings, numbers, booleans and lists of numbers are written alike in JSON and TOML.
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def load_config(path: Path | str | None, flags: Mapping[str, object]) -> SimulateConfig:
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
    return options.checked(table | given, SimulateConfig)


MAY_CHANGE = {
    "steps",
    "duration_ps",
    "checkpoint_every",
    "uncertainty_threshold",
    "uncertainty_action",
    "platform",
    "bridge",
    "device",
}


def check_resumable(old: SimulateConfig, new: SimulateConfig, folder: Path) -> None:
    """Refuse to continue a run with options that would make it another simulation."""
    for name in SimulateConfig.model_fields:
        before, now = getattr(old, name), getattr(new, name)
        if name == "stages" and before and now[: len(before)] == before:
            continue  # stages may be added at the end
        if name not in MAY_CHANGE and before != now:
            raise ValueError(
                f"`{name}` is {_shown(now)}, but the run in `{folder}` was started with {_shown(before)}; continue "
                f"it as it was started (only {', '.join(sorted(MAY_CHANGE))} may change) or start a new one"
            )


def _shown(value: object) -> str:
    if isinstance(value, tuple) and any(isinstance(each, Stage) for each in value):
        return ", ".join(stage.name for stage in value) + " with the options in its file"
    return "not set" if value is None or value == () else str(value)
