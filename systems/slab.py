"""Slabs of crystals, and two systems stacked to an interface."""

import math

import ase
import ase.build
import numpy as np
from ase.cell import Cell
from numpy.typing import NDArray
from openmm import Vec3, app, unit

from openmm_allegro.systems.files import box_widths, numbers_nm, shortest_distance
from openmm_allegro.systems.water import System

Array = NDArray[np.float64]
SHORTEST = 3.0
"""A vacuum of less than this [Å] does not keep slabs apart."""
OFF_THE_CUT = 0.01
"""Atoms within rounding of the plane of the cut are moved off it [Å], so that a layer is not divided by it."""


def slab(
    crystal: ase.Atoms,
    miller: tuple[int, int, int],
    layers: int,
    *,
    repeat: tuple[int, int] = (1, 1),
    vacuum_angstrom: float = 15.0,
) -> ase.Atoms:
    """A slab with a face of these Miller indices up, periodic in all directions, with vacuum between its images.

    The atoms are those of `layers` whole conventional cells, so the composition is the crystal's; how the surface ends
    is not chosen. Of opposite indices, such as 0 0 1 and 0 0 -1, the faces are opposite.
    """
    if not any(miller):
        raise ValueError("`miller` is 0 0 0, which is no face; give indices such as 1 0 0")
    if layers < 1 or min(repeat) < 1:
        raise ValueError(f"`layers` is {layers} and `repeat` {list(repeat)}; all must be at least 1")
    if vacuum_angstrom < 0:
        raise ValueError(f"`vacuum_angstrom` is {vacuum_angstrom}; it must be zero or more")
    divisor = math.gcd(*miller)  # with which ASE would leave gaps
    miller = (miller[0] // divisor, miller[1] // divisor, miller[2] // divisor)
    normal = np.array(miller) @ crystal.cell.reciprocal()
    shifted = crystal.copy()
    shifted.positions += OFF_THE_CUT * normal / np.linalg.norm(normal)
    built = ase.build.surface(shifted, miller, layers, periodic=True)
    turn = _turn(crystal.cell, miller)
    built.positions *= turn
    built.set_cell(built.cell * turn * turn[:, None])  # the second and third vector again along y and z
    built.wrap()
    built = built.repeat((*repeat, 1))
    height = float(np.ptp(built.positions[:, 2]))
    spacing = built.cell.volume / np.linalg.norm(np.cross(built.cell[0], built.cell[1])) - height
    # The gap of the bulk between the last and the next layer stays, and the vacuum is added to it.
    built.center(vacuum=(max(spacing, 0.0) + vacuum_angstrom) / 2, axis=2)
    built.pbc = True
    if vacuum_angstrom < SHORTEST and shortest_distance(built) < shortest_distance(crystal) - 0.01:
        raise ValueError(
            f"with a vacuum of {vacuum_angstrom} Å atoms come as close as {shortest_distance(built):.3g} Å to those of "
            f"the next slab, which is not where the crystal would have it; give {SHORTEST:g} Å or more"
        )
    return built


def _turn(cell: Cell, miller: tuple[int, int, int]) -> Array:
    """What makes of ASE's slab one whose face is up, diagonal, (3,): of some indices it is mirrored, or upside down."""
    reciprocal = np.array(miller) @ cell.reciprocal()
    middle = reciprocal / (2 * reciprocal @ reciprocal)  # between two planes of the cut
    arms = 0.1 * np.vstack([np.zeros(3), np.eye(3)])  # Å, short beside any cell
    marked = ase.Atoms("HHeLiBe", middle + arms, cell=cell, pbc=True)
    built = ase.build.surface(marked, miller, 1, periodic=True)
    built = built[built.numbers.argsort()]
    turned = built.get_distances(0, [1, 2, 3], mic=True, vector=True) / 0.1  # where the axes went, (3, 3)
    turn = np.ones(3) if np.linalg.det(turned) > 0 else np.array([1, 1, -1])
    return turn if float(middle @ turned[:, 2] * turn[2]) > 0 else turn * [1, -1, -1]


def stack(lower: System, upper: System, *, gap_nm: float = 0.2, max_strain: float = 0.05) -> System:
    """One system on the other along z, with a gap above each; the upper one is strained to the lower one's base.

    Molecules, which are atoms connected by bonds, move whole with their centres; those that have left the cell along z
    are taken back.

    gap_nm: between the highest atom below and the lowest above, and again to the next image.
    max_strain: largest relative change of the upper one's base vectors that is accepted.
    """
    below, above = _box_nm(lower, "lower"), _box_nm(upper, "upper")
    difference = np.linalg.norm(above[:2] - below[:2], axis=1) / np.linalg.norm(below[:2], axis=1)
    if difference.max() > max_strain:
        shown = " and ".join(f"{box[0, 0]:.3f} × {np.linalg.norm(box[1]):.3f} nm" for box in (below, above))
        raise ValueError(
            f"the bases of the two systems, {shown}, differ by {100 * difference.max():.1f} %, more than "
            f"{100 * max_strain:g} %; repeat them until they fit, or build the liquid on the other's base (`base_nm`)"
        )
    strain = np.eye(3)
    strain[:2, :2] = np.linalg.solve(above[:2, :2], below[:2, :2])
    places, shifted = _in_one_cell(lower, below), _in_one_cell(upper, above)
    centres = _centres(upper[0], shifted)
    shifted = shifted + centres @ strain - centres
    places = places - [0, 0, places[:, 2].min()]
    shifted = shifted + [0, 0, places[:, 2].max() + gap_nm - shifted[:, 2].min()]
    height = shifted[:, 2].max() + gap_nm
    modeller = app.Modeller(lower[0], unit.Quantity(places, unit.nanometer))
    modeller.add(upper[0], unit.Quantity(shifted, unit.nanometer))
    vectors = np.vstack([below[:2], [0, 0, height]])
    box = unit.Quantity([Vec3(*map(float, row)) for row in vectors], unit.nanometer)
    modeller.topology.setPeriodicBoxVectors(box)
    return modeller.topology, unit.Quantity(np.vstack([places, shifted]), unit.nanometer), box


def _in_one_cell(system: System, box: Array) -> Array:
    """Positions, with molecules that dynamics has led out of the cell along z taken back into it, (atoms, 3) [nm].

    The cell is then cut where their centres leave the widest gap, so that the layers of a crystal stay whole.
    """
    places = numbers_nm(system[1])
    heights = _centres(system[0], places) @ np.linalg.inv(box)[:, 2]
    if heights.min() >= 0 and heights.max() <= 1:
        return places
    ordered = np.sort(heights % 1)
    gaps = np.diff(ordered, append=ordered[0] + 1)
    cut = ordered[gaps.argmax()] + gaps.max() / 2
    return np.asarray(places - np.floor(heights - cut)[:, None] * box[2])


def _centres(topology: app.Topology, places: Array) -> Array:
    """Centre of the molecule that each atom belongs to, (atoms, 3)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n_atoms = len(places)
    bonds = np.array([(bond[0].index, bond[1].index) for bond in topology.bonds()], dtype=int).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    number, molecule = connected_components(graph, directed=False)
    sums = np.zeros((number, 3))
    np.add.at(sums, molecule, places)
    return (sums / np.bincount(molecule)[:, None])[molecule]


def _box_nm(system: System, which: str) -> Array:
    """Its vectors, (3, 3); the first two must lie in the plane."""
    if system[2] is None:
        raise ValueError(f"the {which} system has no periodic box, so it cannot be stacked")
    box = numbers_nm(system[2])
    assert abs(box[:2, 2]).max() < 1e-9  # OpenMM's form
    if box_widths(box).min() <= 0:
        raise ValueError(f"the box of the {which} system has no volume")
    return box
