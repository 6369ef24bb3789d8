"""Options of a simulation: one TOML file, command-line flags on top, checked as a whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from openmm_allegro.simulation.resumable import check_same_options
from openmm_allegro.simulation.run_config import RunConfig, as_toml, load_run_config
from openmm_allegro.simulation.stage_options import Ensemble, Leg, Stage, check_names, legs_of


class SimulateConfig(RunConfig):
    """One simulation of a structure in which every atom feels the model."""

    model: Path
    """Model file, of this package or of nequip: .safetensors, .ckpt, .nequip.zip or .nequip.pth."""
    model_units: tuple[str, str] | None = None
    """Energy and length in the training data of a model of nequip, which its file does not say: `eV angstrom`."""
    barostat_every: int = Field(default=25, gt=0)
    """Steps between the barostat's trial moves."""
    pressure_every: int | None = Field(default=None, gt=0)
    """Steps between lines of `pressure.csv`, the pressure tensor, for viscosities. Not given: none are written."""
    uncertainty_every: int | None = Field(default=None, gt=0)
    """Steps between lines of `uncertainty.csv`; `model` must be an ensemble. Not given: none are written."""
    uncertainty_threshold: float | None = Field(default=None, gt=0)
    """Largest spread of the force on an atom [meV/Å]; frames beyond it are kept in `uncertain.extxyz`."""
    uncertainty_action: Literal["save", "stop"] = "save"
    """What happens beyond it: `save` goes on, `stop` ends the run."""
    platform: Literal["auto", "Reference", "CPU", "OpenCL", "CUDA", "HIP"] = "auto"
    """OpenMM's platform; `auto` takes the fastest."""
    bridge: Literal["auto", "torchforce", "python"] = "auto"
    """How OpenMM calls the model."""

    stages: tuple[Stage, ...] = ()
    """Stages that follow each other, each a table `[[stages]]`, instead of one length and temperature."""

    def check_length(self) -> None:
        """Refuse options of which the length of the run does not follow."""
        if not self.stages:
            super().check_length()
        elif self.steps is not None or self.duration_ps is not None:
            raise ValueError("each of the `stages` has its own length; leave out `steps` and `duration_ps`")
        else:
            check_names(self.stages)

    @model_validator(mode="after")
    def _check_uncertainty(self) -> Self:
        if self.uncertainty_threshold is not None and self.uncertainty_every is None:
            raise ValueError("`uncertainty_threshold` needs `uncertainty_every`, the steps between looks at the spread")
        if self.uncertainty_action == "stop" and self.uncertainty_threshold is None:
            raise ValueError("`uncertainty_action` is stop, but there is no `uncertainty_threshold` to stop at; set it")
        return self

    @property
    def n_steps(self) -> int:
        """Length of the run in steps."""
        return self.legs[-1].last_step if self.stages else super().n_steps

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
        return self.legs[-1].ensemble if self.stages else super().ensemble

    def to_toml(self) -> str:
        """The options as a file that `load_config` reads."""
        values = self.model_dump(mode="json", exclude_none=True)
        stages = values.pop("stages")
        return as_toml(values) + "".join(f"\n[[stages]]\n{as_toml(stage)}" for stage in stages)


def load_config(path: Path | str | None, flags: Mapping[str, object]) -> SimulateConfig:
    """Options from a TOML file, if there is one, with flags on top; its paths are relative to its folder."""
    return load_run_config(path, flags, SimulateConfig)


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
    if old.stages and new.stages[: len(old.stages)] == old.stages:
        old = old.model_copy(update={"stages": new.stages})  # stages may be added at the end
    check_same_options(old, new, folder, MAY_CHANGE)
