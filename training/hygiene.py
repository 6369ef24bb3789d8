"""What a data file holds and what looks wrong in it, before anything is trained on it.

Symbols used in this file
    f  frames        t  elements
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from openmm_allegro.outputs import check_ending, check_outputs
from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.consistency import (
    Slope,
    energies_beside_forces,
    forces_of_zero,
    frames_off,
    slope_of,
    usable,
)
from openmm_allegro.training.counting import counted
from openmm_allegro.training.data import read_unchecked
from openmm_allegro.training.description import counts_of, element_row, nearest_of, pair_rows, ranges_of, rms_forces
from openmm_allegro.training.frames import Array, Frame, check_frame
from openmm_allegro.training.near_frames import near_pairs
from openmm_allegro.training.spread import Outlier, energy_residuals, outliers
from openmm_allegro.training.statistics import Statistics, fitted_shifts, force_scales, store_statistics
from openmm_allegro.training.surroundings import Surroundings
from openmm_allegro.training.suspicions import (
    Suspicion,
    correlated_frames,
    energy_unit,
    force_unit,
    forces_that_do_not_cancel,
    labels_of_other_names,
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
        of_elements = "fitted" if self.elements_told_apart else "only their sums are known"
        return {
            **self.counts,
            "ranges": self.ranges,
            "elements": self.elements,
            "energies_of_elements": of_elements if np.isfinite(self.energy_residuals).any() else "not known",
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
            avg_num_neighbors=max(self.surroundings.average_neighbours(), 1.0),
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
    check_outputs([path for path in (output, picture) if path is not None], paths)
    check_ending(output, ".json")
    check_ending(picture, ".png")
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
    rms = rms_forces(good)
    bends = pairs.curvature[usable(pairs)]
    sizes = np.array([len(frame.numbers) for frame in good])
    lengths = length_unit(np.array(around.over_radii))
    suspicions = [
        *broken,
        *labels_of_other_names(good),
        *lengths,
        *energy_unit(good, rms, None if slope is None else slope.slope),
        *force_unit(rms, float(np.median(bends)) if len(bends) else None),
        *forces_of_zero(pairs, rms),
        *energies_beside_forces(slope, float(np.median(sizes))),
        *frames_off(good, pairs, slope),
        *repeated_frames(good, pairs),
        *correlated_frames(pairs),
        *forces_that_do_not_cancel(good, force_sum, torque_sum),
        *([] if lengths else _too_close(good, around)),
        *_out_of_reach(good, around),
    ]
    return DataReport(
        frames=good,
        counts=counts_of(good, frames, elements),
        ranges=ranges_of(good, residuals, force_sum, torque_sum, nearest_of(len(good), pairs)),
        elements={chemical_symbols[z]: element_row(good, around, z, e) for z, e in zip(elements, fitted, strict=True)},
        pairs=pair_rows(good, around),
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


def _too_close(frames: Sequence[Frame], around: Surroundings) -> list[Suspicion]:
    ratios = np.array(around.over_radii)
    near = np.flatnonzero(ratios < SHORTEST_OVER_RADII)
    if len(near) == 0:
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
