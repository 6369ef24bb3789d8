"""Frames of the same atoms that lie near each other: what their energies and forces say of one another.

Symbols used in this file
    f  frames of a group        n  atoms of a frame        p  pairs of frames        d  numbers that describe a frame
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from openmm_allegro.training.frames import Array, Frame

Indices = NDArray[np.int64]
SAME_CELL = 6
"""Digits of the lattice vectors [Å] that frames of one group share."""
MOST_NUMBERS = 128
"""A frame described by more numbers is projected to this many at random, which hardly changes distances."""
ATOMS_IN_DESCRIPTION = 60
"""Distances among this many atoms describe a molecule."""
NEAREST = 3
LARGEST_GROUP = 20_000
"""Of a larger group, this many frames, evenly spread, are searched for the nearest."""
PAIRS_AT_ONCE = 2000
FAR_PAIRS = 50
"""Pairs half a group apart, which show how far frames lie from each other when they are independent."""


@dataclass(frozen=True)
class NearPairs:
    """Pairs of frames of the same atoms and cell; labels that are missing are NaN."""

    first: Indices
    """Numbers of the frames, (p,)."""
    second: Indices
    """(p,)."""
    gap: Indices
    """How many places apart the two stand among the frames of their atoms, (p,)."""
    n_atoms: Indices
    """(p,)."""
    displacement: Array
    """Root mean square over the atoms, after the best overlay [Å], (p,)."""
    energy_change: Array
    """Of the second frame against the first [eV], (p,)."""
    work: Array
    """Minus the mean of both frames' forces times the displacement [eV], (p,)."""
    force_change: Array
    """Root mean square over the components, after the overlay [eV/Å], (p,)."""
    curvature: Array
    """Minus the change of the forces along the displacement, over its length [eV/Å²], (p,)."""


def near_pairs(
    frames: Sequence[Frame], counted: Callable[[Sequence[list[int]]], Iterable[list[int]]] = iter
) -> NearPairs:
    """Each frame beside the three nearest of its atoms, beside the next, and some beside one half the group away.

    counted: may show progress over the groups.
    """
    parts = [_pairs_of_group(frames, np.array(group)) for group in counted(groups_of_same_atoms(frames))]
    empty = [np.zeros(0, dtype=np.int64)] * 4 + [np.zeros(0)] * 5
    return NearPairs(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))


def groups_of_same_atoms(frames: Sequence[Frame]) -> list[list[int]]:
    """Numbers of the frames with the same atoms in the same order in the same cell; groups of one are left out."""
    groups: dict[tuple[bytes, bytes], list[int]] = {}
    for i, frame in enumerate(frames):
        if len(frame.numbers) > 1:
            cell = np.round(frame.cell, SAME_CELL) + 0.0  # no minus zero
            groups.setdefault((frame.numbers.tobytes(), cell.tobytes()), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _pairs_of_group(frames: Sequence[Frame], group: Indices) -> tuple[Array | Indices, ...]:
    positions = np.stack([frames[i].positions for i in group])  # (f, n, 3)
    searched = np.unique(np.linspace(0, len(group) - 1, min(len(group), LARGEST_GROUP)).astype(np.int64))
    nearest = searched[nearest_to_each(_descriptions(positions[searched], frames[group[0]].cell))]
    searched = np.repeat(searched, nearest.shape[1])
    following, half = np.arange(len(group) - 1), len(group) // 2
    far = np.linspace(0, half - 1, min(half, FAR_PAIRS)).astype(np.int64)
    pairs = np.concatenate(
        [np.stack(two, 1) for two in ((searched, nearest.ravel()), (following, following + 1), (far, far + half))]
    )
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    parts = [
        _compared(frames, group, positions, pairs[start : start + PAIRS_AT_ONCE])
        for start in range(0, len(pairs), PAIRS_AT_ONCE)
    ]
    figures = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return group[pairs[:, 0]], group[pairs[:, 1]], pairs[:, 1] - pairs[:, 0], *figures


def _descriptions(positions: Array, cell: Array) -> Array:
    """Numbers whose differences are distances between frames, (f, d). positions: (f, n, 3); cell: (3, 3) [Å].

    Of molecules the distances between atoms, which do not change as a molecule turns; of periodic frames points on
    a circle for each fractional coordinate, which do not change as an atom leaves the cell on one side.
    """
    random = np.random.default_rng(1)
    n_atoms = positions.shape[1]
    if cell.any():
        inverse, lengths = np.linalg.inv(cell), np.linalg.norm(cell, axis=1) / (2 * np.pi)
        n_numbers = 6 * n_atoms

        def describe(one: Array) -> Array:
            angles = 2 * np.pi * (one @ inverse)
            return np.concatenate([(lengths * np.cos(angles)).ravel(), (lengths * np.sin(angles)).ravel()])

    else:
        atoms = np.sort(random.permutation(n_atoms)[:ATOMS_IN_DESCRIPTION])
        n_numbers = len(atoms) * (len(atoms) - 1) // 2

        def describe(one: Array) -> Array:
            return pdist(one[atoms])

    if n_numbers <= MOST_NUMBERS:
        return np.stack([describe(one) for one in positions])
    projection = random.normal(size=(n_numbers, MOST_NUMBERS)) / np.sqrt(MOST_NUMBERS)
    return np.stack([describe(one) @ projection for one in positions])


def nearest_to_each(points: Array) -> Indices:
    """Indices of the three nearest other points, (f, 3), fewer if there are fewer. points: (f, d)."""
    points = points - points.mean(0)
    squares = np.square(points).sum(1)
    most = min(NEAREST, len(points) - 1)
    nearest = np.empty((len(points), most), dtype=np.int64)
    for start in range(0, len(points), PAIRS_AT_ONCE):
        rows = np.arange(start, min(start + PAIRS_AT_ONCE, len(points)))
        distances = squares[None] - 2 * points[rows] @ points.T  # that of the row itself is a constant
        distances[rows - start, rows] = np.inf
        nearest[rows] = np.argpartition(distances, most - 1, axis=1)[:, :most]
    return nearest


def _compared(frames: Sequence[Frame], group: Indices, positions: Array, pairs: Indices) -> tuple[Array | Indices, ...]:
    """The columns of NearPairs from `n_atoms` on. positions: (f, n, 3); pairs: (p, 2) within the group."""
    cell = frames[group[0]].cell
    before, after = positions[pairs[:, 0]], positions[pairs[:, 1]]  # (p, n, 3)
    forces_before, forces_after = (_forces(frames, group[pairs[:, side]], before.shape) for side in (0, 1))
    if cell.any():
        steps = (after - before) @ np.linalg.inv(cell)
        displaced = (steps - np.round(steps)) @ cell
        displaced -= displaced.mean(1, keepdims=True)
    else:
        before = before - before.mean(1, keepdims=True)
        after = after - after.mean(1, keepdims=True)
        turn = best_rotations(after, before)
        displaced = after @ turn - before
        forces_after = forces_after @ turn
    n_atoms = np.full(len(pairs), before.shape[1])
    squared = np.square(displaced).sum((1, 2))
    change = forces_after - forces_before
    with np.errstate(invalid="ignore", divide="ignore"):
        curvature = -(change * displaced).sum((1, 2)) / squared
    energy = np.array([np.nan if frames[i].energy is None else frames[i].energy for i in group], dtype=np.float64)
    return (
        n_atoms,
        np.sqrt(squared / n_atoms),
        energy[pairs[:, 1]] - energy[pairs[:, 0]],
        -0.5 * ((forces_before + forces_after) * displaced).sum((1, 2)),
        np.sqrt(np.square(change).mean((1, 2))),
        curvature,
    )


def _forces(frames: Sequence[Frame], which: Indices, shape: tuple[int, ...]) -> Array:
    """(p, n, 3) [eV/Å], NaN where there are none."""
    forces = np.full(shape, np.nan)
    for row, i in enumerate(which):
        label = frames[i].forces
        if label is not None:
            forces[row] = label
    return forces


def best_rotations(moved: Array, fixed: Array) -> Array:
    """The rotations R (p, 3, 3) that lay `moved @ R` on `fixed` with least squares; both (p, n, 3) about their centres.

    Kabsch, Acta Cryst. A 32, 922 (1976); rotations only, so that mirror images stay apart.
    """
    left, _, right = np.linalg.svd(np.swapaxes(moved, 1, 2) @ fixed)
    left[:, :, 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[:, None]
    return left @ right
