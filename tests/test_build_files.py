"""Built systems in files: OpenMM, mdtraj and ASE read back what is written, and what has a force field runs."""

import random

import ase
import ase.io
import mdtraj
import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_allegro.structure import read_structure
from openmm_allegro.systems.crystal import crystal
from openmm_allegro.systems.files import (
    atoms_of_system,
    box_widths,
    read_system,
    shortest_distance,
    system_of_atoms,
    write_system,
)
from openmm_allegro.systems.openmmtools_systems import openmmtools_system
from openmm_allegro.systems.slab import slab, stack
from openmm_allegro.systems.solvated import solvated
from openmm_allegro.systems.water import water_box

# mdtraj's readers; openmmtools' dependencies
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


def nm(quantity):
    return np.array([list(row) for row in quantity.value_in_unit(unit.nanometer)])


@pytest.fixture(scope="module")
def dipeptide(tmp_path_factory):
    """Alanine dipeptide without its hydrogens, as a PDB file."""
    topology, positions, _ = openmmtools_system("AlanineDipeptideVacuum")
    modeller = app.Modeller(topology, positions)
    modeller.delete([atom for atom in topology.atoms() if atom.element.symbol == "H"])
    path = tmp_path_factory.mktemp("dipeptide") / "dipeptide.pdb"
    with path.open("w") as file:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, file)
    return path


def triclinic():
    cell = [[3.1, 4.2, 0.3], [-5.0, 2.9, 1.1], [0.8, -1.4, 7.6]]  # right-handed, in no special orientation
    atoms = ase.Atoms("LiFLiF", cell=cell, pbc=True)
    atoms.set_scaled_positions([(0.1, 0.2, 0.3), (0.6, 0.25, 0.4), (0.2, 0.8, 0.9), (0.7, 0.7, 0.1)])
    return atoms


SYSTEMS = {
    "water": lambda: water_box(20),
    "triclinic": lambda: system_of_atoms(triclinic()),
    "hexagonal slab": lambda: system_of_atoms(slab(crystal("si"), (1, 1, 1), 2)),
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_files_are_read_back_by_openmm_mdtraj_and_ase(tmp_path, name, suffix):
    system = SYSTEMS[name]()
    built = write_system(system, tmp_path / f"box{suffix}")
    expected = atoms_of_system(system)
    again = read_structure(built.file)
    tolerance = 6e-5 if suffix == ".pdb" else 1e-5  # 0.001 Å; mmCIF 0.0001 Å
    np.testing.assert_allclose(again.positions_nm, expected.positions / 10, atol=tolerance)
    # the same lattice: OpenMM may take another vector of it where two are as short
    combinations = nm(again.topology.getPeriodicBoxVectors()) * 10 @ np.linalg.inv(expected.cell)
    np.testing.assert_allclose(combinations, np.rint(combinations), atol=1e-3)
    assert np.linalg.det(combinations) == pytest.approx(1, abs=1e-3)
    assert again.topology.getNumBonds() == system[0].getNumBonds()
    by_mdtraj = mdtraj.load(str(built.file))
    assert [atom.element.symbol for atom in by_mdtraj.topology.atoms] == expected.get_chemical_symbols()
    np.testing.assert_allclose(by_mdtraj.xyz[0], expected.positions / 10, atol=tolerance)
    np.testing.assert_allclose(by_mdtraj.unitcell_volumes[0], expected.get_volume() / 1000, rtol=1e-3)
    by_ase = ase.io.read(built.extxyz)
    assert by_ase.get_chemical_symbols() == expected.get_chemical_symbols()
    np.testing.assert_allclose(by_ase.positions, expected.positions, atol=1e-7)
    np.testing.assert_allclose(by_ase.cell, expected.cell, atol=1e-7)
    assert by_ase.pbc.all()


def test_finished_atoms_are_not_taken_for_a_lattice(tmp_path):
    write_system(water_box(20), tmp_path / "water.cif")
    with pytest.raises(ValueError, match="water.cif` is PDBx/mmCIF, which holds finished atoms"):
        crystal(tmp_path / "water.cif")


def test_a_crystal_turned_for_openmm_has_its_distances():
    atoms = triclinic()
    turned = atoms_of_system(system_of_atoms(atoms))
    assert shortest_distance(turned) == pytest.approx(shortest_distance(atoms), abs=1e-9)
    assert turned.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-9)


def test_figures_of_what_was_built(tmp_path):
    built = write_system(system_of_atoms(crystal("nacl", (2, 2, 2))), tmp_path / "salt.cif", r_max=5.6)
    assert (built.atoms, built.formula) == (64, "Cl32Na32")
    assert built.widths_nm == pytest.approx([1.12804] * 3, abs=1e-4)
    assert built.density_g_per_cm3 == pytest.approx(2.163, rel=1e-3)
    assert built.shortest_distance_angstrom == pytest.approx(2.8201, abs=1e-3)


def test_widths_of_a_sheared_box():
    # of a rhombus with 60° the distance of opposite sides is √3/2 of its edge
    box = np.array([[2.0, 0, 0], [1.0, 3**0.5, 0], [0, 0, 3.0]])
    assert box_widths(box) == pytest.approx([3**0.5, 3**0.5, 3.0])


@pytest.mark.parametrize(
    ("name", "r_max", "sentence"),
    [
        ("box.xyz", None, "ends in `.xyz`; give it .cif .* or .pdb"),
        ("box.cif", 6.0, "is 1.13 nm wide, less than twice the cutoff of 6 Å"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path, name, r_max, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_system(system_of_atoms(crystal("nacl", (2, 2, 2))), tmp_path / name, r_max)
    assert list(tmp_path.iterdir()) == []


def test_a_stack_strains_the_base_and_leaves_molecules_whole():
    lower = system_of_atoms(slab(crystal("li"), (1, 0, 0), 3, repeat=(4, 4)))
    upper = water_box(edge_nm=1.42, seed=1)  # the base is 1.4037 nm
    topology, positions, box = stack(lower, upper, gap_nm=0.25)
    places, vectors = nm(positions), nm(box)
    n_lower, n_upper = lower[0].getNumAtoms(), upper[0].getNumAtoms()
    assert topology.getNumAtoms() == n_lower + n_upper
    assert topology.getNumBonds() == upper[0].getNumBonds()
    np.testing.assert_allclose(vectors[:2], nm(lower[2])[:2], atol=1e-9)
    below, above = places[:n_lower, 2], places[n_lower:, 2]
    assert above.min() - below.max() == pytest.approx(0.25)
    assert vectors[2, 2] - above.max() + below.min() == pytest.approx(0.25)
    np.testing.assert_allclose(
        [np.linalg.norm(places[a.index] - places[b.index]) for a, b in topology.bonds()],
        [np.linalg.norm(nm(upper[1])[a.index] - nm(upper[1])[b.index]) for a, b in upper[0].bonds()],
        atol=1e-9,
    )
    assert np.ptp(places[n_lower:, 0]) < np.ptp(nm(upper[1])[:, 0])  # squeezed


def test_what_has_wandered_out_of_its_cell_is_stacked_as_if_it_had_not():
    lower = system_of_atoms(slab(crystal("li"), (1, 0, 0), 3, repeat=(4, 4)))
    upper = water_box(edge_nm=1.42, seed=1)
    slab_places, water_places = nm(lower[1]), nm(upper[1])
    slab_places[::5] -= nm(lower[2])[2]
    water_places[3:30] += 2 * nm(upper[2])[2]  # nine molecules, two images up: the same liquid
    moved = [(lower[0], slab_places, lower[2]), (upper[0], water_places, upper[2])]
    moved = [(topology, unit.Quantity(places, unit.nanometer), box) for topology, places, box in moved]
    height, wandered = (nm(stack(*both, gap_nm=0.25)[2])[2, 2] for both in ([lower, upper], moved))
    # the liquid has no walls, so another cut of it has other molecules that look out
    assert wandered == pytest.approx(height, abs=0.1)
    assert nm(stack(moved[0], upper, gap_nm=0.25)[2])[2, 2] == pytest.approx(height, abs=1e-9)


def test_systems_whose_bases_differ_are_not_stacked():
    with pytest.raises(ValueError, match=r"0.564 × 0.564 nm and 1.128 × 1.128 nm, differ by 100.0 %, more than 5 %"):
        stack(system_of_atoms(crystal("nacl")), system_of_atoms(crystal("nacl", (2, 2, 1))))


def test_a_system_without_a_box_is_not_stacked(dipeptide):
    with pytest.raises(ValueError, match="the upper system has no periodic box"):
        stack(system_of_atoms(crystal("nacl")), read_system(dipeptide))


def test_a_crystal_with_more_names_than_a_pdb_file_has_is_refused_there(tmp_path):
    system = system_of_atoms(crystal("ag", (3, 3, 3)))  # Ag100 would be Ag10
    with pytest.raises(ValueError, match="some of these 108 atoms would share a name, .*; write .cif"):
        write_system(system, tmp_path / "silver.pdb")
    assert write_system(system, tmp_path / "silver.cif").atoms == len(read_system(tmp_path / "silver.cif")[1]) == 108


def test_a_peptide_is_solvated_and_runs(dipeptide, tmp_path):
    system = solvated(dipeptide, padding_nm=0.7, molar=0.5)
    with pytest.warns(UserWarning, match="atoms of different molecules come as close as"):  # across the faces
        built = write_system(system, tmp_path / "solvated.cif")
    topology = read_structure(built.file).topology
    counts = built.residues
    middle = (nm(system[1]).min(0) + nm(system[1]).max(0)) / 2
    assert middle == pytest.approx(nm(system[2]).sum(0) / 2)
    solute = nm(system[1])[:22]
    sphere = 2 * np.linalg.norm(solute - (solute.min(0) + solute.max(0)) / 2, axis=1).max()
    assert nm(system[2])[0][0] == pytest.approx(sphere + 0.7, abs=1e-6)  # 0.7 nm to the images, not to each face
    assert {name: counts[name] for name in ("ACE", "ALA", "NME")} == {"ACE": 1, "ALA": 1, "NME": 1}
    assert counts["NA"] == counts["CL"] == round(0.5 / 55.4 * (counts["HOH"] + 2 * counts["NA"]))
    assert topology.getNumBonds() == 21 + 2 * counts["HOH"]  # C6H12N2O2 is a tree: one bond fewer than atoms
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    forces = field.createSystem(
        topology, nonbondedMethod=app.PME, nonbondedCutoff=0.6 * unit.nanometer, constraints=app.HBonds
    )
    charges = next(force for force in forces.getForces() if isinstance(force, openmm.NonbondedForce))
    charge = sum(charges.getParticleParameters(index)[0]._value for index in range(topology.getNumAtoms()))
    assert charge == pytest.approx(0, abs=1e-6)
    simulation = app.Simulation(
        topology,
        forces,
        openmm.LangevinMiddleIntegrator(300, 1.0, 0.002),
        openmm.Platform.getPlatform("CPU"),
        {"Threads": "1"},
    )
    simulation.context.setPositions(system[1])
    before = simulation.context.getState(energy=True).getPotentialEnergy()
    simulation.minimizeEnergy(maxIterations=50)
    assert simulation.context.getState(energy=True).getPotentialEnergy() < before
    simulation.context.setVelocitiesToTemperature(300, 1)
    simulation.step(500)  # 1 ps
    places = nm(simulation.context.getState(positions=True).getPositions())
    assert max(np.linalg.norm(places[a.index] - places[b.index]) for a, b in topology.bonds()) < 0.2


def test_a_solvated_peptide_keeps_its_chain_and_residue_numbers(dipeptide, tmp_path):
    lines = dipeptide.read_text().splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
    moved = [f"{line[:21]}C{int(line[22:26]) + 100:4d}{line[26:]}" for line in atoms]
    (tmp_path / "deposited.pdb").write_text("\n".join([*moved, "END", ""]))
    system = solvated(tmp_path / "deposited.pdb", padding_nm=0.6)
    for suffix in (".pdb", ".cif"):
        with pytest.warns(UserWarning, match="atoms of different molecules come as close"):
            built = write_system(system, tmp_path / f"solvated{suffix}")
        residues = list(read_structure(built.file).topology.residues())[:3]
        named = [f"{residue.chain.id} {residue.id} {residue.name}" for residue in residues]
        assert named == ["C 101 ACE", "C 102 ALA", "C 103 NME"]


def test_the_seed_decides_where_ions_are(dipeptide):
    def ions(seed):
        topology, positions, _ = solvated(dipeptide, padding_nm=0.7, molar=1.0, seed=seed)
        return nm(positions)[[atom.index for atom in topology.atoms() if atom.residue.name in ("NA", "CL")]]

    random.seed(5)
    first = ions(1)
    np.testing.assert_allclose(first, ions(1), atol=1e-3)  # hydrogens of the solute are minimised on several threads
    assert not np.allclose(first, ions(2), atol=0.1)
    assert random.random() == random.Random(5).random()  # the generator of the script is as it was


def test_missing_atoms_are_repaired(dipeptide, tmp_path):
    pytest.importorskip("pdbfixer", reason="PDBFixer is not installed")
    lines = [
        line for line in dipeptide.read_text().splitlines() if " CB " not in line and not line.startswith("CONECT")
    ]
    (tmp_path / "broken.pdb").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="could not be solvated: .*; `repair` adds missing atoms"):
        solvated(tmp_path / "broken.pdb", padding_nm=0.6)
    topology, _, _ = solvated(tmp_path / "broken.pdb", padding_nm=0.6, repair=True)
    assert [atom.name for atom in topology.atoms() if atom.name == "CB"] == ["CB"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"padding_nm": 0}, "`padding_nm` is 0"),
        ({"molar": -1}, "`molar` is -1"),
        ({"salt": "MgCl2"}, "`salt` is MgCl2; water around a solute takes a salt of single charges"),
        ({"salt": "LiPF6"}, "`salt` is LiPF6"),
    ],
)
def test_solvations_that_make_no_sense_are_refused(dipeptide, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        solvated(dipeptide, **options)


def test_a_test_system_of_openmmtools_is_the_one_of_its_name():
    topology, positions, box = openmmtools_system("WaterBox")
    assert topology.getNumAtoms() == len(positions)
    assert {residue.name for residue in topology.residues()} == {"HOH"}
    assert nm(box).shape == (3, 3)
    topology, _, box = openmmtools_system("AlanineDipeptideVacuum")
    assert (topology.getNumAtoms(), box, topology.getPeriodicBoxVectors()) == (22, None, None)


def test_an_unknown_test_system_is_named_with_the_known():
    with pytest.raises(ValueError, match="no test system `WatreBox`; did you mean `WaterBox`.*AlanineDipeptideVacuum"):
        openmmtools_system("WatreBox")


def test_deuterium_is_heavy_hydrogen_to_ase():
    topology, positions, box = water_box(2)
    for atom in topology.atoms():
        if atom.element.symbol == "H":
            atom.element = app.element.deuterium
    atoms = atoms_of_system((topology, positions, box))
    assert atoms.get_chemical_formula() == "H4O2"
    assert atoms.get_masses().sum() == pytest.approx(2 * 20.0276, abs=5e-3)  # OpenMM has the mass of the nucleus
