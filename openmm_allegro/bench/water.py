"""Water of any size, quickly made: what speed is measured on.

Symbols used in this file
    m  molecules, oxygen first of its three atoms
"""

import functools
import math
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from scipy.spatial import cKDTree

from openmm_allegro.structure import Structure

Array = NDArray[np.float64]
MOLECULES_PER_NM3 = 33.33
"""Of liquid water at room temperature, 0.997 g/cm³."""
LIQUID_EDGE_NM = 3.0
"""Period of the equilibrated liquid that comes with OpenMM."""
CLOSEST_CONTACT_NM = 0.15


def water(n_atoms: int) -> Structure:
    """A cubic box of about this many atoms, in whole molecules, at the density of liquid water.

    615 atoms are those of openmmtools' `WaterBox` with an edge of 1.86 nm, which other programs are timed on too;
    it is 4 % less dense. Every other box is cut from OpenMM's equilibrated liquid, as often repeated as needed.
    """
    n_molecules = max(1, round(n_atoms / 3))
    if n_molecules == 205:
        return _solvated(1.86)
    edge = (n_molecules / MOLECULES_PER_NM3) ** (1 / 3)
    molecules = _cut(n_molecules, edge)
    topology = app.Topology()
    topology.setPeriodicBoxVectors(np.eye(3) * edge * unit.nanometer)
    chain = topology.addChain()
    oxygen, hydrogen = (app.Element.getBySymbol(symbol) for symbol in ("O", "H"))
    for _ in range(n_molecules):
        residue = topology.addResidue("HOH", chain)
        for name, element in (("O", oxygen), ("H1", hydrogen), ("H2", hydrogen)):
            topology.addAtom(name, element, residue)
    return Structure(topology, molecules.reshape(-1, 3))


def _solvated(edge: float) -> Structure:
    """An empty box of this edge [nm], filled by OpenMM's Modeller as openmmtools does."""
    modeller = app.Modeller(app.Topology(), unit.Quantity([], unit.nanometer))
    size = openmm.Vec3(edge, edge, edge) * unit.nanometer
    modeller.addSolvent(app.ForceField("tip3p.xml"), model="tip3p", boxSize=size)
    return Structure(modeller.topology, np.array(modeller.positions.value_in_unit(unit.nanometer)))


def _cut(n_molecules: int, edge: float) -> Array:
    """That many molecules of the liquid in a cube of this edge [nm], (m, 3, 3), none overlapping across its faces.

    A cube a little too large is cut, what overlaps is left out, and molecules move together to the density.
    """
    random = np.random.default_rng(0)
    widest = 1.25 * edge
    tiles = np.arange(math.ceil(widest / LIQUID_EDGE_NM)) * LIQUID_EDGE_NM
    shifts = np.stack(np.meshgrid(tiles, tiles, tiles, indexing="ij"), axis=-1).reshape(-1, 1, 1, 3)
    for _ in range(100):  # a small cube finds room at one origin in a few
        liquid = _liquid() - random.uniform(0.0, LIQUID_EDGE_NM, 3)
        liquid -= LIQUID_EDGE_NM * np.floor(liquid[:, :1] / LIQUID_EDGE_NM)
        liquid = (liquid + shifts).reshape(-1, 3, 3)
        for cut in np.arange(edge, widest, 0.005 * edge):
            inside = liquid[(liquid[:, 0] < cut).all(axis=1)]
            if len(inside) < n_molecules:
                continue
            moved = inside + inside[:, :1] * (edge / cut - 1)  # as rigid molecules
            kept = np.flatnonzero(~_overlapping(moved, edge))
            if len(kept) >= n_molecules:
                return moved[np.sort(random.choice(kept, n_molecules, replace=False))]
    raise AssertionError(f"{n_molecules} molecules did not fit into {edge} nm")


@functools.cache
def _liquid() -> Array:
    """OpenMM's equilibrated liquid, (m, 3, 3) [nm]."""
    file = app.PDBFile(str(Path(app.__file__).parent / "data" / "tip3p.pdb"))
    return np.array(file.getPositions(asNumpy=True).value_in_unit(unit.nanometer)).reshape(-1, 3, 3)


def _overlapping(molecules: Array, edge: float) -> NDArray[np.bool_]:
    """One of each two molecules in a periodic cube with atoms on each other. molecules: (m, 3, 3). Returns (m,)."""
    atoms = np.mod(molecules.reshape(-1, 3), edge)
    atoms[atoms >= edge] = 0.0  # a tiny negative coordinate rounds up to the edge itself
    reach = min(CLOSEST_CONTACT_NM, math.nextafter(edge / 2, 0.0))
    pairs = cKDTree(atoms, boxsize=edge).query_pairs(reach, output_type="ndarray") // 3
    overlapping = np.zeros(len(molecules), dtype=bool)
    overlapping[pairs[pairs[:, 0] != pairs[:, 1]].max(axis=1)] = True
    return overlapping
