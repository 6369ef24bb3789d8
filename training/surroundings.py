"""How near the atoms of a set come to each other, and how many neighbours they have.

Symbols used in this file
    n  atoms of a frame        e  pairs of atoms, each counted once
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from openmm_allegro.neighbors import Neighbors
from openmm_allegro.training.frames import Array, Frame

DENSE_ATOMS = 150
"""Clusters of up to this many atoms have all their distances computed."""
Indices = NDArray[np.int64]


@dataclass
class Surroundings:
    """Gathered over frames; frames and elements in the order they came."""

    r_max: float
    """Neighbours lie within this [Å]."""
    shortest: dict[tuple[int, int], dict[int, float]] = field(default_factory=dict)
    """For two atomic numbers, the shortest distance [Å] in each frame (by its number) that has such a pair."""
    over_radii: list[float] = field(default_factory=list)
    """Of each frame the smallest distance over the sum of covalent radii; infinite where no pair is within reach."""
    neighbours: dict[int, list[float]] = field(default_factory=dict)
    """For an atomic number: atoms, the sum, the fewest and the most of their neighbours."""
    alone: dict[int, int] = field(default_factory=dict)
    """For frames (by number) that have atoms without any neighbour: how many."""

    def add(self, number: int, frame: Frame) -> None:
        """Look at one more frame. Raises ValueError when two atoms of a periodic frame are on one spot."""
        first, second, distances = pairs_within(frame, self.r_max)
        z = frame.numbers
        self.over_radii.append(float("inf"))
        if len(distances):
            low, high = np.minimum(z[first], z[second]), np.maximum(z[first], z[second])
            self.over_radii[-1] = float((distances / (covalent_radii[low] + covalent_radii[high])).min())
            kinds = low * len(chemical_symbols) + high
            order = np.argsort(kinds, kind="stable")
            names, starts = np.unique(kinds[order], return_index=True)
            for kind, smallest in zip(names, np.minimum.reduceat(distances[order], starts), strict=True):
                a, b = divmod(int(kind), len(chemical_symbols))
                self.shortest.setdefault((a, b), {})[number] = float(smallest)
        counts = np.bincount(first, minlength=len(z)) + np.bincount(second, minlength=len(z))
        for element in np.unique(z):
            own = counts[z == element]
            so_far = self.neighbours.setdefault(int(element), [0, 0, np.inf, 0])
            so_far[0] += len(own)
            so_far[1] += int(own.sum())
            so_far[2] = min(so_far[2], int(own.min()))
            so_far[3] = max(so_far[3], int(own.max()))
        if len(z) > 1 and (counts == 0).any():
            self.alone[number] = int((counts == 0).sum())

    def average_neighbours(self) -> float:
        """Of an atom, over all frames."""
        return sum(each[1] for each in self.neighbours.values()) / sum(each[0] for each in self.neighbours.values())


def pairs_within(frame: Frame, r_max: float) -> tuple[Indices, Indices, Array]:
    """Two atoms and their distance [Å], (e,) each; an atom and its own image count as two atoms, once."""
    n_atoms = len(frame.numbers)
    if not frame.periodic and n_atoms <= DENSE_ATOMS:
        first, second = _upper_triangle(n_atoms)
        distances = pdist(frame.positions)
        near = distances < r_max
        return first[near], second[near], distances[near]
    try:
        pairs = Neighbors(r_max)(torch.from_numpy(frame.positions), torch.from_numpy(frame.cell))
    except ValueError as error:
        raise ValueError(f"{frame.origin}: {error}") from error
    first = torch.repeat_interleave(pairs.centres, pairs.counts).numpy()
    second, vectors = pairs.neighbour.numpy(), pairs.vectors.numpy()
    x, y, z = vectors.T
    forward = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    once = (first < second) | ((first == second) & forward)
    return first[once], second[once], np.linalg.norm(vectors[once], axis=1)


@cache
def _upper_triangle(n_atoms: int) -> tuple[Indices, Indices]:
    first, second = np.triu_indices(n_atoms, 1)
    return first, second
