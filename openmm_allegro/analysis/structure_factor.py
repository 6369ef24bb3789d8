"""Static structure factors, as neutrons, X-rays and single pairs of elements show them.

Symbols used in this file
    e  elements     p  unordered pairs of elements     n  atoms     m  blocks of frames
    v  vectors of the reciprocal lattice, one of each ±q     q  bins of length of q [1/nm]
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.pictures import draw_curve
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.scattering import scattering_lengths
from openmm_allegro.analysis.selection import element_symbols, elements_of
from openmm_allegro.analysis.tables import write_table
from openmm_allegro.analysis.waves import amplitudes, lattice_vectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
WORDS = {"neutron": "S(q), neutrons", "x-ray": "S(q), X-rays", "number": "S(q), all atoms alike"}


@dataclass(frozen=True)
class StructureFactor:
    """S(q) of all atoms with given weights, or of one pair of elements; 1 at large q."""

    kind: str
    """`neutron`, `x-ray`, `number`, or a pair `Li-S`."""
    q_per_nm: Array
    """Mean length of the vectors in each bin that has some, (q,)."""
    s: Array
    """(q,)"""
    error: Array
    """Standard error from blocks of frames, (q,); nan with one block."""
    partials: dict[str, Array]
    """S of every pair of elements (Faber–Ziman), by its name `Li-S`, (q,) each; a part of `s`."""

    @property
    def name(self) -> str:
        return f"structure_factor_{self.kind}"

    def figures(self) -> dict[str, Measured]:
        highest = int(np.argmax(self.s))
        return {
            "highest_peak_per_nm": Measured(float(self.q_per_nm[highest])),
            "highest_peak_s": Measured(float(self.s[highest]), float(self.error[highest])),
            "smallest_q_per_nm": Measured(float(self.q_per_nm[0])),
            "s_at_smallest_q": Measured(float(self.s[0]), float(self.error[0])),
        }

    def curve(self) -> Curve:
        word = WORDS.get(self.kind, f"S(q) {self.kind.replace('-', '–')}")
        return Curve(self.q_per_nm, self.s, self.error, "q / nm⁻¹", word)

    def write_csv(self, path: str | Path) -> Path:
        columns = {"q_per_nm": self.q_per_nm, "s": self.s, "s_error": self.error}
        return write_table(path, columns | {f"s_{pair}": values for pair, values in self.partials.items()})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        draw_curve(axes, self.curve(), label)
        axes.axhline(1.0, color="grey", linewidth=0.6)
        axes.set_xlim(0.0, float(self.q_per_nm[-1]))


def structure_factor(
    frames: Frames | mdtraj.Trajectory,
    *,
    weighting: str = "neutron",
    isotopes: tuple[str, ...] = (),
    q_max_per_nm: float = 100.0,
    bin_width_per_nm: float = 0.5,
    vectors_per_bin: int = 200,
    n_blocks: int = 5,
) -> StructureFactor:
    """Total S(q) = 1 + Σ c_a c_b b_a b_b (S_ab(q) − 1) / (Σ c_a b_a)², as for a measurement.

    weighting: `neutron`, `x-ray` (b is then the form factor at q) or `number`. isotopes: such as `2H` for heavy water;
    in light water Σ c_a b_a nearly vanishes and S(q) is large. Where elements scatter differently it may fall below
    zero, as no diffuse scattering of the mixture (Laue's) is in it. The sums run over vectors q of the cell's own
    reciprocal lattice, so that they are exact in a periodic box of any shape, which may change; the smallest q is that
    of the box.
    A bin with more vectors than about `vectors_per_bin` takes some at random, the same in every frame. T. E. Faber and
    J. M. Ziman, Phil. Mag. 11, 153 (1965); D. A. Keen, J. Appl. Cryst. 34, 172 (2001). Errors come from `n_blocks`
    blocks of frames.
    """
    frames = Frames.of(frames)
    elements = tuple(elements_of(frames.topology))
    scattering_lengths(elements, weighting, np.zeros(1), isotopes)  # refuses before the long sums
    partials = _partials(frames, elements, q_max_per_nm, bin_width_per_nm, vectors_per_bin, n_blocks)
    symbols = element_symbols(frames.topology)
    counts = np.array([np.sum(symbols == element) for element in elements])
    weights = counts[:, None] * scattering_lengths(elements, weighting, partials.q_per_nm, isotopes)  # (e, q)
    mean_square = weights.sum(axis=0) ** 2
    if np.any(mean_square < 1e-6 * (np.abs(weights).sum(axis=0)) ** 2):
        raise ValueError("the scattering lengths of the atoms cancel, so that S(q) cannot be divided by their mean")
    blocks = np.ones_like(partials.blocks[:, 0])  # (m, q)
    for p, (a, b) in enumerate(combinations_with_replacement(range(len(elements)), 2)):
        twice = 1 + (a != b)
        blocks += twice * weights[a] * weights[b] / mean_square * (partials.blocks[:, p] - 1)
    return StructureFactor(
        weighting, partials.q_per_nm, np.mean(blocks, axis=0), standard_errors(blocks), partials.by_name()
    )


def partial_structure_factor(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str],
    *,
    q_max_per_nm: float = 100.0,
    bin_width_per_nm: float = 0.5,
    vectors_per_bin: int = 200,
    n_blocks: int = 5,
) -> StructureFactor:
    """Faber–Ziman S_ab(q) = 1 + (⟨ρ_a(q) ρ_b*(q)⟩ / N − c_a δ_ab) / (c_a c_b) of two elements; see `structure_factor`.

    It is 1 plus the Fourier transform of the number density times g_ab(r) − 1.
    """
    frames = Frames.of(frames)
    present = elements_of(frames.topology)
    for element in pair:
        if element not in present:
            raise ValueError(f"there is no {element} in the topology, which has {', '.join(present)}; choose of these")
    chosen = tuple(dict.fromkeys(pair))
    partials = _partials(frames, chosen, q_max_per_nm, bin_width_per_nm, vectors_per_bin, n_blocks)
    blocks = partials.blocks[:, partials.pairs.index(pair)]
    return StructureFactor("-".join(pair), partials.q_per_nm, blocks.mean(axis=0), standard_errors(blocks), {})


@dataclass(frozen=True)
class _Partials:
    pairs: list[tuple[str, str]]
    q_per_nm: Array
    """(q,)"""
    blocks: Array
    """(m, p, q)"""

    def by_name(self) -> dict[str, Array]:
        return {"-".join(pair): self.blocks[:, p].mean(axis=0) for p, pair in enumerate(self.pairs)}


def _partials(
    frames: Frames, elements: tuple[str, ...], q_max: float, bin_width: float, per_bin: int, n_blocks: int
) -> _Partials:
    """Every pair of the elements, each (S_ab) with the concentrations among all atoms that have mass."""
    cells = frames.cells_for("a structure factor")
    symbols = element_symbols(frames.topology)
    n_atoms = int(np.sum(symbols != "VS"))
    atoms = np.flatnonzero(np.isin(symbols, elements))
    groups = [np.flatnonzero(symbols[atoms] == element) for element in elements]
    indices = lattice_vectors(cells.mean(axis=0), q_max, bin_width, per_bin)  # (v, 3)
    n_bins = int(np.ceil(q_max / bin_width - 1e-9))
    pairs = list(combinations_with_replacement(range(len(elements)), 2))
    sums, counts = np.zeros((n_blocks, len(pairs), n_bins)), np.zeros((n_blocks, n_bins))
    lengths = np.zeros(n_bins)
    for block, positions, cell in frames.in_blocks(n_blocks, atoms):
        assert cell is not None
        inverse = np.linalg.inv(cell)
        q = 2 * np.pi * np.linalg.norm(indices @ inverse.T, axis=1)  # (v,)
        bins = (q / bin_width).astype(np.int64)
        kept = bins < n_bins  # a cell smaller than the mean stretches q
        counts[block] += np.bincount(bins[kept], minlength=n_bins)
        lengths += np.bincount(bins[kept], q[kept], minlength=n_bins)
        waves = [amplitudes(indices, positions[group] @ inverse) for group in groups]
        for p, (a, b) in enumerate(pairs):
            product = (waves[a] * waves[b].conj()).real
            sums[block, p] += np.bincount(bins[kept], product[kept], minlength=n_bins)
    filled = np.all(counts > 0, axis=0)
    if not np.any(filled):
        raise ValueError(f"the cell has no wave vector below {q_max} nm⁻¹; raise `q_max_per_nm`")
    blocks = sums[:, :, filled] / counts[:, None, filled]
    for p, (a, b) in enumerate(pairs):
        n_a, n_b = len(groups[a]), len(groups[b])
        blocks[:, p] = 1 + n_atoms * (blocks[:, p] - n_a * (a == b)) / (n_a * n_b)
    names = [(elements[a], elements[b]) for a, b in pairs]
    return _Partials(names, lengths[filled] / counts.sum(axis=0)[filled], blocks)
