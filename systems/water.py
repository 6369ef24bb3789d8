"""Boxes of liquid water to start from."""

import math
from functools import lru_cache

import numpy as np
from openmm import Vec3, app, unit
from scipy.spatial import cKDTree

System = tuple[app.Topology, unit.Quantity, unit.Quantity]
"""Topology with bonds and box, positions (atoms, 3) in nm, three box vectors in nm."""

GRAM_PER_MOL_WATER = 18.01528
NUMBER_PER_NM3_OF_1_G_PER_CM3 = 6.02214076e23 / GRAM_PER_MOL_WATER * 1e-21
CLOSEST_CONTACT_NM = 0.15


def water_box(
    n_molecules: int | None = None,
    *,
    edge_nm: float | None = None,
    density_g_per_cm3: float = 0.997,
    seed: int = 0,
) -> System:
    """A cubic box of exactly this many molecules, or of the number that fills this edge, at exactly this density.

    A cube is cut from OpenMM's pre-equilibrated TIP3P liquid at an origin drawn from `seed`; molecules that would
    overlap across the new faces are left out, and the centres of the others are moved by a few per cent to the density.
    """
    if (n_molecules is None) == (edge_nm is None):
        raise ValueError("give either `n_molecules` or `edge_nm`; the density gives the other")
    if density_g_per_cm3 <= 0:
        raise ValueError(f"`density_g_per_cm3` is {density_g_per_cm3}; it must be positive")
    per_nm3 = density_g_per_cm3 * NUMBER_PER_NM3_OF_1_G_PER_CM3
    if n_molecules is None:
        n_molecules = round(per_nm3 * edge_nm**3) if edge_nm is not None else 0
    if n_molecules < 1:
        raise ValueError("a water box needs one molecule or more; ask for more molecules or a longer edge")
    edge = (n_molecules / per_nm3) ** (1 / 3)
    molecules = _cut_liquid(n_molecules, edge, np.random.default_rng(seed))  # (molecules, 3 atoms, 3), O first

    topology = app.Topology()
    chain = topology.addChain("A")
    for _ in range(n_molecules):
        residue = topology.addResidue("HOH", chain)
        oxygen, *hydrogens = (
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2")
        )
        for hydrogen in hydrogens:
            topology.addBond(oxygen, hydrogen)
    box = unit.Quantity([Vec3(edge, 0, 0), Vec3(0, edge, 0), Vec3(0, 0, edge)], unit.nanometer)
    topology.setPeriodicBoxVectors(box)
    return topology, unit.Quantity(molecules.reshape(-1, 3), unit.nanometer), box


def _cut_liquid(n_molecules: int, edge: float, random: np.random.Generator) -> np.ndarray:
    """Molecules without close contacts in a periodic cube of this edge [nm], (n_molecules, 3 atoms, 3)."""
    liquid_edge = max(3.0, 1.16 * edge)
    liquid = _liquid(liquid_edge).copy()
    for _ in range(30):
        origin = random.uniform(0.0, liquid_edge, 3)
        liquid -= origin + np.floor((liquid[:, :1] - origin) / liquid_edge) * liquid_edge  # oxygens: 0 to liquid_edge
        for cut in edge * np.arange(1.0, 1.16, 0.005):
            inside = liquid[np.all(liquid[:, 0] < cut, axis=1)]
            if len(inside) < n_molecules:
                continue
            kept = inside[_least_crowded(inside, cut, n_molecules, random)]
            kept = kept + kept[:, :1] * (edge / cut - 1)  # the oxygens move, the molecules stay rigid
            if len(_contacts(kept, edge, CLOSEST_CONTACT_NM)[0]) == 0:
                return kept
    raise ValueError(
        f"no cut of the liquid fits {n_molecules} molecules into a cube of {edge:.3f} nm without overlap; "
        f"ask for a lower density and compress it with a barostat"
    )


@lru_cache(maxsize=1)
def _liquid(edge: float) -> np.ndarray:
    """OpenMM's TIP3P liquid in a periodic cube, (molecules, 3 atoms, 3) in nm, O first."""
    modeller = app.Modeller(app.Topology(), unit.Quantity([], unit.nanometer))
    field = app.ForceField("tip3p.xml")
    modeller.addSolvent(field, model="tip3p", boxSize=unit.Quantity(Vec3(edge, edge, edge), unit.nanometer))
    return np.array(modeller.positions.value_in_unit(unit.nanometer)).reshape(-1, 3, 3)


def _least_crowded(molecules: np.ndarray, edge: float, n_kept: int, random: np.random.Generator) -> np.ndarray:
    """Which molecules stay, (molecules,) bool: one of each closest pair goes, then any, until `n_kept` are left."""
    kept = np.ones(len(molecules), dtype=bool)
    for first, second in zip(*_contacts(molecules, edge, 0.25), strict=True):
        if kept.sum() == n_kept:
            return kept
        if kept[first] and kept[second]:
            kept[second] = False
    left = np.flatnonzero(kept)
    kept[random.choice(left, len(left) - n_kept, replace=False)] = False
    return kept


def _contacts(molecules: np.ndarray, edge: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different molecules with atoms closer than `reach` in a periodic cube, closest first."""
    atoms = np.mod(molecules.reshape(-1, 3), edge)
    atoms[atoms >= edge] = 0.0  # a tiny negative coordinate rounds up to the edge itself
    reach = min(reach, math.nextafter(edge / 2, 0.0))
    pairs = cKDTree(atoms, boxsize=edge).query_pairs(reach, output_type="ndarray")
    pairs = pairs[pairs[:, 0] // 3 != pairs[:, 1] // 3]
    step = atoms[pairs[:, 0]] - atoms[pairs[:, 1]]
    step -= edge * np.rint(step / edge)
    order = np.argsort(np.linalg.norm(step, axis=1))
    return pairs[order, 0] // 3, pairs[order, 1] // 3
