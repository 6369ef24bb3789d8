"""Displacements against the direct formula, random walks of known diffusion, straight flight, and MDAnalysis."""

import warnings

import numpy as np
import pytest
from trajectories import TILTED, atoms, random_walk, wrapped

from openmm_allegro.analysis.diffusive import brownian_covariance, line_weights
from openmm_allegro.analysis.displacements import displacement_products
from openmm_allegro.analysis.msd import mean_squared_displacement
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.trajectory_file import open_trajectory


def of_walk(step_nm, dt_ps):
    """D in cm²/s of a walk with steps of this variance along each axis."""
    return step_nm**2 / (2 * dt_ps) * 1e-2


def test_transforms_equal_the_direct_formula():
    a, b = random_walk(50, 30, 0.1) + 100.0, random_walk(50, 30, 0.1, seed=1)
    for first, second in ((a, a), (a, b)):
        direct = [
            np.mean(np.sum((first[t:] - first[: 50 - t]) * (second[t:] - second[: 50 - t]), axis=1), axis=0)
            for t in range(50)
        ]
        assert displacement_products(first, second, 50) == pytest.approx(np.array(direct), rel=1e-10, abs=1e-10)


def test_straight_flight_has_exactly_v2_t2_and_is_called_not_diffusive():
    velocities = np.array([[0.3, 0.0, 0.4], [0.0, 0.5, 0.0], [0.0, 0.0, -0.5]])  # speed 0.5 nm/ps each
    times = 0.5 * np.arange(80)
    flight = atoms(["Li"] * 3, times[:, None, None] * velocities, times=times)
    with pytest.warns(UserWarning, match="does not become diffusive within 10 ps: its log–log slope is 2.00"):
        found = mean_squared_displacement(flight, "Li", relative_to="none", n_blocks=2)
    assert found.msd_nm2 == pytest.approx(0.25 * found.lag_ps**2, rel=1e-5, abs=1e-6)  # positions are float32
    assert found.msd_xyz_nm2[-1] == pytest.approx(np.array([0.09, 0.25, 0.41]) / 3 * 100, rel=1e-5)
    assert found.log_slope.value == pytest.approx(2.0, abs=1e-4)
    assert not found.diffusive


def test_a_random_walk_has_its_diffusion_coefficient_within_the_stated_error():
    step_nm, dt_ps, exact = 0.05, 0.2, of_walk(0.05, 0.2)
    values, errors, covered = [], [], []
    for seed in range(60):
        walk = atoms(["Li"] * 10, random_walk(400, 10, step_nm, seed), times=dt_ps * np.arange(400))
        figures = mean_squared_displacement(walk, "Li", relative_to="none").figures()
        values.append(figures["diffusion_cm2_per_s"].value)
        errors.append(figures["diffusion_cm2_per_s"].error)
        low, high = figures["diffusion_low_cm2_per_s"].value, figures["diffusion_high_cm2_per_s"].value
        covered.append(low <= exact <= high)
    assert np.mean(values) == pytest.approx(exact, rel=0.015)  # 0.03 for one of the sixty
    assert np.mean(covered) >= 0.87  # 0.95 ± 0.03, less 0.02 for windows that begin late by chance
    assert 0.75 < np.std(values, ddof=1) / np.sqrt(np.mean(np.square(errors))) < 1.35  # each known to 10 %


def test_the_three_axes_have_their_own_diffusion():
    steps = np.array([0.02, 0.04, 0.06])
    walk = np.cumsum(np.random.default_rng(0).normal(size=(2000, 30, 3)) * steps, axis=0)
    found = mean_squared_displacement(atoms(["Li"] * 30, walk, times=np.arange(2000.0)), "Li", relative_to="none")
    for along, step in zip(found.diffusion_xyz_cm2_per_s, steps, strict=True):
        assert along.value == pytest.approx(of_walk(step, 1.0), rel=0.06)  # 1.4 % for 30 x 2000 steps, √3 for the line
    mean = np.mean([along.value for along in found.diffusion_xyz_cm2_per_s])
    assert found.diffusion_cm2_per_s == pytest.approx(mean, rel=1e-9)


def test_rattling_in_a_cage_is_left_out_and_does_not_change_the_slope():
    n_frames, n_atoms, step_nm, memory = 4000, 20, 0.01, 0.9
    random = np.random.default_rng(4)
    rattle = np.zeros((n_frames, n_atoms, 3))
    kicks = random.normal(scale=0.02 * np.sqrt(1 - memory**2), size=rattle.shape)
    for f in range(1, n_frames):
        rattle[f] = memory * rattle[f - 1] + kicks[f]
    walk = random_walk(n_frames, n_atoms, step_nm) + rattle
    found = mean_squared_displacement(atoms(["Li"] * n_atoms, walk, times=np.arange(4000.0)), "Li", relative_to="none")
    # MSD = 6 D t + 6 (0.02 nm)² (1 − 0.9^t), D = 5·10⁻⁵ nm² a frame: its log–log slope from t to 2 t is 0.78 at 20
    # frames and 0.9 at 52; there is scatter of a few per cent
    assert 20 < found.fit_window_ps[0] < 100
    assert found.diffusive
    assert abs(found.diffusion_cm2_per_s - of_walk(step_nm, 1.0)) < 3 * found.diffusion_error_cm2_per_s
    assert found.diffusion_error_cm2_per_s < 0.1 * of_walk(step_nm, 1.0)
    through_zero = found.msd_nm2[15] / (6 * 15) * 1e-2
    assert through_zero > 1.3 * of_walk(step_nm, 1.0)


def test_the_covariance_of_displacements_is_that_of_qian_without_noise_and_of_samples_with():
    # H. Qian, M. P. Sheetz and E. L. Elson, Biophys. J. 60, 910 (1991), with all terms: M = N − n displacements over
    # n ≤ N/2 steps the variance is 2 n² (4 n² M + 2 M + n − n³)/(6 n M²), in one dimension
    lags = np.array([1, 4, 10])
    exact = 2 * lags**2 * (4 * lags**2 * (100 - lags) + 2 * (100 - lags) + lags - lags**3)
    exact = exact / (6 * lags * (100 - lags) ** 2)
    assert np.diag(brownian_covariance(lags, 100, 0.0)) == pytest.approx(exact, rel=1e-10)
    walks = random_walk(100, 20_000, 1.0)[..., 0] + np.random.default_rng(9).normal(scale=2.0, size=(100, 20_000))
    squares = np.stack([((walks[n:] - walks[:-n]) ** 2).mean(axis=0) for n in lags])
    ratio = np.cov(squares) / brownian_covariance(lags, 100, 4.0)
    assert ratio == pytest.approx(np.ones((3, 3)), abs=0.06)  # 20,000 samples: 1 to 2 %, more off the diagonal


def test_weights_give_back_any_straight_line():
    lags = np.array([3, 5, 9, 20])
    assert line_weights(lags, 200, 0.7) @ (2.5 + 0.3 * lags) == pytest.approx([2.5, 0.3], rel=1e-9)


def test_resting_the_centre_of_n_equal_atoms_takes_one_nth_of_the_diffusion():
    walk = atoms(["Li"] * 4, random_walk(4000, 4, 0.05), times=np.arange(4000.0))
    window = (1.0, 20.0)
    moving = mean_squared_displacement(walk, "Li", fit_window_ps=window, relative_to="none")
    at_rest = mean_squared_displacement(walk, "Li", fit_window_ps=window)
    # (1 − 1/4) for a walk; sampled over 4 x 4000 steps, of which the ratio shares the most
    assert at_rest.diffusion_cm2_per_s / moving.diffusion_cm2_per_s == pytest.approx(0.75, rel=0.05)


def test_a_walk_in_a_tilted_cell_from_a_file_is_that_without_a_cell(tmp_path):
    xyz = random_walk(300, 10, 0.1) + 1.0
    times = 0.1 * np.arange(300)
    inside = atoms(["Li"] * 10, wrapped(xyz, TILTED), times=times, cell=TILTED)
    inside.save_xtc(tmp_path / "walk.xtc")
    inside[0].save_pdb(tmp_path / "walk.pdb")
    from_file = mean_squared_displacement(open_trajectory(tmp_path / "walk.xtc", tmp_path / "walk.pdb"), "Li")
    free = mean_squared_displacement(atoms(["Li"] * 10, xyz, times=times), "Li")
    assert from_file.msd_nm2 == pytest.approx(free.msd_nm2, rel=2e-3, abs=1e-5)  # XTC keeps 0.001 nm


def test_a_breathing_box_is_not_mistaken_for_diffusion():
    n_frames, step_nm = 3000, 0.02
    scale = 1 + 0.01 * np.random.default_rng(3).normal(size=n_frames)
    cells = scale[:, None, None] * 2 * np.eye(3)
    fractional = random_walk(n_frames, 40, step_nm / 2, seed=5)
    fractional -= np.floor(fractional)
    trajectory = atoms(["Li"] * 40, fractional @ cells, times=np.arange(float(n_frames)), cell=cells)
    found = mean_squared_displacement(trajectory, "Li", relative_to="none")
    assert abs(found.diffusion_cm2_per_s - of_walk(step_nm, 1.0)) < 4 * found.diffusion_error_cm2_per_s
    assert found.diffusion_error_cm2_per_s < 0.1 * of_walk(step_nm, 1.0)


def test_displacements_are_those_of_mdanalysis():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from MDAnalysis import Universe
        from MDAnalysis.analysis.msd import EinsteinMSD
        from MDAnalysis.coordinates.memory import MemoryReader

        xyz = random_walk(200, 7, 0.05)
        universe = Universe.empty(7, trajectory=True)
        universe.load_new(10 * xyz.astype(np.float32), format=MemoryReader, dt=0.5)
        theirs = EinsteinMSD(universe, msd_type="xyz", fft=False).run().results.timeseries
    ours = mean_squared_displacement(
        atoms(["Li"] * 7, xyz, times=0.5 * np.arange(200)), "Li", relative_to="none", n_blocks=2
    )
    assert 100 * ours.msd_nm2 == pytest.approx(theirs[: len(ours.msd_nm2)], rel=1e-4, abs=1e-4)  # Å², float32


def test_the_correction_for_the_box_is_that_of_yeh_and_hummer():
    walk = random_walk(100, 8, 0.02)
    cell = 2.5 * np.eye(3)
    trajectory = atoms(["O"] * 8, wrapped(walk, cell), times=np.arange(100.0), cell=cell)
    found = mean_squared_displacement(trajectory, "O", temperature_k=298.15, viscosity_mpa_s=0.89).figures()
    difference = found["diffusion_infinite_box_cm2_per_s"].value - found["diffusion_cm2_per_s"].value
    # by hand: 2.837297 x 1.380649e-23 x 298.15 / (6 π 0.89e-3 x 2.5e-9) = 2.7848e-10 m²/s
    assert difference == pytest.approx(2.7848e-6, rel=1e-4)
    tilted = atoms(["O"] * 8, wrapped(walk, TILTED), times=np.arange(100.0), cell=TILTED)
    with pytest.raises(ValueError, match="the box is not cubic"):
        mean_squared_displacement(tilted, "O", temperature_k=298.15, viscosity_mpa_s=0.89)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"element": "Na"}, "there is no Na in the topology, which has Li"),
        ({"n_blocks": 1}, "needs 2 or more"),
        ({"n_blocks": 8}, "40 frames in 8 blocks leave 5 a block, but 8 are needed"),
        ({"fit_window_ps": (30.0, 50.0)}, "holds 0 of the lags up to 4 ps"),
        ({"centres": "chains"}, "choose from atoms, residues, molecules"),
        ({"viscosity_mpa_s": 1.0}, "the correction needs both"),
        ({"viscosity_mpa_s": 1.0, "temperature_k": 300.0}, "no periodic cell, which the correction"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    walk = atoms(["Li"] * 2, random_walk(40, 2, 0.1), times=np.arange(40.0))
    with pytest.raises(ValueError, match=words):
        mean_squared_displacement(walk, **({"element": "Li"} | arguments))


@pytest.mark.parametrize("n_frames", [1, 3, 15])
def test_a_trajectory_that_is_too_short_is_told_how_long_it_must_be(n_frames):
    walk = atoms(["Li"] * 2, random_walk(n_frames, 2, 0.1), times=np.arange(float(n_frames)))
    with pytest.raises(ValueError, match=f"the trajectory has {n_frames} frames, but displacements .* need 16 or more"):
        mean_squared_displacement(walk, "Li", n_blocks=min(5, n_frames))


def test_atoms_at_rest_do_not_diffuse(tmp_path):
    still = atoms(["Li"] * 2, np.zeros((40, 2, 3)), times=np.arange(40.0))
    with pytest.warns(UserWarning, match="the motion of Li does not become diffusive"):
        found = mean_squared_displacement(still, "Li")
    assert found.diffusion_cm2_per_s == 0
    save_picture(tmp_path / "still.png", [found.draw])


def test_the_fit_window_is_recorded_and_the_table_names_its_units(tmp_path):
    walk = atoms(["Li"] * 2, random_walk(80, 2, 0.1), times=np.arange(80.0))
    found = mean_squared_displacement(walk, "Li", fit_window_ps=(2.5, 7.5))
    assert found.fit_window_ps == (3.0, 7.0)
    header = found.write_csv(tmp_path / "msd.csv").read_text().splitlines()[0]
    assert header.startswith("lag_ps,msd_nm2,msd_error_nm2,msd_x_nm2,msd_x_error_nm2")


@pytest.mark.parametrize(("spacing", "start"), [(0.1, 9800.0), (0.02, 1400.0)])
def test_long_trajectories_with_times_in_single_precision_are_equally_spaced(tmp_path, spacing, start):
    times = start + spacing * np.arange(400)
    trajectory = atoms(["Li"] * 2, random_walk(400, 2, 0.01), times=times, cell=TILTED)
    trajectory.save_xtc(tmp_path / "long.xtc")
    trajectory[0].save_pdb(tmp_path / "long.pdb")
    found = mean_squared_displacement(open_trajectory(tmp_path / "long.xtc", tmp_path / "long.pdb"), "Li")
    assert found.lag_ps[1] == pytest.approx(spacing, rel=1e-3)
