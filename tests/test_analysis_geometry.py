"""Bond lengths, angles and profiles against random gases, molecules of known shape and MDAnalysis."""

import warnings

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.angles import angle_distribution
from openmm_allegro.analysis.bonds import bond_lengths
from openmm_allegro.analysis.profiles import density_profile

TILTED = np.array([[2.0, 0.0, 0.0], [0.9, 1.9, 0.0], [-0.8, 0.7, 2.1]])  # nm


def gas(elements, n_frames, seed=0, cell=TILTED):
    random = np.random.default_rng(seed)
    return atoms(elements, random.uniform(-1, 2, (n_frames, len(elements), 3)) @ cell, cell=cell)


def tetrahedra(cell, n_frames=4, seed=0):
    """Two ideal PS4 with P–S of 0.205 nm, turned at random, cut by the faces of the cell."""
    random = np.random.default_rng(seed)
    corners = 0.205 / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    frames = []
    for _ in range(n_frames):
        turns = [np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(2)]
        middles = np.array([[0.0, 0.0, 0.0], [1.0, 0.9, 1.0]])
        frames.append(np.concatenate([[m, *(m + corners @ turn)] for m, turn in zip(middles, turns, strict=True)]))
    positions = np.array(frames)
    if cell is not None:
        positions -= np.floor(positions @ np.linalg.inv(cell)) @ cell
    return atoms(["P", "S", "S", "S", "S"] * 2, positions, cell=cell)


@pytest.mark.parametrize("cell", [TILTED, None])
def test_a_tetrahedron_has_its_angle_and_bond_length(cell):
    molecules = tetrahedra(cell)
    angles = angle_distribution(molecules, ("S", "P", "S"), cutoff_nm=0.25, n_blocks=2)
    tetrahedral = np.degrees(np.arccos(-1 / 3))
    assert angles.angles.mean.value == pytest.approx(tetrahedral, abs=1e-3)  # positions of 2 nm in single precision
    assert angles.angles.spread.value < 1e-3
    assert angles.angles.density[109] == pytest.approx(1.0)  # 109.47 is in the bin from 109 to 110, of width one
    bonds = bond_lengths(molecules, ("P", "S"), cutoff_nm=0.25, n_blocks=2)
    assert bonds.lengths.mean.value == pytest.approx(0.205, abs=1e-6)
    assert bonds.bonds_per_atom == (4.0, 0.0)
    assert bonds.shortest_nm == pytest.approx(0.205, abs=1e-6)


@pytest.mark.parametrize("triplet", [("Ar", "Xe", "Ar"), ("Ar", "Xe", "Kr"), ("Xe", "Xe", "Xe"), ("Xe", "Xe", "Kr")])
def test_angles_of_a_gas_follow_the_sine_within_their_stated_error(triplet):
    found = angle_distribution(
        gas(["Ar"] * 20 + ["Xe"] * 20 + ["Kr"] * 20, 60), triplet, cutoff_nm=0.8, bin_width_degrees=10.0, n_blocks=10
    )
    edges = np.radians(np.arange(0, 181, 10))
    expected = -np.diff(np.cos(edges)) / 2 / 10
    pulls = (found.angles.density - expected) / found.angles.error
    assert np.abs(pulls).max() < 4.5  # Student's t with 9 degrees of freedom: exceeded once in 700
    assert found.angles.mean.value == pytest.approx(90, abs=4.5 * found.angles.mean.error)
    assert found.angles.density.sum() * 10 == pytest.approx(1)


def test_the_number_of_angles_is_that_of_pairs_of_neighbours():
    positions = np.array([[[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.12], [-0.1, 0, 0], [0.0, 0.05, 0.05]]])
    molecule = atoms(["P", "S", "S", "O", "S", "O"], positions)
    same = angle_distribution(molecule, ("S", "P", "S"), cutoff_nm=0.11, bin_width_degrees=20, n_blocks=1)
    assert same.angles.density * 20 * 3 == pytest.approx([0, 0, 0, 0, 2, 0, 0, 0, 1])  # 90, 90 and 180 degrees
    mixed = angle_distribution(molecule, ("S", "P", "O"), cutoff_nm=0.11, second_cutoff_nm=0.13, n_blocks=1)
    # O along z: 90 to each S; O in the plane of y and z: 45 to the S along y and 90 to the two others
    assert mixed.angles.mean.value == pytest.approx((3 * 90 + 45 + 2 * 90) / 6)


def test_angles_of_selections_that_share_atoms_count_once():
    corners = 0.2 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.5, -np.sqrt(0.75), 0]])
    molecule = atoms("PSSO", corners[None])
    found = angle_distribution(molecule, ("S", "P", "all"), cutoff_nm=0.25, n_blocks=1)
    assert found.angles.mean.value == pytest.approx((90 + 120 + 150) / 3, abs=1e-4)
    turned = angle_distribution(molecule, ("all", "P", "S"), cutoff_nm=0.25, n_blocks=1)
    assert turned.angles.density == pytest.approx(found.angles.density)


def test_angles_agree_with_mdanalysis():
    from MDAnalysis.lib.distances import calc_angles, capped_distance

    frames = gas(["O"] * 12 + ["H"] * 15, 2, seed=3)
    found = angle_distribution(frames, ("H", "O", "H"), cutoff_nm=0.7, n_blocks=1)
    box = np.concatenate([frames.unitcell_lengths[0] * 10, frames.unitcell_angles[0]]).astype(np.float32)
    angles = []
    for positions in frames.xyz * 10:
        near = capped_distance(positions[:12], positions[12:], 7.0, box=box, return_distances=False)
        for oxygen in range(12):
            mine = near[near[:, 0] == oxygen, 1]
            for k, first in enumerate(mine):
                for second in mine[k + 1 :]:
                    angles.append(calc_angles(positions[12 + first], positions[oxygen], positions[12 + second], box))
    assert len(angles) > 50
    assert found.angles.mean.value == pytest.approx(np.degrees(np.mean(angles)), abs=0.01)  # single precision
    assert found.angles.spread.value == pytest.approx(np.degrees(np.std(angles)), abs=0.01)


def test_a_mean_bond_length_is_that_of_its_gaussian_within_the_error():
    random = np.random.default_rng(2)
    lengths = random.normal(0.11, 0.004, (200, 30))
    positions = np.zeros((200, 60, 3))
    positions[:, :, 1] = np.repeat(np.arange(30), 2)
    positions[:, 1::2, 0] = lengths
    found = bond_lengths(atoms(["N", "O"] * 30, positions), ("N", "O"), cutoff_nm=0.2, n_blocks=50)
    exact = 0.004 / np.sqrt(6000)
    assert found.lengths.mean.value == pytest.approx(0.11, abs=4 * exact)
    assert found.lengths.mean.error == pytest.approx(exact, rel=0.3)  # fifty blocks: known to 10 %
    assert found.lengths.spread.value == pytest.approx(0.004, rel=0.04)  # 6000 values: 1 %


def test_a_shape_that_is_not_there_is_refused():
    molecules = tetrahedra(None)
    with pytest.raises(ValueError, match="there are no angles S–P–S within the cutoffs in any frame; give a larger"):
        angle_distribution(molecules, ("S", "P", "S"), cutoff_nm=0.1, n_blocks=1)
    with pytest.raises(ValueError, match="there are no pairs P–S closer than 0.1 nm"):
        bond_lengths(molecules, ("P", "S"), cutoff_nm=0.1, n_blocks=1)
    with pytest.raises(ValueError, match="`bin_width_degrees` is 0; it must be positive"):
        angle_distribution(molecules, ("S", "P", "S"), cutoff_nm=0.25, bin_width_degrees=0, n_blocks=1)


@pytest.mark.parametrize("axis", ["a", "b", "c"])
def test_a_profile_of_a_gas_in_a_tilted_cell_is_flat_at_its_density(axis):
    found = density_profile(gas(["Ar"] * 50, 200), "Ar", axis=axis, bin_width_nm=0.1, n_blocks=10)
    density = 50 / np.linalg.det(TILTED)
    assert found.density.mean() == pytest.approx(density, rel=1e-5)
    pulls = (found.density - density) / found.error
    assert np.abs(pulls).max() < 4.8  # Student's t with 9 degrees of freedom, twenty slices: once in 50 gases
    height = np.linalg.det(TILTED) / np.linalg.norm(np.cross(*np.delete(TILTED, "abc".index(axis), axis=0)))
    assert found.position_nm[-1] + found.position_nm[0] == pytest.approx(height, rel=1e-6)


def test_a_profile_agrees_with_mdanalysis():
    import MDAnalysis
    from MDAnalysis.analysis.lineardensity import LinearDensity

    random = np.random.default_rng(4)
    cells = np.stack([np.diag([2.0, 2.2, 3.0])] * 5)
    frames = atoms(["O"] * 40, random.uniform(0, 1, (5, 40, 3)) ** 2 * [2.0, 2.2, 3.0], cell=cells)
    found = density_profile(frames, "O", quantity="mass", bin_width_nm=0.1, n_blocks=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe.empty(40, trajectory=True)
        universe.load_new(frames.xyz * 10, dimensions=np.array([[20, 22, 30, 90, 90, 90]] * 5))
        universe.add_TopologyAttr("masses", [15.99943] * 40)
        universe.add_TopologyAttr("charges", [0.0] * 40)
        theirs = LinearDensity(universe.atoms, binsize=1.0).run().results.z.mass_density
    assert found.density == pytest.approx(theirs[: len(found.density)], rel=1e-4)  # the mass of oxygen in both tables


def test_a_slab_that_wanders_is_sharp_when_centred():
    random = np.random.default_rng(6)
    n_frames, n = 20, 30
    slab = random.uniform(-0.3, 0.3, (n_frames, n)) + np.linspace(0, 7, n_frames)[:, None]  # over faces of the cell
    slab -= slab.mean(axis=1, keepdims=True) - np.linspace(0, 7, n_frames)[:, None]
    positions = np.concatenate([random.uniform(0, 2, (n_frames, n, 2)), slab[:, :, None]], axis=2)
    frames = atoms(["Li"] * n, positions, cell=np.diag([2.0, 2.0, 3.0]))
    found = density_profile(frames, "Li", centred_on="Li", bin_width_nm=0.1, n_blocks=5)
    inside = np.abs(found.position_nm - 1.5) < 0.35 + 0.05  # 0.3 and the shift to the mean
    assert found.density[~inside].max() == 0
    assert found.density[inside].sum() * 0.1 * 4 == pytest.approx(n, rel=1e-5)
    wandering = density_profile(frames, "Li", bin_width_nm=0.1, n_blocks=5)
    assert np.count_nonzero(wandering.density) > 2 * inside.sum()


def test_slices_of_a_changing_cell_are_fractions_of_it():
    cells = np.stack([np.diag([1.0, 1.0, length]) for length in (2.0, 4.0)])
    frames = atoms(["O"], np.array([[[0, 0, 0.5]], [[0, 0, 1.0]]]), cell=cells)
    found = density_profile(frames, "O", bin_width_nm=0.3, n_blocks=1)  # ten slices of 0.2 and of 0.4 nm³
    assert found.density[2] == pytest.approx((1 / 0.2 + 1 / 0.4) / 2)
    assert found.position_nm[2] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axis": "z"}, "`axis` is `z`; choose a, b or c"),
        ({"quantity": "charge"}, "choose number or mass"),
        ({"bin_width_nm": -1.0}, "must be positive"),
        ({"centred_on": "element VS"}, "`centred_on` is `element VS`, which has no mass; choose atoms"),
    ],
)
def test_profiles_refuse_what_they_do_not_know(options, words):
    with pytest.raises(ValueError, match=words):
        density_profile(gas(["Ar", "VS"], 5), "Ar", **options)


def test_an_atom_is_bonded_to_its_own_images_in_a_primitive_cell():
    fcc = 0.289 * np.array([[1, 0, 0], [1 / 2, np.sqrt(3) / 2, 0], [1 / 2, np.sqrt(1 / 12), np.sqrt(2 / 3)]])  # nm
    found = bond_lengths(atoms(["Ag"], np.zeros((2, 1, 3)), cell=fcc), ("Ag", "Ag"), cutoff_nm=0.35, n_blocks=2)
    assert found.bonds_per_atom.value == 12
    assert found.lengths.mean.value == pytest.approx(0.289, abs=1e-6)
