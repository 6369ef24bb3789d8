"""The first shell of an ion: what is in it and how often.

Symbols used in this file
    i  ions     k  selections of ligands     s  numbers of ligands, 0, 1, …
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.cutoffs import cutoff_from_shell
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import pairs_of
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, file_name, plain
from openmm_allegro.analysis.shares import Shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class SolvationShell:
    """Composition of the first shell of an ion."""

    ion: str
    ligands: tuple[str, ...]
    compositions: Shares
    """Of all ions, those with a shell such as `4 O, 1 Cl`."""
    sizes: Shares
    """Of all ions, those with so many ligands of any kind."""
    coordination: tuple[Measured, ...]
    """Mean number of each ligand."""
    cutoffs_nm: tuple[float, ...]
    """Where the shell ends for each ligand."""

    @property
    def name(self) -> str:
        return f"solvation_{file_name((self.ion, *self.ligands))}"

    def figures(self) -> dict[str, Measured]:
        """Mean numbers, the five most frequent shells and the cutoffs; `figure` knows the other shells."""
        found = {
            f"coordination_{plain(ligand)}": mean for ligand, mean in zip(self.ligands, self.coordination, strict=True)
        }
        found |= dict(list(self.compositions.figures("shell_").items())[:5])
        cutoffs = zip(self.ligands, self.cutoffs_nm, strict=True)
        return found | {f"cutoff_{plain(ligand)}_nm": Measured(cutoff) for ligand, cutoff in cutoffs}

    def figure(self, name: str) -> Measured | None:
        """One figure by its name, of any shell."""
        return self.figures().get(name) or self.compositions.figure(name, "shell_")

    def curve(self) -> Curve:
        """Fraction of ions by the number of their ligands."""
        return self.sizes.by_number(0, f"ligands of {self.ion}", f"fraction of {self.ion}")

    def write_csv(self, path: str | Path) -> Path:
        return self.compositions.write_csv(path, "shell")

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        self.compositions.draw(axes, f"{self.ion} with this shell", label)


def solvation_shell(
    frames: Frames | mdtraj.Trajectory,
    selections: tuple[str, ...],
    *,
    cutoff_nm: float | tuple[float, ...] | None = None,
    by_residue: bool = False,
    n_blocks: int = 5,
) -> SolvationShell:
    """Composition of the first shell of an ion, the first selection, of ligands, all others; in any cell or none.

    The shell ends at `cutoff_nm`, one for all or one for each ligand, by default at the first minimum of g(r) of the
    ion and each ligand. by_residue: atoms of one residue count once, as for a solvent with two donor atoms. Errors come
    from `n_blocks` blocks of frames.
    """
    ion, *ligands = selections
    if not ligands:
        raise ValueError(f"a shell of {ion} needs ligands; give selections such as `{ion}` and `O`")
    frames = Frames.of(frames)
    given = cutoff_nm if isinstance(cutoff_nm, tuple) else (cutoff_nm,) * len(ligands)
    if len(given) != len(ligands):
        raise ValueError(f"`cutoff_nm` has {len(given)} values for {len(ligands)} ligands; give one for each, or one")
    pairs = [(ion, ligand) for ligand in ligands]
    cutoffs = [cutoff_from_shell(frames, *each, "cutoff_nm") for each in zip(pairs, given, strict=True)]
    sets = Selections.of(frames.topology, selections)
    ions = sets.places[0]
    for first, second, _ in sets.shared():
        if first > 0:  # not the ions, which may be ligands of each other
            raise ValueError(
                f"the ligands `{selections[first]}` and `{selections[second]}` have atoms in common, which would count "
                f"twice; give selections that share none"
            )
    residue = np.array([frames.topology.atom(int(atom)).residue.index for atom in sets.atoms])
    if by_residue and frames.topology.n_residues == 1:
        raise ValueError(
            "the topology has one residue, so that `by_residue` counts nothing; name molecules as residues"
        )
    shells: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(n_blocks)]
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        numbers = np.zeros((len(ions), len(ligands)), dtype=np.int64)
        for k, (atoms, cutoff) in enumerate(zip(sets.places[1:], cutoffs, strict=True)):
            found = pairs_of(positions, ions, atoms, cell, cutoff)
            met = found.centre
            if by_residue:
                met = np.unique(np.stack([met, residue[atoms[found.neighbour]]]), axis=1)[0]
            numbers[:, k] = np.bincount(met, minlength=len(ions))
        shells[block].update(map(tuple, numbers.tolist()))
    return _result(ion, tuple(ligands), shells, tuple(cutoffs))


def _result(
    ion: str, ligands: tuple[str, ...], shells: list[Counter[tuple[int, ...]]], cutoffs: tuple[float, ...]
) -> SolvationShell:
    """shells: in each block of frames, how often there were so many of each ligand."""
    means = np.array(
        [np.average(list(block), axis=0, weights=list(block.values())) for block in shells]
    )  # (blocks, ligands)
    coordination = zip(means.mean(axis=0).tolist(), standard_errors(means).tolist(), strict=True)
    named, sized = [], []
    for block in shells:
        named.append(Counter({_words(numbers, ligands): count for numbers, count in block.items()}))
        sizes: Counter[str] = Counter()
        for numbers, count in block.items():
            sizes[str(sum(numbers))] += count
        sized.append(sizes)
    return SolvationShell(
        ion, ligands, Shares.of(named), Shares.of(sized), tuple(Measured(*each) for each in coordination), cutoffs
    )


def _words(numbers: tuple[int, ...], ligands: tuple[str, ...]) -> str:
    return ", ".join(f"{n} {ligand}" for n, ligand in zip(numbers, ligands, strict=True) if n) or "none"
