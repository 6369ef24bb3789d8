"""Ions that are free, in solvent-separated pairs, in contact pairs or in aggregates.

Symbols used in this file
    c, a  cations and anions     s  sizes of clusters, in ions     m  blocks of frames
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from openmm_allegro.analysis.blocks import standard_error
from openmm_allegro.analysis.cutoffs import cutoff_from_second_shell, cutoff_from_shell
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import Pairs, pairs_of
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, file_name, plain
from openmm_allegro.analysis.shares import Shares
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATES = ("free", "solvent-separated pair", "contact pair", "aggregate")


@dataclass(frozen=True)
class IonPairs:
    """How the ions of a salt are paired, and the clusters that they make."""

    pair: tuple[str, str]
    states: Shares
    """Of all cations, those in each of the `STATES`."""
    clusters: Shares
    """Of all ions, those in a cluster of each composition, `2 Na, 1 Cl`."""
    sizes: Shares
    """Of all ions, those in a cluster of so many ions."""
    mean_cluster: Measured
    """Ions in the cluster of an ion, mean over ions."""
    contact_nm: float
    separated_nm: float

    @property
    def name(self) -> str:
        return f"ion_pairs_{file_name(self.pair)}"

    def figures(self) -> dict[str, Measured]:
        found = {f"{plain(state)}_fraction": self.states.share(state) for state in STATES}
        cutoffs = {"contact_nm": Measured(self.contact_nm), "separated_nm": Measured(self.separated_nm)}
        return found | {"mean_cluster_of_an_ion": self.mean_cluster} | cutoffs

    def curve(self) -> Curve:
        """Fraction of ions by the size of their cluster."""
        return self.sizes.by_number(1, "ions in the cluster", "fraction of ions")

    def write_csv(self, path: str | Path) -> Path:
        """States of the cations, then clusters of all ions."""
        both = (self.states, self.clusters)
        of = [of for of, shares in zip(("cations", "ions"), both, strict=True) for _ in shares.kinds]
        kinds = [kind for shares in both for kind in shares.kinds]
        columns = {"of": np.array(of, dtype=object), "kind": np.array(kinds, dtype=object)}
        fractions = np.concatenate([shares.fraction for shares in both])
        errors = np.concatenate([shares.error for shares in both])
        return write_table(path, columns | {"fraction": fractions, "fraction_error": errors})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        self.states.draw(axes, self.pair[0], label)


def ion_pairs(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str],
    *,
    contact_nm: float | None = None,
    separated_nm: float | None = None,
    n_blocks: int = 5,
) -> IonPairs:
    """States of the cations of a salt, `("Na", "Cl")` or for PF6 `("Li", "P")`, and clusters; in any cell or none.

    Ions closer than `contact_nm` touch, by default the first minimum of their g(r); a cluster is a connected component
    of touching ions. A cation alone is in a solvent-separated pair where an anion is closer than `separated_nm`, by
    default the second minimum (Y. Marcus and G. Hefter, Chem. Rev. 106, 4585 (2006)), else free; a cluster of two is a
    contact pair, a larger one an aggregate. Errors come from `n_blocks` blocks of frames.
    """
    frames = Frames.of(frames)
    contact = cutoff_from_shell(frames, pair, contact_nm, "contact_nm")
    separated = cutoff_from_second_shell(frames, pair, separated_nm, "separated_nm")
    if separated < contact:
        raise ValueError(f"`separated_nm` is {separated:.4g}, below `contact_nm`, {contact:.4g}; give a larger one")
    sets = Selections.of(frames.topology, pair)
    cations, anions = sets.places
    if np.intersect1d(cations, anions).size:
        raise ValueError(f"cations `{pair[0]}` and anions `{pair[1]}` have atoms in common; each ion can be one only")
    counters: list[list[Counter[str]]] = [[Counter() for _ in range(n_blocks)] for _ in range(3)]
    states, clusters, sizes = counters
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        near = pairs_of(positions, cations, anions, cell, separated)
        cations_in, anions_in = _cluster_of_each_ion(near, near.distance_nm <= contact, len(cations), len(anions))
        size = cations_in + anions_in  # (c + a,)
        state = np.minimum(size[: len(cations)], 3)
        state[(state == 1) & ~np.isin(np.arange(len(cations)), near.centre)] = 0
        states[block] += Counter(STATES[k] for k in state.tolist())
        for n_c, n_a in zip(cations_in.tolist(), anions_in.tolist(), strict=True):
            words = [f"{n} {kind}" for n, kind in ((n_c, pair[0]), (n_a, pair[1])) if n]
            clusters[block][", ".join(words)] += 1
        sizes[block] += Counter(str(n) for n in size.tolist())
    means = np.array([np.average([int(size) for size in block], weights=list(block.values())) for block in sizes])
    return IonPairs(
        pair=pair,
        states=Shares.of(states),
        clusters=Shares.of(clusters),
        sizes=Shares.of(sizes),
        mean_cluster=Measured(float(means.mean()), standard_error(means)),
        contact_nm=contact,
        separated_nm=separated,
    )


def _cluster_of_each_ion(
    near: Pairs, touching: NDArray[np.bool_], n_cations: int, n_anions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cations and anions in the cluster of each ion, cations first; (c + a,) each. touching: which of the pairs."""
    rows, columns = near.centre[touching], n_cations + near.neighbour[touching]
    n = n_cations + n_anions
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    n_clusters, cluster = connected_components(graph, directed=False)
    cations_of = np.bincount(cluster[:n_cations], minlength=n_clusters)
    anions_of = np.bincount(cluster[n_cations:], minlength=n_clusters)
    return cations_of[cluster], anions_of[cluster]
