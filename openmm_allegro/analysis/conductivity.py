"""Ionic conductivity from the motion of all charges together, and what each species has to do with it.

Symbols used in this file
    f  frames     t  lags     m  blocks of frames     s, u  species     axes are x, y, z
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.blocks import jackknife_errors, standard_errors
from openmm_allegro.analysis.diffusive import LineFit, Walkers, diffusive_window
from openmm_allegro.analysis.displacements import displacement_products, lag_blocks, squared_displacements
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import bonds_of
from openmm_allegro.analysis.paths import Paths, collect_paths
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, atoms_of, element_symbols, file_name, plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Conductivity:
    """Conductivity of Einstein's form with its shares, beside that of ions which move independently."""

    ions: tuple[str, ...]
    """Selections, (s,)."""
    charges: tuple[float, ...]
    """Of each path in elementary charges, (s,)."""
    lag_ps: Array
    """(t,)"""
    together: Array
    """⟨|Δ Σ q r|²⟩ / (6 V kT), whose slope is the conductivity [ps S/m], (t,)."""
    together_error: Array
    """(t,)"""
    independent: Array
    """Σ q² ⟨|Δr|²⟩ / (6 V kT) [ps S/m], (t,)."""
    independent_error: Array
    """(t,)"""
    conductivity: Measured
    """[S/m]"""
    nernst_einstein: Measured
    """[S/m]"""
    haven_ratio: Measured
    """Nernst–Einstein over true conductivity."""
    transference: tuple[Measured, ...]
    """Share of each species in the conductivity, (s,)."""
    onsager_s_per_m: tuple[tuple[Measured, ...], ...]
    """z z' e² L of each pair of species; their sum is the conductivity, (s, s)."""
    intercept: float
    """Of the line through `together` [ps S/m]."""
    fit_window_ps: tuple[float, float]
    """Lags of all lines: where the independent ions are diffusive."""
    log_slope: Measured
    """d log MSD / d log t of the independent ions at the start of the window; 1 for diffusion."""

    @property
    def name(self) -> str:
        return f"conductivity_{file_name(self.ions)}"

    def write_csv(self, path: str | Path) -> Path:
        columns = {
            "lag_ps": self.lag_ps,
            "together_ps_s_per_m": self.together,
            "together_error_ps_s_per_m": self.together_error,
            "independent_ps_s_per_m": self.independent,
            "independent_error_ps_s_per_m": self.independent_error,
        }
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        before = "" if label is None else f"{label}, "
        curves = [(f"{before}together: σ", self.conductivity, self.together, self.together_error)]
        if label is None:
            curves.append(("independent: σ", self.nernst_einstein, self.independent, self.independent_error))
        for words, sigma, y, error in curves:
            (line,) = axes.plot(self.lag_ps, y, linewidth=1.2, label=f"{words} = {with_error(*sigma)} S/m")
            axes.fill_between(self.lag_ps, y - error, y + error, color=line.get_color(), alpha=0.3, linewidth=0)
        ends = np.array(self.fit_window_ps)
        axes.plot(ends, self.intercept + self.conductivity.value * ends, "k--", linewidth=0.8)
        axes.set(xlabel="time between frames / ps", ylabel="⟨|ΔΣqr|²⟩ / (6 V kT) / (ps S/m)")
        axes.set_xlim(0.0, float(self.lag_ps[-1]))
        axes.set_ylim(bottom=0.0)
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        found = {
            "conductivity_s_per_m": self.conductivity,
            "nernst_einstein_s_per_m": self.nernst_einstein,
            "haven_ratio": self.haven_ratio,
        }
        for s, first in enumerate(self.ions):
            found[f"transference_{plain(first)}"] = self.transference[s]
            for u in range(s, len(self.ions)):
                found[f"onsager_{file_name((first, self.ions[u]))}_s_per_m"] = self.onsager_s_per_m[s][u]
        found["log_slope"] = self.log_slope
        found["fit_start_ps"], found["fit_end_ps"] = map(Measured, self.fit_window_ps)
        return found

    def curve(self) -> Curve:
        return Curve(
            self.lag_ps,
            self.together,
            self.together_error,
            "time between frames / ps",
            "⟨|ΔΣqr|²⟩ / (6 V kT) / (ps S/m)",
        )


def ionic_conductivity(
    frames: Frames | mdtraj.Trajectory,
    ions: tuple[str, ...],
    charges: tuple[float, ...],
    temperature_k: float,
    *,
    fit_window_ps: tuple[float, float] | None = None,
    n_blocks: int = 5,
    centres: str = "atoms",
    relative_to: str = "all",
) -> Conductivity:
    """Ionic conductivity in Einstein's form with Onsager coefficients, transference numbers and the Haven ratio.

    `σ = d⟨|Δ Σ q r|²⟩/dt / (6 V kT) = Σ z z' e² L`, `L = d⟨ΔR·ΔR'⟩/dt / (6 V kT)` with R the sum over a species (K. D.
    Fong et al., AIChE J. 66, e17091 (2020)); a transference number is a row of that sum over σ. Nernst and Einstein
    leave out all products of different ions: the Haven ratio is theirs over σ. All lines share one window and its
    weights (`diffusive`), found on the independent ions, which have the smaller errors. Errors are from `n_blocks`
    blocks of frames, of quotients by jackknife. ions: selections that share no atoms, each with its charge in `charges`
    [elementary charges], which is that of every atom, or with `centres` as in `msd` of every molecule or residue.
    Transference depends on `relative_to`, whose centre of mass is at rest; where two ions are all that there is, their
    masses alone decide about it.
    """
    frames = Frames.of(frames)
    _check(ions, charges, temperature_k)
    volume_nm3 = float(np.linalg.det(frames.cells_for("a conductivity")).mean())
    slices, n_lags = lag_blocks(frames.n_frames, n_blocks)
    _refuse_shared_atoms(frames, ions)
    if centres == "atoms":
        _warn_of_molecules(frames, ions, charges)
    all_paths = collect_paths(frames, ions, centres=centres, relative_to=relative_to)
    z = np.array(charges)
    factor = units.ELEMENTARY_CHARGE_C**2 * 1e-6 / (6 * volume_nm3 * 1e-27 * units.BOLTZMANN_J_PER_K * temperature_k)
    alone, alone_blocks = _independent(all_paths, z, slices, n_lags)
    if not np.any(alone > 0):
        raise ValueError(f"{', '.join(ions)} do not move, so that there is no conductivity; choose other ions")
    products, product_blocks = _together(all_paths, z, slices, n_lags)
    spacing = all_paths[0].spacing_ps
    lags = spacing * np.arange(n_lags, dtype=np.float64)
    walkers = Walkers(sum(paths.n_paths for paths in all_paths), frames.n_frames)
    window = diffusive_window(lags, alone, alone_blocks, walkers, fit_window_ps)
    window.warn_unless_diffusive(", ".join(ions), float(lags[-1]), "the conductivity")
    fit = LineFit(window.indices, alone, frames.n_frames, slices[0].stop - slices[0].start)

    independent = fit.line(factor * alone, factor * alone_blocks, spacing)
    together = fit.line(factor * products.sum(axis=(1, 2)), factor * product_blocks.sum(axis=(2, 3)), spacing)
    pairs = [
        [fit.line(factor * products[:, s, u], factor * product_blocks[:, :, s, u], spacing) for u in range(len(ions))]
        for s in range(len(ions))
    ]
    rows = np.array([sum(line.slope.value for line in row) for row in pairs])
    row_blocks = np.array([np.sum([line.block_slopes for line in row], axis=0) for row in pairs]).T  # (m, s)
    sigma = together.slope.value
    share_errors = jackknife_errors(lambda mean: mean / mean.sum(), row_blocks)
    both = np.stack([independent.block_slopes, together.block_slopes], axis=1)
    haven_error = jackknife_errors(lambda mean: mean[0] / mean[1], both)
    return Conductivity(
        ions=tuple(ions),
        charges=tuple(charges),
        lag_ps=lags,
        together=factor * products.sum(axis=(1, 2)),
        together_error=factor * standard_errors(product_blocks.sum(axis=(2, 3))),
        independent=factor * alone,
        independent_error=factor * standard_errors(alone_blocks),
        conductivity=together.slope,
        nernst_einstein=independent.slope,
        haven_ratio=Measured(independent.slope.value / sigma, float(haven_error)),
        transference=tuple(
            Measured(*each) for each in zip((rows / sigma).tolist(), share_errors.tolist(), strict=True)
        ),
        onsager_s_per_m=tuple(tuple(line.slope for line in row) for row in pairs),
        intercept=together.intercept,
        fit_window_ps=(float(lags[window.indices[0]]), float(lags[window.indices[-1]])),
        log_slope=window.log_slope,
    )


def _check(ions: Sequence[str], charges: Sequence[float], temperature_k: float) -> None:
    if len(ions) != len(charges) or not ions:
        raise ValueError(f"`ions` names {len(ions)} species and `charges` {len(charges)}; give a charge for each")
    if not any(charges):
        raise ValueError("all `charges` are zero; what has no charge conducts nothing")
    if temperature_k <= 0:
        raise ValueError(f"`temperature_k` is {temperature_k}; it must be positive")


def _refuse_shared_atoms(frames: Frames, ions: Sequence[str]) -> None:
    for first, second, count in Selections.of(frames.topology, tuple(ions)).shared():
        raise ValueError(
            f"the ions `{ions[first]}` and `{ions[second]}` have {count} atoms in common, whose charges would count "
            f"twice; give selections that share none"
        )


def _warn_of_molecules(frames: Frames, ions: Sequence[str], charges: Sequence[float]) -> None:
    """Say so where the charge of a molecule may have been given to each of its atoms."""
    bonds, symbols = bonds_of(frames), element_symbols(frames.topology)
    bonds = bonds[symbols[bonds[:, 0]] != symbols[bonds[:, 1]]]
    for ion, charge in zip(ions, charges, strict=True):
        if np.isin(bonds, atoms_of(frames.topology, ion)).all(axis=1).any():
            warnings.warn(
                f"different elements of `{ion}` are bonded, and each of its atoms counts with the charge {charge:g}; "
                f"if that is the charge of a molecule, choose `centres` of molecules",
                stacklevel=3,
            )


def _independent(all_paths: list[Paths], z: Array, slices: list[slice], n_lags: int) -> tuple[Array, Array]:
    """Σ z² |Δr|² of the whole, (t,), and of blocks, (m, t), in nm² e²."""
    alone, blocks = np.zeros(n_lags), np.zeros((len(slices), n_lags))
    for paths, charge in zip(all_paths, z, strict=True):
        of_all, of_blocks = squared_displacements(paths, slices, n_lags)
        alone += charge**2 * paths.n_paths * of_all.sum(axis=1)
        blocks += charge**2 * paths.n_paths * of_blocks.sum(axis=2)
    return alone, blocks


def _together(all_paths: list[Paths], z: Array, slices: list[slice], n_lags: int) -> tuple[Array, Array]:
    """Products z z' ΔR·ΔR' of the whole, (t, s, s), and of blocks, (m, t, s, s), in nm² e²."""
    totals = [charge * paths.total_nm()[:, None] for paths, charge in zip(all_paths, z, strict=True)]  # (f, 1, 3)
    n = len(totals)
    products, blocks = np.zeros((n_lags, n, n)), np.zeros((len(slices), n_lags, n, n))
    for s in range(n):
        for u in range(s, n):
            a, b = totals[s], totals[u]
            products[:, s, u] = products[:, u, s] = displacement_products(a, b, n_lags).sum(axis=1)
            for block, part in enumerate(slices):
                of_block = displacement_products(a[part], b[part], n_lags).sum(axis=1)
                blocks[block, :, s, u] = blocks[block, :, u, s] = of_block
    return products, blocks
