"""Whether energies and forces belong together: between near frames the energy changes by the work of the forces.

To second order E(b) - E(a) = -(F(a) + F(b))/2 · (b - a); the slope of the left side against the right is 1 where units
and sign agree.

Symbols used in this file
    p  pairs of frames
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.near_frames import NearPairs
from openmm_allegro.training.suspicions import SAME_GEOMETRY, Suspicion

FARTHEST = 0.3
"""Frames farther apart than this [Å, root mean square over the atoms] say little to second order."""
NEARER = 0.2
"""Single frames are judged by nearer ones only [Å]."""
FEWEST_PAIRS = 10
LEAST_CORRELATION = 0.8
WITHIN = 0.25
"""A slope is explained by a factor this near to it, in the natural logarithm."""
CONSISTENT = 0.5
"""The same for 1: the average over curved paths between frames that are not quite near."""
FEWEST_OF_A_FRAME = 3
"""Near frames that all must contradict a frame before it is named."""
OUTLIER = 12.0
"""Deviations are named when they are this many times the usual one,"""
SMALLEST_DEVIATION = 5e-3
"""and at least this much [eV/atom]."""
MISMATCHES = {
    units.HARTREE_TO_EV / units.BOHR_TO_ANGSTROM: "energies in eV beside forces in Hartree/Bohr",
    units.HARTREE_TO_EV: "energies in eV beside forces in Hartree/Å",
    1 / units.HARTREE_TO_EV: "energies in Hartree beside forces in eV/Å",
    1 / units.KCAL_PER_MOL_TO_EV: "energies in kcal/mol beside forces in eV/Å",
    units.KCAL_PER_MOL_TO_EV: "energies in eV beside forces in kcal/mol/Å",
    units.EV_TO_KJ_PER_MOL: "energies in kJ/mol beside forces in eV/Å",
    units.KJ_PER_MOL_TO_EV: "energies in eV beside forces in kJ/mol/Å",
    1 / units.EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM: "energies in eV beside forces in kJ/mol/nm",
    1 / units.BOHR_TO_ANGSTROM: "forces for lengths in Bohr beside positions in Å",
    units.BOHR_TO_ANGSTROM: "positions in Bohr beside forces for lengths in Å",
}


@dataclass(frozen=True)
class Slope:
    """Of energy changes against the work of the forces."""

    slope: float
    """1 where units and sign agree."""
    correlation: float
    n_pairs: int
    median_distance: float
    """Between the frames of these pairs, root mean square over the atoms [Å]."""


def usable(pairs: NearPairs) -> NDArray[np.bool_]:
    """Pairs with labels, near enough to compare and not one geometry, (p,)."""
    near = (pairs.displacement > SAME_GEOMETRY) & (pairs.displacement < FARTHEST)
    return near & np.isfinite(pairs.work) & np.isfinite(pairs.energy_change)


def slope_of(pairs: NearPairs) -> Slope | None:
    """Least squares through the origin over the nearer half of the pairs, without those far off; None if too few."""
    keep = usable(pairs)
    if keep.sum() < FEWEST_PAIRS or not pairs.work[keep].any():
        return None
    limit = np.median(pairs.displacement[keep]) if keep.sum() >= 4 * FEWEST_PAIRS else FARTHEST
    keep &= pairs.displacement <= limit
    work, change, distance = pairs.work[keep], pairs.energy_change[keep], pairs.displacement[keep]
    telling = np.abs(work) >= np.median(np.abs(work))
    rough = np.median(change[telling] / work[telling])
    deviation = np.abs(change - rough * work)
    near = deviation <= OUTLIER * np.median(deviation) + 1e-12
    work, change = work[near], change[near]
    product, of_work, of_change = work @ change, work @ work, change @ change
    if of_work == 0 or of_change == 0:
        return None
    correlation = product / np.sqrt(of_work * of_change)
    return Slope(float(product / of_work), float(correlation), int(near.sum()), float(np.median(distance)))


def forces_of_zero(pairs: NearPairs, rms: float | None) -> list[Suspicion]:
    """Forces that are all zero beside energies that change. rms: of the forces of all frames [eV/Å]."""
    changes = np.abs(pairs.energy_change[usable(pairs)])
    if rms != 0 or not changes.any():
        return []
    sentence = (
        f"all forces are zero, but the energy changes by up to {changes.max():.4g} eV between near frames; the file "
        "has them under another name, or they were never computed"
    )
    return [Suspicion("forces of zero", 0.0, sentence)]


def energies_beside_forces(slope: Slope | None, n_atoms: float) -> list[Suspicion]:
    """What a slope other than 1 may mean. n_atoms: of the middle frame, in case the energies are per atom."""
    if slope is None or abs(slope.correlation) < LEAST_CORRELATION:
        return []
    size = abs(slope.slope)
    guesses = []
    if slope.slope < 0:
        guesses.append("the forces are gradients, with the other sign")
    named = {1.0: "", 1 / n_atoms: "energies are per atom instead of total"} | MISMATCHES
    nearest = min(named, key=lambda factor: abs(np.log(size / factor)))
    if abs(np.log(size)) > CONSISTENT:
        explained = abs(np.log(size / nearest)) < WITHIN and named[nearest]
        guesses.append(named[nearest] if explained else "energies and forces are of other units or levels of theory")
    if not guesses:
        return []
    sentence = (
        f"{' and '.join(guesses)}: between near frames the energy changes by {slope.slope:.4g} times the work of the "
        f"forces (expected 1; {slope.n_pairs} pairs, {slope.median_distance:.2g} Å apart, correlation "
        f"{slope.correlation:.3f}); convert one of the two"
    )
    return [Suspicion("energies beside forces", slope.slope, sentence)]


def frames_off(frames: Sequence[Frame], pairs: NearPairs, slope: Slope | None) -> list[Suspicion]:
    """Frames whose energy is too high, or too low, beside all of their near frames, three at least.

    The deviation of a pair is compared with what others have for the same change of the forces times distance, to
    which the neglected higher orders are proportional.
    """
    keep = np.flatnonzero(usable(pairs) & (pairs.displacement < NEARER))
    if slope is None or abs(slope.correlation) < LEAST_CORRELATION or len(keep) == 0:
        return []
    deviation = pairs.energy_change[keep] - slope.slope * pairs.work[keep]
    scale = pairs.force_change[keep] * pairs.displacement[keep] * np.sqrt(pairs.n_atoms[keep])
    usual = float(np.median(np.abs(deviation) / np.maximum(scale, 1e-12)))
    both = np.concatenate([pairs.second[keep], pairs.first[keep]])
    too_high = np.concatenate([deviation, -deviation])  # of the frame in `both`, seen from the other of the pair
    score = too_high / (np.concatenate([scale, scale]) * usual + 1e-12)
    order = np.argsort(both, kind="stable")
    found: list[tuple[float, int]] = []
    for own in np.split(order, np.flatnonzero(np.diff(both[order])) + 1):
        one_sided = abs(np.sign(too_high[own]).sum()) == len(own) >= FEWEST_OF_A_FRAME
        amount, i = float(np.median(np.abs(too_high[own]))), int(both[own[0]])
        unusual = np.median(np.abs(score[own])) > OUTLIER and amount > SMALLEST_DEVIATION * len(frames[i].numbers)
        if one_sided and unusual:
            found.append((amount, i))
    if not found:
        return []
    found.sort(reverse=True)
    names = ", ".join(frames[i].origin for _, i in found[:5]) + (f" and {len(found) - 5} more" if found[5:] else "")
    sentence = (
        f"{names}: the energy is up to {found[0][0]:.3g} eV away from what all near frames and the work of the forces "
        "say; repeat the calculation or remove the frame"
    )
    return [Suspicion("energy off its neighbours", found[0][0], sentence)]
