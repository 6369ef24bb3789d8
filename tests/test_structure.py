"""Structure files: the same atoms come out, whatever the format, the cell's orientation and the copies."""

import ase
import ase.io
import numpy as np
import openmm
import pytest
import torch
from ase.build import molecule
from conftest import CIF, small_model
from openmm import app, unit

from openmm_allegro.force import AllegroForce
from openmm_allegro.structure import read_structure, write_positions, write_structure

TRICLINIC = [[0.3, 4.5, 0.5], [-4.0, 1.2, 2.5], [0.2, -0.9, 5.0]]
"""Rows are vectors [Å]; right-handed, in nobody's standard orientation, and not reduced."""


def one_molecule(cell=None):
    atoms = molecule("H2O")
    if cell is not None:
        atoms.set_cell(cell)
        atoms.pbc = True
    atoms.positions += [0.3, 9.2, -0.4]  # outside the cell
    return atoms


def energy_kj(structure):
    """Energy of the structure with a small model."""
    system = openmm.System()
    for _ in structure.topology.atoms():
        system.addParticle(1.0)
    system.setDefaultPeriodicBoxVectors(*structure.topology.getPeriodicBoxVectors())
    system.addForce(AllegroForce(small_model(torch.float64), structure.topology, bridge="python", precision="double"))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(structure.positions_nm)
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def test_a_turned_and_reduced_cell_holds_the_same_crystal(tmp_path):
    atoms = one_molecule(TRICLINIC)
    ase.io.write(tmp_path / "water.extxyz", atoms)
    structure = read_structure(tmp_path / "water.extxyz")
    box_nm = np.array([list(v) for v in structure.topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer)])
    assert abs(np.triu(box_nm, 1)).max() == 0
    turned = ase.Atoms(atoms.numbers, structure.positions_nm * 10, cell=box_nm * 10, pbc=True)
    assert turned.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-8)
    # the distances between all atoms and images, to the 8 decimals of the file
    expected, found = (np.sort(each.repeat(3).get_all_distances(mic=True).ravel()) for each in (atoms, turned))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    openmm.System().setDefaultPeriodicBoxVectors(*structure.topology.getPeriodicBoxVectors())  # it checks the form


def test_copies_multiply_the_energy(tmp_path):
    ase.io.write(tmp_path / "water.extxyz", one_molecule(TRICLINIC))
    once, copied = (read_structure(tmp_path / "water.extxyz", copies) for copies in [(1, 1, 1), (2, 1, 3)])
    assert copied.topology.getNumAtoms() == 18
    assert energy_kj(copied) == pytest.approx(6 * energy_kj(once), rel=1e-9)


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_a_written_structure_is_read_again(tmp_path, suffix):
    ase.io.write(tmp_path / "water.extxyz", one_molecule(5 * np.eye(3)))
    structure = read_structure(tmp_path / "water.extxyz", (2, 1, 1))
    system = openmm.System()
    for _ in structure.topology.atoms():
        system.addParticle(1.0)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    far = 0.0 if suffix == ".pdb" else 2000.0  # [nm], beyond the columns of a PDB file
    context.setPositions(structure.positions_nm + far)
    context.setPeriodicBoxVectors(*(1.1 * structure.topology.getPeriodicBoxVectors()))
    path = write_structure(tmp_path, "final", structure.topology, context.getState(positions=True))
    assert path == tmp_path / f"final{suffix}"
    again = read_structure(path)
    np.testing.assert_allclose(again.positions_nm, structure.positions_nm + far, atol=1e-4)
    assert [atom.element.symbol for atom in again.topology.atoms()] == list("OHHOHH")
    assert again.topology.getNumResidues() == 2  # mmCIF joined copies whose chains had one name
    lengths = again.topology.getUnitCellDimensions().value_in_unit(unit.nanometer)
    np.testing.assert_allclose(list(lengths), [1.1, 0.55, 0.55], atol=1e-4)


def test_atoms_with_more_names_than_a_pdb_file_has_are_written_as_mmcif(tmp_path):
    ase.io.write(tmp_path / "silver.extxyz", ase.Atoms("Ag", cell=np.eye(3) * 3, pbc=True) * (5, 5, 5))
    structure = read_structure(tmp_path / "silver.extxyz")
    path = write_positions(tmp_path, "final", structure.topology, structure.positions_nm)
    assert path.name == "final.cif"  # Ag100 would be another Ag10 in a PDB file, and left out when it is read
    np.testing.assert_allclose(read_structure(path).positions_nm, structure.positions_nm, atol=1e-4)


def test_copies_keep_chains_residues_and_bonds(tmp_path):
    topology = app.Topology()
    residue = topology.addResidue("OH", topology.addChain("X"))
    pair = [topology.addAtom("O", app.Element.getBySymbol("O"), residue)]
    pair.append(topology.addAtom("H", app.Element.getBySymbol("H"), residue))
    topology.addBond(*pair)
    topology.setUnitCellDimensions((1, 1, 1) * unit.nanometer)
    with (tmp_path / "oh.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, np.array([[0, 0, 0], [0.1, 0, 0]]) * unit.nanometer, file)
    copied = read_structure(tmp_path / "oh.pdb", (1, 1, 2)).topology
    assert (copied.getNumChains(), copied.getNumResidues(), copied.getNumBonds()) == (2, 2, 2)
    assert [(bond[0].index, bond[1].index) for bond in copied.bonds()] == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pbc": [True, True, False]}, "periodic along 2 of 3 directions; OpenMM knows all or none"),
        ({"cell": np.diag([5.0, 5.0, -5.0])}, "not right-handed; swap two of them"),
        ({"cell": np.diag([5.0, 5.0, 0.0])}, "its cell has no volume; add the cell vectors"),
        ({"symbols": "OHX"}, "atom 2 is X, which is no chemical element"),
    ],
)
def test_cells_that_openmm_cannot_have_are_refused(tmp_path, change, sentence):
    atoms = one_molecule(5 * np.eye(3))
    for name, value in change.items():
        setattr(atoms, name, value)
    ase.io.write(tmp_path / "water.extxyz", atoms)
    with pytest.raises(ValueError, match=sentence):
        read_structure(tmp_path / "water.extxyz")


def test_files_that_are_no_structures_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no structure file"):
        read_structure(tmp_path / "none.pdb")
    (tmp_path / "notes.txt").write_text("not atoms")
    with pytest.raises(ValueError, match="notes.txt` could not be read as a structure"):
        read_structure(tmp_path / "notes.txt")
    (tmp_path / "joined.xyz").write_text("1\n\nH 0 0 0\n\n1\n\nO 0 0 0\n")
    with pytest.raises(ValueError, match="joined.xyz` could not be .*: an empty line stands between frames"):
        read_structure(tmp_path / "joined.xyz")
    ase.io.write(tmp_path / "free.xyz", one_molecule())
    with pytest.raises(ValueError, match="`replicate` copies a periodic box, and .*free.xyz` has none"):
        read_structure(tmp_path / "free.xyz", (2, 1, 1))
    (tmp_path / "site.pdb").write_text("ATOM      1  M   HOH A   1       0.000   0.000   0.000  1.00  0.00\nEND\n")
    with pytest.raises(ValueError, match=r"atom 0 \(M\) of .* has no chemical element"):
        read_structure(tmp_path / "site.pdb")


def test_atoms_of_one_name_are_not_left_out_in_silence(tmp_path):
    ase.io.write(tmp_path / "water.pdb", one_molecule())  # names are the symbols: both hydrogens are H
    with pytest.raises(ValueError, match="leaves out 1 of .* such as `ATOM 3 H MOL 1`; .*, or give extended XYZ"):
        read_structure(tmp_path / "water.pdb")


def test_the_dummy_box_of_a_pdb_without_one_is_refused(tmp_path):
    (tmp_path / "ion.pdb").write_text(
        "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"
        "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n"
        "HETATM    2  H1  HOH A   1       0.960   0.000   0.000  1.00  0.00           H\nEND\n"
    )
    with pytest.raises(ValueError, match="has a periodic box of 1 Å³ for 2 atoms; remove the box .in a PDB file the"):
        read_structure(tmp_path / "ion.pdb")


def test_partial_occupancies_are_not_taken_for_whole_atoms(tmp_path):
    half = CIF.format("O1 O 0 0 0 1.0\nH1 H 0.2 0 0 0.5\nH2 H 0 0.2 0 0.5")
    (tmp_path / "half.cif").write_text(half)
    with pytest.raises(ValueError, match=r"half.cif` could not .*occupied in part \(H 0.5\); draw whole atoms with"):
        read_structure(tmp_path / "half.cif")
    (tmp_path / "whole.cif").write_text(half.replace("0.5\n", "1.0\n").replace("0 0.5", "0 1.0"))
    assert [atom.element.symbol for atom in read_structure(tmp_path / "whole.cif").topology.atoms()] == ["O", "H", "H"]


def test_a_gro_file_keeps_names_residues_and_box_and_guesses_no_ions(tmp_path):
    atoms = [(1, "SOL", "OW"), (1, "SOL", "HW1"), (1, "SOL", "HW2"), (2, "NA", "Na")]
    lines = [
        f"{number:5}{residue:5}{name:>5}{k + 1:5}{0.1 * k:8.3f}{0.5:8.3f}{1.0:8.3f}"
        for k, (number, residue, name) in enumerate(atoms)
    ]
    text = "\n".join(["water", "4", *lines, "2.0 2.0 2.0 0.0 0.0 0.5 0.0 0.5 0.25"]) + "\n"
    (tmp_path / "water.gro").write_text(text)
    structure = read_structure(tmp_path / "water.gro")
    found = [(atom.residue.name, atom.element.symbol) for atom in structure.topology.atoms()]
    assert found == [("HOH", "O"), ("HOH", "H"), ("HOH", "H"), ("NA", "Na")]
    assert structure.positions_nm == pytest.approx(np.array([[0.1 * k, 0.5, 1.0] for k in range(4)]), abs=1e-6)
    box = structure.topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer)
    assert np.array([list(v) for v in box]) == pytest.approx(
        np.array([[2.0, 0, 0], [0.5, 2.0, 0], [0.5, 0.25, 2.0]]), abs=1e-6
    )
    (tmp_path / "ions.gro").write_text(text.replace("  Na", "  NA"))
    with pytest.raises(ValueError, match=r"ions.gro` names no elements, and mdtraj takes atom 3 .* for N; give"):
        read_structure(tmp_path / "ions.gro")
    (tmp_path / "vacuum.gro").write_text(text.replace("2.0 2.0 2.0 0.0 0.0 0.5 0.0 0.5 0.25", "0.0 0.0 0.0"))
    assert read_structure(tmp_path / "vacuum.gro").topology.getPeriodicBoxVectors() is None


def test_a_reader_that_fails_without_a_word_is_told_in_words(tmp_path):
    (tmp_path / "w.data").write_text("LAMMPS data file\n\n3 atoms\n")
    with pytest.raises(ValueError, match=r"w.data` could not be read as a structure: \w+ .*; give PDB, mmCIF or"):
        read_structure(tmp_path / "w.data")
