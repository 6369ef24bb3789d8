"""A reporter of the pressure tensor along a simulation, which OpenMM does not give: for viscosities."""

from pathlib import Path

import torch  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.atom_types import atom_types
from openmm_allegro.checkpoint import dtype_of
from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.ensemble_file import dynamics_model
from openmm_allegro.model import Allegro
from openmm_allegro.model_file import loaded
from openmm_allegro.potential import Potential
from openmm_allegro.scripted import ScriptedModel
from openmm_allegro.system_checks import check_pressures
from openmm_allegro.workers import work_on

COMPONENTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
COLUMNS = ("Step", "Time (ps)", "Box Volume (nm^3)", *(f"P{'xyz'[a]}{'xyz'[b]} (bar)" for a, b in COMPONENTS))


class PressureReporter:
    """Writes the pressure tensor of a periodic system without constraints, in which only the model has a virial.

    P = (Σ m v v + W) / V, with W minus the derivative of the energy with respect to strain, evaluated once more at each
    report. Velocities are those that OpenMM gives; leapfrog integrators keep them half a step away from the
    positions. `analyze --log` makes a viscosity of the file (`analysis.viscosity.shear_viscosity`).
    """

    def __init__(
        self,
        file: str | Path,
        interval: int,
        model: Allegro | Ensemble | str | Path,
        topology: app.Topology,
        *,
        model_units: tuple[str, str] | None = None,
        precision: str = "single",
        device: str | torch.device = "auto",
        append: bool = False,
    ) -> None:
        """Prepare to report.

        Parameters
        ----------
        file
            CSV file to write: step, time [ps], volume [nm³], Pxx, Pyy, Pzz, Pxy, Pxz, Pyz [bar].
        interval
            Steps between reports; a few femtoseconds for viscosities.
        model, model_units, precision, device
            As in `AllegroForce`.
        topology
            Gives the elements; it must have a box.
        append
            Whether to go on with an existing file.
        """
        if interval < 1:
            raise ValueError(f"`interval` is {interval}; it must be at least 1 step")
        if topology.getPeriodicBoxVectors() is None:
            raise ValueError("the topology has no box, and without a volume there is no pressure; set its box vectors")
        dtype = dtype_of(precision)
        given = loaded(model, model_units)
        if isinstance(given, ScriptedModel):
            raise ValueError(f"{model} runs as it is, and pressures are known of Allegro models only; leave them out")
        self.device = chosen_device(device)
        self.potential = Potential(dynamics_model(given, dtype)).to(self.device)
        work_on(self.potential, [self.device])
        self.types = torch.tensor(atom_types(given.config.type_names, topology)).to(self.device)
        self.masses: NDArray[np.float64] | None = None
        self.path, self.interval = Path(file), interval
        if not append:
            self.path.write_text("#" + ",".join(f'"{name}"' for name in COLUMNS) + "\n", encoding="utf-8")

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, object]:  # noqa: N802 (OpenMM's name)
        """Called by OpenMM."""
        if self.masses is None:
            check_pressures(simulation.system)
            self.masses = _masses(simulation.system)
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": False, "include": ["positions", "velocities"]}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Called by OpenMM."""
        if self.masses is None:
            self.masses = _masses(simulation.system)
        box_nm = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
        velocities = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
        kinetic = (self.masses[:, None] * velocities).T @ velocities  # kJ/mol
        volume = float(np.linalg.det(box_nm))
        pressure = (kinetic + self.virial_kj(state, box_nm)) / (volume * units.BAR_NM3_TO_KJ_PER_MOL)
        values = [state.getTime().value_in_unit(unit.picosecond), volume, *(pressure[at] for at in COMPONENTS)]
        with self.path.open("a", encoding="utf-8") as file:
            print(state.getStepCount(), *(f"{value:.10g}" for value in values), sep=",", file=file)

    def virial_kj(self, state: openmm.State, box_nm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Minus the derivative of the energy with respect to strain, (3, 3) [kJ/mol]; box_nm: (3, 3)."""
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        arguments = (torch.tensor(positions), torch.tensor(box_nm * units.NM_TO_ANGSTROM))
        _, _, virial = self.potential(*(tensor.to(self.device) for tensor in arguments), self.types)
        return virial.cpu().double().numpy() * units.EV_TO_KJ_PER_MOL


def _masses(system: openmm.System) -> NDArray[np.float64]:
    """Of all particles [Da]."""
    masses = [system.getParticleMass(index) for index in range(system.getNumParticles())]
    return np.array([mass.value_in_unit(unit.dalton) for mass in masses])
