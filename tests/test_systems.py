"""Builders: exact counts and densities, and no overlap."""

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_allegro.systems.files import atoms_of_system
from openmm_allegro.systems.relaxation import relaxed
from openmm_allegro.systems.water import water_box


def nm(quantity):
    return np.array([list(row) for row in quantity.value_in_unit(unit.nanometer)])


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


def shortest_oxygens(system):
    """[Å]."""
    atoms = atoms_of_system(system)
    oxygens = atoms[atoms.numbers == 8]
    return (oxygens.get_all_distances(mic=True) + 9 * np.eye(len(oxygens))).min()


def test_relaxed_water_is_the_liquid_of_its_force_field_in_the_same_box():
    box = water_box(64, seed=3)
    found = relaxed(box, 2.0, seed=3)
    assert shortest_oxygens(box) < 2.2  # as it was cut
    assert 2.4 < shortest_oxygens(found) < 2.7  # where g(r) of TIP3P begins
    assert np.array_equal(nm(found[2]), nm(box[2]))
    rigid = app.ForceField("amber14/tip3p.xml").createSystem(
        found[0], nonbondedMethod=app.PME, nonbondedCutoff=0.6 * unit.nanometer
    )
    context = openmm.Context(rigid, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CPU"))
    context.setPositions(found[1])
    energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) / 64
    # TIP3P at 298 K has -40.0 kJ/mol (Jorgensen et al., J. Chem. Phys. 79, 926, 1983); one moment of 64 molecules
    assert energy == pytest.approx(-40.0, abs=2.0)


def test_a_box_of_unknown_molecules_is_not_relaxed():
    methane = app.Topology()
    residue = methane.addResidue("CH4", methane.addChain())
    carbon = methane.addAtom("C", app.element.carbon, residue)
    for number in range(4):
        methane.addBond(carbon, methane.addAtom(f"H{number}", app.element.hydrogen, residue))
    with pytest.raises(ValueError, match="Amber14 and TIP3P.*CH4.*let the model minimise it"):
        relaxed((methane, unit.Quantity(np.zeros((5, 3)), unit.nanometer), None))


def test_relaxing_takes_no_time_below_zero():
    with pytest.raises(ValueError, match="-1 ps at 300 K to relax; both must be zero or more"):
        relaxed(water_box(4), -1.0)
