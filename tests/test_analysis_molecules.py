"""Molecules that the cell cuts are put together again, whatever the cell."""

import mdtraj
import numpy as np
import pytest
from peptides import HELIX, TRICLINIC, backbone, peptide, shaken, wrapped
from scipy.spatial.transform import Rotation
from trajectories import atoms

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import Molecules, bonds_of, whole_chunks
from openmm_allegro.analysis.selection import atoms_of, file_name, plain
from openmm_allegro.analysis.shape import end_to_end_distance, radius_of_gyration

HELIX_NM = backbone(*np.array([HELIX] * 12).T)
# distances within a molecule are known to single precision at 5 nm: 5e-7 nm
CLOSE = 2e-6


def waters(n, cell, seed=0):
    """Positions (3 n, 3) of rigid waters, at most 64, on a lattice and turned at random."""
    turns = Rotation.random(n, random_state=seed).as_matrix()
    bent = 0.09572 * np.array([[0, 0, 0], [1, 0, 0], [np.cos(1.8242), np.sin(1.8242), 0]])
    oxygens = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)[:n] / 4 @ cell
    return (bent @ turns + oxygens[:, None]).reshape(-1, 3)


def test_a_wrapped_peptide_is_whole_again():
    moved = shaken(HELIX_NM, 20, 0.01)
    found = peptide(wrapped(moved, TRICLINIC), TRICLINIC)
    chunk = next(whole_chunks(Frames.of(found), np.arange(found.n_atoms)))
    for got, wanted in zip(chunk.xyz, moved, strict=True):
        between = np.linalg.norm(wanted[:, None] - wanted[None], axis=2)
        assert np.linalg.norm(got[:, None] - got[None], axis=2) == pytest.approx(between, abs=CLOSE)


def test_molecules_are_brought_beside_the_first():
    pair = np.array([[0.1, 0.1, 0.1], [3.9, 4.1, 4.0]])  # neighbours across a corner of the cube
    trajectory = atoms(["Na", "Cl"], pair[None], cell=4.2 * np.eye(3))
    chunk = next(whole_chunks(Frames.of(trajectory), np.arange(2)))
    assert np.linalg.norm(chunk.xyz[0, 1] - chunk.xyz[0, 0]) == pytest.approx(
        np.sqrt(0.4**2 + 0.2**2 + 0.3**2), abs=1e-6
    )


def test_bonds_are_guessed_across_the_faces_where_there_are_none():
    positions = wrapped(waters(50, TRICLINIC), TRICLINIC)
    frames = Frames.of(atoms("OHH" * 50, positions[None], cell=TRICLINIC))
    expected = np.array([(3 * k, 3 * k + h) for k in range(50) for h in (1, 2)])
    found = bonds_of(frames)
    assert np.array_equal(np.unique(found, axis=0), expected)
    molecules = Molecules.of(frames)
    assert np.array_equal(molecules.molecule, np.repeat(np.arange(50), 3))


def test_deuterium_is_bonded_as_hydrogen_is():
    frames = Frames.of(atoms("ODD" * 5, waters(5, np.eye(3))[None]))
    assert np.array_equal(Molecules.of(frames).molecule, np.repeat(np.arange(5), 3))


def test_metals_are_not_bonded():
    frames = Frames.of(atoms(["Li", "S"], np.array([[[0, 0, 0], [0.24, 0, 0]]], dtype=float)))
    assert len(bonds_of(frames)) == 0


def in_residues(names, elements, xyz):
    """One frame of residues, whose standard bonds are known. elements: of each residue, `M` for a site without mass."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for name, symbols in zip(names, elements, strict=True):
        residue = topology.add_residue(name, chain)
        for k, symbol in enumerate(symbols):
            element = mdtraj.element.virtual if symbol == "M" else mdtraj.element.get_by_symbol(symbol)
            topology.add_atom(symbol + (str(k) if symbol not in "OM" else ""), element, residue)
    topology.create_standard_bonds()
    return mdtraj.Trajectory(np.asarray(xyz)[None], topology)


def test_ions_without_bonds_are_molecules_beside_water_that_has_them():
    octahedron = 0.16 * np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    salt = np.concatenate([waters(1, np.eye(3)), octahedron + 1.0, octahedron + 2.0])
    frames = Frames.of(in_residues(["HOH", "PF6", "PF6"], ["OHH", "PFFFFFF", "PFFFFFF"], salt))
    assert frames.topology.n_bonds == 2
    assert np.array_equal(Molecules.of(frames).molecule, np.repeat([0, 1, 2], [3, 7, 7]))


def test_sites_without_mass_belong_to_the_molecule_of_the_nearest_atom():
    water = waters(8, np.eye(3)).reshape(8, 3, 3)
    sites = water[:, :1] + 0.1 * (water[:, 1:] - water[:, :1]).sum(axis=1, keepdims=True)
    found = in_residues(["HOH"] * 8, ["OHHM"] * 8, np.concatenate([water, sites], axis=1).reshape(-1, 3))
    assert np.array_equal(Molecules.of(Frames.of(found)).molecule, np.repeat(np.arange(8), 4))


def test_gyration_is_that_of_mass_points_by_hand():
    # masses 12.011, 15.999 at a distance d: R² = m₁ m₂ d² / (m₁ + m₂)²
    trajectory = atoms("CO", np.array([[[0.05, 0, 0], [0.95, 0, 0]]]), cell=np.eye(3))  # 0.1 nm apart across the face
    found = radius_of_gyration(trajectory, "name C or name O")
    by_hand = 0.1 * np.sqrt(12.011 * 15.999) / (12.011 + 15.999)
    assert found.values == pytest.approx([by_hand], rel=1e-4)


def test_gyration_agrees_with_mdanalysis():
    mda = pytest.importorskip("MDAnalysis")
    moved = shaken(HELIX_NM, 10, 0.02)
    found = radius_of_gyration(peptide(wrapped(moved, TRICLINIC), TRICLINIC), "protein")
    universe = mda.Universe.empty(48, trajectory=True)
    universe.add_TopologyAttr("masses", [14.007, 12.011, 12.011, 15.999] * 12)
    expected = []
    for positions in moved:
        universe.atoms.positions = 10 * positions
        expected.append(universe.atoms.radius_of_gyration() / 10)
    assert found.values == pytest.approx(expected, rel=1e-4)  # masses to that


def test_ends_of_each_molecule_are_followed_along_the_bonds():
    moved = shaken(HELIX_NM, 5, 0.0)
    length = np.linalg.norm(HELIX_NM[-2] - HELIX_NM[0])  # 1.8 nm, close to half the cell
    trajectory = peptide(wrapped(moved, TRICLINIC), TRICLINIC)
    found = end_to_end_distance(trajectory, ("resSeq 1 and name N", "resSeq 12 and name C"))
    assert found.values == pytest.approx(np.full(5, length), abs=CLOSE)
    with pytest.raises(ValueError, match="`name N` has 12 atoms and `resSeq 12` has 4"):
        end_to_end_distance(trajectory, ("name N", "resSeq 12"))


def test_words_of_mdtraj_are_selections_and_symbols_are_elements():
    topology = peptide(HELIX_NM[None]).topology
    assert len(atoms_of(topology, "protein")) == 48
    with pytest.raises(ValueError, match="there is no Li in the topology, which has N, C, O"):
        atoms_of(topology, "Li")


@pytest.mark.parametrize("words", ["mass > heavy", "resSeq 1 to b", "index < name", "not", "name =~ 'O('", "nonsense"])
def test_selections_that_mdtraj_cannot_evaluate_are_told(words):
    with pytest.raises(ValueError, match="nor a selection that mdtraj understands"):
        atoms_of(peptide(HELIX_NM[None]).topology, words)


def test_long_selections_have_short_names_of_their_own():
    long = ["index " + " ".join(map(str, range(first, 90))) for first in (0, 1)]
    names = {file_name((words, "O", words)) for words in long}
    assert len(names) == 2
    assert max(map(len, names)) < 130
    assert plain("resname HOH and name O") == "resname_HOH_and_name_O"


def test_single_atoms_have_no_radius_of_gyration():
    with pytest.raises(ValueError, match="no two atoms that are bonded"):
        radius_of_gyration(atoms(["Li", "Li"], np.array([[[0, 0, 0], [1, 1, 1]]], dtype=float)), "Li")


def test_the_distribution_of_a_series_integrates_to_one():
    found = radius_of_gyration(peptide(shaken(HELIX_NM, 60, 0.02)), "protein")
    curve = found.curve()
    assert curve.y.sum() * (curve.x[1] - curve.x[0]) == pytest.approx(1.0)
    assert np.all(curve.error >= 0)
    assert radius_of_gyration(peptide(HELIX_NM[None]), "protein").curve() is None


def test_molecules_are_brought_to_the_nearest_image_of_a_skewed_cell():
    cell = 8.0 * np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, np.sqrt(0.5)]])  # rhombic dodecahedron, 2.83 nm to a face
    away = np.random.default_rng(0).normal(size=(40, 3))
    pairs = np.stack([np.zeros((40, 3)), 3.3 * away / np.linalg.norm(away, axis=1, keepdims=True)], axis=1)
    chunk = next(whole_chunks(Frames.of(atoms(["Na", "Cl"], wrapped(pairs, cell), cell=cell)), np.arange(2)))
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    nearest = np.linalg.norm(pairs[:, 1, None] + steps @ cell, axis=2).min(axis=1)
    assert np.linalg.norm(chunk.xyz[:, 1] - chunk.xyz[:, 0], axis=1) == pytest.approx(nearest, abs=CLOSE)


@pytest.mark.parametrize("stripped", [False, True])
def test_alpha_carbons_stay_at_their_chain(stripped):
    helix = backbone(*np.array([HELIX] * 24).T)  # 3.5 nm long
    moved = shaken(helix, 5, 0.01)
    found = peptide(wrapped(moved, 5.5 * np.eye(3)), 5.5 * np.eye(3))
    alphas = atoms_of(found.topology, "name CA")
    if stripped:
        found, alphas = found.atom_slice(alphas), np.arange(24)
    chunk = next(whole_chunks(Frames.of(found), alphas))
    for got, wanted in zip(chunk.xyz, moved[:, 1::4], strict=True):
        between = np.linalg.norm(wanted[:, None] - wanted[None], axis=2)
        assert np.linalg.norm(got[:, None] - got[None], axis=2) == pytest.approx(between, abs=CLOSE)
