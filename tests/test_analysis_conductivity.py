"""Conductivity of ions whose motion is known: independent, in pairs, in step."""

import numpy as np
import pytest
from trajectories import TILTED, atoms, random_walk, wrapped

from openmm_allegro.analysis.conductivity import ionic_conductivity

E, K = 1.602176634e-19, 1.380649e-23
VOLUME = float(np.linalg.det(TILTED))  # nm³


def sigma_of(n, charge, step_nm, dt_ps=1.0, temperature=300.0):
    """S/m of n ions that walk independently, n q² D / (V kT)."""
    d = step_nm**2 * 1e-18 / (2 * dt_ps * 1e-12)
    return n * (charge * E) ** 2 * d / (VOLUME * 1e-27 * K * temperature)


def salt(walks, symbols, **options):
    """Conductivity of ions along these walks, each species with its charge."""
    xyz = np.concatenate(walks, axis=1)
    elements = [symbol for symbol, walk in zip(symbols, walks, strict=True) for _ in range(walk.shape[1])]
    trajectory = atoms(elements, wrapped(xyz, TILTED), times=np.arange(float(len(xyz))), cell=TILTED)
    charges = tuple({"Li": 1.0, "Cl": -1.0, "Mg": 2.0}[symbol] for symbol in symbols)
    return ionic_conductivity(trajectory, tuple(symbols), charges, 300.0, **{"relative_to": "none"} | options)


def test_independent_ions_have_haven_ratio_one_and_the_conductivity_of_nernst_and_einstein():
    ratios, pulls = [], []
    exact = sigma_of(12, 1, 0.05) + sigma_of(6, 2, 0.03)
    for seed in range(12):
        found = salt([random_walk(1500, 12, 0.05, seed), random_walk(1500, 6, 0.03, seed + 100)], ["Cl", "Mg"])
        assert found.nernst_einstein.value == pytest.approx(exact, rel=0.08)  # 18 x 1500 steps, √3: 1.1 %
        ratios.append(1 / found.haven_ratio.value)
        pulls.append((found.conductivity.value - exact) / found.conductivity.error)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)  # one of the twelve: 4 %
    assert np.mean(np.abs(pulls) < 2.8) > 0.7  # t of four degrees of freedom: 95 in 100


def test_transference_numbers_are_shares_of_independent_ions():
    found = salt([random_walk(4000, 10, 0.06), random_walk(4000, 10, 0.03, 7)], ["Li", "Cl"])
    assert found.transference[0].value + found.transference[1].value == pytest.approx(1.0)
    assert abs(found.transference[0].value - 0.8) < 4 * found.transference[0].error  # 0.06² / (0.06² + 0.03²)
    assert found.transference[0].error < 0.1
    cross = found.onsager_s_per_m[0][1]
    assert abs(cross.value) < 4 * cross.error


def test_ions_that_fly_are_called_not_diffusive():
    flight = 0.01 * np.arange(200.0)[:, None, None] * np.random.default_rng(0).normal(size=(4, 3))
    with pytest.warns(
        UserWarning, match="of Li does not become diffusive within 20 ps.* so that the conductivity is a"
    ):
        found = salt([flight], ["Li"])
    assert found.log_slope.value == pytest.approx(2.0, abs=1e-4)  # float32 positions


def test_the_charge_of_a_molecule_is_not_that_of_each_of_its_atoms():
    anions, cations = random_walk(400, 4, 0.05), random_walk(400, 4, 0.05, 1)
    apart = np.repeat(np.arange(4.0), 2)[:, None] * [0.45, 0, 0] + np.tile([[0, 0, 0], [0, 0.117, 0]], (4, 1))
    cyanide = np.repeat(anions, 2, axis=1) + apart
    trajectory = atoms(["Li"] * 4 + ["C", "N"] * 4, np.concatenate([cations, cyanide], axis=1), np.arange(400.0))
    trajectory.unitcell_vectors = np.broadcast_to(np.diag([2.0, 2.0, 2.0]), (400, 3, 3)).astype(np.float32)

    def sigma(centres):
        found = ionic_conductivity(trajectory, ("Li", "element C or element N"), (1.0, -1.0), 300.0, centres=centres)
        return found.nernst_einstein.value

    with pytest.warns(UserWarning, match="each of its atoms counts with the charge -1; if that is the charge of a mol"):
        by_atoms = sigma("atoms")
    assert by_atoms / sigma("molecules") == pytest.approx(1.5, rel=0.1)  # 4 + 8 ions instead of 4 + 4


def test_ions_in_neutral_pairs_conduct_nothing():
    walk = random_walk(300, 8, 0.05)
    found = salt([walk, walk + 0.2], ["Li", "Cl"])
    assert found.nernst_einstein.value == pytest.approx(sigma_of(16, 1, 0.05), rel=0.2)
    assert abs(found.conductivity.value) < 1e-4 * found.nernst_einstein.value  # float32 positions


def test_n_ions_in_step_conduct_n_times_as_much():
    found = salt([np.repeat(random_walk(300, 1, 0.05), 7, axis=1)], ["Li"])
    assert 1 / found.haven_ratio.value == pytest.approx(7.0, rel=1e-4)
    assert found.transference[0].value == pytest.approx(1.0)


def test_onsager_coefficients_add_up_to_the_conductivity():
    found = salt([random_walk(300, 5, 0.05), random_walk(300, 5, 0.05, 3)], ["Li", "Cl"])
    total = sum(each.value for row in found.onsager_s_per_m for each in row)
    assert total == pytest.approx(found.conductivity.value, rel=1e-9)
    assert found.onsager_s_per_m[0][1] == found.onsager_s_per_m[1][0]
    names = found.figures()
    assert {"haven_ratio", "transference_Li", "onsager_Li-Cl_s_per_m", "conductivity_s_per_m"} <= set(names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"charges": (1.0, -1.0)}, "`ions` names 1 species and `charges` 2"),
        ({"charges": (0.0,)}, "all `charges` are zero"),
        ({"temperature_k": -1.0}, "`temperature_k` is -1.0; it must be positive"),
        ({"relative_to": "Li"}, "Li do not move, so that there is no conductivity"),
        ({"ions": ("Li", "all"), "charges": (1.0, 1.0)}, "`Li` and `all` have 2 atoms in common, whose charges would"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    walk = np.repeat(random_walk(50, 1, 0.1), 2, axis=1)
    trajectory = atoms(["Li"] * 2, walk, times=np.arange(50.0), cell=TILTED)
    with pytest.raises(ValueError, match=words):
        ionic_conductivity(trajectory, **({"ions": ("Li",), "charges": (1.0,), "temperature_k": 300.0} | arguments))


def test_a_conductivity_needs_a_cell():
    with pytest.raises(ValueError, match="no periodic cell, which a conductivity needs"):
        ionic_conductivity(atoms(["Li"], random_walk(50, 1, 0.1), times=np.arange(50.0)), ("Li",), (1.0,), 300.0)
