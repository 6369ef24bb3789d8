"""Liquids and electrolytes: numbers by hand, densities against the literature, whole molecules and no overlap.

For carbonates and their salts no classical model is at hand, so their boxes are judged by distances alone.
"""

import numpy as np
import openmm
import pytest
from openmm import app, unit
from scipy.spatial import cKDTree

from openmm_allegro.structure import read_structure
from openmm_allegro.systems.files import atoms_of_system, shortest_distance, write_system
from openmm_allegro.systems.liquid import electrolyte, liquid
from openmm_allegro.systems.molecules import SOLVENTS, ion_molecule, ions_of, solvent_molecule
from openmm_allegro.systems.packing import packed

pytest.importorskip("rdkit", reason="RDKit, which makes the geometries, is not installed")
pytest.importorskip("packmol", reason="Packmol is not installed")

ELECTROLYTES = [
    (["EC", "EMC"], 30, {"parts": [3, 7], "by": "mass", "salt": "LiPF6", "molal": 1.0}),
    (["PC"], 24, {"salt": "LiTFSI", "molar": 1.0}),
    (["DMC", "DEC"], 24, {"salt": "LiBF4", "formula_units": 2}),
    (["water"], 110, {"salt": "MgCl2", "molar": 1.0}),
]


def density(recipe):
    """By ideal mixing [g/cm³]."""
    return recipe.mass / 6.02214076e23 / (recipe.volume * 1e-24)


def numbers(recipe):
    return {molecule.residue: number for molecule, number in recipe.molecules}


def test_a_mass_fraction_and_a_molality_are_the_nearest_whole_numbers():
    recipe = electrolyte(["EC", "EMC"], 100, parts=[3, 7], by="mass", salt="LiPF6", molal=1.0)
    # 3 g EC are 34.07 mmol, 7 g EMC 67.24 mmol: 33.6 of 100; 34 EC and 66 EMC weigh 9.865 kg/mol, so 9.9 LiPF6
    assert numbers(recipe) == {"EC": 34, "EMC": 66, "LI": 10, "PF6": 10}
    assert recipe.charge == 0


def test_a_molarity_counts_the_volume_of_the_whole():
    recipe = electrolyte(["water"], 1000, salt="NaCl", molar=1.0)
    assert numbers(recipe) == {"HOH": 1000, "NA": 18, "CL": 18}
    litres = recipe.volume * 1e-27
    assert 18 / 6.02214076e23 / litres == pytest.approx(1.0, rel=0.03)  # half of a formula unit


@pytest.mark.parametrize(("solvent", "salt", "density"), [("water", "NaCl", 0.8), ("CC#N", "LiTFSI", 1.0)])
def test_a_molarity_is_that_of_the_box_at_the_density_given(solvent, salt, density):
    recipe = electrolyte([solvent], 2000, salt=salt, molar=1.0, density_g_per_cm3=density)
    litres = recipe.mass / density / 1000 / 6.02214076e23
    assert recipe.molecules[1][1] / 6.02214076e23 / litres == pytest.approx(1.0, rel=0.015)  # half of a formula unit


@pytest.mark.parametrize(
    ("salt", "mass_percent", "published"),
    [("NaCl", 10, 1.0707), ("KCl", 10, 1.0633), ("LiCl", 10, 1.0559), ("CaCl2", 10, 1.0835)],
)
def test_densities_of_salt_water_are_those_of_the_handbook(salt, mass_percent, published):
    # CRC Handbook, 20 °C. Ideal mixing leaves out electrostriction: half a per cent at this concentration.
    units = ions_of(salt)
    mass = sum(ion_molecule(ion).mass * number for ion, number in units.items())
    n_units = round(5000 * 18.015 * mass_percent / (100 - mass_percent) / mass)
    assert density(electrolyte(["water"], 5000, salt=salt, formula_units=n_units)) == pytest.approx(published, rel=0.01)


def test_density_of_a_commercial_electrolyte():
    # 1 mol/L LiPF6 in EC and DMC, 1:1 by mass: 1.30 g/cm³ in suppliers' sheets (LP30)
    recipe = electrolyte(["EC", "DMC"], 2000, by="mass", salt="LiPF6", molar=1.0)
    assert density(recipe) == pytest.approx(1.30, rel=0.02)


@pytest.mark.parametrize(("solvents", "n_molecules", "options"), ELECTROLYTES)
def test_molecules_are_whole_neutral_and_apart_also_across_the_box(solvents, n_molecules, options):
    recipe = electrolyte(solvents, n_molecules, **options)
    system = liquid(solvents, n_molecules, seed=3, **options)
    topology, positions, box = system
    assert recipe.charge == 0
    assert topology.getNumResidues() == sum(number for _, number in recipe.molecules)
    atoms = atoms_of_system(system)
    assert atoms.get_masses().sum() / atoms.get_volume() == pytest.approx(recipe.mass / recipe.volume, rel=1e-9)
    edge = box[0][0].value_in_unit(unit.angstrom)
    places = np.mod(atoms.positions, edge)
    pairs = cKDTree(np.minimum(places, np.nextafter(edge, 0)), boxsize=edge).query_pairs(1.95, output_type="ndarray")
    residue = np.array([atom.residue.index for atom in topology.atoms()])
    assert (residue[pairs[:, 0]] == residue[pairs[:, 1]]).all()  # Packmol keeps 2.0 Å to within a per cent
    lengths = [
        np.linalg.norm(atoms.positions[first.index] - atoms.positions[second.index])
        for first, second in topology.bonds()
    ]
    assert min(lengths, default=1) > 0.9  # O-H
    assert max(lengths, default=1) < 1.95  # C-S


# Gas-phase structures [Å]: Kuchitsu, Structure of Free Polyatomic Molecules (1998); MMFF94 is within 0.03.
@pytest.mark.parametrize(
    ("name", "first", "second", "length"),
    [("water", "O", "H", 0.958), ("EC", "C", "O", 1.195), ("DMC", "C", "O", 1.203), ("DEC", "C", "C", 1.52)],
)
def test_bond_lengths_of_solvents(name, first, second, length):
    molecule = solvent_molecule(name)
    shortest = min(
        np.linalg.norm(molecule.positions[a] - molecule.positions[b])
        for a, b in molecule.bonds
        if {molecule.symbols[a], molecule.symbols[b]} == {first, second}
    )
    assert shortest == pytest.approx(length, abs=0.03)


@pytest.mark.parametrize(("name", "angles"), [("PF6", {90, 180}), ("BF4", {109})])
def test_symmetric_anions_have_the_angles_of_their_polyhedra(name, angles):
    arms = ion_molecule(name).positions[1:]
    arms = arms / np.linalg.norm(arms, axis=1)[:, None]
    found = np.degrees(np.arccos(np.clip(arms @ arms.T, -1, 1)))[np.triu_indices(len(arms), 1)]
    assert set(np.floor(found + 1e-6).astype(int)) == angles
    assert ion_molecule(name).charge == -1


@pytest.mark.parametrize("name", SOLVENTS)
def test_a_molecule_has_the_mass_of_its_formula(name):
    masses = {"water": 18.015, "EC": 88.06, "PC": 102.09, "DMC": 90.08, "EMC": 104.10, "DEC": 118.13}  # g/mol
    assert solvent_molecule(name).mass == pytest.approx(masses[name], abs=0.01)
    assert solvent_molecule(name).charge == 0


def test_tfsi_is_whole_and_charged():
    molecule = ion_molecule("TFSI")
    assert sorted(molecule.symbols) == sorted("CCSSNOOOOFFFFFF")
    assert (molecule.charge, len(molecule.bonds)) == (-1, 14)


@pytest.mark.parametrize(
    ("formula", "ions"),
    [
        ("NaCl", {"Na": 1, "Cl": 1}),
        ("CaCl2", {"Ca": 1, "Cl": 2}),
        ("LiPF6", {"Li": 1, "PF6": 1}),
        ("Mg(TFSI)2", {"Mg": 1, "TFSI": 2}),
    ],
)
def test_formulas_of_salts(formula, ions):
    assert ions_of(formula) == ions


def test_a_liquid_on_a_base_stays_between_its_walls():
    _, positions, box = liquid(["DMC"], 20, base_nm=(1.4, 1.3), seed=1)
    z = positions.value_in_unit(unit.angstrom)[:, 2]
    height = box[2][2].value_in_unit(unit.angstrom)
    assert z.min() > -0.05  # Packmol's tolerance for walls
    assert z.max() < height + 0.05
    assert box[0][0].value_in_unit(unit.nanometer) == pytest.approx(1.4)
    assert 1.4 * 1.3 * height / 10 == pytest.approx(20 * 90.08 / 1.063 / 602.214076, rel=1e-3)


@pytest.mark.parametrize("suffix", [".cif", ".pdb"])
def test_molecules_of_smiles_keep_their_names_and_bonds_in_files(tmp_path, suffix):
    built = write_system(liquid(["CC#N", "CCO"], 6, density_g_per_cm3=0.5), tmp_path / f"mixture{suffix}")
    assert built.residues == {"S01": 3, "S02": 3}
    topology = read_structure(built.file).topology
    assert topology.getNumBonds() == 3 * 5 + 3 * 8  # OpenMM adds the bonds of an amino acid to residues called UNK
    assert built.formula == "C12H27N3O3"


def test_the_seed_decides_the_packing():
    first, again, other = (liquid(["DMC"], 8, seed=seed)[1]._value for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize(
    ("solvents", "options", "sentence"),
    [
        (["DMX"], {}, "there is no solvent `DMX`; did you mean `DMC`"),
        (["ec"], {}, "there is no solvent `ec`"),
        (["C[N+](C)(C)C"], {}, r"`C\[N\+\]\(C\)\(C\)C` has a charge of \+1"),
        (["CC#N"], {}, "density of this liquid is not known here; give `density_g_per_cm3`"),
        (["CC#N"], {"salt": "LiPF6", "molar": 1}, "density of this liquid is not known here; give `density_g_per_cm3`"),
        (["EC", "EC"], {}, "a solvent is named twice"),
        (["EC", "DMC"], {"parts": [1]}, "2 solvents and the parts"),
        (["EC", "DMC"], {"parts": [1, 99]}, "10 molecules in these proportions are 0, 10"),
        (["[Na+].[Cl-]"], {}, r"`\[Na\+\].\[Cl-\]` has 2 molecules; name each by itself, and ions by `salt`"),
        (["C*"], {}, r"`C\*` has a wildcard or an isotope"),
        (["[2H]O[2H]"], {}, "has a wildcard or an isotope"),
        (["water"], {"salt": "Na(Cl", "molal": 1}, r"`Na\(Cl` is not the formula of a salt"),
        (["water"], {"salt": "NaCl2", "molal": 1}, "the formula `NaCl2` has a charge of -1"),
        (["water"], {"salt": "NaXy", "molal": 1}, "`NaXy` is not the formula of a salt"),
        (["water"], {"salt": "NaCl"}, "say how much NaCl: one of `molal`, `molar` and `formula_units`"),
        (["water"], {"molal": 1}, "a concentration, but no `salt`"),
        (["water"], {"salt": "NaCl", "molal": 0.01}, "is 0.0018 formula units; ask for .* molecules or more"),
        (["water"], {"salt": "LiTFSI", "molar": 9}, "9 mol of LiTFSI take more than a litre"),
        (["DMC"], {"density_g_per_cm3": -1}, "`density_g_per_cm3` is -1"),
        (["DMC"], {"density_g_per_cm3": 3.0}, "is 3.0, but ideal mixing gives 1.063; such a liquid is not known"),
        (
            ["DMC"],
            {"salt": "LiPF6", "molar": 1, "density_g_per_cm3": 1200.0},
            "is 1200.0, but ideal mixing gives 1.063",
        ),
        (["DMC"], {"base_nm": (0, 1)}, r"`base_nm` is \[0, 1\]"),
    ],
)
def test_liquids_that_make_no_sense_are_refused(solvents, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        liquid(solvents, 10, **options)


def test_a_box_without_room_is_refused():
    with pytest.raises(ValueError, match="Packmol finds no place for 3 molecules in 5.0 × 5.0 × 5.0 Å"):
        packed([(solvent_molecule("DMC"), 3)], np.full(3, 5.0))


@pytest.mark.parametrize("salt", ["NaCl", "KCl", "MgCl2"])
def test_salt_water_is_minimised_and_stays_a_liquid(salt):
    topology, positions, _ = liquid(["water"], 216, salt=salt, molar=1.0)
    field = app.ForceField("amber14/tip3p.xml")
    system = field.createSystem(
        topology, nonbondedMethod=app.PME, nonbondedCutoff=0.8 * unit.nanometer, constraints=app.HBonds
    )
    integrator = openmm.LangevinMiddleIntegrator(300, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform("CPU"), {"Threads": "1"})
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy(maxIterations=100)
    simulation.context.setVelocitiesToTemperature(300, 1)
    simulation.step(500)  # 1 ps
    state = simulation.context.getState(energy=True, positions=True)
    per_water = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) / 216
    # Water alone has -40 kJ/mol (TIP3P); 4 salts in 216 add their hydration, some -700 to -2500 kJ/mol each.
    assert -100 < per_water < -45
    relaxed = (topology, state.getPositions(), state.getPeriodicBoxVectors())
    assert shortest_distance(atoms_of_system(relaxed)) > 0.9
