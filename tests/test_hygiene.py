"""What `info` tells of data: each fault is found in frames made to have it, and nothing in sound ones."""

import dataclasses
import json

import ase
import ase.io
import numpy as np
import pytest
from ase import units as ase_units
from ase.data import covalent_radii
from training_toys import morse, toy_atoms, toy_frames, write_toy_set

from openmm_allegro.training.config import LabelOptions, LossOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame, require_labels
from openmm_allegro.training.hygiene import inspect_files, inspect_frames
from openmm_allegro.training.spread import energy_residuals, outliers, robust_z
from openmm_allegro.training.statistics import average_neighbours, force_scales
from openmm_allegro.training.surroundings import Surroundings, pairs_within
from openmm_allegro.training.suspicions import all_electron_energy, length_unit, net_forces

WATER = np.array([[0.0, 0, 0], [1.1, 0, 0], [0.1, 1.1, 0]])


def wobbling_water(count=40, width=0.05, seed=0, turn=False):
    """Frames of one O and two H near the minimum of a Morse potential, each a random step from the same place."""
    random = np.random.default_rng(seed)
    numbers = np.array([8, 1, 1])
    frames = []
    for i in range(count):
        positions = WATER + random.normal(0, width, WATER.shape)
        if turn:
            positions = positions @ np.linalg.qr(random.normal(size=(3, 3)))[0]
        energy, forces = morse(positions, numbers)
        frames.append(Frame(numbers, positions, np.zeros((3, 3)), False, float(energy), forces, None, f"frame {i}"))
    return frames


def scaled(frames, energy=1.0, forces=1.0, lengths=1.0):
    return [
        dataclasses.replace(f, energy=f.energy * energy, forces=f.forces * forces, positions=f.positions * lengths)
        for f in frames
    ]


def checks(frames, **options):
    return {each.check for each in inspect_frames(frames, **options).suspicions}


def test_nothing_is_suspected_of_sound_frames():
    assert checks(wobbling_water()) == set()
    assert checks(toy_frames(30)) == set()


@pytest.mark.parametrize(
    ("z", "hartree", "tolerance"),
    # exact for H; Hartree-Fock limits of the free atoms, Clementi and Roetti (1974)
    [(1, -0.5, 1e-6), (6, -37.689, 0.01), (8, -74.809, 0.01), (16, -397.505, 0.01), (36, -2752.05, 0.01)],
)
def test_energies_of_all_electrons_are_those_of_hartree_fock(z, hartree, tolerance):
    assert all_electron_energy(np.array([z])) == pytest.approx(hartree * ase_units.Hartree, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "in_ev"),
    [
        ("Hartree", ase_units.Hartree),
        ("kcal/mol", ase_units.kcal / ase_units.mol),
        ("kJ/mol", ase_units.kJ / ase_units.mol),
    ],
)
def test_another_unit_of_energy_is_named(name, in_ev):
    frames = scaled(wobbling_water(width=0.1), 1 / in_ev, 1 / in_ev)
    found = [each for each in inspect_frames(frames).suspicions if each.check == "energy unit"]
    assert f"energies look like {name}, not eV" in found[0].sentence
    assert found[0].value == pytest.approx(1 / in_ev, rel=0.06)


def test_forces_in_kcal_per_mol_are_too_large_and_in_hartree_per_bohr_too_small():
    frames = wobbling_water(width=0.1)
    rms = np.sqrt(np.mean([f.forces**2 for f in frames]))
    large = inspect_frames(scaled(frames, 1.0, 20.0 / rms)).suspicions
    assert any("forces look like kcal/mol/Å" in each.sentence for each in large)
    small = inspect_frames(scaled(frames, 1.0, ase_units.Bohr / ase_units.Hartree)).suspicions
    assert any("forces look like Hartree/Bohr" in each.sentence for each in small)


def test_positions_in_bohr_and_nm_are_seen_in_the_bonds():
    assert "positions look like Bohr" in length_unit(np.full(5, 1.0 / ase_units.Bohr))[0].sentence
    assert "positions look like nm" in length_unit(np.full(5, 0.1))[0].sentence
    assert length_unit(np.array([0.7, 1.0, 1.4, np.inf])) == []
    frames = scaled(wobbling_water(), lengths=1 / ase_units.Bohr)
    assert "length unit" in checks(frames)


def test_a_double_is_found_though_it_was_moved_turned_and_stands_elsewhere():
    frames = wobbling_water(turn=True)
    random = np.random.default_rng(5)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    frames.append(
        dataclasses.replace(
            frames[3],
            positions=frames[3].positions @ turn + [5.0, 1.0, 2.0],
            forces=frames[3].forces @ turn,
            origin="the double",
        )
    )
    found = {each.check: each for each in inspect_frames(frames).suspicions}
    assert set(found) == {"duplicates"}
    assert "frame 3 and the double" in found["duplicates"].sentence
    frames[-1] = dataclasses.replace(frames[-1], energy=frames[-1].energy + 0.01)
    conflict = {each.check: each for each in inspect_frames(frames).suspicions}["conflicting labels"]
    assert conflict.value == pytest.approx(0.01, rel=1e-6)


def test_a_trajectory_is_told_from_independent_frames():
    steps = np.linspace(0, 1, 41)
    frames = []
    for i, step in enumerate(steps):
        positions = WATER + np.array([[0, 0, 0], [0.4 * step, 0, 0], [0, 0.3 * step, 0]])
        energy, forces = morse(positions, np.array([8, 1, 1]))
        frames.append(
            Frame(np.array([8, 1, 1]), positions, np.zeros((3, 3)), False, float(energy), forces, None, f"{i}")
        )
    assert "time correlation" in checks(frames)
    order = np.random.default_rng(0).permutation(len(frames))
    assert "time correlation" not in checks([frames[i] for i in order])


def test_forces_that_do_not_cancel_are_named_with_their_frame():
    frames = wobbling_water()
    frames[7] = dataclasses.replace(frames[7], forces=frames[7].forces + np.array([0.1, 0, 0]))
    found = [each for each in inspect_frames(frames).suspicions if each.check == "net force"]
    assert found[0].value == pytest.approx(0.3, abs=1e-6)  # three atoms
    assert "1 frames" in found[0].sentence
    assert "frame 7" in found[0].sentence
    force, torque = net_forces(frames)
    assert np.delete(force, 7).max() < 1e-10
    assert np.delete(torque, 7).max() < 1e-10  # central forces


def test_torque_of_two_opposite_forces_is_force_times_arm():
    frame = Frame(np.array([1, 1]), np.array([[0.0, 0, 0], [2.0, 0, 0]]), np.zeros((3, 3)), False, None,
                  np.array([[0, -0.5, 0], [0, 0.5, 0]]), None, "a")  # fmt: skip
    force, torque = net_forces([frame])
    assert force[0] == 0
    assert torque[0] == pytest.approx(1.0)  # 0.5 eV/Å at 1 Å, twice


def test_broken_frames_are_named_and_left_out(tmp_path):
    frames = toy_frames(12)
    frames[4] = dataclasses.replace(frames[4], energy=float("nan"))
    report = inspect_frames(frames)
    assert len(report.frames) == 11
    assert "frame 4 of a toy set: the energy is nan" in report.suspicions[0].sentence
    with pytest.raises(ValueError, match="no frame is sound: .*the energy is nan"):
        inspect_frames([frames[4]])


def test_atoms_too_close_and_out_of_reach_are_named():
    frames = wobbling_water()
    frames[2] = dataclasses.replace(frames[2], positions=WATER + np.array([[0, 0, 0], [-0.8, 0, 0], [0, 0, 0]]))
    frames[5] = dataclasses.replace(frames[5], positions=WATER + np.array([[0, 0, 0], [9.0, 0, 0], [0, 0, 0]]))
    found = {each.check: each for each in inspect_frames(frames).suspicions}
    assert found["atoms too close"].value == pytest.approx(0.3 / (covalent_radii[1] + covalent_radii[8]), rel=1e-6)
    assert "frame 2" in found["atoms too close"].sentence
    assert "1 of 3 in frame 5" in found["atoms out of reach"].sentence


@pytest.mark.parametrize("count", [1, 40])
def test_atoms_too_close_in_every_frame_are_named(count):
    """As of lengths converted from Bohr twice, which look neither like Bohr nor like nm."""
    assert "atoms too close" in checks(scaled(wobbling_water(count), lengths=ase_units.Bohr))
    assert checks(scaled(wobbling_water(), lengths=0.1)) >= {"length unit"}
    assert "atoms too close" not in checks(scaled(wobbling_water(), lengths=0.1))


def test_forces_of_zero_beside_energies_that_change_are_named():
    found = {each.check: each for each in inspect_frames(scaled(wobbling_water(), forces=0.0)).suspicions}
    assert "all forces are zero, but the energy changes by up to" in found["forces of zero"].sentence
    assert "forces of zero" not in checks(scaled(wobbling_water(1), forces=0.0))


@pytest.mark.parametrize("periodic", [True, False])
def test_pairs_are_those_of_the_direct_sum(periodic):
    frame = toy_frames(3, periodic=periodic)[2]
    shifts = np.array(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3)).reshape(3, -1).T if periodic else np.zeros((1, 3))
    vectors = frame.positions[None, :, None] + (shifts @ frame.cell)[None, None] - frame.positions[:, None, None]
    lengths = np.linalg.norm(vectors, axis=3).ravel()
    expected = np.sort(lengths[(lengths < 5.0) & (lengths > 0)])[::2]  # each pair from both ends
    np.testing.assert_allclose(np.sort(pairs_within(frame, 5.0)[2]), expected, atol=1e-12)


def test_neighbours_are_those_that_training_counts():
    from openmm_allegro.training.batch import FrameDataset

    frames = toy_frames(9, periodic=True)
    around = Surroundings(3.0)
    for i, frame in enumerate(frames):
        around.add(i, frame)
    assert around.average_neighbours() == pytest.approx(average_neighbours(FrameDataset(frames, ("H", "O"), 3.0)))


def test_robust_z_is_that_of_a_normal_distribution_and_names_what_lies_outside():
    values = np.random.default_rng(0).normal(3.0, 2.0, 20_000)
    assert np.std(robust_z(values)) == pytest.approx(1.0, abs=0.03)  # 20,000 samples
    frames = wobbling_water(30)
    figures = np.random.default_rng(1).normal(0, 1, 30)
    assert outliers(frames, "figure", "eV", figures) == []
    figures[4] = 100.0
    named = outliers(frames, "figure", "eV", figures)
    assert [each.frame for each in named] == ["frame 4"]
    assert outliers(frames, "figure", "eV", figures, side=-1) == []


def test_energies_of_elements_are_found_in_spite_of_a_wrong_one():
    random = np.random.default_rng(0)
    frames = []
    for i in range(60):
        numbers = np.array([1] * random.integers(1, 6) + [8] * random.integers(1, 4))
        energy = -13.0 * (numbers == 1).sum() - 2041.0 * (numbers == 8).sum() + random.normal(0, 0.01)
        frames.append(Frame(numbers, np.zeros((len(numbers), 3)), np.zeros((3, 3)), False, energy, None, None, f"{i}"))
    frames[10] = dataclasses.replace(frames[10], energy=frames[10].energy + 500.0)
    residuals, fitted, told_apart = energy_residuals(frames, [1, 8])
    assert told_apart
    np.testing.assert_allclose(fitted, [-13.0, -2041.0], atol=0.5)
    assert int(np.nanargmax(np.abs(residuals))) == 10
    assert not energy_residuals(frames[:1] * 5, [1, 8])[2]


def test_a_file_is_described_and_its_statistics_are_those_of_training(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 24)
    report = inspect_files([path], output=tmp_path / "statistics.json", picture=tmp_path / "seen" / "toy.png")
    told = report.as_dict()
    assert (told["n_frames"], told["n_periodic"], told["n_compositions"]) == (24, 0, 3)
    assert told["compositions"] == {"H2O1": 8, "H3O1": 8, "H4O1": 8}
    assert told["labels"] == {"energy": 24, "forces": 24, "stress": 0}
    assert told["suspicions"] == "none"
    stored = json.loads((tmp_path / "statistics.json").read_text())
    frames = read_frames(path)
    assert stored["energy_scales"] == pytest.approx(force_scales(frames, ("H", "O")))
    assert (tmp_path / "seen" / "toy.png").read_bytes()[:4] == b"\x89PNG"
    shortest = min(
        float(np.linalg.norm(f.positions[i] - f.positions[j]))
        for f in frames
        for i, a in enumerate(f.symbols)
        for j, b in enumerate(f.symbols)
        if {a, b} == {"H", "O"}
    )
    assert report.pairs["H-O"]["shortest_angstrom"] == pytest.approx(shortest)


def test_density_and_pressure_are_those_of_hand(tmp_path):
    frame = toy_frames(1, periodic=True)[0]
    frame = dataclasses.replace(frame, stress=-np.eye(3) / 160.21766)  # 1 GPa of pressure
    told = inspect_frames([frame]).as_dict()["ranges"]
    assert told["pressure"]["median"] == pytest.approx(1.0, rel=1e-6)
    volume = 4.1 * 4.4 * 4.7
    assert told["density"]["median"] == pytest.approx(18.015 / 6.02214 / volume * 10, rel=1e-4)


def test_an_npz_file_of_unknown_unit_is_doubted_instead_of_refused(tmp_path):
    frames = scaled(wobbling_water(), 23.0605, 23.0605)
    np.savez(
        tmp_path / "a.npz",
        z=frames[0].numbers,
        R=[f.positions for f in frames],
        E=[f.energy for f in frames],
        F=[f.forces for f in frames],
    )
    report = inspect_files([tmp_path / "a.npz"])
    assert any("energies look like kcal/mol" in each.sentence for each in report.suspicions)


def test_statistics_do_not_take_the_place_of_the_data(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 3)
    with pytest.raises(ValueError, match="would be written, but it is read, too, and would be lost"):
        inspect_files([path], output=path)
    other = write_toy_set(tmp_path / "other.xyz", 3)
    before = other.read_bytes()
    for options, name in (({"output": other}, "JSON"), ({"picture": other}, "PNG")):
        with pytest.raises(ValueError, match=f"other.xyz` would be written as {name}, but its name ends in .xyz"):
            inspect_files([path], **options)
    assert other.read_bytes() == before


def test_stress_and_energies_alone_are_enough():
    frames = [dataclasses.replace(frame, forces=None) for frame in toy_frames(12, periodic=True)]
    report = inspect_frames(frames)
    assert report.slope is None
    assert report.elements["H"]["force_rms_ev_per_angstrom"] is None
    volumes = [toy_atoms(frame).get_volume() / len(frame.numbers) for frame in frames]
    assert report.ranges["volume"]["min"] == pytest.approx(min(volumes))


def test_spreads_of_frames_that_wait_for_their_labels_are_not_taken_for_labels(tmp_path):
    image = ase.Atoms("OHH", toy_frames(1)[0].positions[:3], info={"energy_spread": 0.1})
    image.arrays["force_spread"] = np.full(3, 0.2)
    ase.io.write(tmp_path / "selected.extxyz", [image], format="extxyz")
    report = inspect_files([tmp_path / "selected.extxyz"])
    assert [each.sentence for each in report.suspicions if each.check == "label of another name"] == []


def test_labels_under_other_names_are_pointed_out(tmp_path):
    images = []
    for frame in wobbling_water(3):
        image = ase.Atoms("OHH", frame.positions, info={"REF_energy": frame.energy})
        image.set_array("REF_forces", frame.forces)
        images.append(image)
    file = tmp_path / "named.xyz"
    ase.io.write(file, images, format="extxyz")
    report = inspect_files([file])
    found = [each.sentence for each in report.suspicions if each.check == "label of another name"]
    assert ["`REF_energy`" in found[0], "`--forces-key REF_forces`" in found[1], len(found)] == [True, True, 2]
    told = report.as_dict()
    assert (told["energies_of_elements"], told["elements"]["H"]["energy_ev"]) == ("not known", None)
    with pytest.raises(ValueError, match='right key in `data.energy_key`, perhaps "REF_energy"'):
        require_labels(read_frames(file), LossOptions())
    with pytest.raises(ValueError, match='right key in `data.forces_key`, perhaps "REF_forces"'):
        require_labels(read_frames(file), LossOptions(energy=0.0))
    named = LabelOptions(energy_key="REF_energy", forces_key="REF_forces")
    assert inspect_files([file], options=named).suspicions == []
