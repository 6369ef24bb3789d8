"""Static dielectric constant from the fluctuations of the total dipole.

Symbols used in this file
    f  frames     k  atoms of the selection     m  molecules     x  Cartesian axis
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.blocks import jackknife
from openmm_allegro.analysis.charges import charges_of
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import Molecules
from openmm_allegro.analysis.pictures import times_or_numbers, with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
E2_PER_EPSILON0_KT_NM = units.ELEMENTARY_CHARGE_C**2 / (
    units.VACUUM_PERMITTIVITY_F_PER_M * units.BOLTZMANN_J_PER_K * 1e-9
)
"""e² / (ε₀ k · 1 nm) in K."""


@dataclass(frozen=True)
class Dielectric:
    """Total dipole of each frame and the dielectric constant from its fluctuations."""

    times_ps: Array
    """(f,)"""
    dipoles_e_nm: Array
    """Total dipole, (f, 3)."""
    running_constant: Array
    """Dielectric constant from the frames so far, (f,): whether it has settled."""
    constant: Measured
    """Relative static dielectric constant."""
    kirkwood: Measured
    """⟨M²⟩ / (m ⟨μ²⟩), fluctuations of M as in the constant; 1 for molecules that do not see each other."""
    dipole_debye: Measured
    """Root mean square dipole of a molecule."""

    @property
    def name(self) -> str:
        return "dielectric"

    def write_csv(self, path: str | Path) -> Path:
        columns = {f"dipole_{axis}_e_nm": self.dipoles_e_nm[:, k] for k, axis in enumerate("xyz")}
        return write_table(path, {"time_ps": self.times_ps} | columns | {"dielectric_so_far": self.running_constant})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        value = f"ε = {with_error(*self.constant)}"
        text = value if label is None else f"{label}: {value}"
        x, x_label = times_or_numbers(self.times_ps)
        (line,) = axes.plot(x, self.running_constant, linewidth=1.0, label=text)
        error = 0.0 if np.isnan(self.constant.error) else self.constant.error
        low, high = self.constant.value - error, self.constant.value + error
        axes.axhspan(low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel("dielectric constant so far")
        axes.set_ylim(bottom=0.0)
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        return {
            "dielectric_constant": self.constant,
            "kirkwood_factor": self.kirkwood,
            "molecular_dipole_debye": self.dipole_debye,
        }

    def curve(self) -> Curve | None:
        return None


def dielectric_constant(
    frames: Frames | mdtraj.Trajectory,
    charges: str | Path,
    *,
    temperature_k: float,
    selection: str = "all",
    n_blocks: int = 10,
) -> Dielectric:
    """Static dielectric constant of neutral molecules with fixed charges; charges: see `charges_of`.

    ε = 1 + (⟨M²⟩ − ⟨M⟩²) / (3 ε₀ ⟨V⟩ kT) for a conducting boundary, which Ewald sums have (M. Neumann, Mol. Phys. 50,
    841 (1983)). Charges are nuclear or of a force field: what electrons answer beyond them is not in ε. M is summed
    over whole molecules of the selection. Errors by jackknife over `n_blocks` blocks of frames; ε settles slowly, over
    nanoseconds in water.
    """
    if temperature_k <= 0:
        raise ValueError(f"`temperature_k` is {temperature_k}; it must be positive")
    frames = Frames.of(frames)
    cells = frames.cells_for("a dielectric constant")
    all_charges = charges_of(frames.topology, charges)
    molecules = Molecules.of(frames, atoms_of(frames.topology, selection))
    _refuse_cut_or_charged(frames, molecules, all_charges)
    q = all_charges[molecules.atoms][:, None]
    first = molecules.first[molecules.molecule]
    dipoles = np.empty((frames.n_frames, 3))
    squares = np.empty(frames.n_frames)
    for f, positions in enumerate(frames.positions_nm(molecules.atoms)):
        whole = molecules.whole_nm(positions, cells[f])
        of_molecules = molecules.sums(q * (whole - whole[first]))  # (m, 3)
        dipoles[f], squares[f] = of_molecules.sum(axis=0), (of_molecules**2).sum() / molecules.n_molecules
    if not np.any(squares > 0):
        raise ValueError("no molecule has a dipole with these charges; a dielectric constant cannot be had from them")
    volumes = np.linalg.det(cells)
    factor = E2_PER_EPSILON0_KT_NM / (3 * temperature_k)

    def estimates(kept: NDArray[np.int64]) -> Array:
        variance = float(dipoles[kept].var(axis=0).sum())
        mu2 = float(squares[kept].mean())
        constant = 1 + factor * variance / float(volumes[kept].mean())
        return np.array([constant, variance / (molecules.n_molecules * mu2), units.E_NM_TO_DEBYE * np.sqrt(mu2)])

    values, errors = jackknife(estimates, frames.n_frames, n_blocks)
    so_far = np.arange(1, frames.n_frames + 1)
    shifted = dipoles - dipoles[0]
    means = np.cumsum(shifted, axis=0) / so_far[:, None]
    variances = np.cumsum((shifted**2).sum(axis=1)) / so_far - (means**2).sum(axis=1)
    running = 1 + factor * variances / (np.cumsum(volumes) / so_far)
    found = [Measured(float(value), float(error)) for value, error in zip(values, errors, strict=True)]
    return Dielectric(frames.times_ps, dipoles, running, *found)


def _refuse_cut_or_charged(frames: Frames, molecules: Molecules, charges: Array) -> None:
    everything = Molecules.of(frames)
    touched = np.unique(everything.molecule[molecules.atoms])
    if np.isin(everything.molecule, touched).sum() != len(molecules.atoms):
        raise ValueError(
            "the selection cuts molecules; select whole ones, such as `water`, for their dipoles to have a meaning"
        )
    totals = molecules.sums(charges[molecules.atoms][:, None])[:, 0]
    charged = np.flatnonzero(np.abs(totals) > 1e-3)
    if len(charged):
        first = molecules.atoms[int(np.flatnonzero(molecules.molecule == charged[0])[0])]
        raise ValueError(
            f"the molecule of atom {first} ({frames.topology.atom(first)}) has the charge {totals[charged[0]]:.4g} e, "
            f"but a dipole does not depend on where molecules are only if they are neutral; correct the charges, or "
            f"leave ions out with `selection`"
        )
