"""Displacements against the direct formula, a random walk of known diffusion, and straight flight."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.frames import load_trajectory
from openmm_allegro.analysis.msd import displacements_by_fft, mean_squared_displacement
from openmm_allegro.analysis.unwrap import remove_drift, unwrapped_positions_nm

TILTED = np.array([[2.0, 0.0, 0.0], [0.9, 1.9, 0.0], [-0.8, 0.7, 2.1]])  # nm


def random_walk(n_frames, n_atoms, step_nm, seed=0):
    """Steps of the same variance along each axis: D = step² / (2 dt)."""
    steps = np.random.default_rng(seed).normal(scale=step_nm, size=(n_frames, n_atoms, 3))
    return np.cumsum(steps, axis=0)


def wrapped(xyz, cells):
    fractional = xyz @ np.linalg.inv(cells)
    return (fractional - np.floor(fractional)) @ cells


def test_fft_equals_the_direct_formula():
    positions = random_walk(50, 300, 0.1) + 100.0
    direct = [np.mean(np.sum((positions[t:] - positions[: 50 - t]) ** 2, axis=-1)) for t in range(50)]
    assert displacements_by_fft(positions, 50) == pytest.approx(direct, rel=1e-10, abs=1e-10)


def test_straight_flight_has_exactly_v2_t2():
    velocities = np.array([[0.3, 0.0, 0.4], [0.0, 0.5, 0.0], [0.0, 0.0, -0.5]])  # speed 0.5 nm/ps each
    times = 0.5 * np.arange(80)
    found = mean_squared_displacement(
        atoms(["Li"] * 3, times[:, None, None] * velocities, times=times),
        "Li",
        drift_removed=False,
        n_blocks=2,
    )
    assert found.msd_nm2 == pytest.approx(0.25 * found.lag_ps**2, rel=1e-5, abs=1e-6)  # positions are float32
    assert found.lag_ps[-1] == 10.0


def test_a_random_walk_has_its_diffusion_coefficient_within_the_stated_error():
    step_nm, dt_ps = 0.05, 0.2
    exact = step_nm**2 / (2 * dt_ps) * 1e-2  # nm²/ps to cm²/s
    pulls, values, errors = [], [], []
    for seed in range(40):
        walk = atoms(["Li"] * 25, random_walk(800, 25, step_nm, seed), times=dt_ps * np.arange(800))
        found = mean_squared_displacement(walk, "Li", n_blocks=6, drift_removed=False)
        pulls.append((found.diffusion_cm2_per_s - exact) / found.diffusion_error_cm2_per_s)
        values.append(found.diffusion_cm2_per_s)
        errors.append(found.diffusion_error_cm2_per_s)
    assert np.mean(values) == pytest.approx(exact, rel=0.02)  # three standard errors of the forty
    assert np.mean(np.abs(pulls) < 2.6) >= 0.9  # t of 5 degrees of freedom: 95 in 100
    # blocks have fewer time origins than the whole, so the stated error is about 1.4 times the true one, known to 11 %
    assert 0.5 < np.std(values, ddof=1) / np.sqrt(np.mean(np.square(errors))) < 1.0


def test_removing_the_drift_of_n_equal_atoms_takes_one_nth_of_the_diffusion():
    walk = atoms(["Li"] * 4, random_walk(4000, 4, 0.05), times=np.arange(4000.0))
    window = (1.0, 20.0)
    moving = mean_squared_displacement(walk, "Li", fit_window_ps=window, drift_removed=False)
    at_rest = mean_squared_displacement(walk, "Li", fit_window_ps=window)
    # (1 − 1/4) for a walk; sampled over about 4000·4/20 independent stretches, 3 %
    assert at_rest.diffusion_cm2_per_s / moving.diffusion_cm2_per_s == pytest.approx(0.75, rel=0.09)


def test_the_common_drift_of_all_atoms_disappears():
    walk = random_walk(100, 6, 0.02)
    pushed = walk + 0.03 * np.arange(100)[:, None, None]
    still, moving = (
        mean_squared_displacement(atoms("OHHOHH", xyz, times=np.arange(100.0)), "O") for xyz in (walk, pushed)
    )
    assert moving.msd_nm2 == pytest.approx(still.msd_nm2, abs=2e-6)  # float32 positions of up to 3 nm


def test_the_centre_of_mass_is_weighted_by_mass():
    xyz = np.array([[[0.0, 0, 0], [1.0, 0, 0]], [[0.0, 0, 0], [2.0, 0, 0]]])
    trajectory = atoms("OH", xyz)
    oxygen = remove_drift(xyz, trajectory.topology)[:, 0, 0]
    assert oxygen == pytest.approx([-1.008 / 17.007, -2.016 / 17.007], rel=1e-4)


def test_a_wrapped_trajectory_is_unwrapped_to_what_it_was():
    xyz = random_walk(300, 10, 0.1) + 1.0
    xyz -= np.floor(xyz[:1] @ np.linalg.inv(TILTED)) @ TILTED  # the first frame inside the cell
    assert np.abs(xyz).max() > 2.5
    found = unwrapped_positions_nm(atoms(["Li"] * 10, wrapped(xyz, TILTED), cell=TILTED))
    assert found == pytest.approx(xyz, abs=2e-5)  # 300 steps of float32 positions


def test_in_a_changing_box_it_does_not_matter_whether_the_file_was_wrapped():
    scale = 1 + 0.03 * np.random.default_rng(3).uniform(-1, 1, 300)
    cells = scale[:, None, None] * TILTED
    xyz = random_walk(300, 10, 0.03) + np.array([9.0, 0.0, 0.0])
    as_written = unwrapped_positions_nm(atoms(["Li"] * 10, xyz, cell=cells))
    as_wrapped = unwrapped_positions_nm(atoms(["Li"] * 10, wrapped(xyz, cells), cell=cells))
    assert as_written - as_written[:1] == pytest.approx(as_wrapped - as_wrapped[:1], abs=5e-4)


def test_a_breathing_box_is_not_mistaken_for_diffusion():
    n_frames, step_nm = 3000, 0.02
    scale = 1 + 0.01 * np.random.default_rng(3).normal(size=n_frames)
    cells = scale[:, None, None] * 2 * np.eye(3)
    fractional = random_walk(n_frames, 40, step_nm / 2, seed=5)
    fractional -= np.floor(fractional)
    trajectory = atoms(["Li"] * 40, fractional @ cells, times=np.arange(float(n_frames)), cell=cells)
    found = mean_squared_displacement(trajectory, "Li", fit_window_ps=(50.0, 300.0), drift_removed=False)
    exact = step_nm**2 / 2 * 1e-2
    assert abs(found.diffusion_cm2_per_s - exact) < 4 * found.diffusion_error_cm2_per_s
    assert found.diffusion_error_cm2_per_s < 0.15 * exact


def test_frames_too_far_apart_to_follow_are_warned_of():
    with pytest.warns(UserWarning, match="moves by 0.4. of the cell between two frames"):
        unwrapped_positions_nm(atoms("O", np.array([[[0.0, 0, 0]], [[0.9, 0, 0]]]), cell=2 * np.eye(3)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"element": "Na"}, "there is no Na in the topology, which has Li"),
        ({"n_blocks": 1}, "needs 2 or more"),
        ({"n_blocks": 8}, "40 frames in 8 blocks leave 5 a block, but a slope needs at least 6"),
        ({"fit_window_ps": (30.0, 50.0)}, "holds 0 of the lags up to 5 ps"),
        ({"times_ps": np.arange(40.0) ** 2}, "not equally spaced"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    walk = atoms(["Li"] * 2, random_walk(40, 2, 0.1), times=np.arange(40.0))
    with pytest.raises(ValueError, match=words):
        mean_squared_displacement(walk, **({"element": "Li"} | arguments))


def test_the_fit_window_is_recorded_and_the_table_names_its_units(tmp_path):
    walk = atoms(["Li"] * 2, random_walk(80, 2, 0.1), times=np.arange(80.0))
    found = mean_squared_displacement(walk, "Li", fit_window_ps=(2.5, 7.5))
    assert found.fit_window_ps == (3.0, 7.0)
    path = found.write_csv(tmp_path / "msd.csv")
    assert path.read_text().splitlines()[0] == "lag_ps,msd_nm2,msd_error_nm2"


@pytest.mark.parametrize(("spacing", "start"), [(0.1, 9800.0), (0.02, 1400.0)])
def test_long_trajectories_with_times_in_single_precision_are_equally_spaced(tmp_path, spacing, start):
    times = start + spacing * np.arange(400)
    trajectory = atoms(["Li"] * 2, random_walk(400, 2, 0.01), times=times, cell=TILTED)
    trajectory.save_xtc(tmp_path / "long.xtc")
    trajectory[0].save_pdb(tmp_path / "long.pdb")
    loaded = load_trajectory(tmp_path / "long.xtc", tmp_path / "long.pdb")
    found = mean_squared_displacement(loaded, "Li")
    assert found.lag_ps[1] == pytest.approx(spacing, rel=1e-3)
