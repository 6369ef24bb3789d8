"""Failures at known frames: a bond that breaks, a liquid that is compressed, positions that are not numbers."""

import numpy as np
import pytest
from peptides import TRICLINIC, wrapped
from trajectories import atoms

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.stability import bond_stability, structure_stability

WATER_NM = np.array([[0, 0, 0], [0.1, 0, 0], [-0.025, 0.097, 0]])


def stretched(at, n_frames, by_nm):
    """Water whose first bond is longer by that much from frame `at` on, moving through the faces of a cell."""
    positions = np.repeat(WATER_NM[None], n_frames, axis=0)
    positions[at:, 1, 0] += by_nm
    positions += np.linspace(0, 5, n_frames)[:, None, None]
    return atoms("OHH", wrapped(positions, TRICLINIC), times=0.5 * np.arange(n_frames), cell=TRICLINIC)


def gas(n_frames, n, seed, cell, spacing_ps=0.1, symbols="Ar"):
    positions = np.random.default_rng(seed).uniform(size=(n_frames, n, 3)) @ cell
    return atoms([symbols] * n, positions, times=spacing_ps * np.arange(n_frames), cell=cell)


def test_a_bond_that_breaks_is_found_at_its_frame():
    found = bond_stability(stretched(13, 40, 0.051))
    assert found.failed
    assert found.failed_ps == 6.5
    assert found.deviation_angstrom[13] == pytest.approx(0.51, abs=1e-4)
    assert found.figures()["stable_ps"].value == 6.5
    assert found.reason == "bond SYS0-O–SYS0-H"


def test_without_times_nothing_is_called_stable():
    run = stretched(13, 40, 0.051)
    run.time = np.full(run.n_frames, np.nan)
    with pytest.raises(ValueError, match="have no times"):
        bond_stability(run)


def test_a_bond_off_by_less_than_the_threshold_has_not_failed():
    found = bond_stability(stretched(13, 40, 0.049))
    assert not found.failed
    assert found.figures()["stable_ps"].value == 19.5
    assert bond_stability(stretched(13, 40, 0.049), threshold_angstrom=0.4).failed_ps == 6.5


def test_the_reference_length_is_the_mean_over_the_reference():
    reference = stretched(5, 10, 0.04)  # half of the frames are 0.04 nm longer: mean 0.02 nm
    found = bond_stability(stretched(3, 10, 0.06), reference)
    assert found.deviation_angstrom[:3] == pytest.approx(0.2, abs=1e-4)
    assert found.deviation_angstrom[3:] == pytest.approx(0.4, abs=1e-4)


def test_positions_that_are_not_numbers_are_a_failure():
    run = stretched(40, 40, 0.0)
    run.xyz[20:, 0] = np.nan
    assert bond_stability(run).failed_ps == 10.0
    with pytest.raises(ValueError, match="no bonds between nonmetals"):
        bond_stability(atoms(["Li", "Li"], np.zeros((2, 2, 3))))


def test_the_deviation_of_a_liquid_from_itself_vanishes():
    liquid = gas(30, 200, 0, 3 * np.eye(3))
    one_window = structure_stability(liquid, liquid, window_ps=2.9)
    assert one_window.deviation_angstrom == pytest.approx([0.0], abs=1e-12)


def test_a_liquid_that_clusters_fails_in_the_window_that_says_so_by_hand():
    # all pairs 0.25 nm apart from frame 50 on: g is a spike of V / (4π r² Δr) there and 0 elsewhere
    cell = 3 * np.eye(3)
    run = gas(100, 2, 0, cell)
    run.xyz[:] = np.array([[0.0, 0, 0], [0.252, 0, 0]])
    run.xyz[:50, 1, 0] = 0.452
    reference = run[:50]
    found = structure_stability(run, reference, threshold_angstrom=1.0, bin_width_nm=0.01)
    shells = [4 / 3 * np.pi * ((k + 1) ** 3 - k**3) * 0.01**3 for k in (25, 45)]
    spikes = [27.0 / shell * 0.1 for shell in shells]  # g times a bin of 0.1 Å
    after = np.flatnonzero(found.times_ps >= 5.0 - 1e-6)
    assert found.deviation_angstrom[after] == pytest.approx(sum(spikes), rel=1e-6)
    assert found.deviation_angstrom[:40] == pytest.approx(0.0, abs=1e-9)
    # a window holds eleven frames; the one that starts at 4.0 ps ends at 5.0 ps with the first that differs
    assert found.times_ps[found.deviation_angstrom > 1e-9][0] == pytest.approx(4.0)
    assert found.deviation_angstrom[40] == pytest.approx(sum(spikes) / 11, rel=1e-6)
    assert found.failed_ps == pytest.approx(4.0)
    assert found.reason == "Ar–Ar"


def test_noise_of_an_ideal_gas_is_the_poisson_one_and_stays_below_the_threshold():
    cell = TRICLINIC
    found = structure_stability(gas(60, 300, 1, cell), gas(2000, 300, 2, cell), threshold_angstrom=3.0)
    edges = 0.01 * np.arange(61)
    pairs = 300 * 299 / 2 * 4 / 3 * np.pi * np.diff(edges**3) / np.linalg.det(cell)  # in a bin of a frame
    counts = np.random.default_rng(0).poisson(11 * pairs, size=(2000, 60)) / (11 * pairs)
    expected = np.abs(counts - 1).sum(axis=1).mean() * 0.1
    assert found.deviation_angstrom.mean() == pytest.approx(expected, rel=0.1)  # five independent windows
    assert not found.failed


def test_the_elements_that_have_left_the_reference_are_named():
    cell = 3 * np.eye(3)
    random = np.random.default_rng(3)
    positions = random.uniform(size=(80, 40, 3)) @ cell
    symbols = ["Ar"] * 20 + ["Ne"] * 20
    positions[40:, 30:] = positions[40:, 20:30] + np.array([0.152, 0.0, 0.0])  # ten pairs of neon from 4 ps on
    run = atoms(symbols, positions, times=0.1 * np.arange(80), cell=cell)
    reference = atoms(symbols, random.uniform(size=(400, 40, 3)) @ cell, cell=cell)
    options = {"r_max_nm": 0.6, "bin_width_nm": 0.1}
    found = structure_stability(run, reference, threshold_angstrom=25.0, **options)
    assert found.reason == "Ne–Ne"
    # 20 of 380 ordered pairs lie in one bin of 1 Å, whose g grows by V/shell · 20/380 = 48; noise is 3 Å
    spike = 20 / 380 * 27.0 / (4 / 3 * np.pi * (0.2**3 - 0.1**3))
    assert found.deviation_angstrom[-1] == pytest.approx(spike, rel=0.1)
    assert found.failed_ps == pytest.approx(3.5, abs=0.11)  # half of the eleven frames of the window
    # of all atoms alike they are 20 of 1560
    alike = structure_stability(run, reference, by_element=False, **options)
    assert alike.deviation_angstrom[-1] == pytest.approx(spike * 380 / 1560, rel=0.2)


def test_a_larger_cell_is_a_fair_reference_and_other_elements_are_none():
    cell = 3 * np.eye(3)
    run = gas(30, 100, 1, cell)
    large = structure_stability(run, gas(200, 800, 2, 2 * cell), r_max_nm=0.6, bin_width_nm=0.1)
    small = structure_stability(run, gas(1600, 100, 3, cell), r_max_nm=0.6, bin_width_nm=0.1)
    # of 1,200 pairs in the first bin either way g is known to 3 %, of five bins of 1 Å together to 0.05 Å
    assert large.deviation_angstrom.mean() == pytest.approx(small.deviation_angstrom.mean(), abs=0.1)
    with pytest.raises(ValueError, match="the run has Ar and the reference Ne"):
        structure_stability(run, gas(30, 100, 1, cell, symbols="Ne"))


def test_a_run_that_blows_up_to_nan_fails_within_a_window():
    run = gas(60, 100, 1, 3 * np.eye(3))
    run.xyz[30] = np.nan
    found = structure_stability(run, gas(60, 100, 2, 3 * np.eye(3)))
    assert found.failed_ps == pytest.approx(2.0)  # the first window of 1 ps that holds frame 30 at 3 ps


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window_ps": 20.0}, "the run is 2.9 ps long, shorter than a window of 20 ps"),
        ({"threshold_angstrom": 0.0}, "`threshold_angstrom` is 0.0; it must be positive"),
        ({"bin_width_nm": -1.0}, "`bin_width_nm` is -1.0; it must be positive"),
    ],
)
def test_impossible_options_are_refused(options, words):
    liquid = gas(30, 20, 0, 3 * np.eye(3))
    with pytest.raises(ValueError, match=words):
        structure_stability(liquid, liquid, **options)


def test_a_reference_of_other_atoms_is_refused():
    with pytest.raises(ValueError, match="the run has 3 atoms and the reference 2"):
        bond_stability(stretched(1, 2, 0.1), atoms("OH", WATER_NM[None, :2]))


def test_the_table_and_frames_read_in_chunks(tmp_path):
    run = stretched(13, 40, 0.051)
    in_chunks = Frames(
        run.topology,
        run.time.astype(np.float64),
        run.unitcell_vectors.astype(np.float64),
        lambda which: (run[k : k + 7] if which is None else run[k : k + 7].atom_slice(which) for k in range(0, 40, 7)),
    )
    found = bond_stability(in_chunks)
    assert found.failed_ps == 6.5
    assert found.write_csv(tmp_path / "s.csv").read_text().splitlines()[0] == "time_ps,deviation_angstrom"
