"""Near frames: what is near, how energies follow forces between them, and what breaks it."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation
from test_hygiene import scaled, wobbling_water

from openmm_allegro import units
from openmm_allegro.training.consistency import energies_beside_forces, frames_off, slope_of
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.hygiene import inspect_frames
from openmm_allegro.training.near_frames import best_rotations, groups_of_same_atoms, near_pairs, nearest_to_each


def harmonic(count=40, n_atoms=12, periodic=False, seed=0, wrap=False):
    """Frames about one place in which each atom is held by a spring of 5 eV/Å²; exact to second order."""
    random, images = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    places = random.uniform(0, 10, (n_atoms, 3))
    cell = 10 * np.eye(3) + random.normal(0, 0.3, (3, 3))
    frames = []
    for i in range(count):
        step = random.normal(0, 0.1, places.shape)
        step -= step.mean(0)
        positions = places + step
        if wrap:
            positions = (positions @ np.linalg.inv(cell) + images.integers(-1, 2, places.shape)) @ cell
        frames.append(
            Frame(
                numbers=np.full(n_atoms, 6),
                positions=positions,
                cell=cell if periodic else np.zeros((3, 3)),
                periodic=periodic,
                energy=float(2.5 * (step**2).sum()) - 1000.0,
                forces=-5 * step,
                stress=None,
                origin=f"frame {i}",
            )
        )
    return frames


def test_the_work_between_harmonic_frames_is_the_energy_change_exactly():
    pairs = near_pairs(harmonic(periodic=True))
    np.testing.assert_allclose(pairs.work, pairs.energy_change, atol=1e-10)
    np.testing.assert_allclose(pairs.curvature, 5.0, rtol=1e-9)
    assert slope_of(pairs).slope == pytest.approx(1.0, abs=1e-9)


def test_atoms_that_left_the_cell_are_no_farther():
    plain, wrapped = near_pairs(harmonic(periodic=True)), near_pairs(harmonic(periodic=True, wrap=True))
    both = {(i, j): d for i, j, d in zip(wrapped.first, wrapped.second, wrapped.displacement, strict=True)}
    common = [
        (d, both[i, j]) for i, j, d in zip(plain.first, plain.second, plain.displacement, strict=True) if (i, j) in both
    ]
    assert len(common) > 40
    np.testing.assert_allclose(*np.array(common).T, atol=1e-10)


def test_the_best_rotation_is_that_of_scipy():
    random = np.random.default_rng(0)
    moved, fixed = random.normal(size=(2, 5, 7, 3))
    moved, fixed = moved - moved.mean(1, keepdims=True), fixed - fixed.mean(1, keepdims=True)
    for row, turn in enumerate(best_rotations(moved, fixed)):
        expected = Rotation.align_vectors(fixed[row], moved[row])[0].as_matrix().T
        np.testing.assert_allclose(turn, expected, atol=1e-10)


def test_the_three_nearest_are_those_of_all_distances():
    points = np.random.default_rng(0).normal(size=(300, 5)) + 1e3
    distances = cdist(points, points) + 1e9 * np.eye(300)
    expected = np.sort(np.argsort(distances, axis=1)[:, :3], axis=1)
    np.testing.assert_array_equal(np.sort(nearest_to_each(points), axis=1), expected)


def test_only_frames_of_the_same_atoms_and_cell_are_compared():
    frames = harmonic(3, periodic=True) + harmonic(2) + harmonic(1, n_atoms=5)
    frames.append(dataclasses.replace(frames[0], cell=frames[0].cell * 1.01))
    assert groups_of_same_atoms(frames) == [[0, 1, 2], [3, 4]]
    assert len(near_pairs(frames[-2:]).first) == 0


def test_turned_molecules_are_compared_with_turned_forces():
    still, turned = near_pairs(wobbling_water()), near_pairs(wobbling_water(turn=True))
    # the Morse potential is anharmonic: to second order only
    assert slope_of(still).slope == pytest.approx(1.0, abs=0.1)
    assert slope_of(turned).slope == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("energy", "forces", "slope", "words"),
    [
        (1.0, 1 / 51.42207, 51.42207, "energies in eV beside forces in Hartree/Bohr"),
        (1 / 27.211386, 1.0, 1 / 27.211386, "energies in Hartree beside forces in eV/Å"),
        (23.0605, 1.0, 23.0605, "energies in kcal/mol beside forces in eV/Å"),
        (1.0, 23.0605, 0.0433641, "energies in eV beside forces in kcal/mol/Å"),
        (96.4853, 1.0, 96.4853, "energies in kJ/mol beside forces in eV/Å"),
        (1.0, 964.853, 1 / 964.853, "energies in eV beside forces in kJ/mol/nm"),
        (1.0, -1.0, -1.0, "the forces are gradients, with the other sign"),
        (1 / 12, 1.0, 1 / 12, "energies are per atom instead of total"),
        (5.5, 1.0, 5.5, "energies and forces are of other units or levels of theory"),
    ],
)
def test_a_mismatch_is_named_by_its_slope(energy, forces, slope, words):
    frames = scaled(harmonic(periodic=True), energy, forces)
    found = slope_of(near_pairs(frames))
    assert found.slope == pytest.approx(slope, rel=1e-5)  # digits of the factors
    assert words in energies_beside_forces(found, 12.0)[0].sentence


def test_no_verdict_without_correlation():
    frames = harmonic()
    random = np.random.default_rng(1)
    noisy = [dataclasses.replace(frame, energy=float(random.normal())) for frame in frames]
    assert energies_beside_forces(slope_of(near_pairs(noisy)), 12.0) == []
    assert slope_of(near_pairs(frames[:3])) is None


def test_a_frame_with_a_wrong_energy_is_named_and_no_other():
    frames = harmonic(60, periodic=True)
    random = np.random.default_rng(3)
    frames = [dataclasses.replace(f, energy=f.energy + random.normal(0, 1e-3)) for f in frames]
    pairs = near_pairs(frames)
    assert frames_off(frames, pairs, slope_of(pairs)) == []
    frames[17] = dataclasses.replace(frames[17], energy=frames[17].energy + 1.0)
    pairs = near_pairs(frames)
    found = frames_off(frames, pairs, slope_of(pairs))
    assert found[0].sentence.startswith("frame 17: the energy is up to")
    assert found[0].value == pytest.approx(1.0, abs=0.02)
    assert "energy off its neighbours" in {each.check for each in inspect_frames(frames).suspicions}


def test_conversion_factors_are_those_of_the_tables():
    assert pytest.approx(51.42206747, rel=1e-8) == units.HARTREE_TO_EV / units.BOHR_TO_ANGSTROM
    assert pytest.approx(160.2176634, rel=1e-9) == units.EV_PER_ANGSTROM3_TO_GPA
