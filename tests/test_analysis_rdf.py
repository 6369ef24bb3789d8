"""Radial distributions against an ideal gas, a crystal, brute force and mdtraj."""

import mdtraj
import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.rdf import longest_distance_nm, mean_absolute_difference, radial_distribution

TILTED = np.array([[2.0, 0.0, 0.0], [0.9, 1.9, 0.0], [-0.8, 0.7, 2.1]])  # nm


def ideal_gas(elements, n_frames, cell, seed=0):
    random = np.random.default_rng(seed)
    return atoms(elements, random.uniform(0, 1, (n_frames, len(elements), 3)) @ cell, cell=cell)


@pytest.mark.parametrize("pair", [("Ar", "Ar"), ("Ar", "Xe"), ("Xe", "Ar")])
def test_an_ideal_gas_has_g_of_one_within_its_stated_error(pair):
    found = radial_distribution(ideal_gas(["Ar"] * 40 + ["Xe"] * 20, 200, TILTED), pair, bin_width_nm=0.05, n_blocks=10)
    pulls = (found.g[1:] - 1) / found.g_error[1:]
    # ten blocks: pulls follow Student's t with 9 degrees of freedom, variance 9/7; 4.3 is exceeded once in 500
    assert np.abs(pulls).max() < 4.3
    assert 0.5 < np.mean(pulls**2) < 2.2
    n_pairs = 40 * 39 / 2 if pair == ("Ar", "Ar") else 800
    shells = 4 * np.pi * found.r_nm[5:] ** 2 * 0.05
    poisson = np.sqrt(np.linalg.det(TILTED) / (200 * n_pairs * shells))
    assert np.mean(found.g_error[5:] / poisson) == pytest.approx(1, abs=0.25)  # 12 bins, each known to 24 %


def test_the_coordination_number_of_an_ideal_gas_is_density_times_volume():
    found = radial_distribution(ideal_gas(["Ar"] * 60, 200, TILTED), ("Ar", "Ar"), bin_width_nm=0.05)
    outer = found.r_nm + found.bin_width_nm / 2
    expected = 59 / np.linalg.det(TILTED) * 4 / 3 * np.pi * outer**3
    # a sum of 200 · 60 · expected / 2 pairs, nearly Poisson; within four standard errors
    assert np.all(np.abs(found.coordination - expected) < 4 * np.sqrt(2 * expected / (200 * 60)) + 1e-12)


def test_fcc_has_twelve_neighbours_and_shells_at_their_exact_distances():
    a, repeats = 0.5, 3
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cells = np.array(list(np.ndindex(repeats, repeats, repeats)))
    xyz = ((basis[None] + cells[:, None]).reshape(1, -1, 3)) * a
    crystal = atoms(["Ar"] * xyz.shape[1], xyz, cell=repeats * a * np.eye(3))
    found = radial_distribution(crystal, ("Ar", "Ar"), bin_width_nm=0.007, n_blocks=1)
    shells = a * np.sqrt(np.array([0.5, 1.0, 1.5, 2.0]))
    neighbours = [12, 6, 24, 12]
    filled = np.flatnonzero(found.g > 0)
    assert found.r_nm[filled] == pytest.approx(shells, abs=0.0035)  # half a bin
    assert found.coordination[filled] == pytest.approx(np.cumsum(neighbours), abs=1e-12)
    assert np.all(np.isnan(found.g_error))


def brute_force_counts(centres, others, cell, edges):
    """Neighbours in each bin, over 5³ images of every atom."""
    shifts = (np.array(list(np.ndindex(5, 5, 5))) - 2) @ cell
    steps = others[None, :, None] - centres[:, None, None] + shifts
    distances = np.linalg.norm(steps, axis=-1).ravel()
    return np.histogram(distances[distances > 1e-6], bins=edges)[0]


@pytest.mark.parametrize("pair", [("O", "O"), ("O", "H")])
def test_a_triclinic_box_agrees_with_brute_force(pair):
    flat = np.array([[1.5, 0.0, 0.0], [1.4, 1.0, 0.0], [-1.2, 0.8, 1.3]])  # far from reduced: 46° between a and b
    gas = ideal_gas(["O"] * 12 + ["H"] * 17, 3, flat, seed=4)
    gas.xyz[1] += 7.0  # not wrapped
    found = radial_distribution(gas, pair, bin_width_nm=0.02, n_blocks=1)
    edges = 0.02 * np.arange(len(found.g) + 1)
    of = {"O": slice(0, 12), "H": slice(12, 29)}
    counts = np.sum(
        [brute_force_counts(x[of[pair[0]]], x[of[pair[1]]], flat, edges) for x in gas.xyz.astype(np.float64)], axis=0
    )
    assert edges[-1] > longest_distance_nm(flat[None]) - 0.02
    assert found.coordination * 12 * 3 == pytest.approx(np.cumsum(counts), abs=1e-9)


def test_g_agrees_with_mdtraj_in_a_fixed_box():
    gas = ideal_gas(["O"] * 20 + ["H"] * 30, 10, 2 * np.eye(3), seed=2)
    pairs = gas.topology.select_pairs("element O", "element H")
    r, g = mdtraj.compute_rdf(gas, pairs, r_range=(0, 0.9), n_bins=18)
    found = radial_distribution(gas, ("O", "H"), r_max_nm=0.9, bin_width_nm=0.05)
    assert found.r_nm == pytest.approx(r)
    # pairs on the edge of a bin may fall to either side in mdtraj's float32
    assert found.g == pytest.approx(g, abs=0.02)


def test_each_frame_is_normalised_by_its_own_volume():
    cells = np.stack([2.0 * np.eye(3), 3.0 * np.eye(3)])
    two = atoms(["O", "H"], np.array([[[0, 0, 0], [0.52, 0, 0]], [[0, 0, 0], [0.52, 0, 0]]]), cell=cells)
    found = radial_distribution(two, ("O", "H"), bin_width_nm=0.1, n_blocks=1)
    shell = 4 / 3 * np.pi * (0.6**3 - 0.5**3)
    assert found.g[5] == pytest.approx((8 + 27) / 2 / shell, rel=1e-6)
    assert found.coordination[-1] == 1.0
    assert len(found.g) == 10  # half of the smaller box


def test_distributions_differ_by_their_mean_absolute_difference():
    first = radial_distribution(ideal_gas(["O"] * 9, 5, TILTED, seed=1))
    second = radial_distribution(ideal_gas(["O"] * 9, 5, TILTED, seed=2))
    assert mean_absolute_difference(first, first) == 0
    assert mean_absolute_difference(first, second) == np.mean(np.abs(first.g - second.g))
    with pytest.raises(ValueError, match="not on the same bins"):
        mean_absolute_difference(first, radial_distribution(ideal_gas(["O"] * 9, 5, TILTED), bin_width_nm=0.1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pair": ("O", "Na")}, "there is no Na in the topology, which has O, H; choose one of these"),
        ({"pair": ("H", "H")}, "needs two atoms, but there is only one"),
        ({"r_max_nm": 1.2}, "half the shortest height of the cell is 0.8"),
        ({"r_max_nm": 0.0}, "`r_max_nm` is 0.0; it must be positive"),
        ({"bin_width_nm": 0.0}, "must be positive"),
        ({"n_blocks": 7}, "6 frames cannot be cut into 7 blocks"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    with pytest.raises(ValueError, match=words):
        radial_distribution(ideal_gas(["O", "O", "H"], 6, TILTED), **arguments)


def test_a_trajectory_without_a_cell_is_refused():
    with pytest.raises(ValueError, match="no periodic cell"):
        radial_distribution(atoms("OO", np.zeros((5, 2, 3))))


def test_the_table_names_its_units(tmp_path):
    path = radial_distribution(ideal_gas(["O"] * 9, 5, TILTED)).write_csv(tmp_path / "rdf.csv")
    assert path.read_text().splitlines()[0] == "r_nm,g,g_error,coordination,coordination_error"
