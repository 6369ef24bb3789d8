"""A model on the own atoms of a rank, among ghosts: copies of the atoms around them, periodic images among those.

Symbols used in this file
    n  own atoms        m  places: the own atoms, then the ghosts
    d  atoms: the own ones, then the others that ghosts are copies of        b  centre atoms of a block
"""

from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.cells import split
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.model import Allegro
from openmm_allegro.neighbors import Neighbors
from openmm_allegro.potential import Potential, Total, zeros
from openmm_allegro.workers import work_on


class Share(NamedTuple):
    """What the own atoms give: summed over all ranks it is the system's."""

    energy: Tensor
    """() float64 [eV]."""
    energies: Tensor
    """Of each own atom, (n,) float64 [eV]."""
    forces: Tensor
    """Of the own atoms' energies on all d atoms, (d, 3) [eV/Å]: those on the others belong to other ranks."""
    virial: Tensor
    """(3, 3) [eV]: minus the derivative of the energy with respect to strain."""


class GhostNeighbors(Neighbors):
    """The list of `Neighbors` with the own atoms as centres and ghosts in place of images that it would make itself."""

    def follow_ghosts(self, places: Tensor, atoms: Tensor, n_own: int, numbers: Tensor) -> None:
        """Take a step's places (m, 3) [Å], n_own > 0 of them centres; a list is made if the last might miss a pair.

        atoms: (m,) which of the d atoms each is; numbers: (d,) what to call those in errors. Places that have not
        moved far cannot miss a pair, also where other atoms have come to be in them.
        """
        self.updates += 1
        self.numbers, self.on_one_spot, self.atoms = numbers, [0][:0], atoms
        self.places = places.t().contiguous()
        same = self.places.shape == self.reference.shape and n_own == self.order.shape[0] and self.allowed >= 0
        if not same or not bool((self.places - self.reference).square().sum(0).max() <= self.allowed**2):
            self.check_finite(self.places.new_zeros((3, numbers.shape[0])).index_copy(1, atoms, self.places))
            self.build_among_ghosts(n_own)

    def build_among_ghosts(self, n_own: int) -> None:
        """Make a list for the first n_own places."""
        reach = self.places.new_full((3,), self.reach)
        self.search_pieces(split(self.places[:, :n_own], self.piece_atoms), self.places, reach)
        self.reference = self.places


class GhostPotential:
    """A model with its neighbour list on one rank; the energies of atoms need nothing beyond the cutoff."""

    def __init__(self, model: Allegro | Ensemble, skin: float, device: torch.device) -> None:
        """skin: how far beyond the cutoff the neighbour list reaches [Å], no farther than the ghosts do."""
        self.potential = Potential(model, skin).to(device)
        self.neighbors = self.potential.neighbors = GhostNeighbors(model.config.r_max, skin)
        self.device = device
        work_on(self.potential, [device])

    def __call__(self, places: Tensor, atoms: Tensor, types: Tensor, n_own: int, numbers: Tensor) -> Share:
        """Energy of the own atoms and its slopes.

        places: (m, 3) float64 [Å], the own atoms first; atoms: (m,) which of the d atoms each is, the own ones in
        their order; types, numbers: (d,) int64, their types and what to call them in errors.
        """
        total = zeros(places.new_empty((numbers.shape[0], 3)), self.potential.dtype)
        if n_own == 0:
            return _share(total, n_own)
        self.neighbors.follow_ghosts(places, atoms, n_own, numbers)
        self.potential.add_centres(n_own, types, total)
        return _share(total, n_own)


def _share(total: Total, n_own: int) -> Share:
    return Share(total.energies.sum(), total.energies[:n_own], total.forces, total.virial)
