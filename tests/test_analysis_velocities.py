"""Velocity autocorrelation of an Ornstein–Uhlenbeck process, spectra of oscillators."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.msd import mean_squared_displacement
from openmm_allegro.analysis.velocities import autocorrelation, velocity_autocorrelation
from openmm_allegro.analysis.vibrations import vibrational_density

LIGHT = 0.0299792458  # cm/ps


def langevin(n_frames, n_atoms, friction, dt, seed=0, inner=10):
    """Positions of free particles whose velocities of unit variance decay as exp(−friction t)."""
    random = np.random.default_rng(seed)
    memory = np.exp(-friction * dt / inner)
    v = random.normal(size=(n_atoms, 3))
    x, path = np.zeros((n_atoms, 3)), np.empty((n_frames, n_atoms, 3))
    for f in range(n_frames):
        path[f] = x
        for _ in range(inner):
            before, v = v, memory * v + np.sqrt(1 - memory**2) * random.normal(size=v.shape)
            x = x + 0.5 * dt / inner * (before + v)
    return path


def oscillators(wave_numbers, n_frames, dt, temperature=300.0, symbol="H", mass=1.007947):
    """Atoms that vibrate at their wave number in three directions, each with kT of energy."""
    random = np.random.default_rng(0)
    omega = 2 * np.pi * LIGHT * np.asarray(wave_numbers)[None, :, None]
    speed = np.sqrt(0.00831446261815324 * temperature / mass)  # nm/ps
    phase = random.uniform(0, 2 * np.pi, (1, len(wave_numbers), 3))
    t = dt * np.arange(n_frames)[:, None, None]
    xyz = np.sqrt(2) * speed / omega * np.cos(omega * t + phase)
    return atoms([symbol] * len(wave_numbers), xyz, times=dt * np.arange(n_frames))


def test_autocorrelation_by_transforms_is_the_direct_sum():
    values = np.random.default_rng(0).normal(size=(40, 3, 2))
    direct = [(values[t:] * values[: 40 - t]).sum(axis=(1, 2)).mean() for t in range(20)]
    assert autocorrelation(values, 20) == pytest.approx(direct, abs=1e-12)


def test_ornstein_uhlenbeck_velocities_decay_exponentially_and_integrate_to_kt_over_m_gamma():
    dt, friction = 0.02, 2.0
    walk = atoms(["Li"] * 40, langevin(3000, 40, friction, dt), times=dt * np.arange(3000))
    found = velocity_autocorrelation(walk, "Li", longest_ps=3.0, relative_to="none")
    # averaged over steps Δ, an exponential is correlated with a triangle: that gives (sinh x/x)², x = γΔ/2
    exact = 3 * np.exp(-friction * found.lag_ps) * (np.sinh(friction * dt / 2) / (friction * dt / 2)) ** 2
    # 60 ps of 40 x 3 velocities with a memory of 1 ps: 1.7 % of the start
    assert found.correlation_nm2_per_ps2[1:] == pytest.approx(exact[1:], abs=0.15)
    # beyond 3 ps there is e⁻⁶ of the integral
    assert found.diffusion_cm2_per_s[-1] == pytest.approx(1e-2 / friction, rel=0.1)
    assert abs(found.diffusion_cm2_per_s[-1] - 1e-2 / friction) < 4 * found.diffusion_error_cm2_per_s[-1]


def test_green_and_kubo_agree_with_einstein():
    walk = atoms(["Li"] * 60, langevin(2000, 60, 5.0, 0.05, inner=4), times=0.05 * np.arange(2000))
    einstein = mean_squared_displacement(walk, "Li", relative_to="none")
    green = velocity_autocorrelation(walk, "Li", relative_to="none")
    both = np.hypot(einstein.diffusion_error_cm2_per_s, green.diffusion_error_cm2_per_s[-1])
    assert abs(einstein.diffusion_cm2_per_s - green.diffusion_cm2_per_s[-1]) < 4 * both


def test_oscillators_have_their_wave_number_equal_weights_and_the_temperature():
    wave_numbers = [400.0, 1500.0, 3200.0]
    found = vibrational_density(oscillators(wave_numbers, 8000, 0.002), "H", relative_to="none")
    step = found.wave_number_per_cm[1]
    for wave_number in wave_numbers:
        near = np.abs(found.wave_number_per_cm - wave_number) < 200
        assert found.wave_number_per_cm[near][np.argmax(found.density_cm[near])] == pytest.approx(wave_number, abs=step)
        # without the correction 3200 would have 0.89 of it; Hann windows put 10⁻⁴ elsewhere
        assert found.density_cm[near].sum() * step == pytest.approx(1 / 3, abs=0.002)
    assert found.temperature_k.value == pytest.approx(300.0, rel=0.005)
    assert np.trapezoid(found.density_cm, found.wave_number_per_cm) == pytest.approx(1.0)


def test_the_spectrum_of_a_liquid_goes_on_to_zero_where_it_tells_of_diffusion():
    dt, friction = 0.01, 20.0
    walk = atoms(["Li"] * 40, langevin(4000, 40, friction, dt, inner=4), times=dt * np.arange(4000))
    found = vibrational_density(walk, "Li", resolution_per_cm=1 / (2 * LIGHT), relative_to="none")
    omega = 2 * np.pi * LIGHT * found.wave_number_per_cm
    lorentz = 4 * LIGHT / friction / (1 + (omega / friction) ** 2)  # of an exponential, over all wave numbers one
    # 40 x 3 x 35 overlapping windows: 2 %; the integral ends at 1668 / cm, where 4 % are missing
    assert found.density_cm[:4] == pytest.approx(lorentz[:4], rel=0.08)


def test_motion_faster_than_the_frames_is_warned_of():
    # at 5 fs the spectrum ends at 3336 / cm; 3400 appears at 3271
    with pytest.warns(UserWarning, match="has 100 % of the kinetic energy, so that faster motion is probably folded"):
        vibrational_density(oscillators([3400.0], 4000, 0.005, symbol="C"), "C", relative_to="none")
    with pytest.warns(UserWarning, match="show waves up to 3336 cm⁻¹; bonds to hydrogen"):
        vibrational_density(oscillators([400.0], 4000, 0.005), "H", relative_to="none")


def test_positions_rounded_as_in_xtc_files_are_warned_of_and_not_taken_for_folded_motion():
    options = {"resolution_per_cm": 25.0, "relative_to": "none"}
    exact = oscillators([100.0, 400.0, 1600.0] * 5, 4000, 0.002, symbol="O", mass=15.99943)
    apart = exact.xyz + np.linspace(0, 1, 45).reshape(15, 3)
    rounded = atoms(["O"] * 15, np.rint(1e3 * apart) / 1e3, exact.time)
    assert vibrational_density(exact, "O", **options).temperature_k.value == pytest.approx(300.0, rel=0.01)
    # m π²/3 (1e-3 nm)²/12 / (2 fs)² / k = 132 K, where errors of neighbouring frames are independent
    with pytest.warns(UserWarning, match="rounded to 0.001 nm, as in XTC files, .* adds about 132 K .* has 4.. K"):
        found = vibrational_density(rounded, "O", **options)
    assert found.temperature_k.value == pytest.approx(432.0, abs=40.0)
    start = velocity_autocorrelation(exact, "O", relative_to="none").correlation_nm2_per_ps2[0]
    with pytest.warns(UserWarning, match="rounded to 0.001 nm, .* about 2. % of ⟨v²⟩"):
        found = velocity_autocorrelation(rounded, "O", relative_to="none")
    assert found.correlation_nm2_per_ps2[0] == pytest.approx(start + 6 * 1e-6 / 12 / 0.002**2, rel=0.06)


def test_the_motion_that_a_barostat_gives_is_warned_of_and_not_taken_for_folded_motion():
    still = oscillators([100.0, 400.0, 1600.0] * 5, 4000, 0.002, symbol="O", mass=15.99943)
    edges = 2 + 0.01 * np.random.default_rng(1).normal(size=160).repeat(25)  # nm; a new one every 50 fs
    places = (np.arange(45) * 19 % 45 / 45).reshape(15, 3)
    moved = still.xyz + places * edges[:, None, None]
    run = atoms(["O"] * 15, moved, still.time, cell=edges[:, None, None] * np.eye(3))
    # 3/12 ⟨δL²⟩/Δ², of steps of √2 · 0.01 nm in one frame of 25: 0.49 nm²/ps² beside 3kT/m of 0.47
    added = 0.25 * np.mean(np.diff(edges) ** 2) / 0.002**2
    with pytest.warns(UserWarning, match="the cell changes from frame to frame, as by a barostat, .* 49 % of ⟨v²"):
        found = velocity_autocorrelation(run, "O")
    start = velocity_autocorrelation(still, "O").correlation_nm2_per_ps2[0]
    assert found.correlation_nm2_per_ps2[0] == pytest.approx(start + added, rel=0.1)
    with pytest.warns(UserWarning, match="the cell changes from frame to frame, as by a barostat"):
        vibrational_density(run, "O", resolution_per_cm=25.0)


def test_folded_motion_is_warned_of_beside_a_barostat():
    still = oscillators([50.0, 100.0, 900.0] * 5, 4000, 0.02, symbol="O", mass=15.99943)  # 900 beyond the highest, 834
    edges = 2 + 0.01 * np.random.default_rng(1).normal(size=4000)
    moved = still.xyz + (np.arange(45) * 19 % 45 / 45).reshape(15, 3) * edges[:, None, None]
    run = atoms(["O"] * 15, moved, still.time, cell=edges[:, None, None] * np.eye(3))
    with (
        pytest.warns(UserWarning, match="the cell changes from frame to frame"),
        pytest.warns(UserWarning, match="the last tenth of the spectrum has .* faster motion is probably folded"),
    ):
        vibrational_density(run, "O", resolution_per_cm=10.0)


@pytest.mark.parametrize("function", [vibrational_density, velocity_autocorrelation])
def test_atoms_at_rest_are_refused(function):
    still = atoms(["C"] * 3, np.zeros((5000, 3, 3)), times=0.002 * np.arange(5000))
    with pytest.raises(ValueError, match="C does not move"):
        function(still, "C")


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (vibrational_density, {"resolution_per_cm": 0.01}, "and at most a block of 79"),
        (vibrational_density, {"resolution_per_cm": -1.0}, "it must be positive"),
        (velocity_autocorrelation, {"longest_ps": 1e-4}, "the frames are 0.002 ps apart"),
    ],
)
def test_what_cannot_be_done_is_said(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(oscillators([400.0, 500.0], 400, 0.002), "H", **arguments)
