"""Constraints of an OpenMM Context, as ASE keeps them when it moves the atoms.

Symbols used in this file
    n  atoms that move      k  constraints between them
"""

from typing import Self

import numpy as np
import openmm
from ase import Atoms
from ase.constraints import FixConstraint
from numpy.typing import NDArray
from openmm import unit
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsmr

from openmm_allegro import units

Array = NDArray[np.float64]
FORCE_LEFT = 1e-10
"""What may be left of forces along the constraints, as a part of those that stay."""
FAILED = 1e-3
"""Relative error of a distance beyond which the Context has failed; its own tolerance is far below."""


class ContextConstraints(FixConstraint):
    """The distances that a Context holds fixed, for atoms that ASE moves in it.

    Forces, and the moves asked for, lose their part along the gradients of the distances, by orthogonal projection. A
    straight move still changes distances, in second order of its length; the Context corrects that.
    """

    def __init__(self, context: openmm.Context, moving: NDArray[np.integer]) -> None:
        """moving: indices of the particles with a mass, (n,)."""
        system = context.getSystem()
        self.context = context
        self.moving = moving
        self.tolerance: float = context.getIntegrator().getConstraintTolerance()
        place = np.full(system.getNumParticles(), -1)
        place[moving] = np.arange(len(moving))
        constraints = [system.getConstraintParameters(number) for number in range(system.getNumConstraints())]
        pairs = place[[(first, second) for first, second, _ in constraints]]
        distances = np.array([distance.value_in_unit(unit.angstrom) for _, _, distance in constraints])
        feels = pairs[:, 0] >= 0  # OpenMM lets both particles have the mass 0, or neither
        self.pairs: NDArray[np.integer] = pairs[feels]
        """Places of both atoms among those that move, (k, 2)."""
        self.distances: Array = distances[feels]
        """What they are apart [Å], (k,)."""

    def adjust_positions(self, atoms: Atoms, new: Array) -> None:
        """Called by ASE before atoms move; new: (n, 3) [Å], changed in place and left in the Context.

        Raises
        ------
        ValueError
            When the Context does not find positions that keep the distances.
        """
        step = self.without_gradients(new - atoms.positions, atoms.positions)
        positions_nm = self._positions_nm()
        positions_nm[self.moving] = (atoms.positions + step) * units.ANGSTROM_TO_NM
        self.context.setPositions(positions_nm)
        self.context.applyConstraints(self.tolerance)
        new[:] = self._positions_nm()[self.moving] * units.NM_TO_ANGSTROM
        self._check(new)

    def adjust_forces(self, atoms: Atoms, forces: Array) -> None:
        """Called by ASE; forces: (n, 3), changed in place."""
        forces[:] = self.without_gradients(forces, atoms.positions)

    def without_gradients(self, vectors: Array, positions: Array) -> Array:
        """The part of vectors on the atoms that changes none of the distances; all (n, 3)."""
        gradients = self.gradients(positions).T
        along = gradients @ lsmr(gradients, vectors.ravel(), atol=FORCE_LEFT, btol=0.0)[0]
        return vectors - along.reshape(-1, 3)

    def gradients(self, positions: Array) -> csr_array:
        """Derivatives of the distances with respect to all coordinates, (k, 3 n); positions: (n, 3)."""
        apart = self._apart(positions)
        directions = apart / np.linalg.norm(apart, axis=1, keepdims=True)
        values = np.stack([directions, -directions], axis=1)  # (k, 2, 3)
        columns = 3 * self.pairs[:, :, None] + np.arange(3)  # (k, 2, 3)
        starts = np.arange(0, values.size + 1, 6)
        return csr_array((values.ravel(), columns.ravel(), starts), shape=(len(self.pairs), positions.size))

    def get_removed_dof(self, atoms: Atoms) -> int:
        """Called by ASE, which counts degrees of freedom for temperatures."""
        return len(self.pairs)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """ASE copies constraints with the atoms, but a Context has no copies, and nothing here changes."""
        return self

    def _apart(self, positions: Array) -> Array:
        """From the second to the first atom of each constraint, (k, 3): OpenMM's has no periodic images either."""
        return positions[self.pairs[:, 0]] - positions[self.pairs[:, 1]]

    def _positions_nm(self) -> Array:
        """Of all particles of the Context."""
        quantity = self.context.getState(positions=True).getPositions(asNumpy=True)
        return np.array(quantity.value_in_unit(unit.nanometer))

    def _check(self, positions: Array) -> None:
        found = np.linalg.norm(self._apart(positions), axis=1)
        met = np.abs(found / self.distances - 1) < FAILED
        if not met.all():
            first, second = self.moving[self.pairs[~met][0]]
            raise ValueError(
                f"the constraint between particles {first} and {second} is {self.distances[~met][0] / 10:.6g} nm, but "
                f"they are {found[~met][0] / 10:.6g} nm apart after `Context.applyConstraints`; start with distances "
                "closer to those of the constraints"
            )
