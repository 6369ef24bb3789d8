"""Hydrogen bonds by where the atoms are: how many, how long, how straight.

Symbols used in this file
    d, h, a  donors, hydrogens, acceptors     z  candidates d–h···a     x, y  bins of distance and angle
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.angles import products, sorted_arms
from openmm_allegro.analysis.blocks import standard_error
from openmm_allegro.analysis.cutoffs import check_cutoff
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.histograms import Density, Histogram
from openmm_allegro.analysis.neighbours import pairs_of
from openmm_allegro.analysis.pictures import draw_curve, with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import Selections, elements_of, file_name
from openmm_allegro.analysis.shares import Shares
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
CRITERIA = ("luzar-chandler", "baker-hubbard", "wernet-nilsson")
REACH_NM = 0.4
"""Longest distance from donor to acceptor that is looked at."""
ANGLE_BIN_DEGREES = 2.0


class Candidates(NamedTuple):
    """Donors with a hydrogen and acceptors near them, in one frame."""

    donor: NDArray[np.int64]
    """(z,)"""
    acceptor: NDArray[np.int64]
    """(z,)"""
    distance_nm: Array
    """From donor to acceptor, (z,)."""
    hydrogen_distance_nm: Array
    """From hydrogen to acceptor, (z,)."""
    donor_angle: Array
    """H–d···a in degrees, zero for a straight bond; (z,)."""
    hydrogen_angle: Array
    """d–H···a in degrees, 180 for a straight bond; (z,)."""


@dataclass(frozen=True)
class HydrogenBonds:
    """Hydrogen bonds from one selection of donors to one of acceptors."""

    pair: tuple[str, str]
    criterion: str
    per_donor: Measured
    """Bonds given by an atom of the donors."""
    per_acceptor: Measured
    """Bonds taken by an atom of the acceptors."""
    numbers: Shares
    """Of all atoms of either selection, those in so many bonds, given and taken."""
    distances: Density
    """From donor to acceptor, over bonds, in nm and 1/nm."""
    angles: Density
    """H–donor···acceptor, over bonds, in degrees and 1/degree."""
    map_counts: Array
    """Candidates in bins of distance and angle H–donor···acceptor, bonds or not, (x, y)."""
    map_bonds: Array
    """Those of them that are bonds, (x, y)."""

    @property
    def name(self) -> str:
        return f"hydrogen_bonds_{file_name(self.pair)}"

    def figures(self) -> dict[str, Measured]:
        """Means; `bonds_per_atom` counts what an atom gives and takes, which for water is the number of a molecule."""
        found = {"bonds_per_donor": self.per_donor, "bonds_per_acceptor": self.per_acceptor}
        if self.pair[0] == self.pair[1]:
            found["bonds_per_atom"] = Measured(2 * self.per_donor.value, 2 * self.per_donor.error)
        found |= {"mean_distance_nm": self.distances.mean, "mean_angle_degrees": self.angles.mean}
        return found | self.numbers.figures("in_", "_bonds_fraction")

    def figure(self, name: str) -> Measured | None:
        """One figure by its name, of any number of bonds."""
        return self.figures().get(name) or self.numbers.figure(name, "in_", "_bonds_fraction")

    def curve(self) -> Curve | None:
        """Distribution of the distances; None where there are no bonds."""
        if self.per_donor.value == 0:
            return None
        labels = (f"distance {'···'.join(self.pair)} of a bond / nm", "probability density / nm⁻¹")
        return Curve(self.distances.middles, self.distances.density, self.distances.error, *labels)

    def write_csv(self, path: str | Path) -> Path:
        columns = {"distance_nm": self.distances.middles, "density_per_nm": self.distances.density}
        return write_table(path, columns | {"density_error_per_nm": self.distances.error})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """All candidates by distance and angle with a line around the bonds; with a label the curve of distances."""
        curve = self.curve()
        if label is not None and curve is not None:
            draw_curve(axes, curve, label)
            return
        axes.set_title(f"{with_error(*self.per_donor)} bonds per donor", loc="left", fontsize="medium")
        axes.set_xlabel(f"distance {'···'.join(self.pair)} / nm")
        axes.set_ylabel("angle H–donor···acceptor / degree")
        filled = np.flatnonzero(self.map_counts.sum(axis=1))
        if len(filled) == 0:
            return
        extent = (0.0, REACH_NM, 0.0, 180.0)
        shown = np.where(self.map_counts > 0, self.map_counts, np.nan).T
        axes.imshow(np.log10(shown), origin="lower", extent=extent, aspect="auto", cmap="viridis")
        share = np.divide(
            self.map_bonds, self.map_counts, out=np.zeros_like(self.map_counts), where=self.map_counts > 0
        )
        if share.max() > 0.5:
            axes.contour(share.T, levels=[0.5], extent=extent, colors="black", linewidths=0.8)
        axes.set_xlim(max(0.0, REACH_NM * float(filled[0]) / len(self.map_counts) - 0.01), REACH_NM)


def hydrogen_bonds(
    frames: Frames | mdtraj.Trajectory,
    pair: tuple[str, str] = ("O", "O"),
    *,
    criterion: str = "luzar-chandler",
    covalent_nm: float = 0.125,
    bin_width_nm: float = 0.002,
    n_blocks: int = 5,
) -> HydrogenBonds:
    """Hydrogen bonds from donors to acceptors, in any cell or none; errors from `n_blocks` blocks of frames.

    criterion: `luzar-chandler` for d···a < 0.35 nm and H–d···a < 30° (A. Luzar and D. Chandler, Phys. Rev. Lett. 76,
    928 (1996)); `baker-hubbard` for H···a < 0.25 nm and d–H···a > 120° (E. N. Baker and R. E. Hubbard, Prog. Biophys.
    Mol. Biol. 44, 97 (1984)); `wernet-nilsson` for d···a < 0.33 nm − 4.4·10⁻⁵ nm (H–d···a / degree)² (Ph. Wernet et
    al., Science 304, 995 (2004)). A hydrogen belongs to the nearest donor, closer than `covalent_nm`, in each frame
    anew, so that no bonds are needed in the topology and protons may move.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"`criterion` is `{criterion}`; choose from {', '.join(CRITERIA)}")
    check_cutoff(covalent_nm, "covalent_nm")
    frames = Frames.of(frames)
    hydrogens = "element H D" if "D" in elements_of(frames.topology) else "H"
    sets = Selections.of(frames.topology, (*pair, hydrogens))
    donors, acceptors, _ = sets.places
    distances = Histogram(0.0, REACH_NM, bin_width_nm, n_blocks, "bin_width_nm")
    angles = Histogram(0.0, 180.0, ANGLE_BIN_DEGREES, n_blocks, "ANGLE_BIN_DEGREES")
    numbers: list[Counter[str]] = [Counter() for _ in range(n_blocks)]
    bins = (distances.counts.shape[1], angles.counts.shape[1])
    map_counts, map_bonds, frames_of_block = np.zeros(bins), np.zeros(bins), np.zeros(n_blocks)
    either = np.union1d(donors, acceptors)
    for block, positions, cell in frames.in_blocks(n_blocks, sets.atoms):
        found = candidates(positions, sets.places, cell, covalent_nm)
        bonded = bonded_by(criterion, found)
        distances.add(block, found.distance_nm[bonded])
        angles.add(block, found.donor_angle[bonded])
        for counts, kept in ((map_counts, slice(None)), (map_bonds, bonded)):
            places = found.distance_nm[kept], found.donor_angle[kept]
            counts += np.histogram2d(*places, bins, ((0, REACH_NM), (0, 180)))[0]
        given = np.bincount(donors[found.donor[bonded]], minlength=len(sets.atoms))
        taken = np.bincount(acceptors[found.acceptor[bonded]], minlength=len(sets.atoms))
        numbers[block] += Counter(str(n) for n in (given + taken)[either].tolist())
        frames_of_block[block] += 1
    bonds = distances.moments[:, 0] / frames_of_block
    if not bonds.any():
        _refuse_without_hydrogens(frames, sets, covalent_nm)
    per_donor, per_acceptor = bonds / len(donors), bonds / len(acceptors)
    return HydrogenBonds(
        pair=pair,
        criterion=criterion,
        per_donor=Measured(float(per_donor.mean()), standard_error(per_donor)),
        per_acceptor=Measured(float(per_acceptor.mean()), standard_error(per_acceptor)),
        numbers=Shares.of(numbers),
        distances=distances.density_or_nan(),
        angles=angles.density_or_nan(),
        map_counts=map_counts,
        map_bonds=map_bonds,
    )


def _refuse_without_hydrogens(frames: Frames, sets: Selections, covalent_nm: float) -> None:
    """Where no donor has a hydrogen in the first frame, there is nothing to count."""
    donors, _, hydrogens = sets.places
    cell = None if frames.cells_nm is None else frames.cells_nm[0]
    positions = next(frames.positions_nm(sets.atoms))
    if len(pairs_of(positions, hydrogens, donors, cell, covalent_nm).centre) == 0:
        raise ValueError(
            f"none of the {len(donors)} donors has a hydrogen within {covalent_nm:g} nm in the first frame; "
            f"give other donors, first of `pair`, or a longer `covalent_nm`"
        )


def candidates(
    positions_nm: Array, places: tuple[NDArray[np.int64], ...], cell_nm: Array | None, covalent_nm: float
) -> Candidates:
    """Every donor with each of its hydrogens and each acceptor within `REACH_NM`. places: of d, a and h."""
    donors, acceptors, hydrogens = places
    bonds = pairs_of(positions_nm, hydrogens, donors, cell_nm, covalent_nm)
    order = np.lexsort((bonds.distance_nm, bonds.centre))
    nearest = order[np.unique(bonds.centre[order], return_index=True)[1]]  # one donor for each hydrogen
    donor_of, to_donor = bonds.neighbour[nearest], bonds.vector_nm[nearest]
    arms = sorted_arms(pairs_of(positions_nm, donors, acceptors, cell_nm, REACH_NM))
    starts = np.searchsorted(arms.centre, donor_of, side="left")
    counts = np.searchsorted(arms.centre, donor_of, side="right") - starts
    hydrogen, arm = products(np.arange(len(donor_of)), starts, counts)
    to_hydrogen, to_acceptor = -to_donor[hydrogen], arms.vector_nm[arm]  # (z, 3)
    hydrogen_to_acceptor = to_acceptor - to_hydrogen
    return Candidates(
        donor=arms.centre[arm],
        acceptor=arms.neighbour[arm],
        distance_nm=arms.distance_nm[arm],
        hydrogen_distance_nm=np.linalg.norm(hydrogen_to_acceptor, axis=1),
        donor_angle=_degrees(to_hydrogen, to_acceptor),
        hydrogen_angle=_degrees(-to_hydrogen, hydrogen_to_acceptor),
    )


def bonded_by(criterion: str, found: Candidates) -> NDArray[np.bool_]:
    """Which candidates are bonds, (z,)."""
    if criterion == "luzar-chandler":
        return (found.distance_nm < 0.35) & (found.donor_angle < 30)
    if criterion == "baker-hubbard":
        return (found.hydrogen_distance_nm < 0.25) & (found.hydrogen_angle > 120)
    return found.distance_nm < 0.33 - 4.4e-5 * found.donor_angle**2


def _degrees(u: Array, v: Array) -> Array:
    """Angle between vectors, (z, 3) each; (z,)."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), np.einsum("zx,zx->z", u, v)))
