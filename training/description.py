"""What a set of frames holds, in figures: counts, ranges, and a row for each element and each pair of elements.

Symbols used in this file
    f  frames
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from ase.data import atomic_masses, chemical_symbols, covalent_radii

from openmm_allegro import units
from openmm_allegro.training.frames import Array, Frame
from openmm_allegro.training.near_frames import NearPairs
from openmm_allegro.training.spread import spread
from openmm_allegro.training.surroundings import Surroundings

MOST_NAMED = 10
"""Compositions and keys beyond this many are left out."""


def counts_of(good: Sequence[Frame], frames: Sequence[Frame], elements: Sequence[int]) -> dict[str, object]:
    """How many of what; `frames` are all, `good` those that are sound."""
    sizes = [len(frame.numbers) for frame in good]
    atoms = np.bincount(np.concatenate([frame.numbers for frame in good]), minlength=len(chemical_symbols))
    formulas = Counter(frame.formula for frame in good)
    cells = {np.round(frame.cell, 6).tobytes() for frame in good if frame.periodic}
    labels: dict[str, Callable[[Frame], bool]] = {
        "energy": lambda frame: frame.energy is not None,
        "forces": lambda frame: frame.forces is not None,
        "stress": lambda frame: frame.stress is not None,
    }
    keys = Counter(key for frame in good for key in frame.info)
    return {
        "n_frames": len(frames),
        "n_broken": len(frames) - len(good),
        "n_atoms": sum(sizes),
        "atoms_in_a_frame": sorted({min(sizes), max(sizes)}),
        "elements_of_atoms": {chemical_symbols[z]: int(atoms[z]) for z in elements},
        "n_compositions": len(formulas),
        "compositions": dict(formulas.most_common(MOST_NAMED)),
        "n_periodic": sum(frame.periodic for frame in good),
        "n_cells": len(cells),
        "n_single_atoms": sizes.count(1),
        "labels": {name: sum(map(has, good)) for name, has in labels.items()},
        "info_keys": dict(keys.most_common(MOST_NAMED)),
    }


def ranges_of(
    frames: Sequence[Frame], residuals: Array, force_sum: Array, torque_sum: Array, nearest: Array
) -> dict[str, dict[str, object]]:
    """Lowest to highest of each figure, with its unit."""
    largest = np.array([np.nan if frame.forces is None else np.abs(frame.forces).max() for frame in frames])
    pressures = [-np.trace(f.stress) / 3 * units.EV_PER_ANGSTROM3_TO_GPA for f in frames if f.stress is not None]
    volumes = np.array([frame.volume / len(frame.numbers) for frame in frames if frame.periodic])
    rows: list[tuple[str, str, Array]] = [
        ("energy beyond composition", "meV/atom", residuals * units.EV_TO_MEV),
        ("largest force component", "eV/Å", largest),
        ("net force", "eV/Å", force_sum),
        ("net torque", "eV", torque_sum),
        ("pressure", "GPa", np.array(pressures, dtype=np.float64)),
        ("volume", "Å³/atom", volumes),
        ("density", "g/cm³", _densities(frames)),
        ("nearest frame of the same atoms", "Å", nearest),
    ]
    figures = ((name, unit, spread(values)) for name, unit, values in rows)
    return {name: {**found, "unit": unit} for name, unit, found in figures if found is not None}


def _densities(frames: Sequence[Frame]) -> Array:
    """[g/cm³], of the periodic frames only."""
    dalton = [atomic_masses[frame.numbers].sum() / frame.volume for frame in frames if frame.periodic]
    return np.array(dalton, dtype=np.float64) * units.DALTON_PER_ANGSTROM3_TO_G_PER_CM3


def nearest_of(n_frames: int, pairs: NearPairs) -> Array:
    """Distance to the nearest frame of the same atoms and cell [Å], (f,); NaN where there is none."""
    nearest = np.full(n_frames, np.inf)
    for side in (pairs.first, pairs.second):
        np.minimum.at(nearest, side, pairs.displacement)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def rms_forces(frames: Sequence[Frame], element: int | None = None) -> float | None:
    """Root mean square of the components [eV/Å], on all atoms or on those of one element; None without forces."""
    total, n_components = 0.0, 0
    for frame in frames:
        if frame.forces is not None:
            own = frame.forces if element is None else frame.forces[frame.numbers == element]
            total, n_components = total + float(np.square(own).sum()), n_components + own.size
    return float(np.sqrt(total / n_components)) if n_components else None


def element_row(frames: Sequence[Frame], around: Surroundings, z: int, fitted: float) -> dict[str, float | int | None]:
    """Figures of one element. fitted: its energy [eV], NaN where it is not known."""
    n_atoms, total, fewest, most = around.neighbours[z]
    alone = [f.energy for f in frames if f.is_isolated_atom and f.numbers[0] == z and f.energy is not None]
    return {
        "n_atoms": int(n_atoms),
        "neighbours_mean": total / n_atoms,
        "neighbours_min": int(fewest),
        "neighbours_max": int(most),
        "force_rms_ev_per_angstrom": rms_forces(frames, z),
        "energy_ev": float(fitted) if np.isfinite(fitted) else None,
        "isolated_atom_ev": alone[0] if alone else None,
    }


def pair_rows(frames: Sequence[Frame], around: Surroundings) -> dict[str, dict[str, object]]:
    """For two elements the shortest distances [Å], and the frame that has it."""
    table: dict[str, dict[str, object]] = {}
    for (a, b), found in sorted(around.shortest.items()):
        number = min(found, key=found.__getitem__)
        table[f"{chemical_symbols[a]}-{chemical_symbols[b]}"] = {
            "shortest_angstrom": found[number],
            "median_of_frames": float(np.median(list(found.values()))),
            "covalent_bond": float(covalent_radii[a] + covalent_radii[b]),
            "frame": frames[number].origin,
        }
    return table
