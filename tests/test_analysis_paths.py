"""Paths: what is wrapped is followed, centres of mass rest, and a temporary file holds what memory would."""

import mdtraj
import numpy as np
import pytest
from conftest import full_disk
from trajectories import TILTED, atoms, random_walk, wrapped

from openmm_allegro.analysis import paths as paths_module
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.unwrap import unwrapped_nm


def unwrapped(trajectory):
    return np.stack(list(unwrapped_nm(Frames.of(trajectory))))


def test_a_wrapped_trajectory_is_unwrapped_to_what_it_was():
    xyz = random_walk(300, 10, 0.1) + 1.0
    xyz -= np.floor(xyz[:1] @ np.linalg.inv(TILTED)) @ TILTED  # the first frame inside the cell
    assert np.abs(xyz).max() > 2.5
    found = unwrapped(atoms(["Li"] * 10, wrapped(xyz, TILTED), cell=TILTED))
    assert found == pytest.approx(xyz, abs=2e-5)  # 300 steps of float32 positions


def test_in_a_changing_box_it_does_not_matter_whether_the_file_was_wrapped():
    scale = 1 + 0.03 * np.random.default_rng(3).uniform(-1, 1, 300)
    cells = scale[:, None, None] * TILTED
    xyz = random_walk(300, 10, 0.03) + np.array([9.0, 0.0, 0.0])
    as_written = unwrapped(atoms(["Li"] * 10, xyz, cell=cells))
    as_wrapped = unwrapped(atoms(["Li"] * 10, wrapped(xyz, cells), cell=cells))
    assert as_written - as_written[:1] == pytest.approx(as_wrapped - as_wrapped[:1], abs=5e-4)


def test_jumps_through_the_faces_of_a_cell_that_the_file_lacks_are_warned_of():
    xyz = random_walk(300, 10, 0.1)
    assert unwrapped(atoms(["Li"] * 10, xyz)) == pytest.approx(xyz, abs=1e-5)
    with pytest.warns(UserWarning, match="has no periodic cell, and atoms move by up to 1.99 nm between two"):
        unwrapped(atoms(["Li"] * 10, wrapped(xyz, 2 * np.eye(3))))


def test_frames_too_far_apart_to_follow_are_warned_of():
    with pytest.warns(UserWarning, match="moves by 0.4. of the cell between two frames"):
        unwrapped(atoms("O", np.array([[[0.0, 0, 0]], [[0.9, 0, 0]]]), cell=2 * np.eye(3)))


def test_the_common_drift_of_all_atoms_disappears():
    walk = random_walk(100, 6, 0.02)
    pushed = walk + 0.03 * np.arange(100)[:, None, None]
    still, moving = (
        next(collect_paths(Frames.of(atoms("OHHOHH", xyz, times=np.arange(100.0))), ["O"])[0].blocks())
        for xyz in (walk, pushed)
    )
    assert moving == pytest.approx(still, abs=2e-6)  # float32 positions of up to 3 nm


def test_the_centre_of_mass_is_weighted_by_mass():
    xyz = np.array([[[0.0, 0, 0], [1.0, 0, 0]], [[0.0, 0, 0], [2.0, 0, 0]]])
    (oxygen,) = collect_paths(Frames.of(atoms("OH", xyz, times=np.arange(2.0))), ["O"])
    assert oxygen.positions_nm(0)[0, 0] == pytest.approx(-1.008 / 17.007, rel=1e-4)
    assert oxygen.positions_nm(1)[0, 0] == pytest.approx(-2.016 / 17.007, rel=1e-4)


def test_molecules_cut_by_the_cell_move_with_their_centres_of_mass():
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(2):
        residue = topology.add_residue("HOH", chain)
        o, *hydrogens = [topology.add_atom(s, mdtraj.element.get_by_symbol(s), residue) for s in "OHH"]
        for h in hydrogens:
            topology.add_bond(o, h)
    xyz = random_walk(50, 6, 0.05)
    trajectory = mdtraj.Trajectory(wrapped(xyz, TILTED), topology, time=np.arange(50.0))
    trajectory.unitcell_vectors = np.broadcast_to(TILTED, (50, 3, 3))
    masses = np.array([15.99943, 1.007947, 1.007947])
    exact = np.einsum("fmax,a->fmx", xyz.reshape(50, 2, 3, 3), masses / masses.sum())
    for centres in ("residues", "molecules"):
        (found,) = collect_paths(Frames.of(trajectory), ["water"], centres=centres, relative_to="none")
        assert next(found.blocks()) == pytest.approx(exact - exact[:1], abs=1e-5)
    (hydrogens,) = collect_paths(Frames.of(trajectory), ["H"], centres="residues", relative_to="none")
    pairs = xyz.reshape(50, 2, 3, 3)[:, :, 1:].mean(axis=2)
    assert next(hydrogens.blocks()) == pytest.approx(pairs - pairs[:1], abs=1e-5)


def test_sites_without_mass_have_no_centre_of_mass():
    trajectory = atoms(["O", "VS", "VS"] * 2, random_walk(20, 6, 0.1), np.arange(20.0))
    with pytest.raises(ValueError, match="`relative_to` is `element VS`, which has no mass; choose atoms"):
        collect_paths(Frames.of(trajectory), ["O"], relative_to="element VS")
    with pytest.raises(ValueError, match="`selection` is `element VS`, which has no mass"):
        collect_paths(Frames.of(trajectory), ["element VS"], centres="molecules")
    (sites,) = collect_paths(Frames.of(trajectory), ["element VS"], relative_to="none")
    assert sites.n_paths == 4


def test_a_topology_of_one_residue_has_no_paths_of_residues():
    ions = atoms(["Li"] * 4, random_walk(20, 4, 0.1), np.arange(20.0))
    with pytest.raises(ValueError, match="one residue, so that `centres` of residues would make a single path of `Li`"):
        collect_paths(Frames.of(ions), ["Li"], centres="residues")


def test_molecules_are_guessed_where_the_topology_has_no_bonds():
    water = np.array([[0.0, 0.0, 0.0], [0.096, 0.0, 0.0], [-0.024, 0.093, 0.0]])
    xyz = np.tile(np.concatenate([water, water + 1.0]), (3, 1, 1))
    frames = Frames.of(atoms("OHHOHH", wrapped(xyz, TILTED), times=np.arange(3.0), cell=TILTED))
    (found,) = collect_paths(frames, ["all"], centres="molecules", relative_to="none")
    assert found.n_paths == 2


def test_a_temporary_file_gives_what_memory_gives(monkeypatch):
    walk = Frames.of(atoms(["Li"] * 5 + ["S"] * 3, random_walk(40, 8, 0.1), times=np.arange(40.0)))
    in_memory = collect_paths(walk, ["Li", "S"])
    monkeypatch.setattr(paths_module, "BYTES_IN_MEMORY", 0)
    monkeypatch.setattr(paths_module, "BYTES_OF_A_TILE", 12 * 5 * 7)  # of 7 and 11 frames
    monkeypatch.setattr(paths_module, "NUMBERS_AT_ONCE", 240)  # two paths of 40 frames
    in_file = collect_paths(walk, ["Li", "S"])
    for held, stored in zip(in_memory, in_file, strict=True):
        blocks = list(stored.blocks())
        assert max(block.shape[1] for block in blocks) == 2
        assert np.array_equal(np.concatenate(blocks, axis=1), np.concatenate(list(held.blocks()), axis=1))
        assert np.array_equal(stored.positions_nm(17), held.positions_nm(17))
        assert stored.total_nm() == pytest.approx(held.total_nm(), abs=1e-12)


def test_a_full_disk_is_named(monkeypatch):
    walk = Frames.of(atoms(["Li"] * 500, random_walk(40, 500, 0.1), times=np.arange(40.0)))
    monkeypatch.setattr(paths_module, "BYTES_IN_MEMORY", 0)
    with full_disk(100_000), pytest.raises(OSError, match="the paths of Li need 0.00024 GB in a temporary file"):
        collect_paths(walk, ["Li"])


def test_frames_at_unequal_times_are_refused():
    uneven = Frames.of(atoms(["Li"] * 2, random_walk(40, 2, 0.1), times=np.arange(40.0) ** 2))
    with pytest.raises(ValueError, match="not equally spaced"):
        collect_paths(uneven, ["Li"])
