"""Mass density by hand."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.density import mass_density


def test_density_of_one_water_by_hand():
    cells = np.stack([np.diag([0.3, 0.3, length]) for length in (0.4, 0.2)])
    cells[1, 2, 0] = 0.1  # tilting does not change the volume
    found = mass_density(atoms("OHH", np.zeros((2, 3, 3)), times=[0.0, 1.0], cell=cells))
    by_hand = 18.015 / 6.02214076e23 / (np.array([0.036, 0.018]) * 1e-21)  # 0.831 and 1.662 g/cm³
    assert found.density_g_per_cm3 == pytest.approx(by_hand, rel=1e-4)
    assert found.average.mean == pytest.approx(by_hand.mean(), rel=1e-4)


def test_the_error_of_the_mean_is_that_of_independent_volumes():
    lengths = 1 + 0.01 * np.random.default_rng(0).normal(size=2048)
    cells = lengths[:, None, None] * np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]) + np.diag([0, 1.0, 1.0])
    found = mass_density(atoms("O", np.zeros((2048, 1, 3)), times=np.arange(2048.0), cell=cells))
    expected = found.density_g_per_cm3.std() / np.sqrt(2048)
    assert found.average.error == pytest.approx(expected, rel=0.1)


def test_a_molecule_without_a_cell_has_no_density():
    with pytest.raises(ValueError, match="no periodic cell, which a density needs"):
        mass_density(atoms("O", np.zeros((2, 1, 3))))


def test_the_table_names_its_units(tmp_path):
    density = mass_density(atoms("O", np.zeros((3, 1, 3)), times=[0, 1, 2], cell=np.eye(3)))
    assert density.write_csv(tmp_path / "density.csv").read_text().splitlines()[0] == "time_ps,density_g_per_cm3"
