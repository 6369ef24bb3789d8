"""Options of a simulation's stages, and the stages with everything filled in."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Ensemble = Literal["NVE", "NVT", "NPT"]
RUN_FILES = ("start", "final", "checkpoint", "trajectory", "log", "state", "system", "simulation", "inputs")
"""Names that files of every run have."""


class Stage(BaseModel):
    """One stage of a run; what it does not say is as for the whole run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")
    """What the structure at its end is called."""
    steps: int | None = Field(default=None, gt=0)
    """Length in steps; or give `duration_ps`, or of a ramp `rate_k_per_ps`."""
    duration_ps: float | None = Field(default=None, gt=0)
    """Length in picoseconds."""
    temperature_k: float | None = Field(default=None, gt=0)
    """Temperature, of a ramp at its start [K]; not given: where the stage before ended."""
    end_temperature_k: float | None = Field(default=None, gt=0)
    """Temperature at the end of a linear ramp [K]."""
    rate_k_per_ps: float | None = Field(default=None, gt=0)
    """How fast a ramp heats or cools [K/ps], instead of a length."""
    ensemble: Ensemble | None = None
    """What is held constant; `NPT` needs a pressure, here or for the whole run."""
    friction_per_ps: float | None = Field(default=None, gt=0)
    """Friction of the thermostat [1/ps]."""
    pressure_bar: float | None = None
    """Pressure of the barostat [bar]."""


class Leg(NamedTuple):
    """A stage with everything filled in."""

    name: str
    first_step: int
    n_steps: int
    ensemble: Ensemble
    start_k: float
    end_k: float
    friction_per_ps: float
    """0 without thermostat."""
    pressure_bar: float | None
    """None without barostat."""
    barostat_every: int
    """0 without barostat."""

    @property
    def last_step(self) -> int:
        """The step after which the next stage begins."""
        return self.first_step + self.n_steps


def check_names(stages: Sequence[Stage]) -> None:
    """Refuse two stages, or a stage and a file of every run, of one name."""
    taken = set(RUN_FILES)
    for stage in stages:
        if stage.name in taken:
            raise ValueError(f"two files of the run would be called `{stage.name}`; rename that one of the `stages`")
        taken.add(stage.name)


def legs_of(
    stages: Sequence[Stage],
    *,
    timestep_fs: float,
    temperature_k: float,
    friction_per_ps: float,
    pressure_bar: float | None,
    barostat_every: int,
) -> tuple[Leg, ...]:
    """The stages one after another; the other arguments are those of the whole run."""
    legs: list[Leg] = []
    for stage in stages:
        start = stage.temperature_k or (legs[-1].end_k if legs else temperature_k)
        end = stage.end_temperature_k or start
        friction = friction_per_ps if stage.friction_per_ps is None else stage.friction_per_ps
        pressure = pressure_bar if stage.pressure_bar is None else stage.pressure_bar
        ensemble = _ensemble(stage, end != start, friction, pressure)
        leg = Leg(
            name=stage.name,
            first_step=legs[-1].last_step if legs else 0,
            n_steps=_length(stage, end - start, timestep_fs),
            ensemble=ensemble,
            start_k=start,
            end_k=end,
            friction_per_ps=0.0 if ensemble == "NVE" else friction,
            pressure_bar=pressure if ensemble == "NPT" else None,
            barostat_every=barostat_every if ensemble == "NPT" else 0,
        )
        legs.append(leg)
    return tuple(legs)


def _ensemble(stage: Stage, is_ramp: bool, friction: float, pressure: float | None) -> Ensemble:
    where = f"stage `{stage.name}`"
    default: Ensemble = "NPT" if pressure is not None else "NVE" if friction == 0 else "NVT"
    ensemble = stage.ensemble or default
    if ensemble == "NPT" and pressure is None:
        raise ValueError(f"{where} is NPT, but there is no `pressure_bar`; set it there or for the whole run")
    if ensemble != "NPT" and stage.pressure_bar is not None:
        raise ValueError(f"{where} has a `pressure_bar`, but it is {ensemble}; leave one of them out")
    if ensemble == "NVE" and is_ramp:
        raise ValueError(f"{where} is a ramp, which needs a thermostat, but it is NVE")
    if ensemble == "NVE" and stage.friction_per_ps is not None:
        raise ValueError(f"{where} has a `friction_per_ps`, but it is NVE; leave one of them out")
    if ensemble != "NVE" and friction == 0:
        raise ValueError(f"{where} is {ensemble}, but `friction_per_ps` is 0; set it above 0")
    return ensemble


def _length(stage: Stage, rise_k: float, timestep_fs: float) -> int:
    """In steps."""
    if sum(each is not None for each in (stage.steps, stage.duration_ps, stage.rate_k_per_ps)) != 1:
        raise ValueError(
            f"say how long stage `{stage.name}` is: one of `steps`, `duration_ps` and, of a ramp, `rate_k_per_ps`"
        )
    if stage.steps is not None:
        return stage.steps
    if stage.rate_k_per_ps is not None and rise_k == 0:
        raise ValueError(f"stage `{stage.name}` has a `rate_k_per_ps`, but no `end_temperature_k` away from its start")
    picoseconds = stage.duration_ps or abs(rise_k) / (stage.rate_k_per_ps or 1.0)
    steps = round(1000 * picoseconds / timestep_fs)
    if steps < 1:
        raise ValueError(f"stage `{stage.name}` is {picoseconds:g} ps, shorter than one step of {timestep_fs} fs")
    return steps
