"""Builders: exact counts and densities, and no overlap."""

import numpy as np
import pytest
from openmm import unit

from openmm_allegro.systems.water import water_box


def nm(quantity):
    return np.array([list(row) for row in quantity.value_in_unit(unit.nanometer)])


@pytest.mark.parametrize("n_molecules", [64, 205])
def test_water_box_has_exactly_the_molecules_and_the_density(n_molecules):
    topology, positions, box = water_box(n_molecules, density_g_per_cm3=0.997, seed=3)
    assert topology.getNumResidues() == n_molecules
    assert topology.getNumBonds() == 2 * n_molecules
    assert nm(positions).shape == (3 * n_molecules, 3)
    volume_cm3 = np.linalg.det(nm(box)) * 1e-21
    assert n_molecules * 18.01528 / 6.02214076e23 / volume_cm3 == pytest.approx(0.997, rel=1e-12)
    assert np.array_equal(nm(topology.getPeriodicBoxVectors()), nm(box))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_water_molecules_are_whole_and_do_not_overlap(seed):
    _, positions, box = water_box(64, seed=seed)
    cell, molecules = nm(box), nm(positions).reshape(-1, 3, 3)
    oh = np.linalg.norm(molecules[:, 1:] - molecules[:, :1], axis=-1)
    assert oh == pytest.approx(0.09572, abs=2e-4)  # TIP3P; OpenMM's file has three digits of Å
    steps = molecules.reshape(-1, 1, 3) - molecules.reshape(1, -1, 3)
    steps -= np.rint(steps / cell[0, 0]) * cell[0, 0]
    distances = np.linalg.norm(steps, axis=-1)
    molecule = np.arange(192) // 3
    assert distances[molecule[:, None] != molecule[None]].min() > 0.15  # a hydrogen bond in the liquid is about 0.16


def test_water_box_of_an_edge_has_the_density_of_whole_molecules():
    topology, _, box = water_box(edge_nm=1.2, seed=0)
    assert topology.getNumResidues() == 58  # 0.997 g/cm³ is 33.33 molecules/nm³, times 1.728 nm³
    assert nm(box)[0, 0] == pytest.approx(1.2, abs=0.01)


def test_the_seed_decides_the_water_box():
    first, again, other = (nm(water_box(16, seed=seed)[1]) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("arguments", [{}, {"n_molecules": 4, "edge_nm": 1.0}])
def test_water_box_needs_a_number_or_an_edge(arguments):
    with pytest.raises(ValueError, match="either `n_molecules` or `edge_nm`"):
        water_box(**arguments)


def test_water_box_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one molecule or more"):
        water_box(edge_nm=0.1)
