"""Trajectories and data sets as frames: what is read, in which parts, and what is refused."""

import ctypes
import lzma

import ase
import ase.io
import mdtraj
import numpy as np
import pytest
from matplotlib.figure import Figure
from trajectories import atoms

from openmm_allegro.analysis import trajectory_file
from openmm_allegro.analysis.density import mass_density
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.neighbours import pairs_within
from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.rmsd import rmsd
from openmm_allegro.analysis.selection import atoms_of
from openmm_allegro.analysis.shape import radius_of_gyration
from openmm_allegro.analysis.trajectory_file import open_trajectory

CELL = np.array([[1.6, 0.0, 0.0], [0.2, 1.5, 0.0], [-0.3, 0.1, 1.7]])  # nm


@pytest.fixture
def files(tmp_path):
    xyz = np.random.default_rng(0).uniform(0, 2, (6, 3, 3))
    trajectory = atoms("OHH", xyz, times=2.0 + 0.5 * np.arange(6), cell=2 * np.eye(3))
    trajectory.save(str(tmp_path / "run.xtc"))
    trajectory.save(str(tmp_path / "run.dcd"))
    for name in ("all.pdb", "run.lammpstrj", "run.gro"):
        trajectory.save(str(tmp_path / name))
    trajectory[0].save(str(tmp_path / "run.pdb"))
    trajectory[0].atom_slice([0, 1]).save(str(tmp_path / "other.pdb"))
    return tmp_path


def test_times_come_from_an_xtc_file(files):
    frames = open_trajectory(files / "run.xtc", files / "run.pdb", start_ps=3.0)
    assert frames.times_ps == pytest.approx([3.0, 3.5, 4.0, 4.5])
    assert frames.spacing_ps() == pytest.approx(0.5)


def test_the_frame_at_the_start_counts_whatever_the_last_digit_of_its_time(files):
    run = atoms("OHH", np.zeros((30, 3, 3)), times=0.1 * np.arange(30), cell=2 * np.eye(3))
    run.save(str(files / "fine.xtc"))  # 0.7 in single precision is less than 0.7
    for k in range(30):
        assert open_trajectory(files / "fine.xtc", files / "run.pdb", start_ps=k / 10).n_frames == 30 - k


def test_times_of_a_dcd_file_are_given(files):
    frames = open_trajectory(files / "run.dcd", files / "run.pdb", timestep_ps=0.25, start_ps=1.0)
    assert frames.times_ps == pytest.approx([1.0, 1.25])
    assert frames.cells_for("a test") == pytest.approx(np.broadcast_to(2 * np.eye(3), (2, 3, 3)), abs=1e-6)


def test_without_times_there_is_structure_but_no_kinetics(files):
    frames = open_trajectory(files / "run.dcd", files / "run.pdb")
    assert frames.n_frames == 6
    with pytest.raises(ValueError, match="have no times; give the time between those of the file, `timestep_ps`"):
        frames.spacing_ps()
    with pytest.raises(ValueError, match=r"run.dcd` holds no times, so that nothing is known to be before 1.0 ps"):
        open_trajectory(files / "run.dcd", files / "run.pdb", start_ps=1.0)


def test_times_given_against_those_of_the_file_are_warned_of(files):
    with pytest.warns(
        UserWarning, match="`run.xtc` are 0.5 ps apart by its own times, and `timestep_ps` of 0.05 takes"
    ):
        frames = open_trajectory(files / "run.xtc", files / "run.pdb", timestep_ps=0.05)
    assert frames.spacing_ps() == pytest.approx(0.05)
    assert open_trajectory(files / "run.xtc", files / "run.pdb", timestep_ps=0.5).spacing_ps() == 0.5
    late = mdtraj.load(str(files / "run.xtc"), top=str(files / "run.pdb"))
    late.time = 5e5 + 0.01 * np.arange(6)  # 0 or 1/32 ps apart in single precision
    late.save(str(files / "run.xtc"))
    assert open_trajectory(files / "run.xtc", files / "run.pdb", timestep_ps=0.01).spacing_ps() == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["all.pdb", "run.lammpstrj", "untimed.gro"])
def test_numbers_of_frames_are_no_times(files, name):
    untimed = [line.split(", t=")[0] for line in (files / "run.gro").read_text().splitlines()]
    (files / "untimed.gro").write_text("\n".join(untimed) + "\n")
    frames = open_trajectory(files / name, files / "run.pdb")
    assert len(frames.times_ps) == 6
    assert np.isnan(frames.times_ps).all()
    assert open_trajectory(files / name, files / "run.pdb", timestep_ps=0.5).spacing_ps() == 0.5


def test_times_of_a_gro_file_are_those_of_its_titles(files):
    assert open_trajectory(files / "run.gro", files / "run.pdb").times_ps == pytest.approx(2.0 + 0.5 * np.arange(6))


def test_without_times_a_course_is_drawn_over_the_frames(files):
    axes = Figure().subplots()
    result = mass_density(open_trajectory(files / "run.dcd", files / "run.pdb"))
    result.draw(axes)
    assert axes.get_xlabel() == "frame"
    assert axes.lines[0].get_xdata() == pytest.approx(np.arange(6))
    assert axes.lines[0].get_ydata() == pytest.approx(result.density_g_per_cm3)


@pytest.mark.parametrize("frames_at_once", [1, 2, 4, 100])
@pytest.mark.parametrize("name", ["run.xtc", "run.dcd"])
def test_parts_of_a_file_are_the_frames_of_the_whole(files, monkeypatch, name, frames_at_once):
    import mdtraj

    whole = mdtraj.load(str(files / name), top=str(files / "run.pdb"))[1::2]
    monkeypatch.setattr(trajectory_file, "BYTES_OF_A_CHUNK", 12 * 3 * frames_at_once)
    frames = open_trajectory(files / name, files / "run.pdb", timestep_ps=0.5, start_ps=0.5, stride=2)
    assert max(part.n_frames for part in frames.chunks()) <= frames_at_once
    for _ in range(2):  # as often as they are asked for
        assert np.array(list(frames.positions_nm())) == pytest.approx(whole.xyz, abs=0)
    some = np.array([0, 2])
    assert np.array(list(frames.positions_nm(some))) == pytest.approx(whole.xyz[:, some], abs=0)
    assert np.concatenate([part.time for part in frames.chunks()]) == pytest.approx(frames.times_ps)


@pytest.mark.parametrize("frames_at_once", [2, 4, 100])
@pytest.mark.parametrize("name", ["run.xtc", "run.dcd"])
def test_frames_that_a_run_adds_after_the_file_was_opened_are_left_out(files, monkeypatch, name, frames_at_once):
    monkeypatch.setattr(trajectory_file, "BYTES_OF_A_CHUNK", 36 * frames_at_once)
    frames = open_trajectory(files / name, files / "run.pdb")
    before = np.concatenate([part.xyz for part in frames.chunks(None)])
    longer = mdtraj.load(str(files / name), top=str(files / "run.pdb"))
    mdtraj.join([longer, longer]).save(str(files / name))
    np.testing.assert_array_equal(np.concatenate([part.xyz for part in frames.chunks(None)]), before)


def test_reading_prints_nothing_to_standard_output(files, capfd):
    list(open_trajectory(files / "run.dcd", files / "run.pdb").chunks())
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["run.dcd", "run.xtc", "all.pdb", "run.gro"])
def test_another_number_of_atoms_is_refused(files, name):
    with pytest.raises(ValueError, match=f"{name}` does not hold the 2 atoms of the topology"):
        open_trajectory(files / name, files / "other.pdb", timestep_ps=1.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("run.xtc", {"start_ps": 9.0}, "no frame at or after 9 ps; its 6 frames end at 4.5 ps"),
        ("run.dcd", {"timestep_ps": 0.0}, "`timestep_ps` is 0.0; the time between frames must be positive"),
        ("run.dcd", {"stride": 0}, "`stride` is 0; it must be 1 or more"),
    ],
)
def test_what_cannot_be_read_so_is_said(files, name, options, words):
    with pytest.raises(ValueError, match=words):
        open_trajectory(files / name, files / "run.pdb", **options)


def test_a_topology_in_another_order_of_atoms_is_warned_of(tmp_path):
    corner = np.array([[0.02, 0.02, 0.02], [0.02, 0.02, 1.93], [0.02, 1.93, 0.02]])  # bonds cross the faces
    waters = corner + np.array([[0, 0, 0], [0, 0.6, 0.6], [0.6, 0.6, 0]])[:, None]
    topology = mdtraj.Topology()
    for _ in range(3):
        residue = topology.add_residue("HOH", topology.add_chain())
        for name in ("O", "H1", "H2"):
            topology.add_atom(name, mdtraj.element.get_by_symbol(name[0]), residue)
    topology.create_standard_bonds()
    trajectory = mdtraj.Trajectory(waters.reshape(1, 9, 3), topology)
    trajectory.unitcell_vectors = 2 * np.eye(3, dtype=np.float32)[None]
    trajectory.save(str(tmp_path / "start.pdb"))
    trajectory.save(str(tmp_path / "run.xtc"))
    assert open_trajectory(tmp_path / "run.xtc", tmp_path / "start.pdb").topology.n_bonds == 6
    trajectory.xyz = waters.transpose(1, 0, 2).reshape(1, 9, 3)  # all oxygens first
    trajectory.save(str(tmp_path / "run.xtc"))
    with pytest.warns(UserWarning, match="6 of the 6 bonds of the topology are longer than 0.3 nm in the first frame"):
        open_trajectory(tmp_path / "run.xtc", tmp_path / "start.pdb")


def test_missing_files_are_named(files):
    with pytest.raises(FileNotFoundError, match="absent.xtc"):
        open_trajectory(files / "absent.xtc", files / "run.pdb")
    with pytest.raises(FileNotFoundError, match="absent.pdb"):
        open_trajectory(files / "run.xtc", files / "absent.pdb")
    with pytest.raises(ValueError, match="`run.xtc` holds no elements; give a structure file"):
        open_trajectory(files / "run.xtc")
    (files / "absent.cif").touch()  # what a run writes where PDB has no room
    with pytest.raises(FileNotFoundError, match="absent.pdb`; give `.*absent.cif`"):
        open_trajectory(files / "run.xtc", files / "absent.pdb")


def data_set(path, cells, formula="LiS2"):
    random = np.random.default_rng(3)
    images = []
    for cell in cells:
        image = ase.Atoms(formula, cell=10 * cell, pbc=True)
        image.set_scaled_positions(random.uniform(size=(len(image), 3)))
        images.append(image)
    with lzma.open(path, "wt") as file:
        ase.io.write(file, images, format="extxyz")
    return images


def test_a_data_set_has_the_distances_that_ase_sees_in_any_cell(tmp_path):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    images = data_set(tmp_path / "set.xyz.xz", [CELL @ turn, 1.1 * CELL @ turn])
    frames = open_trajectory(tmp_path / "set.xyz.xz")
    assert frames.n_frames == 2
    assert atoms_of(frames.topology, "S").tolist() == [1, 2]
    for image, positions, cell in zip(images, frames.positions_nm(), frames.cells_for("a test"), strict=True):
        found = pairs_within(positions, None, cell, 0.6)
        want = image.get_all_distances(mic=True) / 10
        # positions of mdtraj are single precision
        assert found.distance_nm == pytest.approx(want[found.centre, found.neighbour], abs=1e-6)
        assert len(found.distance_nm) == ((want < 0.6) & (want > 0)).sum()


def test_files_that_are_broken_are_named(files):
    whole = (files / "run.xtc").read_bytes()
    (files / "cut.xtc").write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="cut.xtc` cannot be read to its end .*; it was cut off"):
        open_trajectory(files / "cut.xtc", files / "run.pdb")
    with pytest.raises(ValueError, match="run.dcd` cannot be read as a structure file"):
        open_trajectory(files / "run.xtc", files / "run.dcd")
    for name in ("bad.gro", "bad.lammpstrj"):
        (files / name).write_text("nothing\n")
        with pytest.raises(ValueError, match=f"{name}` cannot be read to its end"):
            open_trajectory(files / name, files / "run.pdb")
    (files / "bad.extxyz").write_text("nothing\n")
    with pytest.raises(ValueError, match="`bad.extxyz` is not extended XYZ"):
        open_trajectory(files / "bad.extxyz")
    (files / "bad.extxyz").write_text("1\n\nH 0 0 0\n\n1\n\nH 0 0 0\n")  # ASE stops at the empty line
    with pytest.raises(ValueError, match="`bad.extxyz` is not extended XYZ: an empty line stands between frames"):
        open_trajectory(files / "bad.extxyz")
    (files / "bad.extxyz").write_text("2\n\nH 0 0 0\nX 0 0 1\n")
    with pytest.raises(ValueError, match="atom 1 of `bad.extxyz` is X, which is no element"):
        open_trajectory(files / "bad.extxyz")


@pytest.mark.parametrize(("name", "guess"), [("NA", "N"), ("CL", "C"), ("SOD", "S"), ("LI", "nothing")])
def test_elements_that_mdtraj_guesses_wrong_from_a_gro_file_are_refused(files, name, guess):
    text = f"ions\n2\n{1:5}{'SOL':<5}{'OW':>5}{1:5}{0:8.3f}{0:8.3f}{0:8.3f}\n"
    text += f"{2:5}{'ION':<5}{name:>5}{2:5}{0:8.3f}{0:8.3f}{0:8.3f}\n   2.0 2.0 2.0\n"
    (files / "ions.gro").write_text(text)
    with pytest.raises(ValueError, match=rf"names no elements, and mdtraj takes atom 1 \(ION2-{name}\) for {guess};"):
        open_trajectory(files / "run.xtc", files / "ions.gro")
    (files / "ions.gro").write_text(text.replace(f"{name:>5}", "   Na"))
    with pytest.raises(ValueError, match="does not hold the 2 atoms"):
        open_trajectory(files / "run.xtc", files / "ions.gro")


def test_positions_of_a_failed_run_are_refused_where_they_are_needed():
    xyz = np.random.default_rng(0).uniform(size=(9, 5, 3))
    xyz[6:, 4] = np.nan
    frames = Frames.of(atoms("OOOOH", xyz, cell=CELL))
    with pytest.raises(ValueError, match="positions are not finite from frame 6 on, where the run has failed"):
        list(frames.positions_nm())
    with pytest.raises(ValueError, match="not finite from frame 6 on"):
        radius_of_gyration(frames, "all")
    with pytest.raises(ValueError, match="not finite from frame 6 on"):
        rmsd(frames, "all")
    assert np.isfinite(radial_distribution(frames, ("O", "O")).g).all()


def test_a_slab_is_told_how_to_be_written(tmp_path):
    slab = ase.Atoms("H2", [[0, 0, 0], [1, 0, 0]], cell=[4, 4, 20], pbc=[True, True, False])
    ase.io.write(tmp_path / "slab.extxyz", slab)
    with pytest.raises(ValueError, match="frame 0 of `slab.extxyz` is periodic along a, b, frame 0 along a, b; all"):
        open_trajectory(tmp_path / "slab.extxyz")


def test_a_data_set_takes_names_and_residues_from_a_topology_of_its_atoms(tmp_path):
    data_set(tmp_path / "set.xyz.xz", [CELL])
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for name, symbol in (("L1", "Li"), ("S1", "S"), ("S2", "S")):
        topology.add_atom(name, mdtraj.element.get_by_symbol(symbol), topology.add_residue(name, chain))
    mdtraj.Trajectory(np.zeros((1, 3, 3)), topology).save(str(tmp_path / "named.pdb"))
    frames = open_trajectory(tmp_path / "set.xyz.xz", tmp_path / "named.pdb")
    assert atoms_of(frames.topology, "name S2").tolist() == [2]
    assert next(frames.chunks()).topology.n_residues == 3
    data_set(tmp_path / "other.xyz.xz", [CELL], "S2Li")
    with pytest.raises(ValueError, match="`other.xyz.xz` has 3 atoms and `named.pdb` 3, or their elements differ"):
        open_trajectory(tmp_path / "other.xyz.xz", tmp_path / "named.pdb")


def test_a_data_set_of_different_molecules_is_refused(tmp_path):
    data_set(tmp_path / "a.xyz.xz", [CELL])
    images = data_set(tmp_path / "b.xyz.xz", [CELL]) + data_set(tmp_path / "c.xyz.xz", [CELL], "S2Li")
    ase.io.write(tmp_path / "mixed.extxyz", images)
    with pytest.raises(ValueError, match=r"frame 1 of `mixed.extxyz` is LiS2, in its order of atoms"):
        open_trajectory(tmp_path / "mixed.extxyz")


def test_pairs_of_two_sets_are_those_of_the_direct_formula():
    random = np.random.default_rng(0)
    first, second = random.uniform(size=(30, 3)) @ CELL, random.uniform(size=(20, 3)) @ CELL
    steps = (second[None] - first[:, None]) @ np.linalg.inv(CELL)
    vectors = (steps - np.rint(steps)) @ CELL
    distances = np.linalg.norm(vectors, axis=-1)
    found = pairs_within(first, second, CELL, 0.7)
    assert set(zip(found.centre, found.neighbour, strict=True)) == set(zip(*np.nonzero(distances < 0.7), strict=True))
    assert found.vector_nm == pytest.approx(vectors[found.centre, found.neighbour], abs=1e-12)
    assert found.distance_nm == pytest.approx(distances[found.centre, found.neighbour], abs=1e-12)


def test_atoms_are_chosen_by_element_or_by_selection():
    topology = atoms("OHH", np.zeros((1, 3, 3))).topology
    assert atoms_of(topology, "H").tolist() == [1, 2]
    assert atoms_of(topology, "index 0 2").tolist() == [0, 2]
    with pytest.raises(ValueError, match="there is no Li in the topology, which has O, H"):
        atoms_of(topology, "Li")
    with pytest.raises(ValueError, match="`resname XYZ` has no atoms"):
        atoms_of(topology, "resname XYZ")
    with pytest.raises(ValueError, match="neither an element of the topology .* nor a selection"):
        atoms_of(topology, "name = = O")


def test_a_missing_cell_is_named():
    with pytest.raises(ValueError, match="no periodic cell, which a density needs"):
        Frames.of(atoms("H", np.zeros((2, 1, 3)))).cells_for("a density")


def test_times_that_go_back_or_are_uneven_are_refused():
    with pytest.raises(ValueError, match=r"from frame 1 \(2 ps\) to frame 2 \(1 ps\)"):
        Frames.of(atoms("H", np.zeros((3, 1, 3)), times=[0.0, 2.0, 1.0])).increasing_times_ps()
    with pytest.raises(ValueError, match="frames 2 and 3 are 3 ps apart, most 1 ps"):
        Frames.of(atoms("H", np.zeros((5, 1, 3)), times=[0.0, 1.0, 2.0, 5.0, 6.0])).spacing_ps()
