"""Van Hove functions and the non-Gaussian parameter of walks whose displacements are known."""

import numpy as np
import pytest
from trajectories import TILTED, atoms, random_walk, wrapped

from openmm_allegro.analysis.compare import compare
from openmm_allegro.analysis.non_gaussian import non_gaussian_parameter
from openmm_allegro.analysis.runs import runs_together
from openmm_allegro.analysis.van_hove import time_origins, van_hove_distinct, van_hove_self


def gas(n_frames, n_atoms, step_nm, seed=0):
    """Ideal gas of walkers in a tilted cell."""
    start = np.random.default_rng(seed + 1).uniform(size=(n_atoms, 3)) @ TILTED
    xyz = wrapped(start + random_walk(n_frames, n_atoms, step_nm, seed), TILTED)
    return atoms(["Li"] * n_atoms, xyz, times=np.arange(float(n_frames)), cell=TILTED)


def test_the_self_part_of_a_walk_is_gaussian():
    found = van_hove_self(gas(400, 60, 0.05), "Li", lags_ps=(4.0,), relative_to="none")
    variance = 4 * 0.05**2
    r = found.r_nm
    exact = 4 * np.pi * r**2 * np.exp(-(r**2) / (2 * variance)) / (2 * np.pi * variance) ** 1.5
    # bins of 0.01 nm of 396 x 60 displacements, a quarter of them independent: 3.5 % at the top
    assert found.values[0] == pytest.approx(exact, abs=0.15 * exact.max())
    assert np.abs(found.values[0] - exact).mean() < 0.03 * exact.max()
    assert found.values[0].sum() * 0.01 == pytest.approx(1.0, abs=1e-3)
    assert found.figures()["highest_after_4_ps_nm"].value == pytest.approx(np.sqrt(2 * variance), abs=0.03)


def test_the_distinct_part_of_an_ideal_gas_is_one():
    found = van_hove_distinct(gas(60, 300, 0.05), ("Li", "Li"), lags_ps=(1.0, 10.0), bin_width_nm=0.1, n_origins=40)
    # outermost shell of 0.1 nm: 300² x 0.7 / 8 pairs, origins nearly the same: 1 %; the innermost has few
    assert found.values[:, 2:] == pytest.approx(np.ones((2, 6)), abs=0.06)


def test_the_distinct_part_is_the_direct_count_over_images():
    random = np.random.default_rng(2)
    xyz = random.uniform(size=(11, 9, 3)) @ TILTED
    frames = atoms(["Li"] * 4 + ["S"] * 5, xyz, times=np.arange(11.0), cell=TILTED)
    with pytest.warns(UserWarning, match="so that its path is a guess"):
        found = van_hove_distinct(
            frames, ("Li", "S"), lags_ps=(3.0,), r_max_nm=1.0, bin_width_nm=0.25, n_blocks=2, relative_to="none"
        )
    images = np.array(np.meshgrid(*[range(-2, 3)] * 3)).reshape(3, -1).T @ TILTED
    edges = 0.25 * np.arange(5)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    counts = np.zeros(4)
    for origin in range(8):
        steps = xyz[origin + 3, None, 4:, None] - xyz[origin, :4, None, None] + images
        counts += np.histogram(np.linalg.norm(steps, axis=-1), edges)[0]
    exact = counts / 8 / (4 * 5 / np.linalg.det(TILTED) * shells)
    assert found.values[0] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("cells_away", [0, 10])
def test_the_distinct_part_is_sharp_where_a_cell_grows_and_atoms_cross_its_faces(cells_away):
    side, n_frames = 4, 60
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3) / side
    edges = np.linspace(1.6, 1.8, n_frames)  # nm; spacing 0.40 to 0.45
    drift = 0.03 * np.arange(n_frames)  # all go round the cell nearly twice
    fractional = (lattice + drift[:, None, None] * np.array([1.0, 0.7, 0.4])) % 1.0 + cells_away
    frames = atoms(
        ["Li"] * side**3,
        fractional * edges[:, None, None],
        times=np.arange(float(n_frames)),
        cell=edges[:, None, None] * np.eye(3),
    )
    found = van_hove_distinct(frames, ("Li", "Li"), lags_ps=(1.0,), r_max_nm=0.5, bin_width_nm=0.02, n_blocks=2)
    shells = 4 / 3 * np.pi * np.diff((0.02 * np.arange(26)) ** 3)
    neighbours = found.values[0] * shells * 63 / (1.7**3)
    # six neighbours 0.40 to 0.45 nm away and nobody nearer; a cell of 1.7 nm on average stands for its mean volume
    assert neighbours[:19] == pytest.approx(np.zeros(19), abs=1e-12)
    assert neighbours.sum() == pytest.approx(6.0, rel=0.01)


def test_alpha2_of_a_walk_is_zero_and_of_two_kinds_of_walkers_that_of_their_variances():
    found = non_gaussian_parameter(gas(1000, 50, 0.03), "Li", relative_to="none", n_lags=10)
    assert np.all(np.abs(found.alpha2) < np.maximum(5 * found.alpha2_error, 0.02))
    mixed = np.concatenate([random_walk(1000, 40, 0.02), random_walk(1000, 40, 0.04, 5)], axis=1)
    found = non_gaussian_parameter(
        atoms(["Li"] * 80, mixed, times=np.arange(1000.0)), "Li", relative_to="none", n_lags=10
    )
    # ⟨σ⁴⟩/⟨σ²⟩² − 1 with σ² of 1 and 4: 8.5/6.25 − 1
    assert found.alpha2[0] == pytest.approx(0.36, abs=0.03)  # 500 origins of 80 walkers
    assert found.figures()["highest_alpha2"].value >= found.alpha2[0]


def test_curves_at_different_times_are_neither_compared_nor_averaged():
    short, long = (van_hove_self(gas(n_frames, 5, 0.01), "Li") for n_frames in (60, 120))
    with pytest.raises(ValueError, match=r"after 6 ps`, that of the predicted trajectory `.* after 12 ps`"):
        compare([short], [long])
    (together,) = runs_together([[short], [long]])
    with pytest.raises(ValueError, match=r"of run 1 is `.*, after 12 ps` over `r / nm`, that of run 0 `.* after 6 ps`"):
        together.curve()


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (van_hove_self, {"element": "Li", "lags_ps": (0.1,)}, "must be at least the time between frames, 1 ps"),
        (van_hove_self, {"element": "Li", "bin_width_nm": 2.0}, "it must be positive and at most `r_max_nm`, 1.0"),
        (van_hove_distinct, {"pair": ("Li", "index < 3")}, "share 3 atoms"),
        (van_hove_distinct, {"pair": ("index 0", "index 0")}, "`index 0` is one atom, around which there is no other"),
        (van_hove_self, {"element": "Li", "n_origins": 0}, "`n_origins` is 0; it must be 1 or more"),
        (van_hove_self, {"element": "Li", "n_blocks": 60}, "time origins cannot be cut into 60 blocks"),
        (non_gaussian_parameter, {"element": "Li", "n_lags": 1}, "they must be at least 2 and 1"),
    ],
)
def test_what_cannot_be_done_is_said(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(gas(60, 5, 0.01), **arguments)


@pytest.mark.parametrize("n_frames", [100, 150, 199, 1000])
def test_time_origins_are_no_more_than_asked_for(n_frames):
    blocks = time_origins(n_frames, 1, 5, 100)
    assert sum(map(len, blocks)) <= 100
    assert np.concatenate(blocks).max() + 1 < n_frames


def test_errors_at_the_longest_lag_are_those_of_the_scatter():
    """By default it is half a block; at 0.25 of the trajectory, which blocks share, errors were 0.83 of the scatter."""
    found = [van_hove_self(gas(200, 20, 0.02, seed), "Li", bin_width_nm=0.1, relative_to="none") for seed in range(40)]
    assert found[0].lag_ps[-1] == 20
    filled = found[0].values[-1] > 0.2
    scatter = np.std([each.values[-1, filled] for each in found], axis=0, ddof=1)
    errors = np.sqrt(np.mean([each.errors[-1, filled] ** 2 for each in found], axis=0))
    # a deviation from 40 values is good to 11 %, the mean square of as many errors of five blocks to 6 %
    assert np.mean(errors / scatter) == pytest.approx(1.0, abs=0.12)


def test_atoms_at_rest_have_no_alpha2():
    still = atoms(["Li"] * 3, np.zeros((60, 3, 3)), times=np.arange(60.0))
    with pytest.raises(ValueError, match="Li does not move"):
        non_gaussian_parameter(still, "Li")
