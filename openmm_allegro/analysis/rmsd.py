"""Deviation of a structure from a reference, and fluctuation of its atoms, after superposition.

Symbols used in this file
    f  frames     k  atoms of the selection     b  blocks of frames
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import jackknife
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import whole_chunks
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of, plain
from openmm_allegro.analysis.series import Series
from openmm_allegro.analysis.superpose import superposed
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fluctuation:
    """Root mean square fluctuation of each atom about its mean position."""

    selection: str
    atoms: Indices
    """Indices into the topology, (k,)."""
    residues: Indices
    """Residue number of each atom in the topology's file, (k,)."""
    rmsf_nm: Array
    """(k,)"""
    error_nm: Array
    """Standard error by jackknife over blocks of frames, (k,)."""
    mean: Measured
    """Root mean square over the atoms [nm]."""

    @property
    def name(self) -> str:
        return f"rmsf_{plain(self.selection)}"

    def write_csv(self, path: str | Path) -> Path:
        columns = {"atom": self.atoms, "residue": self.residues, "rmsf_nm": self.rmsf_nm, "error_nm": self.error_nm}
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        curve = self.curve()
        (line,) = axes.plot(curve.x, curve.y, linewidth=1.0, marker=".", markersize=3, label=label)
        low, high = curve.y - curve.error, curve.y + curve.error
        axes.fill_between(curve.x, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
        axes.set_xlabel(curve.x_label)
        axes.set_ylabel(curve.y_label)
        axes.set_ylim(bottom=0.0)
        if label is not None:
            axes.legend(frameon=False)

    def figures(self) -> dict[str, Measured]:
        return {"rmsf_nm": self.mean}

    def curve(self) -> Curve:
        """Against the residue where each has one atom, else against the atom."""
        by_residue = len(self.atoms) > 1 and bool(np.all(np.diff(self.residues) > 0))
        x, label = (self.residues, "residue") if by_residue else (self.atoms, "atom")
        return Curve(x.astype(np.float64), self.rmsf_nm, self.error_nm, label, "RMSF / nm")


def rmsd(
    frames: Frames | mdtraj.Trajectory,
    selection: str = "backbone",
    *,
    align: str | None = None,
    reference: Frames | mdtraj.Trajectory | None = None,
) -> Series:
    """Root mean square deviation of the selection from the first frame, or from the first frame of a reference.

    Every frame is first superposed on the reference with the atoms of `align`, by default the selection itself.
    Molecules are made whole first. The error of the mean is from blocks of frames.
    """
    frames = Frames.of(frames)
    chosen, fitted = _chosen_and_fitted(frames, selection, align)
    fixed = frames if reference is None else Frames.of(reference)
    fixed_chosen, fixed_fitted = _chosen_and_fitted(fixed, selection, align)
    if len(chosen) != len(fixed_chosen) or len(fitted) != len(fixed_fitted):
        raise ValueError(
            f"the selection has {len(chosen)} atoms ({len(fitted)} to superpose) in the trajectory, but "
            f"{len(fixed_chosen)} ({len(fixed_fitted)}) in the reference; give a reference of the same molecule"
        )
    atoms, fixed_atoms = np.union1d(chosen, fitted), np.union1d(fixed_chosen, fixed_fitted)
    target = next(whole_chunks(fixed, fixed_atoms)).xyz[0].astype(np.float64)
    here, there = np.searchsorted(atoms, fitted), np.searchsorted(fixed_atoms, fixed_fitted)
    wanted = target[np.searchsorted(fixed_atoms, fixed_chosen)]
    values = []
    for chunk in whole_chunks(frames, atoms):
        moved = superposed(chunk.xyz.astype(np.float64), target, here, there)
        off = moved[:, np.searchsorted(atoms, chosen)] - wanted
        values.append(np.sqrt((off**2).sum(axis=2).mean(axis=1)))
    name = f"rmsd_{plain(selection)}"
    return Series(name, f"RMSD of {selection}", "rmsd_nm", "nm", frames.times_ps, np.concatenate(values))


def rmsf(
    frames: Frames | mdtraj.Trajectory, selection: str = "name CA", *, align: str | None = None, n_blocks: int = 10
) -> Fluctuation:
    """Root mean square fluctuation of each atom of the selection about its mean position.

    Frames are superposed on the first with the atoms of `align`, by default the selection itself; the mean structure
    of these is what all are superposed on again. Errors by jackknife over `n_blocks` blocks of frames. The frames are
    read twice.
    """
    frames = Frames.of(frames)
    if frames.n_frames < 2:
        raise ValueError("the trajectory has one frame; fluctuations need two or more")
    chosen, fitted = _chosen_and_fitted(frames, selection, align)
    atoms = np.union1d(chosen, fitted)
    here, kept = np.searchsorted(atoms, fitted), np.searchsorted(atoms, chosen)
    start = next(whole_chunks(frames, atoms)).xyz[0].astype(np.float64)
    mean = np.sum([xyz.sum(axis=0) for xyz in _superposed(frames, atoms, start, here)], axis=0) / frames.n_frames
    m = min(n_blocks, frames.n_frames)
    block = np.arange(frames.n_frames) * m // frames.n_frames
    counts = np.bincount(block, minlength=m)
    sums, squares = np.zeros((m, len(kept), 3)), np.zeros((m, len(kept), 3))
    done = 0
    for xyz in _superposed(frames, atoms, mean, here):
        off = xyz[:, kept] - mean[kept]
        mine = block[done : done + len(off)]
        np.add.at(sums, mine, off)
        np.add.at(squares, mine, off**2)
        done += len(off)

    def estimates(blocks: Indices) -> Array:
        n = counts[blocks].sum()
        variance = (squares[blocks].sum(axis=0) / n - (sums[blocks].sum(axis=0) / n) ** 2).sum(axis=1)
        variance = np.maximum(variance, 0.0)  # rounding
        return np.sqrt(np.append(variance, variance.mean()))

    values, errors = jackknife(estimates, m, m)
    residues = np.array([frames.topology.atom(int(atom)).residue.resSeq for atom in chosen])
    mean_rmsf = Measured(float(values[-1]), float(errors[-1]))
    return Fluctuation(selection, chosen, residues, values[:-1], errors[:-1], mean_rmsf)


def _superposed(frames: Frames, atoms: Indices, target: Array, here: Indices) -> Iterator[Array]:
    """Chunks of positions in nm on the target, (f, k, 3)."""
    for chunk in whole_chunks(frames, atoms):
        yield superposed(chunk.xyz.astype(np.float64), target, here, here)


def _chosen_and_fitted(frames: Frames, selection: str, align: str | None) -> tuple[Indices, Indices]:
    """Atoms that are looked at and atoms that are superposed; a rotation needs three."""
    chosen = atoms_of(frames.topology, selection)
    fitted = chosen if align is None else atoms_of(frames.topology, align)
    if len(fitted) < 3:
        raise ValueError(
            f"the selection `{align or selection}` has {len(fitted)} atoms, but a superposition needs 3 or more; "
            f"give others to superpose, `align`"
        )
    return chosen, fitted
