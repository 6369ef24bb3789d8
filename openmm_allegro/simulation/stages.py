"""A simulation in stages: what holds at each step, such as melt, hold, quench and anneal.

Everything is a function of the step alone, so that a run goes on within a ramp as if it had never stopped.
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import openmm
from openmm import app

from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.stage_options import Leg
from openmm_allegro.structure import structure_files, write_structure

RAMP_STEPS = 10
"""Steps between changes of the temperature in a ramp."""


@dataclass(frozen=True)
class Schedule:
    """The stages of a run one after another."""

    legs: tuple[Leg, ...]

    @classmethod
    def of(cls, config: SimulateConfig) -> "Schedule":
        """That of a configuration, without legs when it has no stages."""
        return cls(config.legs if config.stages else ())

    def name_at(self, step: int) -> str:
        """That of the stage which the next step belongs to; empty without stages."""
        return self._leg_at(step).name if self.legs else ""

    def start(self, simulation: app.Simulation, folder: Path) -> None:
        """Set thermostat and barostat before the first step of this process."""
        self._apply(simulation)
        leg = self._finished(simulation.currentStep)
        if leg is not None and stage_structure(folder, leg.name) is None:
            self._write_end(simulation, leg, folder)  # the process before was killed between its checkpoint and this

    def step(self, simulation: app.Simulation, n_steps: int, folder: Path) -> None:
        """So many steps, with all changes on the way; a structure is written where a stage ends."""
        end = simulation.currentStep + n_steps
        while simulation.currentStep < end:
            simulation.step(self._steps_until_change(simulation.currentStep, end))
            self._apply(simulation)
            leg = self._finished(simulation.currentStep)
            if leg is not None:
                self._write_end(simulation, leg, folder)

    def _leg_at(self, step: int) -> Leg:
        """The stage that the next step belongs to; the last one at the end."""
        first_steps = [leg.first_step for leg in self.legs]
        return self.legs[bisect_right(first_steps, step) - 1]

    def _finished(self, step: int) -> Leg | None:
        """The stage that ends at this step."""
        return next((leg for leg in self.legs if leg.last_step == step), None)

    def _steps_until_change(self, step: int, end: int) -> int:
        """How many steps can be done before anything changes or the end is reached."""
        if not self.legs:
            return end - step
        leg = self._leg_at(step)
        left = min(end, leg.last_step) - step
        if leg.start_k == leg.end_k:
            return left
        return min(left, RAMP_STEPS - (step - leg.first_step) % RAMP_STEPS)

    def _apply(self, simulation: app.Simulation) -> None:
        """Set thermostat and barostat as the next step wants them."""
        if not self.legs:
            return
        leg = self._leg_at(simulation.currentStep)
        temperature = temperature_at(leg, simulation.currentStep)
        simulation.integrator.setTemperature(temperature)
        simulation.integrator.setFriction(leg.friction_per_ps)
        for force in simulation.system.getForces():
            if isinstance(force, openmm.MonteCarloBarostat):
                force.setFrequency(leg.barostat_every)  # 0: no moves
                simulation.context.setParameter(force.Temperature(), temperature)
                if leg.pressure_bar is not None:
                    simulation.context.setParameter(force.Pressure(), leg.pressure_bar)

    def _write_end(self, simulation: app.Simulation, leg: Leg, folder: Path) -> None:
        state = simulation.context.getState(positions=True)
        write_structure(folder, leg.name, simulation.topology, state)


def temperature_at(leg: Leg, step: int) -> float:
    """The thermostat's temperature for the steps around this one [K].

    A ramp is a stair whose treads are `RAMP_STEPS` long and right in their middle.
    """
    if leg.start_k == leg.end_k:
        return leg.start_k
    first = min(step - leg.first_step, leg.n_steps - 1) // RAMP_STEPS * RAMP_STEPS
    last = min(first + RAMP_STEPS, leg.n_steps)
    return leg.start_k + (leg.end_k - leg.start_k) * (first + last) / (2 * leg.n_steps)


def stage_structure(folder: Path, name: str) -> Path | None:
    """The structure after a stage, once it is there; the newer one where it was done again and now needs mmCIF."""
    paths = [folder / file for file in structure_files(name)]
    return max((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime_ns, default=None)
