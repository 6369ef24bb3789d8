"""Networks of polyhedra, such as PS4 and P2S7: which units there are and how they are linked.

Symbols used in this file
    z  bonds of a former (P, Si, Ge, …) and a ligand (S, O, …)     k  bonds of two formers
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from openmm_allegro.analysis.blocks import standard_error
from openmm_allegro.analysis.cutoffs import check_cutoff, cutoff_from_shell
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import pairs_of
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, element_symbols, file_name
from openmm_allegro.analysis.shares import Shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARED = {1: "corner", 2: "edge", 3: "face"}
"""What two polyhedra have in common, by the number of ligands between them."""
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class NetworkUnits:
    """Units of a network of formers and ligands."""

    selections: tuple[str, str]
    units: Shares
    """Of all formers, those in a unit of each formula; `P2S6 (P–P)` has a bond between formers."""
    connectivity: Shares
    """Of all formers, those with n bridging ligands, `Q0`, `Q1`, …"""
    former_coordination: Shares
    """Of all formers, those with so many ligands."""
    ligands: Shares
    """Of all ligands, those that are free (no former), terminal (one), bridging (two) or shared by three or more."""
    links: Shares
    """Of all linked pairs of formers, those that share a corner, an edge or a face."""
    links_per_former: Measured
    """Linked pairs for each former."""
    cutoff_nm: float

    @property
    def name(self) -> str:
        return f"network_{file_name(self.selections)}"

    def figures(self) -> dict[str, Measured]:
        """Every fraction, by what it is of."""
        found: dict[str, Measured] = {}
        for group, shares in self._groups().items():
            found |= shares.figures(group)
        return found | {"links_per_former": self.links_per_former, "cutoff_nm": Measured(self.cutoff_nm)}

    def figure(self, name: str) -> Measured | None:
        """One figure by its name, of kinds that never occurred too."""
        of_kinds = (shares.figure(name, group) for group, shares in self._groups().items())
        return self.figures().get(name) or next((each for each in of_kinds if each is not None), None)

    def _groups(self) -> dict[str, Shares]:
        """By how the names of their figures begin."""
        return {
            "unit_": self.units,
            "connectivity_": self.connectivity,
            "ligand_": self.ligands,
            "link_": self.links,
            "coordination_": self.former_coordination,
        }

    def curve(self) -> Curve:
        """Fraction of formers by the number of bridging ligands."""
        former, kinds = self.selections[0], tuple(kind.removeprefix("Q") for kind in self.connectivity.kinds)
        shares = replace(self.connectivity, kinds=kinds)
        return shares.by_number(0, f"bridging ligands of {former}", f"fraction of {former}")

    def write_csv(self, path: str | Path) -> Path:
        return self.units.write_csv(path, "unit")

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """Units as bars, the Qn in the corner."""
        self.units.draw(axes, f"{self.selections[0]} in units", label)
        lines = [f"{kind}  {self.connectivity.share(kind).value:.2f}" for kind in sorted(self.connectivity.kinds)]
        axes.text(0.98, 0.5, "\n".join(lines), transform=axes.transAxes, ha="right", va="center", fontsize="small")


def network_units(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str],
    *,
    cutoff_nm: float | None = None,
    former_cutoff_nm: float | None = None,
    n_blocks: int = 5,
) -> NetworkUnits:
    """Units, links and Qn of the network of formers and ligands, such as `("P", "S")`; in any cell or none.

    Former and ligand are bonded where closer than `cutoff_nm`, by default the first minimum of their g(r). Two formers
    are bonded where closer than `former_cutoff_nm` (P–P in P2S6: 0.25 nm), by default never. A unit is a connected
    component of these bonds; Qn counts the ligands of a former that have another former too (G. Engelhardt and D.
    Michel, High-Resolution Solid-State NMR of Silicates and Zeolites, Wiley 1987). A former selection of several
    elements, `element P or element Ge`, makes mixed units. Errors come from `n_blocks` blocks of frames.
    """
    frames = Frames.of(frames)
    cutoff = cutoff_from_shell(frames, pair, cutoff_nm, "cutoff_nm")
    if former_cutoff_nm is not None:
        check_cutoff(former_cutoff_nm, "former_cutoff_nm")
    sets = Selections.of(frames.topology, pair)
    formers, ligands = sets.places
    if np.intersect1d(formers, ligands).size:
        raise ValueError(f"formers `{pair[0]}` and ligands `{pair[1]}` have atoms in common; each atom can be one only")
    symbols = element_symbols(frames.topology)[sets.atoms]
    counters: list[list[Counter[str]]] = [[Counter() for _ in range(n_blocks)] for _ in range(5)]
    units, connectivity, coordination, kinds, links = counters
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        bonds = pairs_of(positions, formers, ligands, cell, cutoff)
        between = np.zeros((0, 2), dtype=np.int64)
        if former_cutoff_nm is not None:
            close = pairs_of(positions, formers, formers, cell, former_cutoff_nm)
            between = np.stack([close.centre, close.neighbour], axis=1)[close.centre < close.neighbour]
        former, ligand = np.unique(np.stack([bonds.centre, bonds.neighbour]), axis=1)
        formers_of_ligand = np.bincount(ligand, minlength=len(ligands))
        bridging = np.bincount(former, formers_of_ligand[ligand] > 1, minlength=len(formers)).astype(int)
        units[block] += _formulas(former, ligand, between, symbols[formers], symbols[ligands])
        connectivity[block] += Counter(f"Q{n}" for n in bridging.tolist())
        coordination[block] += Counter(str(n) for n in np.bincount(former, minlength=len(formers)).tolist())
        names = np.array(["free", "terminal", "bridging", "in 3 or more"])
        kinds[block] += Counter(names[np.minimum(formers_of_ligand, 3)].tolist())
        shared = _shared_ligands(former, ligand, len(formers), len(ligands))
        links[block] += Counter(SHARED.get(n, f"{n} ligands") for n in shared.tolist())
    frames_of_block = np.array([counter.total() for counter in connectivity]) / len(formers)
    per_former = np.array([counter.total() for counter in links]) / (frames_of_block * len(formers))
    return NetworkUnits(
        selections=pair,
        units=Shares.of(units),
        connectivity=Shares.of(connectivity),
        former_coordination=Shares.of(coordination),
        ligands=Shares.of(kinds),
        links=Shares.of(links),
        links_per_former=Measured(float(per_former.mean()), standard_error(per_former)),
        cutoff_nm=cutoff,
    )


def _formulas(
    former: Indices,
    ligand: Indices,
    between: Indices,
    former_symbols: NDArray[np.str_],
    ligand_symbols: NDArray[np.str_],
) -> Counter[str]:
    """Formers in units of each formula. former, ligand: ends of the bonds, (z,). between: bonds of formers, (k, 2)."""
    n_formers = len(former_symbols)
    symbols = np.concatenate([former_symbols, ligand_symbols])
    rows, columns = np.concatenate([former, between[:, 0]]), np.concatenate([n_formers + ligand, between[:, 1]])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(symbols), len(symbols)))
    unit = connected_components(graph, directed=False)[1]
    bonded = {int(unit[a]): f" ({'–'.join(sorted(symbols[[a, b]].tolist()))})" for a, b in between.tolist()}
    order = np.argsort(unit, kind="stable")  # formers first in every unit
    ends = np.cumsum(np.bincount(unit))
    found: Counter[str] = Counter()
    for number, n_in_unit in enumerate(np.bincount(unit[:n_formers]).tolist()):
        if n_in_unit:
            members = symbols[order[ends[number - 1] if number else 0 : ends[number]]]
            formula = _formula(members[:n_in_unit]) + _formula(members[n_in_unit:])
            found[formula + bonded.get(number, "")] += n_in_unit
    return found


def _formula(symbols: NDArray[np.str_]) -> str:
    return "".join(
        f"{symbol}{count if count > 1 else ''}" for symbol, count in sorted(Counter(symbols.tolist()).items())
    )


def _shared_ligands(former: Indices, ligand: Indices, n_formers: int, n_ligands: int) -> Indices:
    """For every pair of formers that share any, how many ligands they share."""
    ones = np.ones(len(former), dtype=np.int64)
    bonds = coo_array((ones, (former, ligand)), shape=(n_formers, n_ligands)).tocsr()
    common = (bonds @ bonds.T).tocoo()
    return np.asarray(common.data[common.row < common.col], dtype=np.int64)
