"""Torsions φ and ψ of a peptide's backbone.

Symbols used in this file
    f  frames     r  residues that have both torsions     p  bins of one torsion
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from mdtraj.geometry.dihedral import indices_phi, indices_psi
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import block_average, block_slices, standard_errors
from openmm_allegro.analysis.frames import Frames, refuse_broken
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
REGIONS = {"alpha": ((-160, -20), (-120, 50)), "beta": ((-180, -20), (50, 240)), "left": ((20, 120), (-60, 120))}
"""Boxes of φ and ψ in degrees: right-handed helix; strand and PII, beyond ψ = 180 too; left-handed helix."""


@dataclass(frozen=True)
class Ramachandran:
    """How often the backbone has which torsions, over all residues of the selection."""

    residues: tuple[str, ...]
    """Names with numbers, `ALA2`."""
    edges_deg: Array
    """Of the bins of either torsion, (p + 1,)."""
    density: Array
    """Probability per square degree, first axis φ, (p, p)."""
    psi_blocks: Array
    """Probability density of ψ [1/°] in five blocks of frames, (5, p)."""
    regions: dict[str, Measured]
    """Fraction of α, β and left-handed torsions, with errors from blocks of frames."""

    @property
    def name(self) -> str:
        return "ramachandran" if len(self.residues) != 1 else f"ramachandran_{self.residues[0]}"

    def write_csv(self, path: str | Path) -> Path:
        centres = (self.edges_deg[1:] + self.edges_deg[:-1]) / 2
        phi, psi = (grid.ravel() for grid in np.meshgrid(centres, centres, indexing="ij"))
        return write_table(path, {"phi_deg": phi, "psi_deg": psi, "density_per_deg2": self.density.ravel()})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        from matplotlib.ticker import ScalarFormatter

        shown = np.ma.masked_equal(self.density.T, 0.0)
        picture = axes.pcolormesh(self.edges_deg, self.edges_deg, shown, cmap="viridis", rasterized=True)
        powers = ScalarFormatter()
        powers.set_powerlimits((-2, 2))
        axes.figure.colorbar(picture, ax=axes, label="probability density / (1/deg²)", format=powers)
        axes.set_xlabel("φ / °")
        axes.set_ylabel("ψ / °")
        axes.set_xticks(range(-180, 181, 60))
        axes.set_yticks(range(-180, 181, 60))
        axes.set_aspect("equal")
        if label is not None:
            axes.set_title(label, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        return {f"{region}_fraction": measured for region, measured in self.regions.items()}

    def curve(self) -> Curve:
        """Distribution of ψ, which tells helix from strand."""
        centres = (self.edges_deg[1:] + self.edges_deg[:-1]) / 2
        density = self.density.sum(axis=0) * np.diff(self.edges_deg)
        return Curve(centres, density, standard_errors(self.psi_blocks), "ψ / °", "probability density / (1/°)")


def ramachandran(frames: Frames | mdtraj.Trajectory, selection: str = "all", *, n_bins: int = 72) -> Ramachandran:
    """Joint distribution of φ and ψ (G. N. Ramachandran et al., J. Mol. Biol. 7, 95 (1963)) of the selected residues.

    A residue counts if its Cα is selected and it has both torsions; atoms are named as in the PDB, and bonds may cross
    the faces of the cell. Errors are from blocks of frames.
    """
    if n_bins < 2:
        raise ValueError(f"`n_bins` is {n_bins}; it must be 2 or more")
    frames = Frames.of(frames)
    phi_atoms, psi_atoms = _torsions(frames.topology, selection)
    atoms = np.unique(np.concatenate([phi_atoms, psi_atoms]))
    here = [np.searchsorted(atoms, quadruples) for quadruples in (phi_atoms, psi_atoms)]
    phi: list[Array] = []
    psi: list[Array] = []
    for chunk in frames.chunks(atoms):
        refuse_broken(chunk.xyz, sum(map(len, phi)))
        for quadruples, values in zip(here, (phi, psi), strict=True):
            angles = np.degrees(mdtraj.compute_dihedrals(chunk, quadruples, periodic=frames.cells_nm is not None))
            values.append(angles.astype(np.float64))
    all_phi, all_psi = np.concatenate(phi), np.concatenate(psi)  # (f, r)
    edges = np.linspace(-180.0, 180.0, n_bins + 1)
    counts = np.histogram2d(all_phi.ravel(), all_psi.ravel(), bins=(edges, edges), density=True)[0]
    parts = block_slices(frames.n_frames, min(5, frames.n_frames))
    psi_blocks = np.stack([np.histogram(all_psi[part], edges, density=True)[0] for part in parts])
    regions = {}
    for region, ((phi_low, phi_high), (psi_low, psi_high)) in REGIONS.items():
        inside = ((all_phi - phi_low) % 360 < phi_high - phi_low) & ((all_psi - psi_low) % 360 < psi_high - psi_low)
        average = block_average(inside.mean(axis=1))
        regions[region] = Measured(average.mean, average.error)
    names = tuple(str(frames.topology.atom(int(quadruple[2])).residue) for quadruple in phi_atoms)
    return Ramachandran(names, edges, counts, psi_blocks, regions)


def _torsions(topology: mdtraj.Topology, selection: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Atoms of φ (C, N, Cα, C) and of ψ (N, Cα, C, N) of the selected residues, each (r, 4)."""
    selected = set(atoms_of(topology, selection).tolist())
    phi = {int(quadruple[2]): quadruple for quadruple in indices_phi(topology)}
    psi = {int(quadruple[1]): quadruple for quadruple in indices_psi(topology)}
    both = [alpha for alpha in phi if alpha in psi and alpha in selected]
    if not both:
        raise ValueError(
            f"no residue of `{selection}` has both φ and ψ; the atoms of a peptide must be named N, CA and C, and ψ "
            f"needs the residue that follows"
        )
    return np.stack([phi[alpha] for alpha in both]), np.stack([psi[alpha] for alpha in both])
