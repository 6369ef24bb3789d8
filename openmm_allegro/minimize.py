"""Energy minimisation in small steps, for potentials that know nothing of atoms on top of each other."""

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import openmm
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import LBFGS
from numpy.typing import NDArray
from openmm import unit

from openmm_allegro import units
from openmm_allegro.context_constraints import ContextConstraints


class Minimisation(NamedTuple):
    """How a minimisation ended."""

    converged: bool
    evaluations: int
    energy_change_kj: float
    """From the first positions that meet the constraints [kJ/mol]."""
    rms_force_kj: float
    """Root mean square of the components that constraints leave [kJ/mol/nm]."""

    def __str__(self) -> str:
        """A sentence for the log."""
        return (
            f"{'converged' if self.converged else 'not converged'} after {self.evaluations} evaluations: "
            f"{self.energy_change_kj:+.4g} kJ/mol, forces of {self.rms_force_kj:.3g} kJ/mol/nm"
        )


def minimize_energy(
    context: openmm.Context,
    tolerance: unit.Quantity | float = 10.0,
    max_iterations: int = 1000,
    max_step: unit.Quantity | float = 0.01,
) -> Minimisation:
    """Move the atoms of a Context downhill, none of them further than `max_step` at a time.

    OpenMM's own minimiser starts with a move of 1 nm, all atoms together, from which a learnt potential may not return:
    it has seen no atoms that overlap, and can give them very low energies. Here the steps are those of ASE's LBFGS.
    The energy is that of the force groups that the Context's integrator integrates, which are all unless it is told so.

    Particles of mass 0 stay where they are, as in dynamics, and virtual sites follow the atoms that they belong to.
    Constraints are applied to the first positions and kept, to the tolerance of the Context's integrator.

    Parameters
    ----------
    context
        With positions, which change.
    tolerance
        Root mean square of the force components on the atoms that move, at which to stop [kJ/mol/nm or a Quantity];
        what constraints balance of the forces does not count.
    max_iterations
        0 goes on until that is reached.
    max_step
        Longest move of an atom in one iteration [nm or a Quantity], before constraints correct it by a few per cent.

    Raises
    ------
    ValueError
        For a tolerance or a step that is not above zero, a System without an atom that moves, or constraints that the
        Context cannot meet from the positions.
    FloatingPointError
        When a force is not a number.
    """
    tolerance_kj = _above_zero("tolerance", tolerance, unit.kilojoule_per_mole / unit.nanometer)
    max_step_nm = _above_zero("max_step", max_step, unit.nanometer)
    system = context.getSystem()
    masses = [system.getParticleMass(number).value_in_unit(unit.dalton) for number in range(system.getNumParticles())]
    moving = np.flatnonzero(masses)
    if len(moving) == 0:
        raise ValueError(
            "no particle of the System can move, as each has the mass 0; give those masses that shall move"
        )
    calculator = _ContextCalculator(context, moving)
    atoms = Atoms(positions=calculator.positions_nm[moving] * units.NM_TO_ANGSTROM, calculator=calculator)
    if system.getNumConstraints() > 0:
        atoms.set_constraint(ContextConstraints(context, moving))
        atoms.set_positions(atoms.positions)  # the first ones need not meet the constraints, from here on all do
    first_ev = atoms.get_potential_energy()
    with LBFGS(atoms, maxstep=max_step_nm * units.NM_TO_ANGSTROM, logfile=os.devnull) as optimiser:
        for _ in optimiser.irun(fmax=0.0, steps=max_iterations or sys.maxsize):
            if _rms_kj(atoms) <= tolerance_kj:
                break
    change_kj = (atoms.get_potential_energy() - first_ev) * units.EV_TO_KJ_PER_MOL
    return Minimisation(_rms_kj(atoms) <= tolerance_kj, calculator.evaluations, change_kj, _rms_kj(atoms))


class _ContextCalculator(Calculator):
    """The atoms of a Context that move, as ASE sees them; it is left with the positions evaluated last."""

    implemented_properties: list[str] = ["energy", "forces"]

    def __init__(self, context: openmm.Context, moving: NDArray[np.integer]) -> None:
        """moving: indices of the particles that ASE moves."""
        super().__init__()
        self.context = context
        self.moving = moving
        self.positions_nm = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        """Of all particles (n, 3); virtual sites are where they were at first."""
        self.evaluations = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """What ASE calls when positions have changed."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # ASE's copy of what it was given
        self.evaluations += 1
        self.positions_nm[self.moving] = self.atoms.positions * units.ANGSTROM_TO_NM
        self.context.setPositions(self.positions_nm)
        self.context.computeVirtualSites()
        groups = self.context.getIntegrator().getIntegrationForceGroups()  # as OpenMM's minimiser does
        state = self.context.getState(energy=True, forces=True, groups=groups)
        forces_kj = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)[self.moving]
        if not np.isfinite(forces_kj).all():
            atom = self.moving[~np.isfinite(forces_kj).all(axis=1)][0]
            raise FloatingPointError(f"the force on atom {atom} is not a finite number")
        self.results = {
            "energy": state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * units.KJ_PER_MOL_TO_EV,
            "forces": forces_kj / units.EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM,
        }


def _rms_kj(atoms: Atoms) -> float:
    return float(np.sqrt(np.mean(atoms.get_forces() ** 2))) * units.EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM


def _above_zero(name: str, value: unit.Quantity | float, of: unit.Unit) -> float:
    plain = float(value.value_in_unit(of) if isinstance(value, unit.Quantity) else value)
    if not plain > 0:
        raise ValueError(f"`{name}` is {plain:g} {of.get_symbol()}; it must be above zero")
    return plain
