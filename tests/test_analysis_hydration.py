"""Waters around a solute: by hand, by brute force and beside MDAnalysis."""

import numpy as np
import pytest
from peptides import TRICLINIC
from trajectories import atoms

from openmm_allegro.analysis.hydration import hydration


def gas(n_frames, n_waters, solutes, cell, seed=0):
    """Oxygens at random around solute atoms."""
    random = np.random.default_rng(seed)
    positions = random.uniform(size=(n_frames, len(solutes) + n_waters, 3)) @ cell
    return atoms([*solutes, *"O" * n_waters], positions, times=np.arange(float(n_frames)), cell=cell)


def test_waters_of_an_ideal_gas_fill_a_sphere():
    found = hydration(gas(400, 300, ["Li"], TRICLINIC), "Li", water="O", shells_nm=(0.5, 1.0))
    density = 300 / np.linalg.det(TRICLINIC)
    inner, outer = (4 / 3 * np.pi * (high**3 - low**3) * density for low, high in ((0, 0.5), (0.5, 1.0)))
    values = found.figures()
    assert list(values) == ["waters_from_0_to_0.5_nm", "waters_from_0.5_to_1_nm"]
    for each, expected in zip(values.values(), (inner, outer), strict=True):
        assert each.error == pytest.approx(np.sqrt(expected / 400), rel=0.25)  # binomial, nearly Poisson
        assert each.value == pytest.approx(expected, abs=3.5 * np.sqrt(expected / 400))
    curve = found.curve()
    assert curve.y == pytest.approx(4 / 3 * np.pi * curve.x**3 * density, abs=0.5)


def test_shells_agree_with_mdanalysis_and_brute_force():
    pytest.importorskip("MDAnalysis")
    from MDAnalysis.lib.distances import distance_array
    from MDAnalysis.lib.mdamath import triclinic_box

    trajectory = gas(10, 200, ["C", "C", "N"], TRICLINIC)
    found = hydration(trajectory, "name C or name N", water="O", shells_nm=(0.6, 0.9))
    box = triclinic_box(*(10 * TRICLINIC))
    for f, positions in enumerate(10 * trajectory.xyz):
        nearest = distance_array(positions[:3], positions[3:], box=box).min(axis=0)
        assert found.counts[f].tolist() == [(nearest < 6).sum(), ((nearest >= 6) & (nearest < 9)).sum()]


def test_a_water_between_two_ions_counts_once():
    positions = np.array([[[1.0, 1, 1], [1.4, 1, 1], [1.2, 1, 1], [1.0, 1.25, 1]]])
    trajectory = atoms(["Li", "Li", "O", "O"], positions, cell=3 * np.eye(3))
    found = hydration(trajectory, "Li", water="O", shells_nm=(0.3,))
    assert found.counts.tolist() == [[2]]
    assert hydration(trajectory, "Li", water="O", shells_nm=(0.3,), per_atom=True).counts.tolist() == [[1]]


def test_a_solute_may_come_after_the_water():
    positions = np.array([[[1.2, 1, 1], [1.0, 1.25, 1], [2.5, 2.5, 2.5], [1.0, 1, 1]]])
    found = hydration(atoms(["O", "O", "O", "Li"], positions, cell=3 * np.eye(3)), "Li", water="O")
    assert found.counts.tolist() == [[2, 0]]


def test_a_droplet_without_a_cell_is_counted_too():
    positions = np.array([[[0, 0, 0], [0.2, 0, 0], [0.5, 0, 0]]], dtype=float)
    found = hydration(atoms(["Na", "O", "O"], positions), "Na", water="O")
    assert found.counts.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shells_nm": (0.6, 0.3)}, r"`shells_nm` is \(0.6, 0.3\); give increasing radii"),
        ({"shells_nm": ()}, "give increasing radii"),
        ({"bin_width_nm": 0.0}, "`bin_width_nm` is 0.0"),
        ({"water": "name O or name Li"}, r"atom 0 \(SYS0-Li\) is in both"),
    ],
)
def test_what_cannot_be_counted_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        hydration(gas(1, 4, ["Li"], TRICLINIC), "Li", **({"water": "O"} | options))


def test_the_table_names_its_units(tmp_path):
    found = hydration(gas(3, 20, ["Li"], TRICLINIC), "Li", water="O")
    assert found.write_csv(tmp_path / "h.csv").read_text().splitlines()[0] == "distance_nm,waters_within,error"
    assert found.name == "hydration_Li"
