"""Structure factors against random gases, lattices, the formula itself and the transform of g(r)."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.scattering import scattering_lengths
from openmm_allegro.analysis.structure_factor import partial_structure_factor, structure_factor
from openmm_allegro.analysis.waves import amplitudes, lattice_vectors

TILTED = np.array([[2.0, 0.0, 0.0], [0.9, 1.9, 0.0], [-0.8, 0.7, 2.1]])  # nm


def gas(elements, n_frames, seed=0, cell=TILTED):
    random = np.random.default_rng(seed)
    return atoms(elements, random.uniform(-1, 2, (n_frames, len(elements), 3)) @ cell, cell=cell)


@pytest.mark.parametrize("per_bin", [10_000, 3])  # whole planes by a matrix product, single vectors one by one
def test_amplitudes_are_the_sums_of_their_definition(per_bin, monkeypatch):
    monkeypatch.setattr("openmm_allegro.analysis.waves.ATOMS_AT_ONCE", 4)
    indices = lattice_vectors(TILTED, 15.0, 2.0, per_bin)
    fractional = np.random.default_rng(1).uniform(-1, 2, (11, 3))
    expected = np.exp(2j * np.pi * indices @ fractional.T).sum(axis=1)
    assert len(indices) > 15
    assert amplitudes(indices, fractional) == pytest.approx(expected, abs=1e-10)


def test_every_vector_of_the_cell_is_there_once_and_without_its_opposite():
    found = {tuple(v) for v in lattice_vectors(TILTED, 12.0, 1.0, 10**6).tolist()}
    every = [v for v in np.ndindex(31, 31, 31) if v != (15, 15, 15)]
    q = 2 * np.pi * np.linalg.norm((np.array(every) - 15) @ np.linalg.inv(TILTED).T, axis=1)
    expected = {tuple(k - 15 for k in v) for v, length in zip(every, q, strict=True) if length <= 12.0}
    assert found | {tuple(-k for k in v) for v in found} == expected
    assert 2 * len(found) == len(expected)


def test_the_vectors_of_a_full_bin_are_a_fair_part():
    whole, part = (lattice_vectors(np.eye(3) * 3, 40.0, 2.0, per_bin) for per_bin in (10**6, 100))
    q = 2 * np.pi / 3 * np.linalg.norm(part, axis=1)
    last = np.count_nonzero((q > 38) & (q <= 40))
    assert len(part) < 0.3 * len(whole)
    assert abs(last - 100) < 40  # four standard deviations


@pytest.mark.parametrize("pair", [("Ar", "Ar"), ("Ar", "Xe")])
def test_the_structure_factor_of_a_gas_is_one_within_its_stated_error(pair):
    found = partial_structure_factor(
        gas(["Ar"] * 30 + ["Xe"] * 20, 200), pair, q_max_per_nm=30, bin_width_per_nm=3, n_blocks=50
    )
    n_a, n_b, n = 30, 30 if pair[0] == pair[1] else 20, 50
    # independent atoms in a periodic box: ⟨ρ_a ρ_b*⟩ = N_a δ_ab for q of the box, so that S = 1 with no correction
    pulls = (found.s - 1) / found.error
    assert np.abs(pulls).max() < 3.5  # Student's t with 49 degrees of freedom: 1 in 1,000 for each of ten bins
    vectors = np.count_nonzero(
        np.linalg.norm(2 * np.pi * lattice_vectors(TILTED, 30, 3, 200) @ np.linalg.inv(TILTED).T, axis=1) > 27
    )
    spread = np.sqrt(n_a * n_b * (1 if pair[0] == pair[1] else 0.5)) * n / (n_a * n_b)  # of one vector in one frame
    assert found.error[-1] == pytest.approx(spread / np.sqrt(200 * vectors), rel=0.3)  # fifty blocks: 10 %


def test_a_lattice_has_bragg_peaks_of_the_number_of_atoms_and_nothing_between():
    a, repeats = 0.4, 3
    positions = a * np.array(list(np.ndindex(repeats, repeats, repeats)), dtype=float)[None]
    found = structure_factor(
        atoms(["Ar"] * 27, positions, cell=a * repeats * np.eye(3)), q_max_per_nm=17.0, bin_width_per_nm=0.2, n_blocks=1
    )
    bragg = np.abs(found.q_per_nm - 2 * np.pi / a) < 0.1
    # in the bin of (3, 0, 0) there are also the vectors (2, 2, 1): three of fifteen pairs ±q are Bragg peaks
    assert found.s[bragg] == pytest.approx([27 * 3 / 15], rel=1e-5)
    assert np.abs(found.s[~bragg]).max() < 1e-5


@pytest.mark.parametrize("weighting", ["neutron", "x-ray", "number"])
def test_the_total_is_the_weighted_sum_over_all_atoms(weighting):
    elements = ["O"] * 5 + ["H"] * 9 + ["Li"] * 4
    frames = gas(elements, 2, seed=3)
    found = structure_factor(frames, weighting=weighting, q_max_per_nm=12, bin_width_per_nm=0.001, n_blocks=1)
    indices = lattice_vectors(frames.unitcell_vectors[0].astype(float), 12, 0.001, 200)
    lengths = 2 * np.pi * np.linalg.norm(indices @ np.linalg.inv(frames.unitcell_vectors[0]).T, axis=1)
    alone = np.isclose(lengths[:, None], lengths).sum(axis=1) == 1
    b = dict(zip(["O", "H", "Li"], scattering_lengths(("O", "H", "Li"), weighting, lengths), strict=True))
    weights = np.array([b[symbol] for symbol in elements])  # (atoms, vectors)
    checked = 0
    for v in np.flatnonzero(alone):
        q = 2 * np.pi * np.linalg.inv(frames.unitcell_vectors[0].astype(float)) @ indices[v]
        waves = weights[:, v] @ np.exp(1j * frames.xyz.astype(float) @ q).T  # (frames,)
        own = (weights[:, v] ** 2).sum()
        k = np.argmin(np.abs(found.q_per_nm - lengths[v]))
        # Keen (2001): the self part is taken out with ⟨b²⟩ and what is left divided by ⟨b⟩²
        mean = weights[:, v].mean() ** 2 * len(elements)
        # lengths within a bin of 0.001 nm⁻¹: form factors equal to 1e-4
        assert found.s[k] == pytest.approx(1 + ((np.abs(waves) ** 2).mean() - own) / mean, rel=2e-3, abs=2e-3)
        checked += 1
    assert checked > 10


def test_partials_are_the_transform_of_g():
    """A gas of dumbbells: ρ ∫ (g − 1) exp(iq·r) of a shell of one neighbour is N / N_N · sin(qd) / (qd)."""
    random = np.random.default_rng(8)
    n, distance, n_frames = 25, 0.15, 150
    direction = random.normal(size=(n_frames, n, 3))
    direction *= distance / np.linalg.norm(direction, axis=2, keepdims=True)
    middles = random.uniform(0, 1, (n_frames, n, 3)) @ TILTED
    frames = atoms(["O"] * n + ["N"] * n, np.concatenate([middles, middles + direction], axis=1), cell=TILTED)
    found = partial_structure_factor(frames, ("O", "N"), q_max_per_nm=60, bin_width_per_nm=3, n_blocks=10)
    expected = 1 + 2 * n * n / (n * n) * np.sinc(found.q_per_nm * distance / np.pi)
    pulls = (found.s - expected) / found.error
    assert np.abs(pulls).max() < 4.8
    assert (found.s - 1)[0] > 1.5
    g = radial_distribution(frames, ("O", "N"), bin_width_nm=0.01)
    assert g.coordination[15] == pytest.approx(1, abs=0.1)  # the neighbour that the transform sees


def test_scattering_lengths_are_those_of_the_tables():
    q = np.array([0.0, 50.0])
    # V. F. Sears, Neutron News 3, 26 (1992): H −3.739, D 6.671, O 5.803, Li −1.90, ⁷Li −2.22 fm
    natural = scattering_lengths(("H", "O", "Li"), "neutron", q)
    assert natural[:, 0] == pytest.approx([-3.739, 5.803, -1.90], abs=0.035)  # lithium was measured again since
    assert np.array_equal(natural[:, 0], natural[:, 1])
    enriched = scattering_lengths(("H", "O", "Li"), "neutron", q, ("2H", "7Li"))
    assert enriched[:, 0] == pytest.approx([6.671, 5.803, -2.22], abs=0.07)  # so was its isotope
    # f(0) is the number of electrons; International Tables C, table 6.1.1.1: f of O at sin θ/λ = 0.4 Å⁻¹ is 3.010
    at_zero = scattering_lengths(("H", "O", "Li", "S"), "x-ray", np.zeros(1))[:, 0]
    assert at_zero == pytest.approx([1, 8, 3, 16], abs=0.01)
    assert scattering_lengths(("O",), "x-ray", np.array([10 * 4 * np.pi * 0.4]))[0, 0] == pytest.approx(3.010, abs=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weighting": "electron"}, "`weighting` is `electron`; choose from neutron, x-ray, number"),
        ({"isotopes": ("7Na",)}, "`7Na` is no isotope of Ar, Li; write for example"),
        ({"isotopes": ("99Li",)}, "no isotope 99Li; choose from .*6Li, 7Li"),
        ({"isotopes": ("7Li",), "weighting": "x-ray"}, "isotopes scatter neutrons"),
        ({"q_max_per_nm": -1.0}, "`q_max_per_nm` is -1.0; it must be positive"),
        ({"q_max_per_nm": 1.0}, "has no wave vector below 1.0"),
        ({"vectors_per_bin": 0}, "must be 1 or more"),
    ],
)
def test_what_cannot_be_done_is_said(options, words):
    with pytest.raises(ValueError, match=words):
        structure_factor(gas(["Ar", "Li"], 5), **options)


def test_the_vectors_follow_a_cell_that_changes():
    cells = np.stack([np.eye(3), 1.25 * np.eye(3)])
    frames = atoms(["O"], np.zeros((2, 1, 3)), cell=cells)
    found = partial_structure_factor(frames, ("O", "O"), q_max_per_nm=6.5, bin_width_per_nm=0.5, n_blocks=1)
    assert found.q_per_nm == pytest.approx([2 * np.pi / 1.25, 2 * np.pi])
