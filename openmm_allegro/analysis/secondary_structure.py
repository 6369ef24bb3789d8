"""Secondary structure of a protein over time.

Symbols used in this file
    f  frames     r  residues
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import block_average, block_slices, standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import whole_chunks
from openmm_allegro.analysis.pictures import times_or_numbers
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
STATES = {"C": "coil", "E": "strand", "H": "helix"}
COLORS = ("#dddddd", "#e6a817", "#3b6fb6")


@dataclass(frozen=True)
class SecondaryStructure:
    """Helix, strand or coil of each residue in each frame."""

    times_ps: Array
    """(f,)"""
    residues: NDArray[np.int64]
    """Numbers of the residues in the topology's file, (r,)."""
    codes: NDArray[np.str_]
    """H, E or C, (f, r)."""

    @property
    def name(self) -> str:
        return "dssp"

    def fractions(self) -> dict[str, Array]:
        """Fraction of residues in each state by frame, (f,)."""
        return {state: (self.codes == code).mean(axis=1) for code, state in STATES.items()}

    def write_csv(self, path: str | Path) -> Path:
        columns = {f"{state}_fraction": values for state, values in self.fractions().items()}
        codes = np.array(["".join(row) for row in self.codes])
        return write_table(path, {"time_ps": self.times_ps} | columns | {"codes": codes})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        numbers = np.searchsorted(list(STATES), self.codes.T)  # (r, f)
        x, x_label = times_or_numbers(self.times_ps)
        step = (x[-1] - x[0]) / max(1, len(x) - 1) or 1.0
        ends = (x[0] - step / 2, x[-1] + step / 2, -0.5, len(self.residues) - 0.5)
        colors = ListedColormap(COLORS)
        axes.imshow(
            numbers, cmap=colors, vmin=-0.5, vmax=2.5, aspect="auto", origin="lower", extent=ends, interpolation="none"
        )
        shown = np.unique(np.linspace(0, len(self.residues) - 1, 8).astype(int))
        axes.set_yticks(shown, self.residues[shown])
        axes.set_xlabel(x_label)
        axes.set_ylabel("residue")
        if label is not None:
            axes.set_title(label, fontsize="small")
        patches = [Patch(color=color, label=state) for color, state in zip(COLORS, STATES.values(), strict=True)]
        axes.legend(
            handles=patches, ncols=3, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False
        )

    def figures(self) -> dict[str, Measured]:
        averages = {state: block_average(values) for state, values in self.fractions().items()}
        return {f"{state}_fraction": Measured(each.mean, each.error) for state, each in averages.items()}

    def curve(self) -> Curve:
        """How often each residue is in a helix or strand, with errors from five blocks of frames."""
        ordered = (self.codes != "C").astype(np.float64)
        parts = block_slices(len(ordered), min(5, len(ordered)))
        errors = standard_errors(np.stack([ordered[part].mean(axis=0) for part in parts]))
        residues = np.arange(1, len(self.residues) + 1, dtype=np.float64)
        return Curve(residues, ordered.mean(axis=0), errors, "residue of the selection", "fraction helix or strand")


def secondary_structure(frames: Frames | mdtraj.Trajectory, selection: str = "protein") -> SecondaryStructure:
    """Helix (H, G, I), strand (E, B) or coil of every residue by DSSP, through mdtraj.

    W. Kabsch and C. Sander, Biopolymers 22, 2577 (1983). Molecules are made whole first. Residues without the atoms N,
    CA, C and O, such as caps, are left out.
    """
    frames = Frames.of(frames)
    atoms = np.unique(atoms_of(frames.topology, selection))
    codes = np.concatenate([mdtraj.compute_dssp(chunk) for chunk in whole_chunks(frames, atoms)])
    protein = codes[0] != "NA"
    if not np.any(protein):
        raise ValueError(
            f"no residue of `{selection}` has the atoms N, CA, C and O, which DSSP needs; name them as in the PDB"
        )
    residues = frames.topology.subset(atoms).residues
    numbers = np.array([residue.resSeq for residue in residues])[protein]
    return SecondaryStructure(frames.times_ps, numbers, codes[:, protein].astype("U1"))
