"""Published ab initio sets are read with the right units; skipped where they are not at hand."""

import numpy as np
import pytest

from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.hygiene import inspect_files

HARTREE_TO_EV = 27.211386245988


def test_acetylacetone_is_bound_by_as_much_as_its_bonds(ab_initio_data):
    folder = ab_initio_data / "acac"
    frames = read_frames(folder / "train_300K.xyz.xz")
    atoms = {frame.symbols[0]: frame.energy for frame in read_frames(folder / "isolated_atoms.xyz")}
    assert len(frames) == 500
    bound = [frame.energy - sum(atoms[symbol] for symbol in frame.symbols) for frame in frames]
    # C5H8O2: about 8 C-H or O-H bonds of 4.3 eV, 4 C-C of 3.8, 2 C-O of 5 to 8 make 60 to 75 eV
    assert -80 < min(bound) < max(bound) < -55
    assert 0.5 < np.sqrt(np.mean([frame.forces**2 for frame in frames])) < 3.0  # eV/Å at 300 K


def test_ethanol_in_kcal_per_mol_has_the_energy_of_its_electrons(ab_initio_data):
    frames = read_frames(ab_initio_data / "rmd17" / "rmd17_ethanol_train_01.npz", LabelOptions(units="kcal/mol"))
    assert len(frames) == 1000
    energies_hartree = np.array([frame.energy for frame in frames]) / HARTREE_TO_EV
    assert energies_hartree.mean() == pytest.approx(-154.7, abs=0.5)  # PBE: about -154.8


def test_stress_of_liquid_water_is_a_few_gpa_at_most(ab_initio_data):
    frames = read_frames(ab_initio_data / "water_scan_dplr" / "water_scan.xyz.xz")
    stresses_gpa = np.array([np.trace(frame.stress) / 3 for frame in frames if frame.stress is not None]) * 160.2177
    assert len(stresses_gpa) > 500
    assert np.median(np.abs(stresses_gpa)) < 5.0


def test_methane_of_qm9_has_the_energy_of_its_electrons(ab_initio_data):
    options = LabelOptions(units="Hartree", energy_key="E_elec_hartree")
    methane = read_frames(ab_initio_data / "qm9" / "qm9_128716.npz", options)[0]
    assert methane.symbols == ["C", "H", "H", "H", "H"]
    bonds = np.linalg.norm(methane.positions[1:] - methane.positions[0], axis=1)
    np.testing.assert_allclose(bonds, 1.092, atol=0.002)  # Å, B3LYP
    # the first entry of QM9: U0 -40.47893 and a zero-point energy of 0.044749 Hartree
    assert methane.energy / HARTREE_TO_EV == pytest.approx(-40.47893 - 0.044749, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("3bpa/train_300K.xyz.xz", set()),
        ("acac/train_600K.xyz.xz", set()),
        ("ethanol_botnet/train.xyz.xz", set()),
        ("dft_accuracy/ani_1x_tz_orca.xyz.xz", set()),
        ("dft_accuracy/transition1x_orca.xyz.xz", set()),
        ("spice_dipeptides/spice_dipep_train.xyz.xz", set()),
        ("mlearn/Si_training.xyz.xz", set()),
        ("water_rpbed3/water_ice_n2p2_322.xyz.xz", set()),
        ("rmd17/rmd17_ethanol_train_01.npz", {"energy unit", "force unit"}),
        ("md17_cc/ethanol_ccsd_t-train.npz", {"energy unit", "force unit", "duplicates"}),
        pytest.param("nacl_water_revpbe0d3/nacl_water_revpbe0d3.xyz.xz", {"net force"}, marks=pytest.mark.slow),
        ("water_pbe0ts_deepmd/water_deepmd.xyz.xz", {"net force"}),
        ("lips20/lips20_Li7P3S11_500.xyz.xz", {"time correlation"}),
    ],
)
def test_what_is_known_of_a_published_set_is_suspected_and_nothing_else(ab_initio_data, name, expected):
    assert {each.check for each in inspect_files([ab_initio_data / name]).suspicions} == expected


def test_energies_of_qm9_look_like_hartree(ab_initio_data, tmp_path):
    with np.load(ab_initio_data / "qm9" / "qm9_128716.npz") as file:
        sizes = file["n_atoms"][:3000].astype(int)
        np.savez(
            tmp_path / "qm9.npz",
            n_atoms=sizes,
            numbers=file["Z"][: sizes.sum()],
            positions=file["R_angstrom_1e5"][: sizes.sum()] / 1e5,
            energies=file["E_elec_hartree"][:3000],
        )
    found = inspect_files([tmp_path / "qm9.npz"]).suspicions
    assert "energies look like Hartree" in found[0].sentence
    assert (
        len(inspect_files([tmp_path / "qm9.npz"], options=LabelOptions(units="Hartree")).suspicions) == len(found) - 1
    )
