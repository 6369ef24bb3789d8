"""Molecules from their bonds, put together where the periodic cell cuts them.

Symbols used in this file
    k  atoms of the selection     z  bonds     m  molecules
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.frames import Frames, refuse_broken
from openmm_allegro.analysis.neighbours import pairs_of, unordered_pairs_within
from openmm_allegro.analysis.selection import element_masses, element_symbols

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
NONMETALS = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I")
STRETCHED = 1.2
"""A bond is guessed where two nonmetals are closer than so many times the sum of their covalent radii."""
IMAGES = np.stack(np.meshgrid(*3 * [[-1.0, 0.0, 1.0]], indexing="ij"), axis=-1).reshape(-1, 3)
"""Steps to a cell and those around it, (27, 3)."""
FARTHEST_SITE_NM = 0.2
"""No site without mass is farther from its atom."""


@dataclass(frozen=True)
class Molecules:
    """Selected atoms as trees of bonds: every atom but the first of a molecule hangs on a parent."""

    atoms: Indices
    """Indices into the topology, increasing, (k,)."""
    molecule: Indices
    """Which molecule an atom belongs to, counted from zero, (k,)."""
    parent: Indices
    """Index into `atoms`, (k,); of the first atom of a molecule itself."""
    masses: Array
    """In g/mol, (k,)."""

    @classmethod
    def of(cls, frames: Frames, atoms: Indices | None = None) -> "Molecules":
        """Molecules that bonds among these atoms make, by default all of the topology."""
        from scipy.sparse import coo_array, csgraph

        atoms = np.arange(frames.n_atoms) if atoms is None else np.unique(atoms)
        k = len(atoms)
        bonds = bonds_of(frames)
        inside = np.isin(bonds, atoms).all(axis=1)
        first, second = np.searchsorted(atoms, bonds[inside]).T
        graph = coo_array((np.ones(len(first)), (first, second)), shape=(k, k))
        n_molecules, molecule = csgraph.connected_components(graph, directed=False)
        roots = np.unique(molecule, return_index=True)[1]
        above = np.full(n_molecules, k)  # one node over all molecules, so that a single search walks through them
        rows, columns = np.concatenate([first, roots]), np.concatenate([second, above])
        rooted = coo_array((np.ones(len(rows)), (rows, columns)), shape=(k + 1, k + 1)).tocsr()
        parent = csgraph.breadth_first_order(rooted, k, directed=False)[1][:k].astype(np.int64)
        parent[roots] = roots
        return cls(atoms, molecule.astype(np.int64), parent, element_masses(frames.topology)[atoms])

    def with_atoms(self, atoms: Indices) -> "Molecules":
        """Those of these molecules, which must be all of a topology, that have some of the atoms, whole."""
        kept = np.flatnonzero(np.isin(self.molecule, self.molecule[atoms]))
        molecule = np.unique(self.molecule[kept], return_inverse=True)[1]
        return Molecules(kept, molecule, np.searchsorted(kept, self.parent[kept]), self.masses[kept])

    @property
    def n_molecules(self) -> int:
        return int(self.molecule.max()) + 1

    @property
    def first(self) -> Indices:
        """Index into `atoms` of each molecule's first atom, (m,)."""
        return np.unique(self.molecule, return_index=True)[1]

    def whole_nm(self, positions_nm: Array, cell_nm: Array | None) -> Array:
        """Positions with every bond to the nearest image, (k, 3). positions_nm: (k, 3); cell_nm: (3, 3), None without.

        Bonds must be shorter than half the shortest height of the cell.
        """
        if cell_nm is None:
            return positions_nm
        steps = (positions_nm - positions_nm[self.parent]) @ np.linalg.inv(cell_nm)
        shift, parent = -np.rint(steps), self.parent
        while np.any(parent != parent[parent]):  # each round doubles how far an atom sees up its tree
            shift = shift + shift[parent]
            parent = parent[parent]
        return positions_nm + shift @ cell_nm

    def together_nm(self, positions_nm: Array, cell_nm: Array | None) -> Array:
        """Whole molecules, each at the image that is nearest to the first molecule by its centre of mass; (k, 3).

        That is the nearest also where it is farther than half a height of the cell, as in a rhombic dodecahedron.
        """
        whole = self.whole_nm(positions_nm, cell_nm)
        if cell_nm is None or self.n_molecules == 1:
            return whole
        centres = self.centres(whole)
        steps = (centres - centres[0]) @ np.linalg.inv(cell_nm)
        near = steps - np.rint(steps)
        lengths = np.linalg.norm((near[:, None] + IMAGES) @ cell_nm, axis=2)  # (m, 27)
        shift = IMAGES[lengths.argmin(axis=1)] - np.rint(steps)
        return whole + (shift @ cell_nm)[self.molecule]

    def centres(self, values: Array) -> Array:
        """Mean over each molecule, weighted by mass. values: (k, c). Returns (m, c)."""
        return self.sums(values * self.masses[:, None]) / self.sums(self.masses[:, None])

    def sums(self, values: Array) -> Array:
        """Sum over each molecule. values: (k, c). Returns (m, c)."""
        columns = [np.bincount(self.molecule, column, self.n_molecules) for column in values.T]
        return np.stack(columns, axis=1)


def bonds_of(frames: Frames) -> Indices:
    """Pairs of bonded atoms, (z, 2): of the topology, or guessed from the first frame where it has none.

    That is in residues of which no atom has a bond, such as ions beside water in a PDB file without CONECT lines. A
    site without mass, as four-point water has, is bonded to the nearest atom, and an alpha carbon that is all that is
    left of its residue to the next of its chain.
    """
    known = np.array([(a.index, b.index) for a, b in frames.topology.bonds], dtype=np.int64).reshape(-1, 2)
    residue = np.array([atom.residue.index for atom in frames.topology.atoms])
    without = np.flatnonzero(~np.isin(residue, residue[known]))
    guessed = [guessed_bonds(frames, without), _bonds_of_sites(frames, known), _bonds_of_traces(frames.topology)]
    return np.concatenate([known, *guessed])


def guessed_bonds(frames: Frames, among: Indices | None = None) -> Indices:
    """Pairs of nonmetals within 1.2 times the sum of their covalent radii in the first frame, (z, 2).

    among: atoms that may have bonds, by default all.
    """
    from ase.data import atomic_numbers, covalent_radii  # radii of B. Cordero et al., Dalton Trans. 2832 (2008)

    symbols = element_symbols(frames.topology)
    symbols[symbols == "D"] = "H"
    atoms = np.flatnonzero(np.isin(symbols, NONMETALS))
    if among is not None:
        atoms = np.intersect1d(atoms, among)
    if len(atoms) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols[atoms]]) / 10  # Å to nm
    positions = next(frames.positions_nm(atoms))
    cell = None if frames.cells_nm is None else frames.cells_nm[0]
    i, j, distance = unordered_pairs_within(positions, cell, 2 * STRETCHED * float(radii.max()))
    near = (distance < STRETCHED * (radii[i] + radii[j])) & (i != j)
    return np.stack([atoms[np.minimum(i, j)[near]], atoms[np.maximum(i, j)[near]]], axis=1)


def _bonds_of_sites(frames: Frames, known: Indices) -> Indices:
    """Each site without mass that has no bond, with the nearest atom in the first frame; (z, 2)."""
    massless = element_masses(frames.topology) == 0
    sites = np.setdiff1d(np.flatnonzero(massless), known)
    atoms = np.flatnonzero(~massless)
    if len(sites) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    cell = None if frames.cells_nm is None else frames.cells_nm[0]
    near = pairs_of(next(frames.positions_nm()), sites, atoms, cell, FARTHEST_SITE_NM)
    order = np.lexsort((near.distance_nm, near.centre))
    nearest = order[np.unique(near.centre[order], return_index=True)[1]]
    return np.stack([sites[near.centre[nearest]], atoms[near.neighbour[nearest]]], axis=1)


def _bonds_of_traces(topology: mdtraj.Topology) -> Indices:
    """Alpha carbons without the rest of their residues, each with the next one of its chain; (z, 2)."""
    bonds = []
    for chain in topology.chains:
        lone = [residue.atom(0) for residue in chain.residues if residue.n_atoms == 1]
        alphas = [atom.index for atom in lone if atom.name == "CA" and atom.element.symbol == "C"]
        bonds += list(pairwise(alphas))
    return np.array(bonds, dtype=np.int64).reshape(-1, 2)


def whole_chunks(frames: Frames, atoms: Indices) -> Iterator[mdtraj.Trajectory]:
    """Chunks of these atoms with their molecules whole and beside the first, without a cell, for functions of mdtraj.

    All atoms of their molecules are read: those alone, such as alpha carbons, may have no bonds among them.
    The chunks are copies. atoms: (k,), increasing.
    """
    molecules = Molecules.of(frames).with_atoms(atoms)
    kept, topology = np.searchsorted(molecules.atoms, atoms), frames.topology.subset(atoms)
    done = 0
    for chunk in frames.chunks(molecules.atoms):
        refuse_broken(chunk.xyz, done)
        xyz = np.empty((chunk.n_frames, len(atoms), 3), np.float32)
        for f in range(chunk.n_frames):
            cell = None if frames.cells_nm is None else frames.cells_nm[done + f]
            xyz[f] = molecules.together_nm(chunk.xyz[f].astype(np.float64), cell)[kept]
        done += chunk.n_frames
        yield mdtraj.Trajectory(xyz, topology, time=chunk.time)
