"""Structures to look at: the right frame, whole molecules in the cell, and a page that holds the same atoms."""

import json
import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_analysis_molecules import waters
from trajectories import TILTED, atoms, wrapped

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.view import atoms_of_frame, draw_structure, view

CLOSE_ANGSTROM = 1e-5  # mdtraj keeps positions of some nm in single precision
BONDS = np.array([(3 * k, 3 * k + h) for k in range(20) for h in (1, 2)])


@pytest.fixture
def water():
    """Three frames of 20 molecules that the cell cuts, and what they are made of, (3, 60, 3) nm."""
    whole = np.array([waters(20, TILTED, seed) for seed in range(3)])
    return atoms("OHH" * 20, wrapped(whole, TILTED), times=np.arange(3.0), cell=TILTED), whole


def test_a_frame_is_that_of_the_trajectory(water):
    trajectory, _ = water
    for frame, number in ((-1, 2), (1, 1), (-3, 0)):
        found = atoms_of_frame(trajectory, frame, wrap=False)
        assert found.get_chemical_symbols() == list("OHH" * 20)
        assert found.positions == pytest.approx(10 * trajectory.xyz[number], abs=CLOSE_ANGSTROM)
        assert found.cell.array == pytest.approx(10 * TILTED, abs=CLOSE_ANGSTROM)
        assert found.pbc.all()


def test_a_frame_is_found_in_the_chunk_that_has_it(water):
    trajectory, _ = water
    one = Frames.of(trajectory)
    chunked = Frames(one.topology, one.times_ps, one.cells_nm, lambda _: iter([trajectory[:2], trajectory[2:]]))
    for frame in range(3):
        assert np.array_equal(atoms_of_frame(chunked, frame).positions, atoms_of_frame(one, frame).positions)


def test_molecules_are_whole_with_their_centres_in_the_cell(water):
    trajectory, _ = water
    found = atoms_of_frame(trajectory)
    lengths = np.linalg.norm(found.positions[BONDS[:, 0]] - found.positions[BONDS[:, 1]], axis=1)
    assert lengths == pytest.approx(0.9572, abs=CLOSE_ANGSTROM)
    masses = found.get_masses().reshape(20, 3, 1)
    centres = (masses * found.positions.reshape(20, 3, 3)).sum(1) / masses.sum(1)
    fractions = centres @ np.linalg.inv(found.cell.array)
    assert fractions.min() > -1e-6
    assert fractions.max() < 1 + 1e-6
    moved = (found.positions - 10 * trajectory.xyz[-1]) @ np.linalg.inv(10 * TILTED)
    assert moved == pytest.approx(np.rint(moved), abs=1e-5)  # by lattice vectors only
    assert np.abs(moved).max() > 0.5


def test_of_a_network_without_an_end_every_atom_is_in_the_cell():
    chain = 0.2 * np.arange(10)[:, None] * [1, 0, 0] + [0.1, 0.2, 0.3]  # bonded to its own image
    cell = np.diag([2.0, 1.5, 1.5])
    found = atoms_of_frame(atoms("S" * 10, (chain + [3.3, -4.0, 2.0])[None], cell=cell))
    fractions = found.get_scaled_positions(wrap=False)
    assert fractions.min() >= 0
    assert fractions.max() < 1
    lone = atoms_of_frame(atoms("S" * 9, (chain[:9] + [0.5, 0, 0])[None], cell=cell))  # an end: it stays whole
    assert np.ptp(lone.positions[:, 0]) == pytest.approx(16.0, abs=CLOSE_ANGSTROM)


def test_without_a_cell_atoms_stay_where_they_are():
    positions = np.array([[[0.0, 0.0, 0.0], [5.0, -7.0, 0.1]]])
    found = atoms_of_frame(atoms("OH", positions))
    assert found.positions == pytest.approx(10 * positions[0], abs=CLOSE_ANGSTROM)
    assert not found.pbc.any()


@pytest.mark.parametrize("frame", [3, -4])
def test_a_frame_that_is_not_there_is_refused(water, frame):
    with pytest.raises(ValueError, match=f"`frame` is {frame}, but the trajectory has 3 frames; give one from -3 to 2"):
        atoms_of_frame(water[0], frame)


def test_the_view_holds_the_atoms_and_the_cell(water):
    pytest.importorskip("py3Dmol", reason="py3Dmol is not installed")
    page = view(water[0], 1, width=321, height=123).write_html()
    assert "width: 321px; height: 123px" in page
    text = json.loads(re.search(r'addModel\((".*?[^\\]"),"xyz"\)', page)[1])
    count, comment, *rows = text.splitlines()
    expected = atoms_of_frame(water[0], 1)
    assert int(count) == len(rows) == 60
    assert [row.split()[0] for row in rows] == list("OHH" * 20)
    shown = np.array([row.split()[1:] for row in rows], dtype=float)
    assert shown == pytest.approx(expected.positions, abs=0.5e-3 + 1e-9)  # three decimals
    lattice = np.array(re.search('Lattice="(.*)"', comment)[1].split(), dtype=float).reshape(3, 3)
    assert lattice == pytest.approx(10 * TILTED, abs=CLOSE_ANGSTROM)  # rows are lattice vectors, as in extended XYZ
    assert "addUnitCell()" in page


def test_the_view_of_a_molecule_has_no_cell():
    pytest.importorskip("py3Dmol", reason="py3Dmol is not installed")
    page = view(atoms("OH", np.array([[[0, 0, 0], [0.1, 0, 0]]], dtype=float))).write_html()
    assert "O 0.000 0.000 0.000" in page
    assert "Lattice" not in page
    assert "addUnitCell" not in page


def test_without_py3dmol_the_way_to_it_is_named(water, monkeypatch):
    monkeypatch.setitem(sys.modules, "py3Dmol", None)
    with pytest.raises(ImportError, match=r"not installed: pip install 'openmm-allegro\[notebooks\]'"):
        view(water[0])


def test_the_picture_has_a_circle_for_every_atom_and_the_edges_of_the_cell(water):
    axes = Figure().subplots()
    draw_structure(axes, water[0], rotation="0x,0y,0z")
    circles = [patch for patch in axes.patches if hasattr(patch, "radius")]
    assert len(circles) == 60
    centres = np.array([circle.center for circle in circles])
    seen_along_z = atoms_of_frame(water[0]).positions[:, :2]  # up to a shift of the page
    found, expected = (np.sort(np.linalg.norm(each - each.mean(0), axis=1)) for each in (centres, seen_along_z))
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(axes.patches) > 60
