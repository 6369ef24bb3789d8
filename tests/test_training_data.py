"""Reading labelled frames, and refusing broken ones with the file and the frame's number."""

import dataclasses
import gzip
import lzma

import ase
import ase.build
import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from training_toys import toy_atoms, toy_frames, write_toy_set

from openmm_allegro import units
from openmm_allegro.spread import Spread
from openmm_allegro.training.calibration import compare
from openmm_allegro.training.config import DataOptions, LabelOptions, LossOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import check_elements, require_labels
from openmm_allegro.training.hygiene import inspect_frames
from openmm_allegro.training.splits import FrameSets, read_frame_sets
from openmm_allegro.training.statistics import energy_shifts
from openmm_allegro.training.stream import stream_frames


def written(path, atoms):
    ase.io.write(path, atoms, format="extxyz")
    return path


def test_frames_come_back_as_they_were_written(tmp_path):
    frames = read_frames(write_toy_set(tmp_path / "toy.xyz"))
    for frame, original in zip(frames, toy_frames(), strict=True):
        np.testing.assert_allclose(frame.positions, original.positions, atol=1e-8)  # digits in the file
        np.testing.assert_allclose(frame.forces, original.forces, atol=1e-8)
        assert frame.energy == pytest.approx(original.energy, abs=1e-8)
        assert frame.symbols == original.symbols
    assert frames[3].origin == "frame 3 of `toy.xyz`"


def test_files_may_be_named_by_strings(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz")
    one = [frame.origin for frame in read_frames(path)]
    assert [frame.origin for frame in read_frames(str(path))] == one
    assert [frame.origin for frame in read_frames([str(path), path])] == 2 * one
    with pytest.raises(FileNotFoundError, match="there is no file `nowhere.xyz`"):
        read_frames("nowhere.xyz")


@pytest.mark.parametrize(("suffix", "opener"), [(".xz", lzma.open), (".gz", gzip.open)])
def test_compressed_files_are_read_alike(tmp_path, suffix, opener):
    plain = write_toy_set(tmp_path / "toy.xyz")
    packed = tmp_path / f"toy.xyz{suffix}"
    with opener(packed, "wt") as file:
        file.write(plain.read_text())
    np.testing.assert_array_equal(read_frames(packed)[5].positions, read_frames(plain)[5].positions)


@pytest.mark.parametrize(("suffix", "opener"), [("", open), (".xz", lzma.open)])
def test_frames_behind_an_empty_line_are_not_lost(tmp_path, suffix, opener):
    text = write_toy_set(tmp_path / "toy.xyz", 4).read_text()
    path = tmp_path / f"joined.xyz{suffix}"
    with opener(path, "wt") as file:
        file.write(text + "\n" + text)  # as `cat` joins files that end in an empty line; ASE stops there
    with pytest.raises(ValueError, match="cannot read `.*joined.xyz.*`: an empty line stands between frames"):
        read_frames(path)


def test_labels_are_found_under_any_key(tmp_path):
    atoms = toy_atoms(toy_frames()[0])
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.calc.results["energy"], atoms.calc.results["forces"]
    atoms.calc = None
    options = LabelOptions(energy_key="REF_energy", forces_key="REF_forces")
    frame = read_frames(written(tmp_path / "a.xyz", atoms), options)[0]
    assert frame.energy == pytest.approx(toy_frames()[0].energy)
    assert frame.forces is not None
    assert read_frames(tmp_path / "a.xyz")[0].energy is None


def test_stress_and_virial_agree(tmp_path):
    atoms = toy_atoms(toy_frames(periodic=True)[0])
    stress = np.array([[1.0, 0.2, 0.3], [0.2, 2.0, 0.5], [0.3, 0.5, 3.0]]) / 100
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, stress=stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
    atoms.info["virials"] = -stress * atoms.get_volume()
    path = written(tmp_path / "a.xyz", atoms)
    np.testing.assert_allclose(read_frames(path)[0].stress, stress, atol=1e-8)
    np.testing.assert_allclose(read_frames(path, LabelOptions(virial_key="virials"))[0].stress, stress, atol=1e-8)


@pytest.mark.parametrize("names", [("nuclear_charges", "coords", "energies", "forces"), ("z", "R", "E", "F")])
def test_npz_in_kcal_per_mol_becomes_ev(tmp_path, names):
    numbers, positions = np.array([8, 1, 1], dtype=np.uint8), np.random.default_rng(0).normal(size=(2, 3, 3))
    energies, forces = np.array([[-100.0], [-101.0]]), np.ones((2, 3, 3))
    np.savez(tmp_path / "a.npz", **dict(zip(names, (numbers, positions, energies, forces), strict=True)))
    frames = read_frames(tmp_path / "a.npz", LabelOptions(units="kcal/mol"))
    assert frames[1].energy == pytest.approx(-101.0 * 4.184 * units.KJ_PER_MOL_TO_EV)
    assert frames[1].energy == pytest.approx(-101.0 * 0.0433641, rel=1e-5)  # the factor stated with rMD17
    np.testing.assert_allclose(frames[0].forces, 0.0433641, rtol=1e-5)
    np.testing.assert_array_equal(frames[0].numbers, [8, 1, 1])


def test_npz_without_a_unit_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", z=[1], R=np.zeros((1, 1, 3)), E=[0.0], F=np.zeros((1, 1, 3)))
    with pytest.raises(ValueError, match="`a.npz` is npz, which does not say its units; set `data.units`"):
        read_frames(tmp_path / "a.npz")


def test_npz_with_other_names_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", z=[1], xyz=np.zeros((1, 1, 3)))
    with pytest.raises(
        ValueError, match="no positions: expected an array named coords or R or positions or R_angstrom_1e5, found z, x"
    ):
        read_frames(tmp_path / "a.npz", LabelOptions(units="eV"))


def break_atoms(kind):
    """Five good frames with the third one broken."""
    all_atoms = [toy_atoms(frame) for frame in toy_frames(5, periodic=kind == "flat cell")]
    broken = all_atoms[2]
    if kind == "energy":
        broken.calc.results["energy"] = np.nan
    elif kind == "force":
        broken.calc.results["forces"][1, 2] = np.inf
    elif kind == "huge force":
        broken.calc.results["forces"][1, 2] = 5e3
    elif kind == "position":
        broken.positions[1] = np.nan
    elif kind == "flat cell":
        broken.cell[2] = 0.1 * broken.cell[0] + [0, 0, 0.3]
    elif kind == "slab":
        broken.pbc, broken.cell = (True, True, False), np.eye(3) * 9
    elif kind == "two energies":
        del broken.calc.results["energy"]
        broken.info["energy"] = np.array([-1.0, -2.0])
    elif kind == "units":
        for i, atoms in enumerate(all_atoms):
            atoms.info["energy_unit"] = "Hartree" if i == 2 else "eV"
    elif kind == "other unit":
        for atoms in all_atoms:
            atoms.info["energy_unit"] = "kcal/mol"
    return all_atoms


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("energy", "frame 2 of `bad.xyz`: the energy is nan"),
        ("force", "frame 2 of `bad.xyz`: the force on atom 1 is not a finite number"),
        ("huge force", "frame 2 of `bad.xyz`: the force on atom 1 is 5000 eV/Å; expected at most 1000"),
        ("position", "frame 2 of `bad.xyz`: the position of atom 1 is not a finite number"),
        ("flat cell", "frame 2 of `bad.xyz`: the cell is flat, 0.3 Å between two of its faces"),
        ("slab", "frame 2 of `bad.xyz` is periodic along some directions only"),
        ("two energies", "frame 2 of `bad.xyz`: `energy` has 2 values; expected one, the total energy"),
        ("units", "`bad.xyz` mixes units: `energy_unit` is eV in frame 0 but Hartree in frame 2"),
        ("other unit", "`bad.xyz` says `energy_unit=kcal/mol`, but its frames are to be read in eV"),
    ],
)
def test_a_broken_frame_is_named(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        read_frames(written(tmp_path / "bad.xyz", break_atoms(kind)))


def test_what_counts_as_a_broken_force_can_be_set(tmp_path):
    path = written(tmp_path / "bad.xyz", break_atoms("huge force"))
    assert len(read_frames(path, LabelOptions(max_force=1e4))) == 5


def test_missing_empty_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_frames(tmp_path / "nowhere.xyz")
    (tmp_path / "empty.xyz").touch()
    with pytest.raises(ValueError, match="`.*empty.xyz` is empty"):
        read_frames(tmp_path / "empty.xyz")
    (tmp_path / "odd.xyz").write_text("not a frame\nat all\n")
    with pytest.raises(ValueError, match="cannot read `.*odd.xyz`"):
        read_frames(tmp_path / "odd.xyz")
    (tmp_path / "blank.xyz").write_text("\n\n")
    (tmp_path / "empty.xyz.gz").write_bytes(gzip.compress(b""))
    for name in ("blank.xyz", "empty.xyz.gz"):
        with pytest.raises(ValueError, match=f"`.*{name}` has no frames"):
            read_frames(tmp_path / name)


@pytest.mark.parametrize("number", [0, 60])
def test_an_element_that_does_not_exist_is_named_with_its_frame(tmp_path, number):
    path = write_toy_set(tmp_path / "toy.xyz", 61)
    frames = path.read_text().split("\nO ")
    path.write_text("\nO ".join(frames[: number + 1]) + "\nXx " + "\nO ".join(frames[number + 1 :]))
    sentence = f"cannot read `.*toy.xyz`: 'Xx' is no chemical symbol, in frame {number}; name the element"
    with pytest.raises(ValueError, match=sentence):
        read_frames(path)
    with pytest.raises(ValueError, match=sentence):
        list(stream_frames(path, LabelOptions(), lambda read: None))


def test_a_label_that_the_loss_needs_must_be_there(tmp_path):
    atoms = toy_atoms(toy_frames()[0])
    del atoms.calc.results["forces"]
    frames = read_frames(written(tmp_path / "a.xyz", atoms))
    with pytest.raises(ValueError, match="frame 0 of `a.xyz` has no forces, but `loss.forces` is 1"):
        require_labels(frames, LossOptions())
    require_labels(frames, LossOptions(forces=0.0))
    with pytest.raises(ValueError, match="`loss.stress` is 1, but no frame is periodic"):
        require_labels(toy_frames(), LossOptions(stress=1.0))


def test_an_element_unknown_to_the_model_is_named():
    with pytest.raises(ValueError, match="frame 0 of a toy set: atom 1 is O, but this model knows only H, C"):
        check_elements(toy_frames(), ("H", "C"))


def test_frames_are_divided_by_the_seed(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 20)

    def sets(**options):
        return read_frame_sets(DataOptions(train=path, n_validation=5, **options), LossOptions())

    one, again, other = sets(seed=1), sets(seed=1), sets(seed=2)
    assert [f.origin for f in one.validation] == [f.origin for f in again.validation]
    assert [f.origin for f in one.validation] != [f.origin for f in other.validation]
    assert not {f.origin for f in one.train} & {f.origin for f in one.validation}
    assert [f.origin for f in sets(split="last").validation] == [f"frame {i} of `toy.xyz`" for i in range(15, 20)]
    assert len(sets(n_train=7).train) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_validation": 20}, "only 20 frames"), ({"n_validation": 5, "n_train": 16}, "only 15 frames are left")],
)
def test_more_frames_than_there_are_cannot_be_asked_for(tmp_path, options, message):
    path = write_toy_set(tmp_path / "toy.xyz", 20)
    with pytest.raises(ValueError, match=message):
        read_frame_sets(DataOptions(train=path, **options), LossOptions())


def test_a_named_label_that_no_frame_has_is_refused(tmp_path):
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]])
    atoms.info["energy"] = -1.0
    ase.io.write(tmp_path / "frames.extxyz", [atoms])
    with pytest.raises(ValueError, match="no frame of `frames.extxyz` has `frcs`, which `forces_key` names"):
        read_frames(tmp_path / "frames.extxyz", LabelOptions(forces_key="frcs"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("numbers", np.array([1, 8, 2])),
        ("cell", np.eye(3)),
        ("positions", np.zeros((3, 3))),
        ("energy", -1.0),
        ("energy", None),
        ("forces", np.ones((3, 3))),
        ("forces", None),
        ("stress", np.ones((3, 3))),
    ],
)
def test_the_fingerprint_changes_with_each_part_of_a_frame(field, value):
    frames = toy_frames(4)
    changed = [dataclasses.replace(frames[0], **{field: value}), *frames[1:]]
    assert FrameSets(changed, [], []).fingerprint() != FrameSets(frames, [], []).fingerprint()


def test_the_fingerprint_knows_which_frames_are_trained_on():
    frames = toy_frames(4)
    assert FrameSets(frames, [], []).fingerprint() != FrameSets(frames[:2], frames[2:], []).fingerprint()


@pytest.mark.parametrize("broken", [0, 5, 13])
def test_an_absurd_energy_is_refused_by_its_frame(tmp_path, broken):
    all_atoms = [toy_atoms(frame) for frame in toy_frames(16)]
    all_atoms[broken].calc.results["energy"] = 1e7
    data = DataOptions(train=written(tmp_path / "a.xyz", all_atoms), n_validation=4)
    with pytest.raises(ValueError, match=rf"frame {broken} of `a.xyz`: the energy is 1e\+07 eV, .*`data.units`"):
        read_frame_sets(data, LossOptions())
    lenient = data.model_copy(update={"max_energy_deviation": 1e8})
    assert len(read_frame_sets(lenient, LossOptions()).train) == 12


def npz_arrays(**changed):
    """Two frames of three atoms."""
    arrays = {"z": np.array([8, 1, 1]), "R": np.ones((2, 3, 3)), "E": np.array([-100.0, -101.0])}
    return arrays | {"F": np.ones((2, 3, 3))} | changed


def different_molecules():
    """Water and a hydroxide ion, with forces that tell the atoms apart."""
    numbers = [np.array([8, 1, 1]), np.array([8, 1])]
    positions = [np.arange(9.0).reshape(3, 3) / 8, np.arange(6.0).reshape(2, 3) / 4]  # exact in 1e-5 Å
    return numbers, positions, [10 * xyz for xyz in positions]


def padded_arrays():
    numbers, positions, forces = different_molecules()
    arrays = {"Z": np.zeros((2, 3)), "R": np.full((2, 3, 3), 9.0), "F": np.full((2, 3, 3), 9.0), "E": [-76.5, -75.5]}
    for i, n in enumerate((3, 2)):
        arrays["Z"][i, :n], arrays["R"][i, :n], arrays["F"][i, :n] = numbers[i], positions[i], forces[i]
    return arrays


def joined_arrays():
    numbers, positions, forces = different_molecules()
    whole = np.round(1e5 * np.concatenate(positions)).astype(np.int32)
    arrays = {"Z": np.concatenate(numbers), "R_angstrom_1e5": whole, "F": np.concatenate(forces)}
    return arrays | {"n_atoms": [3, 2], "E": [-76.5, -75.5]}


@pytest.mark.parametrize("arrays", [padded_arrays(), joined_arrays()], ids=["padded", "joined"])
def test_an_npz_file_may_hold_molecules_of_different_sizes(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    frames = read_frames(tmp_path / "a.npz", LabelOptions(units="Hartree"))
    for i, (numbers, positions, forces) in enumerate(zip(*different_molecules(), strict=True)):
        np.testing.assert_array_equal(frames[i].numbers, numbers)
        np.testing.assert_array_equal(frames[i].positions, positions)
        np.testing.assert_allclose(frames[i].forces, forces * 27.2113862, rtol=1e-8)  # CODATA, to its digits here
    assert [frame.energy for frame in frames] == pytest.approx([-76.5 * 27.2113862, -75.5 * 27.2113862], rel=1e-8)


def test_an_npz_file_without_forces_has_frames_without_forces(tmp_path):
    arrays = joined_arrays()
    del arrays["F"]
    np.savez(tmp_path / "a.npz", **arrays)
    assert read_frames(tmp_path / "a.npz", LabelOptions(units="Hartree"))[1].forces is None
    data = DataOptions(train=tmp_path / "a.npz", n_validation=1, units="Hartree")
    with pytest.raises(
        ValueError, match="frame . of `a.npz` has no forces, but `loss.forces` is 1; .*`loss.forces = 0"
    ):
        read_frame_sets(data, LossOptions())
    with pytest.raises(ValueError, match="`a.npz` has no forces: expected an array named gradient"):
        read_frames(tmp_path / "a.npz", LabelOptions(units="Hartree", forces_key="gradient"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"z": np.array(["H", "O", "H"])},
            "`a.npz`: the array `z` is not made of numbers .*'H'.*; save it as one array",
        ),
        (
            {"R": np.array([np.ones((3, 3)), None], dtype=object)},
            "`a.npz`: the array `R` is not made of numbers .Object",
        ),
    ],
)
def test_npz_arrays_that_are_not_numbers_are_named(tmp_path, changed, message):
    np.savez(tmp_path / "a.npz", **npz_arrays(**changed))
    with pytest.raises(ValueError, match=message):
        read_frames(tmp_path / "a.npz", LabelOptions(units="eV"))


def test_one_atom_frames_alone_cannot_be_trained_on(tmp_path):
    atoms = [ase.Atoms(symbol) for symbol in "HO"]
    data = DataOptions(train=written(tmp_path / "a.xyz", atoms), n_validation=1, isolated_atoms="in_train")
    with pytest.raises(ValueError, match="takes out isolated atoms, but `data.train` has nothing else"):
        read_frame_sets(data, LossOptions())


def test_a_primitive_cell_of_a_crystal_is_no_isolated_atom(tmp_path):
    """Its one atom has neighbours, images of its own; an atom in a large box has none."""
    crystal = ase.build.bulk("Cu", "fcc", 3.6)
    boxed = ase.Atoms("Cu", cell=[9.0, 8.0, 10.0], pbc=True)
    frames = [crystal, crystal * (2, 1, 1), boxed]
    for atoms, energy in zip(frames, (-3.0, -6.0, 0.5), strict=True):
        forces = np.zeros((len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    data = DataOptions(train=written(tmp_path / "a.xyz", frames), n_validation=1, isolated_atoms="in_train")
    sets = read_frame_sets(data, LossOptions())
    assert [len(each) for each in (sets.train, sets.validation, sets.one_atom)] == [1, 1, 1]
    assert energy_shifts(sets.train, sets.one_atom, ["Cu"], data) == {"Cu": 0.5}
    report = inspect_frames(read_frames(tmp_path / "a.xyz"))
    assert report.elements["Cu"]["isolated_atom_ev"] == 0.5
    assert report.elements["Cu"]["energy_ev"] == pytest.approx(-3.0)
    assert np.isfinite(report.energy_residuals).tolist() == [True, True, False]
    assert compare(report.frames, [spread_of(frame) for frame in report.frames]).energy_atoms.tolist() == [1, 2]


def test_frames_that_are_trained_on_and_validated_are_warned_of(tmp_path):
    train, other = write_toy_set(tmp_path / "t.xyz", 6), write_toy_set(tmp_path / "o.xyz", 3, seed=3)
    read_frame_sets(DataOptions(train=train, validation=other), LossOptions())
    with pytest.warns(UserWarning, match="^6 of the 9 validation frames are trained on, too"):
        read_frame_sets(DataOptions(train=train, validation=(other, train)), LossOptions())


def spread_of(frame):
    nothing = torch.zeros(len(frame.numbers), 3, dtype=torch.float64)
    return Spread(0.0, nothing, torch.zeros(3, 3), 1.0, torch.ones(len(frame.numbers)))


def test_a_virial_needs_a_cell_with_a_volume(tmp_path):
    atoms = ase.Atoms("H", cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]], pbc=True, info={"virial": np.eye(3), "energy": 1.0})
    with pytest.raises(ValueError, match=r"frame 0.*: the cell has no volume, by which `virial` is divided"):
        read_frames(written(tmp_path / "a.xyz", [atoms]), LabelOptions(virial_key="virial"))


def test_atom_counts_that_do_not_add_up_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **joined_arrays() | {"n_atoms": [3, 3]})
    with pytest.raises(
        ValueError, match=r"the atomic numbers have shape \(5,\); expected \(6,\), for 2 frames of 6 atoms"
    ):
        read_frames(tmp_path / "a.npz", LabelOptions(units="Hartree"))


def test_an_npz_array_that_is_named_is_taken(tmp_path):
    np.savez(tmp_path / "a.npz", **npz_arrays(dft=np.array([-5.0, -6.0]), pull=np.zeros((2, 3, 3))))
    options = LabelOptions(units="eV", energy_key="dft", forces_key="pull")
    frame = read_frames(tmp_path / "a.npz", options)[1]
    assert frame.energy == -6.0
    assert not frame.forces.any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lattice": np.eye(3)}, "`a.npz` has `lattice`, but npz files are read as clusters"),
        ({"E": np.zeros(3)}, r"the energies have shape \(3,\); expected \(2,\), for 2 frames of 3 atoms"),
        ({"F": np.ones((4, 3, 3))}, r"the forces have shape \(4, 3, 3\); expected \(2, 3, 3\)"),
        ({"z": np.array([8, 1])}, r"the positions have shape \(2, 3, 3\); expected \(2, 2, 3\)"),
        ({"z": np.array([8, 1, 0])}, "frame 0 of `a.npz`: the atomic number of atom 2 is 0; expected 1 to 118"),
        ({"z": np.array([8, 119, 1])}, "the atomic number of atom 1 is 119"),
    ],
)
def test_a_wrong_npz_file_is_refused(tmp_path, changed, message):
    np.savez(tmp_path / "a.npz", **npz_arrays(**changed))
    with pytest.raises(ValueError, match=message):
        read_frames(tmp_path / "a.npz", LabelOptions(units="eV"))


def test_a_damaged_npz_file_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **npz_arrays())
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot read `.*a.npz`"):
        read_frames(tmp_path / "a.npz", LabelOptions(units="eV"))


def test_a_label_that_is_no_number_is_refused(tmp_path):
    path = write_toy_set(tmp_path / "a.xyz", 2)
    path.write_text(path.read_text().replace("energy=", "energy=about", 1))
    with pytest.raises(ValueError, match="frame 0 of `a.xyz`: `energy` is 'about-.*'; expected numbers only"):
        read_frames(path)


def test_npz_of_many_molecules_is_cut_at_their_sizes(tmp_path):
    frames = toy_frames(5)
    np.savez(
        tmp_path / "a.npz",
        n_atoms=[len(frame.numbers) for frame in frames],
        numbers=np.concatenate([frame.numbers for frame in frames]),
        positions=np.concatenate([frame.positions for frame in frames]),
        energies=[frame.energy for frame in frames],
        forces=np.concatenate([frame.forces for frame in frames]),
    )
    for read, frame in zip(read_frames(tmp_path / "a.npz", LabelOptions(units="eV")), frames, strict=True):
        np.testing.assert_array_equal(read.numbers, frame.numbers)
        np.testing.assert_array_equal(read.positions, frame.positions)
        np.testing.assert_array_equal(read.forces, frame.forces)
        assert read.energy == frame.energy


def test_an_npz_file_may_hold_one_frame(tmp_path):
    frame = toy_frames(1)[0]
    np.savez(tmp_path / "a.npz", z=frame.numbers, R=frame.positions, E=frame.energy, F=frame.forces)
    (read,) = read_frames(tmp_path / "a.npz", LabelOptions(units="eV"))
    np.testing.assert_array_equal(read.positions, frame.positions)
    np.testing.assert_array_equal(read.forces, frame.forces)
    assert read.energy == frame.energy


def test_a_folder_is_no_file_of_frames(tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(ValueError, match="`.*store` is a folder; give the files of its frames"):
        read_frames(tmp_path / "store")


def test_npz_of_many_molecules_must_add_up(tmp_path):
    np.savez(tmp_path / "a.npz", n_atoms=[2, 2], z=[1, 1, 1], R=np.zeros((3, 3)), E=[0.0, 0.0])
    with pytest.raises(
        ValueError, match=r"the atomic numbers have shape \(3,\); expected \(4,\), for 2 frames of 4 atoms in all"
    ):
        read_frames(tmp_path / "a.npz", LabelOptions(units="eV"))


def test_npz_may_have_energies_only_unless_forces_are_named(tmp_path):
    arrays = npz_arrays()
    del arrays["F"]
    np.savez(tmp_path / "a.npz", **arrays)
    assert read_frames(tmp_path / "a.npz", LabelOptions(units="eV"))[0].forces is None
    with pytest.raises(ValueError, match="no forces: expected an array named pull, found z, R, E"):
        read_frames(tmp_path / "a.npz", LabelOptions(units="eV", forces_key="pull"))


def test_an_npz_label_that_is_named_has_no_other_in_its_place(tmp_path):
    np.savez(tmp_path / "a.npz", **npz_arrays(E_CCSD=np.array([-5.0, -6.0])))
    with pytest.raises(ValueError, match="no energies: expected an array named E_ccsd, found z, R, E, F, E_CCSD"):
        read_frames(tmp_path / "a.npz", LabelOptions(units="eV", energy_key="E_ccsd"))


def test_hartree_becomes_ev(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 2)
    frame, raw = read_frames(path, LabelOptions(units="Hartree"))[0], read_frames(path)[0]
    assert frame.energy / raw.energy == pytest.approx(27.211386, rel=1e-7)
    np.testing.assert_allclose(frame.forces, raw.forces * 27.211386, rtol=1e-7)


def test_words_and_numbers_of_the_file_stay_with_the_frame(tmp_path):
    atoms = toy_atoms(toy_frames()[0])
    atoms.info |= {"config_type": "bulk", "temperature": 300.0, "step": 7, "axis": np.ones(3), "REF_energy": -1.0}
    frame = read_frames(written(tmp_path / "a.xyz", atoms), LabelOptions(energy_key="REF_energy"))[0]
    assert frame.info == {"config_type": "bulk", "temperature": 300.0, "step": 7}
    assert frame.formula == "H2O1"
