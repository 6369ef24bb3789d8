"""Frames chosen for labelling: which, from which files, and what is written about them."""

import csv
import gzip
import json

import ase.io
import mdtraj
import numpy as np
import pytest
import torch
from conftest import random_atoms, small_model
from ensembles import last_layer_ensemble
from training_toys import toy_atoms, toy_frames

from openmm_allegro.cli import main
from openmm_allegro.ensemble import Factors
from openmm_allegro.ensemble_file import save_ensemble
from openmm_allegro.last_layer import last_features
from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.potential import usual_block_edges
from openmm_allegro.selection import COLUMNS, Row, chosen_frames, farthest_points, frame_features, select_frames
from openmm_allegro.training.calibration import spreads_of_frames

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:mdtraj")


@pytest.fixture(scope="module")
def ensemble():
    return last_layer_ensemble(factors=Factors(1.0, 1.0))


@pytest.fixture
def toy_file(tmp_path):
    """Thirty frames of three to five atoms."""
    frames = toy_frames(30)
    ase.io.write(tmp_path / "t.extxyz", [toy_atoms(frame) for frame in frames], format="extxyz")
    return tmp_path / "t.extxyz", frames


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_each_point_is_the_farthest_from_those_before():
    places = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [0.0, 3.0], [5.0, 0.1]])
    assert farthest_points(places, 4) == [0, 4, 3, 1]  # 5.001 and 3 away; then 0.1 twice, the first of them


def test_the_most_uncertain_frame_is_taken_first_and_like_ones_are_passed_over():
    rows = [Row(1.0, 1.0, largest, 0) for largest in (10.0, 50.0, 49.0, 48.0, 3000.0)]
    features = np.array([[0.0], [1.0], [1.01], [0.2], [9.0]])
    assert chosen_frames(rows, features, 2, max_spread=2000.0) == [1, 0]  # 2 is nearly 1; 4 is beyond
    assert chosen_frames(rows, features, 9, max_spread=2000.0) == [1, 0, 3, 2]
    assert chosen_frames(rows, features, 2, max_spread=5.0) == []


def test_frames_that_are_alike_in_all_can_be_chosen():
    assert chosen_frames([Row(1.0, 1.0, 5.0, 0)] * 3, np.ones((3, 2)), 2, 10.0) == [0, 1]


def test_the_spreads_written_are_those_of_the_members(tmp_path, toy_file, ensemble):
    path, frames = toy_file
    answer = select_frames(path, None, ensemble, tmp_path / "out.extxyz", count=3, max_spread=1e6)
    rows, spreads = rows_of(tmp_path / "out.csv"), spreads_of_frames(ensemble, frames)
    assert list(rows[0]) == list(COLUMNS)
    for row, frame, spread in zip(rows, frames, spreads, strict=True):
        forces = 1000 * spread.force_spread.numpy()
        assert float(row["largest_force_spread_mev_per_angstrom"]) == pytest.approx(forces.max(), rel=1e-5)
        assert float(row["mean_force_spread_mev_per_angstrom"]) == pytest.approx(forces.mean(), rel=1e-5)
        assert int(row["atom"]) == forces.argmax()
        per_atom = 1000 * spread.energy_spread / len(frame.numbers)
        assert float(row["energy_spread_mev_per_atom"]) == pytest.approx(per_atom, rel=1e-5)
    chosen = [int(row["frame"]) for row in rows if row["selected"] == "1"]
    written = ase.io.read(tmp_path / "out.extxyz", ":")
    assert [image.info["frame"] for image in written] == chosen
    assert (answer["frames"], answer["selected"], answer["skipped"]) == (30, 3, 0)
    largest = [float(row["largest_force_spread_mev_per_angstrom"]) for row in rows]
    assert int(np.argmax(largest)) in chosen
    for image in written:
        frame, spread = frames[image.info["frame"]], spreads[image.info["frame"]]
        np.testing.assert_allclose(image.positions, frame.positions, atol=1e-7)
        np.testing.assert_allclose(image.arrays["force_spread"], spread.force_spread, atol=1e-7)
        assert image.calc is None  # the labels of another method do not come along


def test_features_of_a_large_frame_are_those_of_its_atoms_and_take_the_memory_of_a_block():
    model = small_model()
    positions, cell, types = random_atoms(300, 12.0)
    positions[7, 2] += 500.0  # an atom alone
    cell = torch.zeros_like(cell)
    matrix = neighbor_matrix(positions, cell, 4.0)
    assert matrix.neighbours.numel() > 2 * usual_block_edges(False)
    read = last_features(model, matrix.edge_vectors, types, types[matrix.neighbours]).detach()
    expected = torch.stack([read[types == each].sum(0) for each in (0, 1)]).flatten() / 300
    seen = []
    with model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[:2].numel())):
        features = frame_features(model, positions, cell, types, torch.device("cpu"))
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-10, atol=1e-12)  # the same sums in another order
    assert max(seen) <= usual_block_edges(False)


def test_frames_beyond_the_bound_are_skipped(tmp_path, toy_file, ensemble):
    path, frames = toy_file
    largest = [1000 * float(spread.force_spread.max()) for spread in spreads_of_frames(ensemble, frames)]
    bound = float(np.median(largest))
    answer = select_frames(path, None, ensemble, tmp_path / "out.extxyz", count=40, max_spread=bound)
    assert answer["selected"] == sum(value <= bound for value in largest)
    assert answer["skipped"] == sum(value > bound for value in largest)
    with pytest.raises(ValueError, match="all 30 frames of .* have forces with a spread above 0.001 meV/Å"):
        select_frames(path, None, ensemble, tmp_path / "none.extxyz", max_spread=1e-3)


@pytest.mark.parametrize("suffix", ["dcd", "xtc"])
def test_a_trajectory_gives_the_frames_that_its_extended_xyz_gives(tmp_path, ensemble, suffix):
    random = np.random.default_rng(4)
    grid = 1.4 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]], float)
    positions = grid + random.normal(0, 0.15, (8, 6, 3))  # [Å]
    symbols, cell = ["O", "H", "H"] * 2, np.diag([6.0, 6.5, 7.0])
    images = [ase.Atoms(symbols, each, cell=cell, pbc=True) for each in positions]
    ase.io.write(tmp_path / "t.extxyz", images)
    ase.io.write(tmp_path / "start.pdb", images[0])
    trajectory = mdtraj.Trajectory(positions / 10, mdtraj.load_topology(str(tmp_path / "start.pdb")))
    trajectory.unitcell_vectors = np.repeat(cell[None] / 10, 8, axis=0)
    trajectory.save(str(tmp_path / f"t.{suffix}"))
    save_ensemble(ensemble, tmp_path / "e.safetensors")
    tables = []
    for name, topology in ((f"t.{suffix}", tmp_path / "start.pdb"), ("t.extxyz", None)):
        output = tmp_path / f"{name}.out.extxyz"
        select_frames(tmp_path / name, topology, tmp_path / "e.safetensors", output, count=2, max_spread=1e6)
        tables.append(rows_of(output.with_suffix(".csv")))
    for ours, theirs in zip(*tables, strict=True):
        for name in COLUMNS[1:4]:  # XTC rounds positions to 0.01 Å, of bonds of 1.4 Å
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4 if suffix == "dcd" else 0.1)


def test_an_ensemble_that_is_not_calibrated_is_warned_of(tmp_path, toy_file):
    with pytest.warns(UserWarning, match="not calibrated.*`max_spread` is of another scale"):
        select_frames(toy_file[0], None, last_layer_ensemble(), tmp_path / "out.extxyz", count=2, max_spread=1e9)


def test_the_command_line_selects(tmp_path, toy_file, ensemble, capfd):
    path, _ = toy_file
    save_ensemble(ensemble, tmp_path / "e.safetensors")
    words = ["select", path, "--model", tmp_path / "e.safetensors", "--count", 4, "--max-spread", 1e6]
    capfd.readouterr()
    assert main([*map(str, words), "--output", str(tmp_path / "out.extxyz"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["selected"] == 4


def test_files_that_do_not_fit_are_refused(tmp_path, toy_file, ensemble):
    path, _ = toy_file
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere.dcd"):
        select_frames(tmp_path / "nowhere.dcd", None, ensemble, tmp_path / "out.extxyz")
    (tmp_path / "t.dcd").write_bytes(b"")
    with pytest.raises(ValueError, match="does not say which atoms it holds; give the structure file"):
        select_frames(tmp_path / "t.dcd", None, ensemble, tmp_path / "out.extxyz")
    (tmp_path / "ions.gro").write_text(
        "\n".join(["ion", "1", f"    1NA      NA    1{0:8.3f}{0:8.3f}{0:8.3f}", "1 1 1"])
    )
    with pytest.raises(ValueError, match=r"names no elements, and mdtraj takes atom 0 \(NA1-NA\) for N"):
        select_frames(tmp_path / "t.dcd", tmp_path / "ions.gro", ensemble, tmp_path / "out.extxyz")
    ase.io.write(tmp_path / "na.extxyz", ase.Atoms("ONa", [[0, 0, 0], [2, 0, 0]]))
    with pytest.raises(ValueError, match="frame 0: atom 1 is Na, but this model knows only H, O"):
        select_frames(tmp_path / "na.extxyz", None, ensemble, tmp_path / "out.extxyz")
    for name, opener in (("joined.xyz", open), ("joined.extxyz.gz", gzip.open)):
        with opener(tmp_path / name, "wt") as file:
            file.write("1\n\nH 0 0 0\n\n1\n\nH 0 0 0\n")  # ASE stops at the empty line
        with pytest.raises(ValueError, match=f"cannot read `.*{name}` with ASE .an empty line stands between frames"):
            select_frames(tmp_path / name, None, ensemble, tmp_path / "out.extxyz")
    np.savez(tmp_path / "q.npz", z=[1, 1])
    with pytest.raises(ValueError, match=r"cannot read `.*q.npz` with ASE .*; give extended XYZ, or a trajectory and"):
        select_frames(tmp_path / "q.npz", None, ensemble, tmp_path / "out.extxyz")
    ase.io.write(tmp_path / "slab.extxyz", ase.Atoms("HH", [[0, 0, 0], [1, 0, 0]], cell=[4, 4, 9], pbc=[1, 1, 0]))
    with pytest.raises(ValueError, match=r"frame 0 is periodic along some directions only \(pbc \[True, True, False\]"):
        select_frames(tmp_path / "slab.extxyz", None, ensemble, tmp_path / "out.extxyz")
    for options, sentence in (({"count": 0}, "`count` is 0"), ({"max_spread": 0.0}, "`max_spread` is 0.0 meV/Å")):
        with pytest.raises(ValueError, match=sentence):
            select_frames(path, None, ensemble, tmp_path / "out.extxyz", **options)


@pytest.mark.parametrize("output", ["t.extxyz", "link.extxyz", "frames.xyz"])
def test_frames_are_not_written_over_what_is_read(tmp_path, toy_file, ensemble, output):
    path, _ = toy_file
    (tmp_path / "link.extxyz").symlink_to(path)
    (tmp_path / "frames.csv").symlink_to(path)  # where the table beside frames.xyz would go
    before = path.read_bytes()
    with pytest.raises(ValueError, match="would be written, but it is read, too, and would be lost; name another"):
        select_frames(path, None, ensemble, tmp_path / output)
    assert path.read_bytes() == before


def test_frames_and_table_do_not_share_a_file(tmp_path, toy_file, ensemble):
    for name in ("x.csv", "x.xz", "x.json"):
        with pytest.raises(ValueError, match=rf"`output` is `.*{name}`, but extended XYZ is written; name it `x.ext"):
            select_frames(toy_file[0], None, ensemble, tmp_path / name)
