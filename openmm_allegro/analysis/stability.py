"""When a run fails: the first frame with a broken bond, or with a structure that is no longer that of the liquid.

After X. Fu et al., "Forces are not enough", Trans. Mach. Learn. Res. (2023), arXiv:2210.07237, section 4.

Symbols used in this file
    f  frames     z  bonds     p  pairs of elements     r  bins of distance
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import bonds_of
from openmm_allegro.analysis.neighbours import unordered_pairs_within
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import element_symbols, elements_of
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """How far a run is from its reference over time, and when that became too far."""

    kind: str
    """`bonds` or `structure`."""
    times_ps: Array
    """(f,)"""
    deviation_angstrom: Array
    """Of the bond that is furthest off, or of the radial distributions, (f,)."""
    threshold_angstrom: float
    failed_ps: float
    """Time of the first frame beyond the threshold, nan where there is none."""
    reason: str
    """The first bond or pair of elements beyond the threshold, empty where there is none."""

    @property
    def name(self) -> str:
        return f"stability_{self.kind}"

    @property
    def failed(self) -> bool:
        return not np.isnan(self.failed_ps)

    def write_csv(self, path: str | Path) -> Path:
        return write_table(path, {"time_ps": self.times_ps, "deviation_angstrom": self.deviation_angstrom})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        how = f"fails at {self.failed_ps:g} ps ({self.reason})" if self.failed else "does not fail"
        (line,) = axes.plot(self.times_ps, self.deviation_angstrom, linewidth=0.8, label=f"{label or 'run'} {how}")
        axes.axhline(self.threshold_angstrom, color="black", linestyle="--", linewidth=0.8)
        if self.failed:
            axes.axvline(self.failed_ps, color=line.get_color(), linestyle=":", linewidth=1.0)
        finite = self.deviation_angstrom[np.isfinite(self.deviation_angstrom)]
        axes.set_ylim(0.0, min(1.1 * max([self.threshold_angstrom, *finite]), 4 * self.threshold_angstrom))
        axes.set_xlabel("time / ps")
        axes.set_ylabel("largest bond deviation / Å" if self.kind == "bonds" else "∫|g − g reference| dr / Å")
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        """Time up to the failure or the end; without error, as one run tells of no other."""
        end = self.failed_ps if self.failed else float(self.times_ps[-1])
        return {"stable_ps": Measured(end - float(self.times_ps[0])), "failed": Measured(float(self.failed))}

    def curve(self) -> Curve | None:
        return None


def bond_stability(
    frames: Frames | mdtraj.Trajectory,
    reference: Frames | mdtraj.Trajectory | None = None,
    *,
    threshold_angstrom: float = 0.5,
) -> Stability:
    """First frame in which a bond differs by more than the threshold from its mean length in the reference.

    Bonds are those of the topology, or are guessed where it has none; of the reference, by default the first frame of
    the run, one frame will do. A position that is not finite is a failure, too.
    """
    _check_positive(threshold_angstrom=threshold_angstrom)
    frames = Frames.of(frames)
    fixed = _first_frame(frames) if reference is None else Frames.of(reference)
    _check_same_elements(frames, fixed)
    times = frames.increasing_times_ps()
    bonds = bonds_of(fixed)
    if len(bonds) == 0:
        raise ValueError(
            f"the {'first frame' if reference is None else 'reference'} has no bonds between nonmetals, nor has its "
            f"topology any; use `stability.structure_stability` in a script instead"
        )
    lengths = np.mean(list(_bond_lengths(fixed, bonds)), axis=0)
    deviation = np.empty(frames.n_frames)
    worst = np.empty(frames.n_frames, dtype=np.int64)
    for f, now in enumerate(_bond_lengths(frames, bonds)):
        off = np.nan_to_num(np.abs(now - lengths), nan=np.inf, posinf=np.inf)
        worst[f] = off.argmax()
        deviation[f] = off[worst[f]] * units.NM_TO_ANGSTROM
    beyond = np.flatnonzero(deviation > threshold_angstrom)
    if len(beyond) == 0:
        return Stability("bonds", times, deviation, threshold_angstrom, float("nan"), "")
    a, b = (frames.topology.atom(int(atom)) for atom in bonds[worst[beyond[0]]])
    reason = f"bond {a}–{b}"
    return Stability("bonds", times, deviation, threshold_angstrom, float(times[beyond[0]]), reason)


def structure_stability(
    frames: Frames | mdtraj.Trajectory,
    reference: Frames | mdtraj.Trajectory,
    *,
    threshold_angstrom: float = 3.0,
    window_ps: float = 1.0,
    by_element: bool = True,
    r_max_nm: float = 0.6,
    bin_width_nm: float = 0.01,
) -> Stability:
    """First window in which a radial distribution has left that of the reference.

    The deviation is ∫|g − g_reference| dr up to `r_max_nm`, with g averaged over all frames from t to t + `window_ps`
    and g_reference over the whole reference; the largest over pairs of elements counts, or that of all atoms alike
    where `by_element` is off. The paper has 3.0 Å for water by element and 1.0 Å for LiPS over all atoms. The time of
    failure is that of the first frame of the window; windows that the run's end cuts are left out. Noise of g in a
    window adds to the deviation, the more the fewer the atoms and the narrower the bins: what it comes to shows when a
    part of the reference is taken for the run.
    """
    _check_positive(
        threshold_angstrom=threshold_angstrom, window_ps=window_ps, r_max_nm=r_max_nm, bin_width_nm=bin_width_nm
    )
    frames, fixed = Frames.of(frames), Frames.of(reference)
    here, there = elements_of(frames.topology), elements_of(fixed.topology)
    if set(here) != set(there):
        raise ValueError(
            f"the run has {', '.join(here)} and the reference {', '.join(there)}; give a reference of the same liquid"
        )
    times = frames.increasing_times_ps()
    slack = 1e-3 * window_ps  # times are rounded in files
    if times[-1] - times[0] < window_ps - slack:
        raise ValueError(
            f"the run is {times[-1] - times[0]:g} ps long, shorter than a window of {window_ps:g} ps; "
            f"run longer or choose a smaller `window_ps`"
        )
    kinds = here if by_element else []
    edges = bin_width_nm * np.arange(max(1, round(r_max_nm / bin_width_nm)) + 1, dtype=np.float64)
    expected = reduce(np.add, _distributions(fixed, kinds, edges)) / fixed.n_frames  # (p, r)
    width = edges[1] * units.NM_TO_ANGSTROM
    window: deque[Array] = deque()
    total = np.zeros_like(expected)
    deviations: list[Array] = []
    for f, g in enumerate(_distributions(frames, kinds, edges)):
        window.append(g)
        total += g
        while times[f] - times[len(deviations)] >= window_ps - slack:
            deviations.append(np.abs(total / len(window) - expected).sum(axis=1) * width)
            total -= window.popleft()
    by_pair = np.nan_to_num(np.stack(deviations), nan=np.inf, posinf=np.inf)  # (f, p)
    deviation = by_pair.max(axis=1)
    beyond = np.flatnonzero(deviation > threshold_angstrom)
    starts = times[: len(deviation)]
    if len(beyond) == 0:
        return Stability("structure", starts, deviation, threshold_angstrom, float("nan"), "")
    reason = _pair_names(kinds)[int(by_pair[beyond[0]].argmax())]
    return Stability("structure", starts, deviation, threshold_angstrom, float(starts[beyond[0]]), reason)


def _bond_lengths(frames: Frames, bonds: NDArray[np.int64]) -> Iterator[Array]:
    """Length of each bond in nm to the nearest image, frame by frame, (z,)."""
    for f, positions in enumerate(frames.positions_nm(broken=True)):
        vectors = positions[bonds[:, 1]] - positions[bonds[:, 0]]
        if frames.cells_nm is not None:
            cell = frames.cells_nm[f]
            vectors -= np.rint(vectors @ np.linalg.inv(cell)) @ cell
        yield np.linalg.norm(vectors, axis=1)


def _distributions(frames: Frames, kinds: list[str], edges: Array) -> Iterator[Array]:
    """Radial distribution of each pair of elements in each frame, (p, r); nan where positions are not finite.

    kinds: elements in the order of the pairs; none for all atoms alike.
    """
    cells = frames.cells_for("a radial distribution function")
    symbols = element_symbols(frames.topology)
    atoms = np.flatnonzero(symbols != "VS")
    kind = np.array([kinds.index(symbol) if kinds else 0 for symbol in symbols[atoms]])
    n_kinds, n_bins = max(1, len(kinds)), len(edges) - 1
    amounts = np.bincount(kind, minlength=n_kinds)
    first, second = np.triu_indices(n_kinds)
    n_pairs = np.where(first == second, amounts[first] * (amounts[first] - 1) / 2, amounts[first] * amounts[second])
    pair_of = np.zeros((n_kinds, n_kinds), dtype=np.int64)
    pair_of[first, second] = pair_of[second, first] = np.arange(len(first))
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    for f, positions in enumerate(frames.positions_nm(atoms, broken=True)):
        if not np.all(np.isfinite(positions)):
            yield np.full((len(first), n_bins), np.nan)
            continue
        i, j, distance = unordered_pairs_within(positions, cells[f], edges[-1])
        bins = np.minimum((distance / edges[1]).astype(np.int64), n_bins - 1)
        place = pair_of[kind[i], kind[j]] * n_bins + bins
        place = place[i != j]  # an atom is no neighbour of its own image
        counts = np.bincount(place, minlength=len(first) * n_bins).reshape(len(first), n_bins)
        ideal = n_pairs[:, None] * shells / np.linalg.det(cells[f])
        yield np.divide(counts, ideal, out=np.zeros_like(ideal), where=ideal > 0)


def _pair_names(kinds: list[str]) -> list[str]:
    """In the order of `_distributions`."""
    pairs = zip(*np.triu_indices(len(kinds)), strict=True)
    return [f"{kinds[a]}–{kinds[b]}" for a, b in pairs] or ["all atoms"]


def _first_frame(frames: Frames) -> Frames:
    return Frames.of(next(frames.chunks())[0])


def _check_same_elements(frames: Frames, reference: Frames) -> None:
    if not np.array_equal(element_symbols(frames.topology), element_symbols(reference.topology)):
        raise ValueError(
            f"the run has {frames.n_atoms} atoms and the reference {reference.n_atoms}, or their elements differ; "
            f"give a reference with the same atoms in the same order"
        )


def _check_positive(**options: float) -> None:
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"`{name}` is {value}; it must be positive")
