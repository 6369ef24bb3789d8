"""Hops of known rate and length are found, rattling and brief visits are not."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.compare import compare
from openmm_allegro.analysis.hops import hop_function, hops
from openmm_allegro.analysis.pictures import save_picture


def rattling(shape, width_nm, seed=0):
    return np.random.default_rng(seed).normal(scale=width_nm, size=shape)


def test_the_hop_function_is_that_of_its_definition():
    positions = rattling((40, 3, 3), 1.0).cumsum(axis=0)
    half = 6
    squared, apart = hop_function(positions, half)
    for moment in (6, 17, 34):
        before, after = positions[moment - half : moment], positions[moment : moment + half]
        one = ((before - after.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)
        other = ((after - before.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)
        assert squared[moment - half] == pytest.approx(np.sqrt(one * other), rel=1e-10)
        exact = np.linalg.norm(before.mean(axis=0) - after.mean(axis=0), axis=1)
        assert apart[moment - half] == pytest.approx(exact, rel=1e-10)
    assert squared.shape == (40 - 2 * half + 1, 3)


def test_poisson_hops_on_a_lattice_are_counted_with_their_rate_length_and_times():
    n_frames, n_atoms, rate, length = 4000, 30, 0.002, 0.3
    random = np.random.default_rng(3)
    hopping = random.random((n_frames, n_atoms)) < rate
    hopping[0] = False
    axis = np.eye(3)[random.integers(0, 3, (n_frames, n_atoms))]
    sign = random.choice([-1.0, 1.0], (n_frames, n_atoms, 1))
    sites = length * np.cumsum(hopping[:, :, None] * axis * sign, axis=0)
    walk = atoms(["Li"] * n_atoms, sites + rattling(sites.shape, 0.02), times=0.1 * np.arange(n_frames))
    found = hops(walk, "Li", relative_to="none")  # half a window: 10 frames, in which 2 % of the hops meet another
    rate_per_ps = rate / 0.1
    # 240 hops: 6.5 % by counting
    assert found.rate_per_ps.value == pytest.approx(hopping.sum() / (n_frames * n_atoms * 0.1), rel=0.05)
    assert abs(found.rate_per_ps.value - rate_per_ps) < 4 * found.rate_per_ps.error
    assert np.median(found.distance_nm) == pytest.approx(length, abs=0.01)  # 0.02 nm √(2/10) of rattling
    true_times = {(int(f), int(k)) for f, k in np.argwhere(hopping)}
    exact = [(round(t / 0.1), int(k)) in true_times for t, k in zip(found.time_ps, found.path, strict=True)]
    assert np.mean(exact) > 0.9
    expected = rate_per_ps * 0.3**2 / 6 * 1e-2
    assert found.figures()["uncorrelated_diffusion_cm2_per_s"].value == pytest.approx(expected, rel=0.25)


def test_the_time_of_a_hop_is_that_of_its_frame():
    xyz = rattling((200, 2, 3), 0.01)
    xyz[120:, 1] += np.array([0.3, 0.0, 0.0])
    found = hops(atoms(["Li"] * 2, xyz, times=500 + 0.1 * np.arange(200)), "Li", relative_to="none")
    assert found.time_ps == pytest.approx([512.0])
    assert list(found.path) == [1]


def test_atoms_at_rest_have_a_hop_function_of_zero():
    """Their variance is one of roundings, which may be below zero and has no root."""
    at_rest = np.random.default_rng(0).uniform(0, 5, (1, 50, 3)).repeat(40, axis=0)
    function, apart = hop_function(at_rest, 5)
    assert function == pytest.approx(0, abs=1e-12)
    assert apart == pytest.approx(0, abs=1e-6)


def test_rattling_and_a_brief_visit_are_no_hops():
    xyz = rattling((400, 5, 3), 0.03)
    xyz[200:204, 2] += np.array([0.3, 0.0, 0.0])  # back after 0.4 ps, less than half the window
    found = hops(atoms(["Li"] * 5, xyz, times=0.1 * np.arange(400)), "Li", relative_to="none", shortest_nm=0.2)
    assert len(found.time_ps) == 0
    assert not found.curve().y.any()
    assert found.figures()["rate_per_ns"].value == 0


def test_a_run_without_hops_is_compared_with_one_that_has_some(tmp_path):
    still = rattling((200, 3, 3), 0.01)
    hopped = still.copy()
    hopped[100:, 1] += np.array([0.4, 0.0, 0.0])
    some, none = (
        hops(atoms(["Li"] * 3, xyz, times=0.1 * np.arange(200)), "Li", relative_to="none") for xyz in (hopped, still)
    )
    (found,) = compare([some], [none])
    assert found.curve.per_cent == pytest.approx(100.0)
    assert found.figures["n_hops"].difference.value == -1
    (turned,) = compare([none], [some])
    assert turned.curve.mean_absolute > 0
    save_picture(tmp_path / "hops.png", [found.draw, turned.draw, none.draw, none.draw])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"window_ps": 0.1}, "must hold 4 or more"),
        ({"window_ps": 100.0}, "and the trajectory longer"),
        ({"shortest_nm": 0.0}, "`shortest_nm` is 0.0; it must be positive"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    with pytest.raises(ValueError, match=words):
        hops(atoms(["Li"] * 2, np.zeros((50, 2, 3)), times=0.1 * np.arange(50)), "Li", **arguments)
