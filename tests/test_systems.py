"""Builders: exact counts and densities, no overlap, and supercells that are the same lattice."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from openmm import app, unit

from openmm_allegro.systems.structures import from_ase, read_structure, replicate
from openmm_allegro.systems.water import water_box


def nm(quantity):
    return np.array([list(row) for row in quantity.value_in_unit(unit.nanometer)])


def images(positions, cell, reach):
    """All distances below `reach` from atoms to atoms and their images, sorted, by brute force over 7³ cells."""
    shifts = np.array(list(np.ndindex(7, 7, 7))) - 3
    steps = positions[:, None, None] - positions[None, :, None] + (shifts @ cell)[None, None]
    distances = np.linalg.norm(steps, axis=-1).ravel()
    return np.sort(distances[(distances > 1e-6) & (distances < reach)])


@pytest.mark.parametrize("n_molecules", [64, 205])
def test_water_box_has_exactly_the_molecules_and_the_density(n_molecules):
    topology, positions, box = water_box(n_molecules, density_g_per_cm3=0.997, seed=3)
    assert topology.getNumResidues() == n_molecules
    assert topology.getNumBonds() == 2 * n_molecules
    assert nm(positions).shape == (3 * n_molecules, 3)
    volume_cm3 = np.linalg.det(nm(box)) * 1e-21
    assert n_molecules * 18.01528 / 6.02214076e23 / volume_cm3 == pytest.approx(0.997, rel=1e-12)
    assert np.array_equal(nm(topology.getPeriodicBoxVectors()), nm(box))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_water_molecules_are_whole_and_do_not_overlap(seed):
    _, positions, box = water_box(64, seed=seed)
    cell, molecules = nm(box), nm(positions).reshape(-1, 3, 3)
    oh = np.linalg.norm(molecules[:, 1:] - molecules[:, :1], axis=-1)
    assert oh == pytest.approx(0.09572, abs=2e-4)  # TIP3P; OpenMM's file has three digits of Å
    steps = molecules.reshape(-1, 1, 3) - molecules.reshape(1, -1, 3)
    steps -= np.rint(steps / cell[0, 0]) * cell[0, 0]
    distances = np.linalg.norm(steps, axis=-1)
    molecule = np.arange(192) // 3
    assert distances[molecule[:, None] != molecule[None]].min() > 0.15  # a hydrogen bond in the liquid is about 0.16


def test_water_box_of_an_edge_has_the_density_of_whole_molecules():
    topology, _, box = water_box(edge_nm=1.2, seed=0)
    assert topology.getNumResidues() == 58  # 0.997 g/cm³ is 33.33 molecules/nm³, times 1.728 nm³
    assert nm(box)[0, 0] == pytest.approx(1.2, abs=0.01)


def test_the_seed_decides_the_water_box():
    first, again, other = (nm(water_box(16, seed=seed)[1]) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("arguments", [{}, {"n_molecules": 4, "edge_nm": 1.0}])
def test_water_box_needs_a_number_or_an_edge(arguments):
    with pytest.raises(ValueError, match="either `n_molecules` or `edge_nm`"):
        water_box(**arguments)


def test_water_box_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one molecule or more"):
        water_box(edge_nm=0.1)


TILTED = np.array([[1.1, 0.0, 0.0], [0.3, 1.0, 0.0], [-0.2, 0.4, 0.9]])  # nm


def tilted_structure():
    positions = np.random.default_rng(0).uniform(0, 1, (3, 3)) @ TILTED
    atoms = Atoms("OHH", positions=positions * 10, cell=TILTED * 10, pbc=True)
    return from_ase(atoms)


def test_a_supercell_is_the_same_lattice():
    topology, positions, box = tilted_structure()
    super_topology, super_positions, super_box = replicate(topology, positions, box, (2, 1, 2))
    assert [atom.element.symbol for atom in super_topology.atoms()] == ["O", "H", "H"] * 4
    expected = np.sort(np.tile(images(nm(positions), nm(box), 0.8), 4))
    found = images(nm(super_positions), nm(super_box), 0.8)
    assert found == pytest.approx(expected, abs=1e-9)  # rounding only


def test_a_supercell_keeps_bonds_inside_each_copy():
    topology, positions, box = replicate(*water_box(2, seed=0), (1, 2, 1))
    assert topology.getNumAtoms() == 12
    assert topology.getNumBonds() == 8
    assert all(bond[0].residue == bond[1].residue for bond in topology.bonds())
    assert nm(box)[1, 1] == pytest.approx(2 * nm(box)[0, 0])
    assert nm(topology.getPeriodicBoxVectors()) == pytest.approx(nm(box))


def test_a_structure_without_a_box_cannot_be_repeated():
    topology, positions, box = from_ase(Atoms("O", positions=[[0, 0, 0]]))
    with pytest.raises(ValueError, match="without a periodic box cannot be repeated"):
        replicate(topology, positions, box, (2, 1, 1))


def test_an_extxyz_cell_of_any_orientation_becomes_one_that_openmm_accepts(tmp_path):
    random = np.random.default_rng(5)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    cell = TILTED @ np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]).T @ rotation * 10
    cell[1] += cell[0]  # far from reduced
    atoms = Atoms("OHHNa", positions=random.uniform(0, 1, (4, 3)) @ cell, cell=cell, pbc=True)
    write(tmp_path / "frame.extxyz", [atoms[[0]], atoms], format="extxyz")
    topology, positions, box = read_structure(tmp_path / "frame.extxyz")
    assert [atom.element.symbol for atom in topology.atoms()] == ["O", "H", "H", "Na"]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = nm(box)
    assert ay == az == bz == 0
    assert ax >= 2 * abs(bx) - 1e-9
    assert ax >= 2 * abs(cx) - 1e-9
    assert by >= 2 * abs(cy) - 1e-9
    expected = images(atoms.positions / 10, cell / 10, 0.75)
    assert images(nm(positions), nm(box), 0.75) == pytest.approx(expected, abs=1e-7)  # digits of the text file


def test_pdb_and_cif_come_back_as_written(tmp_path):
    topology, positions, box = water_box(3, seed=1)
    for kind, ending in ((app.PDBFile, "pdb"), (app.PDBxFile, "cif")):
        with open(tmp_path / f"water.{ending}", "w") as file:
            kind.writeFile(topology, positions, file)
        found_topology, found_positions, found_box = read_structure(tmp_path / f"water.{ending}")
        assert found_topology.getNumBonds() == 6
        assert nm(found_positions) == pytest.approx(nm(positions), abs=1e-4)  # three digits of Å
        assert nm(found_box) == pytest.approx(nm(box), abs=1e-4)


def test_a_molecule_has_no_box(tmp_path):
    write(tmp_path / "atom.xyz", Atoms("He", positions=[[1, 2, 3]]), format="extxyz")
    _, positions, box = read_structure(tmp_path / "atom.xyz")
    assert box is None
    assert nm(positions) == pytest.approx(np.array([[0.1, 0.2, 0.3]]))


def test_a_slab_is_refused():
    with pytest.raises(ValueError, match="needs all three axes or none"):
        from_ase(Atoms("He", cell=[5, 5, 5], pbc=(True, True, False)))


def test_an_unknown_ending_is_refused(tmp_path):
    (tmp_path / "a.gro").write_text("")
    with pytest.raises(ValueError, match="ends in `.gro`; structures are read from .pdb"):
        read_structure(tmp_path / "a.gro")


def test_a_missing_structure_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.pdb"):
        read_structure(tmp_path / "nothing.pdb")
