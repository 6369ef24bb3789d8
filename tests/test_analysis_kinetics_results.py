"""Every result on motion can be drawn, tabulated and compared, and says its units."""

import csv

import numpy as np
import pytest
from trajectories import TILTED, atoms, random_walk, wrapped

from openmm_allegro.analysis.arrhenius import arrhenius
from openmm_allegro.analysis.conductivity import ionic_conductivity
from openmm_allegro.analysis.hops import hops
from openmm_allegro.analysis.msd import mean_squared_displacement
from openmm_allegro.analysis.non_gaussian import non_gaussian_parameter
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.residence import residence_time
from openmm_allegro.analysis.van_hove import van_hove_distinct, van_hove_self
from openmm_allegro.analysis.velocities import velocity_autocorrelation
from openmm_allegro.analysis.vibrations import vibrational_density

UNITS = ("_ps", "_per_ps2", "_nm", "_nm2", "_per_nm", "_per_cm", "_cm", "_k", "_ev", "_per_s", "_per_m", "_per_ns")
PURE = ("haven_ratio", "transference", "alpha2", "log_slope", "n_hops", "coordination", "chi2", "survival", "distinct",
        "atom")  # fmt: skip


@pytest.fixture(scope="module")
def salt():
    xyz = wrapped(random_walk(600, 12, 0.03) + 1.0, TILTED)
    return atoms(["Li"] * 6 + ["Cl"] * 6, xyz, times=0.1 * np.arange(600), cell=TILTED)


RESULTS = {
    "msd": lambda frames: mean_squared_displacement(frames, "Li"),
    "conductivity": lambda frames: ionic_conductivity(frames, ("Li", "Cl"), (1.0, -1.0), 300.0),
    "non_gaussian": lambda frames: non_gaussian_parameter(frames, "Li"),
    "van_hove_self": lambda frames: van_hove_self(frames, "Li"),
    "van_hove_distinct": lambda frames: van_hove_distinct(frames, ("Li", "Cl"), bin_width_nm=0.1),
    "residence": lambda frames: residence_time(frames, ("Li", "Cl"), 0.6),
    "hops": lambda frames: hops(frames, "Li"),
    "vacf": lambda frames: velocity_autocorrelation(frames, "Li"),
    "arrhenius": lambda frames: arrhenius([300.0, 400.0, 500.0], [1.0, 2.0, 3.5], [0.1, 0.2, 0.3]),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_complete(name, salt, tmp_path):
    result = RESULTS[name](salt)
    assert result.name.startswith(name)
    assert "/" not in result.name
    assert " " not in result.name
    picture = save_picture(tmp_path / "a.png", [result.draw, lambda axes: result.draw(axes, "model")])
    assert picture.stat().st_size > 10_000
    with open(result.write_csv(tmp_path / "a.csv")) as file:
        header, *rows = csv.reader(file)
    assert len(rows) > 2
    for column in [*header, *result.figures()]:
        assert column.endswith(UNITS) or any(word in column for word in (*PURE, *UNITS)), column
    assert all(np.isfinite(measured.value) for measured in result.figures().values())
    curve = result.curve()
    assert curve.x.shape == curve.y.shape == curve.error.shape
    assert np.all(np.isfinite(curve.y))


def test_a_spectrum_is_complete_and_says_that_a_walk_has_no_highest_wave(salt, tmp_path):
    with pytest.warns(UserWarning, match="folded into it"):
        result = vibrational_density(salt, "Li", resolution_per_cm=5.0)
    assert save_picture(tmp_path / "a.png", [result.draw]).stat().st_size > 10_000
    assert result.write_csv(tmp_path / "a.csv").read_text().startswith("wave_number_per_cm,density_cm")
    # velocities of a walk are white, and step²/spacing² is kT/m
    exact = 0.03**2 / 0.1**2 * 6.941 / 0.00831446
    assert result.figures()["temperature_k"].value > exact  # what is folded is made larger by 1/sinc²
