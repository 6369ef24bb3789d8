"""Van Hove functions: where an atom is a while later, and where the others are.

Symbols used in this file
    f  frames     k  paths     l  lags     r  distances     m  blocks of time origins
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import block_slices, standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import pairs_within
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of, file_name, plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
ATOMS_AS_ORIGINS = 300_000


@dataclass(frozen=True)
class VanHove:
    """One of the two functions at a few times."""

    name: str
    symbol: str
    """Name of the columns, with the unit."""
    label: str
    """Of the axis, with the unit."""
    r_nm: Array
    """Middles of the bins, (r,)."""
    lag_ps: Array
    """(l,)"""
    values: Array
    """(l, r)"""
    errors: Array
    """Standard errors from blocks of time origins, (l, r)."""

    def write_csv(self, path: str | Path) -> Path:
        columns = {"r_nm": self.r_nm}
        for lag, value, error in zip(self.lag_ps, self.values, self.errors, strict=True):
            columns[f"{self.symbol}_after_{lag:g}_ps"] = value
            columns[f"{self.symbol}_error_after_{lag:g}_ps"] = error
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        for lag, value, error in zip(self.lag_ps, self.values, self.errors, strict=True):
            words = f"{lag:g} ps" if label is None else f"{label}, {lag:g} ps"
            (line,) = axes.plot(self.r_nm, value, linewidth=1.2, label=words)
            axes.fill_between(self.r_nm, value - error, value + error, color=line.get_color(), alpha=0.3, linewidth=0)
        top = 1.1 * float(self._known().max(initial=0.1))
        axes.set(xlabel="r / nm", ylabel=self.label, xlim=(0.0, float(self.r_nm[-1])))
        axes.set_ylim(0.0, max(axes.get_ylim()[1] if label and axes.lines[len(self.lag_ps) :] else 0.0, top))
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        """Where the function is highest at each time, of bins known to a fifth: the innermost hold few atoms."""
        return {
            f"highest_after_{lag:g}_ps_nm": Measured(float(self.r_nm[np.argmax(row)]) if row.any() else float("nan"))
            for lag, row in zip(self.lag_ps, self._known(), strict=True)
        }

    def _known(self) -> Array:
        return np.where(self.errors < 0.2 * self.values, self.values, 0.0)

    def curve(self) -> Curve:
        """At the longest time."""
        label = f"{self.label}, after {self.lag_ps[-1]:.4g} ps"
        return Curve(self.r_nm, self.values[-1], self.errors[-1], "r / nm", label)


def van_hove_self(
    frames: Frames | mdtraj.Trajectory,
    element: str,
    *,
    lags_ps: tuple[float, ...] | None = None,
    r_max_nm: float = 1.0,
    bin_width_nm: float = 0.01,
    n_blocks: int = 5,
    n_origins: int = 500,
    centres: str = "atoms",
    relative_to: str = "all",
) -> VanHove:
    """Self part of van Hove's function, 4πr²Gₛ(r, t): distribution of how far an atom has gone after a time.

    L. van Hove, Phys. Rev. 95, 249 (1954). In 1/nm; its integral is 1 where no atom goes beyond `r_max_nm`. `lags_ps`
    are by default four times from 1/400 of the trajectory to half a block on a logarithmic scale. At most `n_origins`
    time origins are used; errors are from `n_blocks` blocks of these, and too small at longer times than half a block,
    which blocks share. centres, relative_to: as in `msd`.
    """
    frames = Frames.of(frames)
    edges = _edges(r_max_nm, bin_width_nm)
    lags = _lags(frames, lags_ps, n_blocks)
    (paths,) = collect_paths(frames, [element], centres=centres, relative_to=relative_to)
    n_bins = len(edges) - 1
    counts = np.zeros((len(lags), n_blocks, n_bins))
    used = np.zeros((len(lags), n_blocks))
    for moved in paths.blocks():
        for row, lag in enumerate(lags):
            for block, origins in enumerate(time_origins(frames.n_frames, lag, n_blocks, n_origins)):
                steps = moved[origins + lag] - moved[origins]
                bins = (np.sqrt(np.einsum("fkx,fkx->fk", steps, steps)) / bin_width_nm).astype(np.int64).ravel()
                counts[row, block] += np.bincount(np.minimum(bins, n_bins), minlength=n_bins + 1)[:n_bins]
                used[row, block] += len(bins)
    density = counts / used[:, :, None] / np.diff(edges)
    return VanHove(
        name=f"van_hove_self_{plain(element)}",
        symbol="self_per_nm",
        label=f"4πr² Gₛ of {element} × nm",
        r_nm=(edges[1:] + edges[:-1]) / 2,
        lag_ps=paths.spacing_ps * lags.astype(np.float64),
        values=density.mean(axis=1),
        errors=np.stack([standard_errors(blocks) for blocks in density]),
    )


def van_hove_distinct(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str],
    *,
    lags_ps: tuple[float, ...] | None = None,
    r_max_nm: float = 0.8,
    bin_width_nm: float = 0.01,
    n_blocks: int = 5,
    n_origins: int | None = None,
    relative_to: str = "all",
) -> VanHove:
    """Distinct part of van Hove's function over the mean density, G_d(r, t)/ρ: others around where an atom was.

    L. van Hove, Phys. Rev. 95, 249 (1954). The radial distribution function at time 0 and 1 at long times. First of the
    pair: the atom that was there, second: the others a time later. `lags_ps`, `n_blocks`: as in `van_hove_self`. At
    most `n_origins` time origins are used, by default 300,000 over the number of atoms, 100 at most and at least one
    for each block.
    """
    frames = Frames.of(frames)
    cells = frames.cells_for("a distinct van Hove function")
    edges = _edges(r_max_nm, bin_width_nm)
    lags = _lags(frames, lags_ps, n_blocks)
    first, second = (atoms_of(frames.topology, selection) for selection in pair)
    same = np.intersect1d(first, second)
    if len(same) and not np.array_equal(first, second):
        raise ValueError(f"`{pair[0]}` and `{pair[1]}` share {len(same)} atoms; choose the same or different ones")
    of_one = bool(len(same))
    if of_one and len(first) == 1:
        raise ValueError(f"`{pair[0]}` is one atom, around which there is no other; choose more, or two selections")
    selections = pair[:1] if of_one else pair
    all_paths = collect_paths(frames, selections, relative_to=relative_to, unwrapped=False)
    were, are = all_paths[0], all_paths[-1]
    if n_origins is None:
        n_origins = min(max(n_blocks, ATOMS_AS_ORIGINS // were.n_paths), 100)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    found = np.zeros((len(lags), n_blocks, len(shells)))
    for row, lag in enumerate(lags):
        for block, origins in enumerate(time_origins(frames.n_frames, lag, n_blocks, n_origins)):
            for f in origins:
                near = pairs_within(were.positions_nm(f), are.positions_nm(f + lag), cells[f], r_max_nm)
                distances = near.distance_nm[near.centre != near.neighbour] if of_one else near.distance_nm
                density = (are.n_paths - of_one) / np.linalg.det(cells[f])
                found[row, block] += np.histogram(distances, edges)[0] / (were.n_paths * density * shells)
            found[row, block] /= len(origins)
    return VanHove(
        name=f"van_hove_distinct_{file_name(pair)}",
        symbol="distinct",
        label=f"G_d/ρ of {'–'.join(pair)}",
        r_nm=(edges[1:] + edges[:-1]) / 2,
        lag_ps=were.spacing_ps * lags.astype(np.float64),
        values=found.mean(axis=1),
        errors=np.stack([standard_errors(blocks) for blocks in found]),
    )


def _edges(r_max_nm: float, bin_width_nm: float) -> Array:
    if not 0 < bin_width_nm <= r_max_nm:
        raise ValueError(f"`bin_width_nm` is {bin_width_nm}; it must be positive and at most `r_max_nm`, {r_max_nm}")
    return bin_width_nm * np.arange(int(r_max_nm / bin_width_nm + 1e-6) + 1, dtype=np.float64)


def _lags(frames: Frames, lags_ps: Sequence[float] | None, n_blocks: int) -> NDArray[np.int64]:
    """Lags in frames, (l,)."""
    spacing, longest = frames.spacing_ps(), frames.n_frames - 1
    if lags_ps is None:
        half_block = max(1, frames.n_frames // max(1, n_blocks) // 2)
        return np.unique(np.geomspace(max(1, longest // 400), half_block, 4).round().astype(np.int64))
    lags = np.unique(np.rint(np.array(lags_ps) / spacing).astype(np.int64))
    if not len(lags) or lags[0] < 1 or lags[-1] >= longest:
        raise ValueError(
            f"`lags_ps` are {', '.join(f'{lag:g}' for lag in lags_ps)}; they must be at least the time between frames, "
            f"{spacing:g} ps, and less than that of the trajectory, {longest * spacing:g} ps"
        )
    return lags


def time_origins(n_frames: int, lag: int, n_blocks: int, n_origins: int) -> list[NDArray[np.int64]]:
    """Time origins of each block."""
    if n_origins < 1:
        raise ValueError(f"`n_origins` is {n_origins}; it must be 1 or more")
    origins = np.arange(n_frames - lag)[:: math.ceil((n_frames - lag) / n_origins)]
    return [origins[part] for part in block_slices(len(origins), n_blocks, "time origins")]
