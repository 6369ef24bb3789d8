"""What a data file holds and what looks wrong in it, before anything is trained on it.

Symbols used in this file
    f  frames        t  elements
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, chemical_symbols, covalent_radii

from openmm_allegro import units
from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.consistency import Slope, energies_beside_forces, frames_off, slope_of, usable
from openmm_allegro.training.counting import counted
from openmm_allegro.training.data import read_unchecked
from openmm_allegro.training.frames import Array, Frame, check_frame
from openmm_allegro.training.near_frames import NearPairs, near_pairs
from openmm_allegro.training.spread import Outlier, energy_residuals, outliers, spread
from openmm_allegro.training.statistics import Statistics, fitted_shifts, force_scales, store_statistics
from openmm_allegro.training.surroundings import Surroundings
from openmm_allegro.training.suspicions import (
    Suspicion,
    correlated_frames,
    energy_unit,
    force_unit,
    forces_that_do_not_cancel,
    length_unit,
    net_forces,
    repeated_frames,
)

MOST_NAMED = 10
"""Formulas, broken frames and outliers beyond this many are counted only."""
SHORTEST_OVER_RADII = 0.6
"""Atoms nearer than this share of their covalent radii are no bond: 0.9 to 1.1 for bonds, 0.75 in collisions."""

SHORT_BOND = 0.9
"""A shortest distance is called an outlier only below this share of the covalent radii."""


@dataclass(frozen=True)
class DataReport:
    """Everything that `info` tells of a data set; arrays run over `frames`."""

    frames: list[Frame]
    """Those that could be checked."""
    counts: dict[str, object]
    ranges: dict[str, dict[str, object]]
    elements: dict[str, dict[str, float | int | None]]
    pairs: dict[str, dict[str, object]]
    slope: Slope | None
    suspicions: list[Suspicion]
    outliers: list[Outlier]
    surroundings: Surroundings
    energy_residuals: Array
    """[eV/atom], (f,); NaN without an energy."""
    elements_told_apart: bool
    """Whether the compositions determine the energy of each element."""

    def as_dict(self) -> dict[str, object]:
        """For JSON and for a reader."""
        beside = None if self.slope is None else asdict(self.slope)
        named = {f"{each.check} {i + 1}": each.sentence for i, each in enumerate(self.suspicions)}
        far = {f"outlier {i + 1}": asdict(each) for i, each in enumerate(self.outliers[:MOST_NAMED])}
        return {
            **self.counts,
            "ranges": self.ranges,
            "elements": self.elements,
            "energies_of_elements": "fitted" if self.elements_told_apart else "only their sums are known",
            "shortest_distances": self.pairs,
            "energy_change_over_work": beside,
            "n_outliers": len(self.outliers),
            "outliers": far,
            "suspicions": named or "none",
        }

    def statistics(self) -> Statistics:
        """What a model would take from these frames, as training stores it."""
        names = tuple(self.elements)
        return Statistics(
            type_names=names,
            avg_num_neighbors=self.surroundings.average_neighbours(),
            energy_scales=force_scales(self.frames, names),
            energy_shifts=fitted_shifts(self.frames, names),
        )


def inspect_files(
    paths: Sequence[Path],
    *,
    options: LabelOptions | None = None,
    r_max: float = 5.0,
    output: Path | None = None,
    picture: Path | None = None,
) -> DataReport:
    """Look at all frames of some files. r_max: radius of neighbours [Å].

    output: JSON file for the statistics. picture: PNG with histograms. An npz file without a stated unit is read as
    eV, so that its figures can tell the unit.
    """
    options = options or LabelOptions()
    read_as = options if options.units else options.model_copy(update={"units": "eV"})
    frames = read_unchecked(paths, read_as)
    report = inspect_frames(frames, read_as, r_max)
    if output is not None:
        store_statistics(report.statistics(), r_max, output)
    if picture is not None:
        from openmm_allegro.training.hygiene_picture import draw_data_set

        draw_data_set(report, picture)
    return report


def inspect_frames(frames: Sequence[Frame], options: LabelOptions | None = None, r_max: float = 5.0) -> DataReport:
    """Count, measure and check frames; broken ones are named and left out of the rest."""
    good, around, broken = _sound_frames(frames, options or LabelOptions(), r_max)
    if not good:
        raise ValueError(f"no frame is sound: {broken[0].sentence}")
    elements = np.unique(np.concatenate([np.unique(frame.numbers) for frame in good])).tolist()
    residuals, fitted, told_apart = energy_residuals(good, elements)
    force_sum, torque_sum = net_forces(good)
    pairs = near_pairs(good, lambda groups: counted(groups, "near frames"))
    slope = slope_of(pairs)
    rms = _rms_forces(good)
    bends = pairs.curvature[usable(pairs)]
    sizes = np.array([len(frame.numbers) for frame in good])
    suspicions = [
        *broken,
        *length_unit(np.array(around.over_radii)),
        *energy_unit(good, rms, None if slope is None else slope.slope),
        *force_unit(rms, float(np.median(bends)) if len(bends) else None),
        *energies_beside_forces(slope, float(np.median(sizes))),
        *frames_off(good, pairs, slope),
        *repeated_frames(good, pairs),
        *correlated_frames(pairs),
        *forces_that_do_not_cancel(good, force_sum, torque_sum),
        *_too_close(good, around),
        *_out_of_reach(good, around),
    ]
    return DataReport(
        frames=good,
        counts=_counts(good, frames, elements),
        ranges=_ranges(good, residuals, force_sum, torque_sum, _nearest(len(good), pairs)),
        elements={chemical_symbols[z]: _element(good, around, z, e) for z, e in zip(elements, fitted, strict=True)},
        pairs=_pairs(good, around),
        slope=slope,
        suspicions=suspicions,
        outliers=_outliers(good, residuals, around),
        surroundings=around,
        energy_residuals=residuals,
        elements_told_apart=told_apart,
    )


def _sound_frames(
    frames: Sequence[Frame], options: LabelOptions, r_max: float
) -> tuple[list[Frame], Surroundings, list[Suspicion]]:
    good: list[Frame] = []
    sentences: list[str] = []
    around = Surroundings(r_max)
    for i in counted(range(len(frames)), "frames"):
        try:
            check_frame(frames[i], options)
            around.add(len(good), frames[i])
        except ValueError as error:
            sentences.append(str(error))
        else:
            good.append(frames[i])
    broken = [Suspicion("broken frame", 1.0, sentence) for sentence in sentences[:MOST_NAMED]]
    if len(sentences) > MOST_NAMED:
        more = len(sentences) - MOST_NAMED
        broken.append(Suspicion("broken frame", float(more), f"{more} more frames are broken"))
    return good, around, broken


def _counts(good: Sequence[Frame], frames: Sequence[Frame], elements: Sequence[int]) -> dict[str, object]:
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


def _ranges(
    frames: Sequence[Frame], residuals: Array, force_sum: Array, torque_sum: Array, nearest: Array
) -> dict[str, dict[str, object]]:
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


def _nearest(n_frames: int, pairs: NearPairs) -> Array:
    """Distance to the nearest frame of the same atoms and cell [Å], (f,); NaN where there is none."""
    nearest = np.full(n_frames, np.inf)
    for side in (pairs.first, pairs.second):
        np.minimum.at(nearest, side, pairs.displacement)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def _rms_forces(frames: Sequence[Frame], element: int | None = None) -> float | None:
    """Root mean square of the components [eV/Å], on all atoms or on those of one element; None without forces."""
    total, n_components = 0.0, 0
    for frame in frames:
        if frame.forces is not None:
            own = frame.forces if element is None else frame.forces[frame.numbers == element]
            total, n_components = total + float(np.square(own).sum()), n_components + own.size
    return float(np.sqrt(total / n_components)) if n_components else None


def _element(frames: Sequence[Frame], around: Surroundings, z: int, fitted: float) -> dict[str, float | int | None]:
    n_atoms, total, fewest, most = around.neighbours[z]
    alone = [f.energy for f in frames if len(f.numbers) == 1 and f.numbers[0] == z and f.energy is not None]
    return {
        "n_atoms": int(n_atoms),
        "neighbours_mean": total / n_atoms,
        "neighbours_min": int(fewest),
        "neighbours_max": int(most),
        "force_rms_ev_per_angstrom": _rms_forces(frames, z),
        "energy_ev": float(fitted),
        "isolated_atom_ev": alone[0] if alone else None,
    }


def _pairs(frames: Sequence[Frame], around: Surroundings) -> dict[str, dict[str, object]]:
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


def _too_close(frames: Sequence[Frame], around: Surroundings) -> list[Suspicion]:
    ratios = np.array(around.over_radii)
    near = np.flatnonzero(ratios < SHORTEST_OVER_RADII)
    if len(near) == 0 or len(near) > len(frames) / 2:  # then it is the unit of length
        return []
    worst = int(ratios.argmin())
    sentence = (
        f"{len(near)} frames have atoms nearer than {SHORTEST_OVER_RADII} times their bond, down to "
        f"{ratios[worst]:.3g} times in {frames[worst].origin}; check the geometries, unless collisions are meant"
    )
    return [Suspicion("atoms too close", float(ratios[worst]), sentence)]


def _out_of_reach(frames: Sequence[Frame], around: Surroundings) -> list[Suspicion]:
    if not around.alone:
        return []
    worst = max(around.alone, key=around.alone.__getitem__)
    sentence = (
        f"{len(around.alone)} frames have atoms without any neighbour within {around.r_max} Å, which a model of that "
        f"cutoff cannot tell from isolated atoms: {around.alone[worst]} of {len(frames[worst].numbers)} in "
        f"{frames[worst].origin}"
    )
    return [Suspicion("atoms out of reach", float(around.alone[worst]), sentence)]


def _outliers(frames: Sequence[Frame], residuals: Array, around: Surroundings) -> list[Outlier]:
    largest = np.array(
        [np.nan if f.forces is None else np.log(max(float(np.abs(f.forces).max()), 1e-3)) for f in frames]
    )
    found = outliers(frames, "energy beyond composition", "eV/atom", residuals, smallest=0.05)
    for each in outliers(frames, "largest force component", "eV/Å", largest, smallest=1.0, side=1):
        found.append(Outlier(each.frame, each.quantity, float(np.exp(each.value)), each.unit, each.z))
    for (a, b), distances in around.shortest.items():
        values = np.full(len(frames), np.nan)
        values[list(distances)] = list(distances.values())
        name = f"shortest {chemical_symbols[a]}-{chemical_symbols[b]}"
        bond = covalent_radii[a] + covalent_radii[b]
        found += [each for each in outliers(frames, name, "Å", values, side=-1) if each.value < SHORT_BOND * bond]
    return sorted(found, key=lambda each: -abs(each.z))
