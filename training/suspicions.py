"""What looks wrong in a set of frames, each as one sentence with the figure it rests on.

Every check is a function of frames or of figures taken from them; it returns what it suspects, if anything.
Thresholds hold for sets of molecules, liquids and solids from 300 to 3000 K in eV and Å, with a margin.

Symbols used in this file
    f  frames        p  pairs of frames
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openmm_allegro import units
from openmm_allegro.training.frames import Array, Frame
from openmm_allegro.training.near_frames import Indices, NearPairs

ENERGY_UNITS_EV = {
    "Hartree": units.HARTREE_TO_EV,
    "Rydberg": units.HARTREE_TO_EV / 2,
    "kcal/mol": units.KCAL_PER_MOL_TO_EV,
    "kJ/mol": units.KJ_PER_MOL_TO_EV,
}
ALL_ELECTRON_TOLERANCE = 0.06
"""Binding and relativity change the energy of all electrons by less than this share, to the fourth row or so."""
LARGEST_FORCE_RMS, SMALLEST_FORCE_RMS = 8.0, 0.05
"""Root mean square of force components [eV/Å]: 0.2 to 2 at 300 K to 3000 K."""
LARGEST_CURVATURE, SMALLEST_CURVATURE = 40.0, 0.8
"""Of the energy between near frames, an average over soft and stiff motions [eV/Å²]: 2 to 12."""
SAME_GEOMETRY = 1e-3
"""Two frames nearer than this [Å, root mean square over the atoms] are one geometry."""
SAME_ENERGY_PER_ATOM = 1e-4
"""Labels of one geometry differ by less than this [eV/atom]."""
TRAJECTORY_RATIO, TRAJECTORY_STEP = 0.3, 0.3
"""Frames that follow each other this much nearer than distant ones, and nearer than this [Å], are one in time."""
LARGEST_NET_FORCE, LARGEST_TORQUE = 0.1, 0.1
"""[eV/Å] and [eV]; noise of a converged calculation stays below."""


@dataclass(frozen=True)
class Suspicion:
    """Something to look at before training."""

    check: str
    """A word for programs."""
    value: float
    """The figure it rests on."""
    sentence: str
    """What was found, what is expected, what it may mean."""


def all_electron_energy(numbers: Indices) -> float:
    """Energy of free atoms with all their electrons [eV]. numbers: atomic numbers, (n,).

    The Thomas-Fermi energy with the corrections of Scott and Schwinger (Phys. Rev. A 24, 2353 (1981)), within 1 %
    of Hartree-Fock from carbon on; hydrogen exactly.
    """
    z = np.asarray(numbers, dtype=np.float64)
    hartree = 0.768745 * z ** (7 / 3) - 0.5 * z**2 + 0.269900 * z ** (5 / 3)
    return -float(np.where(z == 1, 0.5, hartree).sum()) * units.HARTREE_TO_EV


def labels_of_other_names(frames: Sequence[Frame]) -> list[Suspicion]:
    """Whether energies or forces that no frame has stand under another name."""
    found = []
    for label in ("energy", "forces"):
        if all(getattr(frame, label) is None for frame in frames):
            names = [name for frame in frames if (name := frame.looks_like(label)) is not None]
            if names:
                sentence = (
                    f"no frame has `{label}`, but {len(names)} of {len(frames)} have `{names[0]}`; if that is what is "
                    f'meant, say `--{label}-key {names[0]}`, and for training `{label}_key = "{names[0]}"` in `[data]`'
                )
                found.append(Suspicion("label of another name", float(len(names)), sentence))
    return found


def energy_unit(frames: Sequence[Frame], force_rms: float | None, slope: float | None) -> list[Suspicion]:
    """Whether the total energies are those of all electrons in another unit than eV.

    force_rms: [eV/Å as read]. slope: of the energy against the work of the forces; where it is near 1 the forces
    share the unit of the energies, and must then not contradict it.
    """
    ratios = [
        frame.energy / all_electron_energy(frame.numbers)
        for frame in frames
        if frame.energy is not None and len(frame.numbers) > 1
    ]
    if not ratios:
        return []
    ratio = float(np.median(ratios))
    for name, in_ev in ENERGY_UNITS_EV.items():
        expected = 1 / in_ev
        contradicted = (
            slope is not None
            and force_rms is not None
            and 0.5 < slope < 2
            and not SMALLEST_FORCE_RMS < force_rms * in_ev < LARGEST_FORCE_RMS
        )
        if abs(ratio / expected - 1) < ALL_ELECTRON_TOLERANCE and not contradicted:
            sentence = (
                f"energies look like {name}, not eV: the middle frame has {ratio:.4g} times the energy that all its "
                f"electrons have in eV, and 1 eV is {expected:.4g} {name}; read the file with `--units` or convert it"
            )
            return [Suspicion("energy unit", ratio, sentence)]
    return []


def force_unit(force_rms: float | None, curvature: float | None) -> list[Suspicion]:
    """Whether forces are of the size that moving atoms feel. force_rms: [eV/Å as read]; curvature: [eV/Å² as read]."""
    if force_rms is None:
        return []
    if force_rms > LARGEST_FORCE_RMS and (curvature is None or curvature > LARGEST_CURVATURE):
        guess = "kcal/mol/Å or kJ/mol/Å" if force_rms < 60 else "kJ/mol/Å, kJ/mol/nm or Hartree/Bohr read twice"
    elif 0 < force_rms < SMALLEST_FORCE_RMS and curvature is not None and 0 < curvature < SMALLEST_CURVATURE:
        guess = "Hartree/Bohr"
    else:
        return []
    bend = "" if curvature is None else f" and near frames differ by {curvature:.3g} eV/Å² (expected 2 to 12)"
    sentence = (
        f"forces look like {guess}, not eV/Å: the root mean square of a component is {force_rms:.3g} (expected 0.2 to "
        f"2 from 300 to 3000 K){bend}; read the file with `--units` or convert it"
    )
    return [Suspicion("force unit", force_rms, sentence)]


def length_unit(shortest_over_radii: Array) -> list[Suspicion]:
    """Whether positions are in Å. shortest_over_radii: of each frame, its shortest distance over the sum of the two
    covalent radii, (f,); about 1 for bonds, 0.7 for the shortest hydrogen bonds, up to 1.4 without any bond.
    """  # noqa: D209
    known = shortest_over_radii[np.isfinite(shortest_over_radii)]
    if len(known) == 0:
        return []
    ratio = float(np.median(known))
    if 1.5 < ratio < 2.3:
        unit, in_angstrom = "Bohr", units.BOHR_TO_ANGSTROM
    elif 0.05 < ratio < 0.15:
        unit, in_angstrom = "nm", units.NM_TO_ANGSTROM
    else:
        return []
    sentence = (
        f"positions look like {unit}, not Å: in the middle frame the shortest distance is {ratio:.3g} times a bond, "
        f"{ratio * in_angstrom:.3g} times if it is {unit}; convert the file to Å"
    )
    return [Suspicion("length unit", ratio, sentence)]


def repeated_frames(frames: Sequence[Frame], pairs: NearPairs) -> list[Suspicion]:
    """Frames of one geometry, and those among them whose energies differ."""
    same = pairs.displacement < SAME_GEOMETRY
    if not same.any():
        return []
    first, second = pairs.first[same], pairs.second[same]
    found = [
        Suspicion(
            "duplicates",
            float(len(first)),
            f"{len(np.unique(np.concatenate([first, second])))} frames have a double (the same geometry within "
            f"{SAME_GEOMETRY} Å after turning it): {_named(frames, first, second)}; remove one of each",
        )
    ]
    differ = np.abs(pairs.energy_change[same]) / pairs.n_atoms[same] > SAME_ENERGY_PER_ATOM
    if differ.any():
        largest = float(np.abs(pairs.energy_change[same][differ]).max())
        sentence = (
            f"{int(differ.sum())} pairs of frames have one geometry and two energies, up to {largest:.4g} eV apart: "
            f"{_named(frames, first[differ], second[differ])}; keep one level of theory"
        )
        found.append(Suspicion("conflicting labels", largest, sentence))
    return found


def correlated_frames(pairs: NearPairs) -> list[Suspicion]:
    """Whether the frames are a trajectory whose neighbours in the file are nearly the same configuration."""
    following, distant = pairs.displacement[pairs.gap == 1], pairs.displacement[pairs.gap > 5]
    if len(following) < 10 or len(distant) < 5:
        return []
    near, far = float(np.median(following)), float(np.median(distant))
    if near >= min(TRAJECTORY_RATIO * far, TRAJECTORY_STEP):
        return []
    sentence = (
        f"frames follow each other in time: the next one is {near:.3g} Å away, distant ones {far:.3g} Å; a random "
        'split lets the validation see what was trained on, so hold back the end (`data.split = "last"`)'
    )
    return [Suspicion("time correlation", near / far, sentence)]


def net_forces(frames: Sequence[Frame]) -> tuple[Array, Array]:
    """Length of the sum of the forces [eV/Å] and, for clusters, of the torques about the centre [eV]; each (f,), NaN
    where there are no forces, and for torques where the frame is periodic.
    """  # noqa: D209
    force, torque = np.full(len(frames), np.nan), np.full(len(frames), np.nan)
    for i, frame in enumerate(frames):
        if frame.forces is not None:
            force[i] = np.linalg.norm(frame.forces.sum(0))
            if not frame.periodic:
                arms = frame.positions - frame.positions.mean(0)
                torque[i] = np.linalg.norm(np.cross(arms, frame.forces).sum(0))
    return force, torque


def forces_that_do_not_cancel(frames: Sequence[Frame], force: Array, torque: Array) -> list[Suspicion]:
    """Frames whose forces pull or turn them as a whole, which no potential of the positions does."""
    found = []
    for what, values, limit, unit in (
        ("net force", force, LARGEST_NET_FORCE, "eV/Å"),
        ("net torque", torque, LARGEST_TORQUE, "eV"),
    ):
        many = int((values > limit).sum())
        if many:
            worst = int(np.nanargmax(values))
            sentence = (
                f"{many} frames have a {what} above {limit} {unit}, up to {values[worst]:.3g} in "
                f"{frames[worst].origin}; it should vanish, a model cannot follow it: look at the convergence of the "
                "calculations, at external fields and at removed atoms"
            )
            found.append(Suspicion(what, float(values[worst]), sentence))
    return found


def _named(frames: Sequence[Frame], first: Indices, second: Indices, most: int = 5) -> str:
    names = [f"{frames[i].origin} and {frames[j].origin}" for i, j in zip(first, second, strict=True)]
    return "; ".join(names[:most]) + (f"; and {len(names) - most} more pairs" if len(names) > most else "")
