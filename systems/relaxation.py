"""Boxes brought to rest with a classical force field, before a learnt potential sees them."""

import numpy as np
import openmm
from openmm import app, unit
from rich.progress import track

from openmm_allegro.systems.files import box_widths, numbers_nm
from openmm_allegro.systems.solvated import FORCE_FIELD
from openmm_allegro.systems.water import System

LONGEST_CUTOFF_NM = 0.9
TIMESTEP_FS = 2.0
STEPS_AT_ONCE = 100


def relaxed(
    system: System, ps: float = 10.0, *, kelvin: float = 300.0, seed: int = 0, progress: bool = False
) -> System:
    """Water, ions, peptides and proteins after minimisation and dynamics with Amber14 and TIP3P, in the same box.

    Molecules that were placed at random meet in ways that no training frame has, where a learnt potential may do
    anything; here they part first. Bonds with hydrogen have the lengths of the force field in the end. The dynamics is
    Langevin's, with 2 fs and 5/ps. The same seed gives the same places again on one thread (OPENMM_CPU_THREADS=1):
    several add forces in any order.

    Parameters
    ----------
    ps
        Length of the dynamics; 0 only minimises.
    progress
        Whether to show a bar.

    Raises
    ------
    ValueError
        For molecules that the force field does not know, and a temperature or time below zero.
    """
    if ps < 0 or kelvin < 0:
        raise ValueError(f"there are {ps:g} ps at {kelvin:g} K to relax; both must be zero or more")
    topology, positions, box = system
    integrator = openmm.LangevinMiddleIntegrator(kelvin, 5 / unit.picosecond, TIMESTEP_FS * unit.femtosecond)
    integrator.setRandomNumberSeed(seed + 1)  # 0 would draw one
    simulation = app.Simulation(topology, _classical(topology, box), integrator)
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(kelvin, seed + 1)
    steps = round(ps * 1000 / TIMESTEP_FS)
    for _ in track(range(0, steps, STEPS_AT_ONCE), "relaxing", disable=not progress, transient=True):
        simulation.step(min(STEPS_AT_ONCE, steps - simulation.currentStep))
    found = simulation.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return topology, unit.Quantity(np.array(found), unit.nanometer), box


def _classical(topology: app.Topology, box: unit.Quantity | None) -> openmm.System:
    """The System of the force field, with a cutoff that the box allows."""
    cutoff = LONGEST_CUTOFF_NM
    if box is not None:
        cutoff = min(cutoff, 0.49 * float(box_widths(numbers_nm(box)).min()))
    method = app.CutoffNonPeriodic if box is None else app.PME
    try:
        return app.ForceField(*FORCE_FIELD).createSystem(
            topology, nonbondedMethod=method, nonbondedCutoff=cutoff, constraints=app.HBonds
        )
    except ValueError as error:
        raise ValueError(
            f"Amber14 and TIP3P, which relax a box, know water, ions, peptides and nucleic acids, but not all of this: "
            f"{error}; leave it as it is and let the model minimise it"
        ) from error
