"""A store holds what the files hold, gives the same training, and is refused when it is not what it should be."""

import bz2
import dataclasses
import gzip
import json
import lzma
import mmap

import ase.io
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_toys import toy_atoms, toy_frames, write_toy_run, write_toy_set

from openmm_allegro.cli import main
from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.config import LabelOptions, LossOptions, load_config
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.prepare import prepare
from openmm_allegro.training.run import train
from openmm_allegro.training.splits import FrameSets
from openmm_allegro.training.store import Store, StoredFrames
from openmm_allegro.training.stream import stream_frames

training = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")


def write_mixed_set(path):
    """Clusters and periodic frames, one cluster without forces, one frame whose atoms left the cell."""
    frames = toy_frames(6) + toy_frames(6, seed=1, periodic=True)
    frames[2] = dataclasses.replace(frames[2], forces=None)
    strayed = frames[8].positions + [[4.1 * 5, 0, 0]] * (np.arange(len(frames[8].numbers)) == 1)[:, None]
    frames[8] = dataclasses.replace(frames[8], positions=strayed)
    ase.io.write(path, [toy_atoms(frame) for frame in frames], format="extxyz")
    return path


@pytest.fixture
def store(tmp_path):
    path = write_mixed_set(tmp_path / "toy.xyz")
    prepare([path], tmp_path / "store", 4.0, progress=False)
    return tmp_path / "store"


def test_frames_come_back_as_the_file_has_them(store):
    expected = read_frames(store.with_name("toy.xyz"))
    frames = StoredFrames(Store(store))
    assert len(frames) == len(expected) == 12
    for frame, other in zip(frames, expected, strict=True):
        for field in dataclasses.fields(frame):
            one, two = getattr(frame, field.name), getattr(other, field.name)
            assert (one is None) == (two is None), field.name
            assert one is None or np.array_equal(one, two), field.name
    assert FrameSets(frames, frames[:2], []).fingerprint() == FrameSets(expected, expected[:2], []).fingerprint()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_of_a_store_are_those_of_the_file(store, dtype):
    stored = FrameDataset(StoredFrames(Store(store)), ("H", "O"), 4.0, dtype)
    read = FrameDataset(read_frames(store.with_name("toy.xyz")), ("H", "O"), 4.0, dtype)
    assert (stored.n_atoms, stored.n_pairs) == (read.n_atoms, read.n_pairs)
    assert stored.most_neighbours == read.most_neighbours
    for one, two in zip(stored.batch([8, 2, 5]), read.batch([8, 2, 5]), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


def test_vectors_of_a_batch_are_those_of_the_neighbour_list(store):
    dataset = FrameDataset(StoredFrames(Store(store)), ("H", "O"), 4.0, torch.float64)
    for i, frame in enumerate(read_frames(store.with_name("toy.xyz"))):
        cell, positions = torch.tensor(frame.cell), torch.tensor(frame.positions)
        neighbours, vectors, _ = neighbor_matrix(positions, cell, 4.0)
        batch = dataset.batch([i])
        assert torch.equal(batch.neighbours, neighbours)
        # rounding of positions up to 20 Å
        torch.testing.assert_close(batch.edge_vectors, vectors, rtol=0, atol=1e-13)


def test_only_what_is_asked_for_is_read(store):
    frames = StoredFrames(Store(store))
    for array in (frames[3].positions, frames[3].forces, frames[9].cell):
        while isinstance(array.base, np.ndarray):
            array = array.base
        assert isinstance(array.base, mmap.mmap)  # a piece of the file, not a copy
    dataset = FrameDataset(frames, ("H", "O"), 4.0)
    assert dataset.items[3] is not dataset.items[3]  # made anew, not kept


def test_statistics_of_a_store_are_those_of_its_frames(store):
    figures = json.loads((store / "description.json").read_text())["statistics"]
    frames = read_frames(store.with_name("toy.xyz"))
    assert (figures["frames"], figures["frames_with_forces"]) == (12, 11)
    forces = np.concatenate([f.forces[f.numbers == 1].ravel() for f in frames if f.forces is not None])
    assert figures["force_rms_ev_per_angstrom"]["H"] == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-14)
    images = ase.io.read(store.with_name("toy.xyz"), index=":")
    n_pairs = 0
    for atoms in images:
        cells = np.array(np.meshgrid(*[range(-6, 7) if atoms.pbc.all() else [0]] * 3)).reshape(3, -1).T
        vectors = atoms.positions[None] - atoms.positions[:, None]
        r = np.linalg.norm(vectors[:, :, None] + cells @ atoms.cell.array, axis=3)
        n_pairs += int(((r < 4.0) & (r > 0)).sum())
    assert figures["neighbours_of_an_atom"] == pytest.approx(n_pairs / sum(map(len, images)), rel=1e-14)
    assert figures["atoms_by_element"] == {
        symbol: sum(frame.symbols.count(symbol) for frame in frames) for symbol in ("H", "O")
    }


@training
def test_training_from_a_store_gives_the_same_weights(tmp_path):
    path = write_toy_run(tmp_path, 'max_epochs = 3\nprecision = "float64"')
    text = path.read_text().replace("isolated_atoms = { H = -13.0, O = -2041.0 }", "n_train = 9")
    path.write_text(text)
    from_file = train(load_config(path), tmp_path / "from-file", progress=False, pictures=False)
    prepare([tmp_path / "toy.xyz"], tmp_path / "store", 4.0, progress=False)
    path.write_text(text.replace('"toy.xyz"', '"store"'))
    from_store = train(load_config(path), tmp_path / "from-store", progress=False, pictures=False)
    for name, weights in load_file(from_file.last_model).items():
        assert torch.equal(weights, load_file(from_store.last_model)[name]), name
    assert from_file.validation == from_store.validation


@training
def test_names_of_labels_are_for_the_files_beside_a_store(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    for seed, name in enumerate(("toy", "val")):
        source = write_toy_set(tmp_path / f"{name}.xyz", 16, seed=seed)
        source.write_text(source.read_text().replace("energy=", "dft_energy=").replace(":forces:", ":dft_forces:"))
    keys = 'energy_key = "dft_energy"\nforces_key = "dft_forces"'
    prepare(
        [tmp_path / "toy.xyz"], tmp_path / "store", 4.0, LabelOptions(energy_key="dft_energy", forces_key="dft_forces")
    )
    text = path.read_text().replace('"toy.xyz"', '"store"')
    path.write_text(text.replace("n_validation = 4", f'validation = "val.xyz"\n{keys}'))
    assert train(load_config(path), tmp_path / "out", progress=False, pictures=False).epochs == 1
    path.write_text(text.replace("n_validation = 4", f"n_validation = 4\n{keys}"))
    with pytest.raises(ValueError, match="`data.energy_key` has no effect on the store"):
        train(load_config(path), tmp_path / "again", progress=False, pictures=False)


@training
def test_the_command_prepares_what_train_reads(tmp_path, capsys):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    files = [str(write_toy_set(tmp_path / name, 8, seed)) for seed, name in enumerate(["a.xyz", "b.xyz"])]
    store = tmp_path / "store"
    assert main(["prepare", *files, "--output", str(store), "--r-max", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["statistics"]["frames"] == 16
    assert StoredFrames(Store(store))[9].origin == "frame 1 of `b.xyz`"
    path.write_text(path.read_text().replace('"toy.xyz"', '"store"'))
    assert main(["train", str(path), "--output", str(tmp_path / "out"), "--no-pictures"]) == 0


@pytest.mark.parametrize(("suffix", "opener"), [("", open), (".xz", lzma.open), (".gz", gzip.open), (".bz2", bz2.open)])
def test_a_stream_gives_the_frames_of_the_file(tmp_path, suffix, opener):
    text = write_toy_set(tmp_path / "toy.xyz", 120).read_text()
    path = tmp_path / f"other.xyz{suffix}"
    with opener(path, "wt") as file:
        file.write(text)
    expected = read_frames(tmp_path / "toy.xyz")
    read = []
    frames = list(stream_frames(path, LabelOptions(), read.append))
    assert len(frames) == 120
    for frame, other in zip(frames, expected, strict=True):
        assert np.array_equal(frame.positions, other.positions)
        assert np.array_equal(frame.forces, other.forces)
        assert frame.energy == other.energy
    assert len(read) == 3  # pieces of 50 frames
    assert read[-1] == path.stat().st_size


def test_a_stream_hands_out_frames_before_it_has_read_the_file(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 70)
    path.write_text(path.read_text() + "5\ncut off\nH 0 0 0\n")
    frames = stream_frames(path, LabelOptions(), lambda read: None)
    assert [next(frames).origin for _ in range(50)][-1] == "frame 49 of `toy.xyz`"
    with pytest.raises(ValueError, match="cannot read `.*toy.xyz`: the file ends within a frame of 5 atoms"):
        list(frames)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n4\n", "\nfour\n", "expected the number of atoms of a frame, found 'four'"),
        ("\n4\n", "\n\n4\n", "an empty line stands between frames"),
        (" energy=", " units=kcal/mol energy=", "says `units=kcal/mol`, but its frames are to be read in eV"),
    ],
)
def test_a_broken_stream_is_refused_and_leaves_nothing(tmp_path, old, new, message):
    path = write_toy_set(tmp_path / "toy.xyz")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        prepare([path], tmp_path / "store", 4.0, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["toy.xyz"]


def test_a_folder_named_like_an_unfinished_store_stays(tmp_path):
    (tmp_path / "store.tmp").mkdir()
    (tmp_path / "store.tmp" / "mine.txt").write_text("kept")
    prepare([write_toy_set(tmp_path / "toy.xyz", 2)], tmp_path / "store", 4.0, progress=False)
    assert (tmp_path / "store.tmp" / "mine.txt").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"store", "store.tmp", "toy.xyz"}


def test_units_that_change_within_a_stream_are_refused_by_the_frame(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 120)
    frames = ase.io.read(path, index=":")
    for i, atoms in enumerate(frames):
        atoms.info["units"] = "eV" if i < 77 else "kcal/mol"
    ase.io.write(path, frames, format="extxyz")
    with pytest.raises(ValueError, match="`units` is eV in frame 0 but kcal/mol in frame 77"):
        list(stream_frames(path, LabelOptions(), lambda read: None))


def test_a_named_label_that_no_frame_has_is_refused(tmp_path):
    path = write_toy_set(tmp_path / "toy.xyz", 60)
    with pytest.raises(ValueError, match="no frame of `toy.xyz` has `dft_energy`, which `energy_key` names"):
        prepare([path], tmp_path / "store", 4.0, LabelOptions(energy_key="dft_energy"), progress=False)


def test_an_existing_folder_is_kept(store):
    with pytest.raises(ValueError, match="`.*store` exists already and is kept as it is"):
        prepare([store.with_name("toy.xyz")], store, 4.0, progress=False)


def shorten(folder):
    path = folder / "neighbours.npy"
    path.write_bytes(path.read_bytes()[:-10])


def change_description(**entries):
    def change(folder):
        path = folder / "description.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten, "neighbours.npy` is truncated or damaged: .*; prepare the data again"),
        (lambda folder: (folder / "forces.npy").unlink(), "is not complete: `forces.npy` is missing"),
        (
            lambda folder: np.save(folder / "forces.npy", np.zeros((3, 3))),
            r"holds <f8 \(3, 3\); expected <f8 \(\d+, 3\)",
        ),
        (lambda folder: np.save(folder / "n_atoms.npy", np.ones(12, int)), "its frames do not add up to its arrays"),
        (lambda folder: (folder / "description.json").unlink(), "is a folder without `description.json`, no store"),
        (lambda folder: (folder / "description.json").write_text("[1]"), "does not describe a store of frames"),
        (change_description(format="zarr"), "does not describe a store of frames of this version: `format`"),
        (change_description(format_version=2), "has format 2, but this version reads up to 1; install a newer"),
        (change_description(units={"length": "bohr"}), "states the units {'length': 'bohr'}"),
    ],
)
def test_a_store_that_is_not_whole_is_refused(store, damage, message):
    damage(store)
    with pytest.raises(ValueError, match=message):
        Store(store)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("r_max = 4.0", "r_max = 5.0", "has neighbours within 4 Å, but the model's `r_max` is 5 Å; prepare"),
        ('"store"', '["store", "toy.xyz"]', "is a store of frames and stands beside 1 other data"),
        ("n_validation = 4", 'n_validation = 4\nunits = "eV"', "`data.units` has no effect on the store"),
        ("[model]", '[model]\ntype_names = ["H"]', "frame 0 of `toy.xyz`: atom 1 is O, but this model knows only H"),
        ("[run]", "[loss]\nstress = 1.0\nforces = 0.0\n[run]", "frame 7 of `toy.xyz` has no stress"),
        ("n_validation = 4", "n_validation = 4", "frame 2 of `toy.xyz` has no forces, but `loss.forces` is 1"),
    ],
)
def test_a_run_that_does_not_fit_its_store_is_refused(tmp_path, old, new, message):
    path = write_toy_run(tmp_path)
    frames = ase.io.read(write_mixed_set(tmp_path / "toy.xyz"), index=":")
    frames[7].calc.results.pop("stress")
    if old != new:
        frames[2] = frames[3]
    ase.io.write(tmp_path / "toy.xyz", frames, format="extxyz")
    prepare([tmp_path / "toy.xyz"], tmp_path / "store", 4.0, progress=False)
    path.write_text(path.read_text().replace('"toy.xyz"', '"store"').replace(old, new))
    with pytest.raises(ValueError, match=message):
        train(load_config(path), tmp_path / "out", progress=False)


def test_labels_are_asked_for_in_the_chosen_frames_only(store):
    frames = StoredFrames(Store(store))
    frames.take([0, 1, 3]).require_labels(LossOptions())
    for loss in (LossOptions(), LossOptions(forces=0, forces_end=1)):
        with pytest.raises(ValueError, match="frame 2 of `toy.xyz` has no forces"):
            frames.require_labels(loss)
