"""Several runs as one result: means, errors over the runs, and what does not belong together."""

import csv

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import t
from trajectories import atoms

from openmm_allegro.analysis.density import mass_density
from openmm_allegro.analysis.msd import mean_squared_displacement
from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.runs import runs_together


def gas(seed, edge=1.5, elements="OOOOO"):
    random = np.random.default_rng(seed)
    return atoms(
        elements, random.uniform(0, edge, (10, len(elements), 3)), times=np.arange(10.0), cell=edge * np.eye(3)
    )


def test_curves_and_errors_are_those_over_the_runs(tmp_path):
    alone = [radial_distribution(gas(seed), ("O", "O"), r_max_nm=0.7) for seed in range(4)]
    (together,) = runs_together([[each] for each in alone])
    curve = together.curve()
    g = np.stack([each.g for each in alone])
    np.testing.assert_allclose(curve.y, g.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(curve.error, g.std(axis=0, ddof=1) / 2, atol=1e-12)  # √4 runs
    with together.write_csv(tmp_path / "g.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    assert [float(row[f"run {r}"]) for r in range(4)] == pytest.approx(g[:, -1], rel=1e-6)


def test_a_curve_ends_where_the_shortest_run_ends():
    alone = [radial_distribution(gas(seed, edge), ("O", "O")) for seed, edge in enumerate((1.5, 1.2))]
    (together,) = runs_together([[each] for each in alone])
    assert together.curve().x[-1] == pytest.approx(alone[1].r_nm[-1])


def test_figures_are_means_with_the_error_of_the_mean():
    alone = [mass_density(gas(0, edge)) for edge in (1.0, 1.1, 1.2)]
    (together,) = runs_together([[each] for each in alone])
    values = np.array([each.figures()["density_g_per_cm3"].value for each in alone])
    value, error = together.figures()["density_g_per_cm3"]
    assert value == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(3))


def test_bounds_are_those_of_the_mean_over_the_runs():
    random = np.random.default_rng(5)
    walks = random.normal(0, 0.05, (6, 200, 20, 3)).cumsum(axis=1)
    alone = [
        mean_squared_displacement(atoms("O" * 20, 50 + walk, times=np.arange(200.0), cell=100 * np.eye(3)), "O")
        for walk in walks
    ]
    figures = runs_together([[each] for each in alone])[0].figures()
    values = [each.diffusion_cm2_per_s for each in alone]
    low, high = t.interval(0.95, 5, np.mean(values), np.std(values, ddof=1) / np.sqrt(6))
    assert figures["diffusion_low_cm2_per_s"].value == pytest.approx(low, rel=1e-9)
    assert figures["diffusion_high_cm2_per_s"].value == pytest.approx(high, rel=1e-9)


def test_runs_are_drawn_thinly_under_their_mean():
    (together,) = runs_together([[radial_distribution(gas(seed), ("O", "O"))] for seed in range(3)])
    axes = Figure().subplots()
    together.draw(axes)
    assert len(axes.lines) == 4
    assert "nm" in axes.get_xlabel()


def test_runs_without_a_curve_are_points_in_the_band_of_their_mean():
    (together,) = runs_together([[mass_density(gas(0, edge))] for edge in (1.0, 1.1, 1.2)])
    axes = Figure().subplots()
    together.draw(axes)
    assert list(axes.get_xticks()) == [1, 2, 3]
    value, error = together.figures()["density_g_per_cm3"]
    (band,) = axes.patches
    assert band.get_y() + band.get_height() / 2 == pytest.approx(value)
    assert band.get_height() == pytest.approx(2 * error)


def test_one_run_stays_what_it_is():
    result = mass_density(gas(0))
    assert runs_together([[result]]) == [result]


def test_runs_of_different_systems_are_refused():
    first, second = (radial_distribution(gas(0, elements=e), (e[0], e[0])) for e in ("OOOO", "HHHH"))
    with pytest.raises(ValueError, match="run 1 gave the analyses rdf_H-H, run 0 rdf_O-O"):
        runs_together([[first], [second]])
