"""Residence times of neighbours that leave at a known rate, against brute force and MDAnalysis."""

import warnings

import mdtraj
import numpy as np
import pytest
from trajectories import TILTED, atoms

from openmm_allegro.analysis.intervals import intervals_together
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.residence import residence_time

NEAR, FAR = 0.2, 0.6


def visits(n_frames, n_atoms, leaves, returns, seed=0):
    """Whether each atom is near in each frame, by a Markov chain in equilibrium; (frames, atoms)."""
    random = np.random.default_rng(seed)
    near = np.empty((n_frames, n_atoms), dtype=bool)
    near[0] = random.random(n_atoms) < returns / (leaves + returns)
    for f in range(1, n_frames):
        chance = random.random(n_atoms)
        near[f] = np.where(near[f - 1], chance > leaves, chance < returns)
    return near


def around_lithium(near, dt_ps=1.0):
    """Li at the origin and S in directions of their own, near or far."""
    n_frames, n_atoms = near.shape
    directions = np.random.default_rng(1).normal(size=(n_atoms, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    xyz = np.zeros((n_frames, n_atoms + 1, 3))
    xyz[:, 1:] = np.where(near, NEAR, FAR)[:, :, None] * directions
    return atoms(["Li"] + ["S"] * n_atoms, xyz, times=dt_ps * np.arange(n_frames), cell=TILTED)


def survival_by_definition(near, lag):
    """Share of the near at f that are near in all frames to f + lag."""
    stayed = np.stack([near[k : len(near) - lag + k] for k in range(lag + 1)]).all(axis=0)
    return stayed.sum() / near[: len(near) - lag].sum()


def filled(near, tolerance):
    """Absences between visits that last up to `tolerance` frames are filled."""
    near = near.copy()
    for column in near.T:
        seen = np.flatnonzero(column)
        for left, back in zip(seen[:-1], seen[1:], strict=True):
            if back - left - 1 <= tolerance:
                column[left:back] = True
    return near


@pytest.mark.parametrize("tolerance", [0, 3])
def test_survival_is_that_of_its_definition(tolerance):
    near = visits(150, 12, 0.1, 0.15)
    found = residence_time(around_lithium(near), ("Li", "S"), 0.3, tolerance_ps=float(tolerance))
    for lag in (0, 1, 5, 20):
        exact = survival_by_definition(filled(near, tolerance), lag)
        assert found.survival[np.argmin(np.abs(found.lag_ps - lag))] == pytest.approx(exact, abs=1e-12)


def test_neighbours_that_leave_at_a_constant_rate_stay_for_its_inverse():
    found = residence_time(around_lithium(visits(3000, 40, 0.02, 0.02), 0.5), ("Li", "S"), 0.3, longest_ps=200.0)
    # 1200 visits, less those cut: 3 %; the sum of 0.98^k by trapezoids is 49.5 frames
    assert found.fitted_ps.value == pytest.approx(-0.5 / np.log(0.98), rel=0.1)
    assert found.integral_ps.value == pytest.approx(0.5 * 49.5, rel=0.1)
    assert abs(found.fitted_ps.value + 0.5 / np.log(0.98)) < 4 * found.fitted_ps.error
    assert found.coordination == pytest.approx(20.0, rel=0.1)


def test_a_slow_decay_is_continued_beyond_the_longest_lag():
    found = residence_time(around_lithium(visits(3000, 60, 0.004, 0.02)), ("Li", "S"), 0.3, longest_ps=150.0)
    assert found.survival[-1] > 0.4
    assert found.integral_ps.value == pytest.approx(249.5, rel=0.15)  # 600 visits: 4 %, more for the slope


@pytest.mark.parametrize("tolerance", [0, 2])
def test_survival_is_that_of_mdanalysis(tolerance):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from MDAnalysis.lib.correlations import autocorrelation, correct_intermittency
    near = visits(200, 30, 0.08, 0.1)
    sets = correct_intermittency([set(np.flatnonzero(frame).tolist()) for frame in near], tolerance)
    _, theirs, _ = autocorrelation(sets, 20)
    ours = residence_time(around_lithium(near), ("Li", "S"), 0.3, tolerance_ps=float(tolerance))
    # they average the share of each origin, here all pairs of all origins count the same: 1/√(15 neighbours) of 8 %
    assert ours.survival[:21] == pytest.approx(np.array(theirs), abs=0.02)


def test_the_error_is_the_scatter_of_runs_that_are_hardly_longer_than_a_stay():
    found = [
        residence_time(around_lithium(visits(200, 30, 0.01, 0.01, seed)), ("Li", "S"), 0.3).fitted_ps
        for seed in range(20)
    ]
    values, errors = np.array(found).T
    # a scatter of twenty is known to 16 %, its errors' median to as much; blocks of origins alone give a third of it
    assert np.median(errors) == pytest.approx(values.std(ddof=1), rel=0.45)


def test_pairs_of_one_kind_count_for_both():
    near = visits(200, 1, 0.1, 0.1)
    alike = around_lithium(near)
    for atom in alike.topology.atoms:
        atom.element = mdtraj.element.sulfur
    found = residence_time(alike, ("S", "S"), 0.3)
    assert found.coordination == pytest.approx(near.mean())
    assert found.survival[1] == pytest.approx(survival_by_definition(near, 1))


def test_the_cutoff_is_the_end_of_the_first_shell():
    random = np.random.default_rng(0)
    shell = random.normal(size=(60, 8, 3))
    shell *= 0.25 / np.linalg.norm(shell, axis=2, keepdims=True) * random.normal(1.0, 0.04, (60, 8, 1))
    rest = random.normal(size=(60, 40, 3))
    rest *= random.uniform(0.4, 0.9, (60, 40, 1)) / np.linalg.norm(rest, axis=2, keepdims=True)
    xyz = np.concatenate([np.zeros((60, 1, 3)), shell, rest], axis=1)
    frames = atoms(["Li"] + ["S"] * 48, xyz, times=np.arange(60.0), cell=TILTED)
    with pytest.warns(UserWarning, match="too few S leave Li within 30 ps"):
        found = residence_time(frames, ("Li", "S"))
    assert 0.29 < found.cutoff_nm < 0.4  # the shell ends at 0.29 (four widths), the others begin at 0.4
    assert found.coordination == pytest.approx(8.0)


def test_intervals_by_hand():
    frames = [np.array(each, dtype=int) for each in ([1, 2], [2], [1, 2], [2], [], [], [2])]
    for tolerance, expected in (
        (0, {(0, 0), (2, 2), (0, 3), (6, 6)}),
        (1, {(0, 2), (0, 3), (6, 6)}),
        (2, {(0, 2), (0, 6)}),
    ):
        found = intervals_together(frames, tolerance)
        assert sorted(set(found.pair.tolist())) == [1, 2]
        assert set(zip(found.begin.tolist(), found.end.tolist(), strict=True)) == expected


def test_neighbours_that_never_leave_and_that_never_stay_have_no_finite_time(tmp_path):
    with pytest.warns(UserWarning, match="too few S leave Li within .* ps, so that their residence time is not known"):
        bonded = residence_time(around_lithium(np.ones((60, 4), dtype=bool)), ("Li", "S"), 0.3)
    assert bonded.survival == pytest.approx(1.0)
    assert np.isinf(bonded.fitted_ps.value)
    assert np.isnan(bonded.fitted_ps.error)
    save_picture(tmp_path / "bonded.png", [bonded.draw])
    with pytest.warns(UserWarning, match="all S leave Li within .* ps, .*; write frames more often"):
        blinking = residence_time(around_lithium(np.arange(60)[:, None] % 2 == np.zeros((1, 4))), ("Li", "S"), 0.3)
    assert blinking.survival[1:] == pytest.approx(0.0)
    assert np.isnan(blinking.fitted_ps.value)
    assert blinking.integral_ps.value == pytest.approx(0.5)  # half a frame, by trapezoids


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"cutoff_nm": 0.1}, "no S is within 0.1 nm of any Li"),
        ({"cutoff_nm": -1.0}, "must be positive"),
        ({"tolerance_ps": -1.0}, "`tolerance_ps` is -1.0; it must be zero or more"),
        ({"longest_ps": 1e4}, "is 10000 of its 60 frames; it must be at least 2 and leave more than `n_blocks`, 5"),
        ({"pair": ("S", "index > 2")}, "share atoms"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    with pytest.raises(ValueError, match=words):
        residence_time(around_lithium(visits(60, 4, 0.1, 0.1)), **({"pair": ("Li", "S"), "cutoff_nm": 0.3} | arguments))
