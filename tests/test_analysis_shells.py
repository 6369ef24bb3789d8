"""First shells of known curves, and what is counted within them."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.cutoffs import cutoff_from_second_shell, cutoff_from_shell
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import distance_counts, pairs_of
from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.shells import first_shell

TILTED = np.array([[1.5, 0.0, 0.0], [0.7, 1.4, 0.0], [-0.6, 0.5, 1.6]])  # nm


def test_extrema_of_a_curve_of_gaussians_are_where_its_slope_vanishes():
    r = np.arange(0.0025, 1.0, 0.005)
    g = 2.5 * np.exp(-(((r - 0.28) / 0.03) ** 2)) + np.exp(-(((r - 0.45) / 0.05) ** 2)) + 0.3
    found = first_shell(r, g, np.zeros_like(r))
    assert found.peak_nm == pytest.approx(0.28, abs=2e-4)  # a parabola through three points 0.005 apart
    assert found.peak_g == pytest.approx(2.8, abs=0.02)
    fine = np.arange(0.28, 0.45, 1e-5)
    curve = 2.5 * np.exp(-(((fine - 0.28) / 0.03) ** 2)) + np.exp(-(((fine - 0.45) / 0.05) ** 2))
    assert found.minimum_nm == pytest.approx(fine[np.argmin(curve)], abs=0.005)  # a bin


def test_the_middle_of_a_gap_is_the_minimum():
    r = np.arange(0.0025, 0.8, 0.005)
    g = 30 * np.exp(-(((r - 0.1) / 0.01) ** 2)) * (r < 0.14) + (r > 0.26) * 1.2
    assert first_shell(r, g, np.zeros_like(r)).minimum_nm == pytest.approx(0.2, abs=0.01)


def test_noise_is_no_shell():
    random = np.random.default_rng(0)
    r = np.arange(0.0025, 1.0, 0.005)
    found = first_shell(r, 1 + 0.3 * random.normal(size=len(r)), np.full(len(r), 0.3))
    assert np.isnan(found.peak_nm)
    assert np.isnan(found.minimum_nm)


def crystal(spread_nm=0.0, n_frames=6):
    """Rock salt of 64 pairs with lattice constant 0.56 nm."""
    corners = np.array(list(np.ndindex(4, 4, 4)))
    elements = ["Na" if corner.sum() % 2 == 0 else "Cl" for corner in corners]
    noise = np.random.default_rng(1).normal(scale=spread_nm, size=(n_frames, 64, 3))
    return atoms(elements, 0.28 * corners + noise, cell=1.12 * np.eye(3))


def test_figures_of_a_warm_rock_salt_are_its_shells():
    found = radial_distribution(crystal(0.012), ("Na", "Cl")).figures()
    # 6 neighbours at 0.28, 8 at 0.28·√3 = 0.485 nm; the mean distance of two atoms is longer by spread²/r·2 = 0.001
    assert found["first_peak_nm"].value == pytest.approx(0.281, abs=0.006)
    assert found["coordination_number"] == (6.0, 0.0)
    assert 0.3 < found["first_minimum_nm"].value < 0.46
    assert 0 < found["first_peak_nm"].error < 0.01


def test_a_cutoff_is_given_or_read_or_asked_for():
    frames = Frames.of(crystal(0.012))
    assert cutoff_from_shell(frames, ("Na", "Cl"), 0.4, "cutoff_nm") == 0.4
    assert 0.3 < cutoff_from_shell(frames, ("Na", "Cl"), None, "cutoff_nm") < 0.46
    with pytest.raises(ValueError, match="`cutoff_nm` is 0; a cutoff must be positive"):
        cutoff_from_shell(frames, ("Na", "Cl"), 0, "cutoff_nm")
    with pytest.raises(ValueError, match="no clear second minimum; give `separated_nm`"):
        cutoff_from_second_shell(frames, ("Na", "Cl"), None, "separated_nm")
    open_frames = Frames.of(atoms(["Na", "Cl"], np.zeros((2, 2, 3))))
    with pytest.raises(ValueError, match="without a periodic cell there is no g"):
        cutoff_from_shell(open_frames, ("Na", "Cl"), None, "cutoff_nm")


@pytest.mark.parametrize("reach", [0.5, 1.87])  # the second beyond half the cell: several images of one atom
@pytest.mark.parametrize("same", [True, False])
def test_counts_are_those_of_the_listed_pairs_and_of_brute_force(reach, same):
    random = np.random.default_rng(3)
    first = random.uniform(-2, 3, (9, 3))
    second = first if same else random.uniform(-2, 3, (7, 3))
    edges = np.linspace(0, reach, 20)
    shifts = (np.array(list(np.ndindex(9, 9, 9))) - 4) @ TILTED
    wrapped = [x - np.floor(x @ np.linalg.inv(TILTED)) @ TILTED for x in (first, second)]
    steps = wrapped[1][None, :, None] - wrapped[0][:, None, None] + shifts
    distances = np.linalg.norm(steps, axis=-1).ravel()
    expected = np.histogram(distances[distances > 1e-9], bins=edges)[0]
    assert expected.sum() > 5
    assert np.array_equal(distance_counts(first, second, TILTED, edges), expected)
    together = np.concatenate([first, second])
    one, other = np.arange(9), np.arange(9) if same else np.arange(9, 16)
    listed = pairs_of(together, one, other, TILTED, reach)
    assert np.array_equal(np.histogram(listed.distance_nm, bins=edges)[0], expected)


def test_sets_that_share_atoms_give_the_pairs_of_both():
    random = np.random.default_rng(5)
    positions = random.uniform(0, 1.5, (20, 3))
    first, second = np.arange(0, 12), np.array([17, 8, 9, 10, 11, 12, 19])
    found = pairs_of(positions, first, second, TILTED, 0.6)
    every = pairs_of(positions, np.arange(20), np.arange(20), TILTED, 0.6)
    kept = np.isin(every.centre, first) & np.isin(every.neighbour, second)
    expected = sorted(zip(every.centre[kept], every.neighbour[kept], every.distance_nm[kept], strict=True))
    assert sorted(zip(first[found.centre], second[found.neighbour], found.distance_nm, strict=True)) == expected
    shift = positions[second[found.neighbour]] - positions[first[found.centre]]
    images = (found.vector_nm - shift) @ np.linalg.inv(TILTED)
    assert images == pytest.approx(np.rint(images), abs=1e-9)
