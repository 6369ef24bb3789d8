"""The ASE calculator: the model's numbers, their derivatives, and what ASE's own tools make of it."""

import copy
import pickle

import ase
import numpy as np
import openmm
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from conftest import random_atoms, small_model
from ensembles import deep_ensemble, last_layer_ensemble

from openmm_allegro import AllegroCalculator, AllegroForce
from openmm_allegro.checkpoint import save_model
from openmm_allegro.ensemble import Factors
from openmm_allegro.ensemble_file import save_ensemble
from openmm_allegro.open_cell import OpenCell
from openmm_allegro.potential import Potential
from openmm_allegro.structure import structure_from_atoms

SYMBOLS = np.array(["H", "O"])


def some_atoms(n_atoms: int = 12, edge: float = 6.0, pbc: object = True) -> ase.Atoms:
    positions, cell, types = random_atoms(n_atoms, edge)
    return ase.Atoms(SYMBOLS[types], positions.numpy(), cell=cell.numpy(), pbc=pbc)


def calculator(**options: object) -> AllegroCalculator:
    return AllegroCalculator(small_model(zbl=True), precision="double", **options)


@pytest.mark.parametrize("pbc", [True, False, (1, 0, 1), (0, 1, 0)], ids=str)
def test_forces_and_stress_are_the_slopes_that_ase_finds(pbc):
    atoms = some_atoms(4, 5.0, pbc)
    atoms.calc = calculator()
    # central differences at 1e-4: the third derivative of the energy times 1e-8 / 6
    numerical = calculate_numerical_forces(atoms, 1e-4)
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, 1e-4), atol=1e-7)
    assert np.abs(atoms.get_stress()).max() > 1e-3


@pytest.mark.parametrize("pbc", [(1, 1, 0), (0, 1, 0), (1, 0, 1), (0, 0, 1)], ids=str)
def test_open_directions_are_those_of_a_cell_with_a_wide_vacuum(pbc):
    atoms = some_atoms(12, 6.0, pbc)
    atoms.calc = calculator()
    wide = atoms.copy()
    wide.cell[~atoms.pbc] *= 10  # along the lattice vectors, not along their normals as in the calculator
    wide.pbc = True
    wide.calc = calculator()
    assert atoms.get_potential_energy() == pytest.approx(wide.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), wide.get_forces(), atol=1e-12)


def test_a_slab_may_have_no_third_cell_vector():
    slab = some_atoms(pbc=(1, 1, 0))
    without = slab.copy()
    without.cell[2] = 0
    slab.calc, without.calc = calculator(), calculator()
    assert slab.get_potential_energy() == pytest.approx(without.get_potential_energy(), rel=1e-13)
    with pytest.raises(PropertyNotImplementedError, match="the cell has no volume, so there is no stress"):
        without.get_stress()


def test_energies_of_atoms_are_those_of_the_model_as_it_is_trained():
    atoms = some_atoms(pbc=False)
    model = small_model(per_type_energy_shifts={"H": -13.6, "O": -2041.0})
    atoms.calc = AllegroCalculator(model, precision="double")
    vectors = torch.tensor(atoms.positions)[None] - torch.tensor(atoms.positions)[:, None]
    vectors[torch.eye(12, dtype=torch.bool)] = torch.tensor([8.0, 0.0, 0.0], dtype=torch.float64)  # beyond the cutoff
    types = torch.tensor([int(symbol == "O") for symbol in atoms.symbols])
    expected = model(vectors, types, types.expand(12, 12)).detach().numpy()
    np.testing.assert_allclose(atoms.get_potential_energies(), expected, rtol=1e-12)
    assert atoms.get_potential_energy() == pytest.approx(expected.sum(), rel=1e-13)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1e-5), ("double", 1e-11)])
def test_openmm_has_the_same_energy_and_forces(tmp_path, precision, tolerance):
    save_model(small_model(), tmp_path / "model.safetensors")
    atoms = some_atoms(30, 9.0)
    # OpenMM wants another orientation of the cell, and both have it here
    topology, positions_nm = structure_from_atoms(atoms)
    box = topology.getPeriodicBoxVectors()
    cell = [list(vector.value_in_unit(openmm.unit.angstrom)) for vector in box]
    atoms = ase.Atoms(atoms.symbols, 10 * positions_nm, cell=cell, pbc=True)
    atoms.calc = AllegroCalculator(tmp_path / "model.safetensors", precision=precision)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*box)
    for _ in atoms:
        system.addParticle(1.0)
    system.addForce(AllegroForce(tmp_path / "model.safetensors", topology, precision=precision, bridge="python"))
    platform = openmm.Platform.getPlatform("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions_nm)
    state = context.getState(energy=True, forces=True)
    kj = state.getPotentialEnergy().value_in_unit(openmm.unit.kilojoule_per_mole)
    kj_nm = state.getForces(asNumpy=True).value_in_unit(openmm.unit.kilojoule_per_mole / openmm.unit.nanometer)
    ev = 96.48533212331  # kJ/mol, by the exact constants of 2019
    assert atoms.get_potential_energy() == pytest.approx(kj / ev, rel=tolerance)
    forces = kj_nm / (10 * ev)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=tolerance * np.abs(forces).max())


def test_the_neighbour_list_is_kept_along_dynamics_that_conserves_energy():
    atoms = some_atoms(30, 9.0)
    atoms.calc = calculator()
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=100)
    rng = np.random.default_rng(1)
    atoms.set_velocities(0.01 * rng.normal(size=(30, 3)))
    neighbours = atoms.calc.potential.neighbors
    builds, updates, start = neighbours.builds, neighbours.updates, atoms.get_total_energy()
    VelocityVerlet(atoms, timestep=0.2 * ase.units.fs).run(60)
    assert neighbours.updates == updates + 60
    assert neighbours.builds - builds <= 3
    assert atoms.get_kinetic_energy() > 0.01
    # the error of velocity Verlet, in proportion to the square of the time step
    assert atoms.get_total_energy() == pytest.approx(start, abs=1e-3)


def test_a_slab_keeps_its_list_while_it_moves_and_its_images_stay_apart_when_it_falls_to_pieces():
    atoms = some_atoms(12, 6.0, (1, 1, 0))
    atoms.calc = calculator()
    atoms.get_potential_energy()
    atoms.positions += 0.01
    atoms.get_potential_energy()
    assert atoms.calc.potential.neighbors.builds == 1
    atoms.positions[3, 2] += 11.0  # beyond what the first cell had room for
    alone = atoms.copy()
    alone.calc = calculator()
    assert atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), rel=1e-12)
    cell = atoms.calc.open_cell.completed(atoms.positions, atoms.cell.array, atoms.pbc)
    normal = np.cross(cell[0], cell[1]) / np.linalg.norm(np.cross(cell[0], cell[1]))
    assert abs(cell[2] @ normal) - np.ptp(atoms.positions @ normal) > 5.0  # cutoff and skin


def test_an_open_cell_is_zero_without_periodicity_and_as_given_with_all():
    positions, cell = np.ones((2, 3)), np.diag([3.0, 4.0, 5.0])
    assert not OpenCell(5.0).completed(positions, cell, np.zeros(3, dtype=bool)).any()
    assert OpenCell(5.0).completed(positions, cell, np.ones(3, dtype=bool)) is cell


@pytest.mark.parametrize("factors", [None, Factors(2.0, 3.0)], ids=["raw", "calibrated"])
def test_spreads_of_an_ensemble_are_those_of_its_members_one_by_one(factors):
    ensemble = deep_ensemble(factors=factors)
    atoms = some_atoms()
    energies, forces = [], []
    for member in ensemble.members:
        atoms.calc = AllegroCalculator(member, precision="double")
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    atoms.calc = AllegroCalculator(ensemble, precision="double")
    of_energy, of_forces = factors or (1.0, 1.0)
    spread = atoms.calc.get_property("energy_spread", atoms)
    assert spread == pytest.approx(of_energy * np.std(energies, ddof=1), rel=1e-10)
    expected = of_forces * np.sqrt(np.var(forces, axis=0, ddof=1).mean(axis=1))
    np.testing.assert_allclose(atoms.calc.get_property("force_spread", atoms), expected, rtol=1e-9)
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies), rel=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), np.mean(forces, axis=0), atol=1e-12)


def test_spreads_are_computed_when_asked_for_and_follow_the_atoms(tmp_path):
    save_ensemble(last_layer_ensemble(), tmp_path / "ensemble.safetensors")
    atoms = some_atoms()
    atoms.calc = AllegroCalculator(str(tmp_path / "ensemble.safetensors"), precision="double")
    atoms.get_forces()
    assert atoms.calc.members is None
    before = atoms.calc.get_property("energy_spread", atoms)
    atoms.positions[0] += 0.3
    assert "energy_spread" in atoms.calc.results
    assert atoms.calc.get_property("energy_spread", atoms) != before


def test_one_model_has_no_spread():
    atoms = some_atoms()
    with pytest.raises(PropertyNotImplementedError):
        calculator().get_property("energy_spread", atoms)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
@pytest.mark.parametrize("model", [small_model(), deep_ensemble()], ids=["model", "ensemble"])
def test_a_copy_gives_the_same(copied, model):
    atoms = some_atoms()
    atoms.calc = AllegroCalculator(model, precision="double", skin=0.5)
    energy = atoms.get_potential_energy()
    atoms.calc = copied(atoms.calc)
    assert (atoms.get_potential_energy(), atoms.calc.skin) == (energy, 0.5)


def test_the_users_model_stays_as_it_is():
    model = small_model(torch.float32).train()
    before = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    AllegroCalculator(model, precision="double")
    assert model.training
    assert model.dtype == torch.float32
    assert {name: tensor.dtype for name, tensor in model.state_dict().items()} == before


def test_nothing_is_left_of_other_atoms_after_a_failure():
    atoms = some_atoms()
    atoms.calc = calculator()
    atoms.get_potential_energy()
    sodium = atoms.copy()
    sodium.symbols[3] = "Na"
    for _ in range(2):
        with pytest.raises(ValueError, match="atom 3 is Na"):
            atoms.calc.calculate(sodium)
        with pytest.raises(ValueError, match="atom 3 is Na"):
            atoms.calc.get_property("energy", sodium)


def test_energy_follows_cell_species_and_periodicity_of_the_same_atoms():
    atoms = some_atoms()
    atoms.calc = calculator()
    changes = {
        "cell": lambda: atoms.set_cell(0.9 * atoms.cell),
        "species": lambda: atoms.symbols.__setitem__(slice(0, 3), "O"),
        "slab": lambda: atoms.set_pbc((1, 1, 0)),
        "another slab": lambda: atoms.set_pbc((1, 0, 1)),
        "molecule": lambda: atoms.set_pbc(False),
        "crystal": lambda: atoms.set_pbc(True),
    }
    seen = [atoms.get_potential_energy()]
    for name, change in changes.items():
        change()
        seen.append(atoms.get_potential_energy())
        assert seen[-1] == pytest.approx(calculator().get_potential_energy(atoms), rel=1e-13), name
    assert len(set(seen)) == 6  # the last is that of the same crystal again


def test_one_calculator_serves_systems_of_different_sizes():
    model, shared = small_model(), AllegroCalculator(small_model(), precision="double")
    for n_atoms, pbc in ((12, True), (5, False), (1, False), (12, (1, 1, 0)), (30, True)):
        atoms = some_atoms(n_atoms, 7.0, pbc)
        own = AllegroCalculator(model, precision="double").get_potential_energy(atoms)
        assert shared.get_potential_energy(atoms) == pytest.approx(own, rel=1e-13)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "half"}, "`precision` is 'half'; it can be 'single' or 'double'"),
        ({"skin": -1.0}, r"`skin` is -1\.0 Å; it must be zero or more"),
        ({"device": "tpu"}, "`device` is 'tpu', but here are only cpu"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        AllegroCalculator(small_model(), **options)


def test_atoms_that_the_model_does_not_know_or_that_lack_a_cell_are_refused():
    atoms = some_atoms()
    atoms.calc = calculator()
    atoms.symbols[3] = "Na"
    with pytest.raises(ValueError, match="atom 3 is Na, but this model knows only H, O"):
        atoms.get_potential_energy()
    lost = some_atoms(pbc=(1, 1, 0))
    lost.positions[2, 2] = np.nan
    lost.calc = calculator()
    with pytest.raises(ValueError, match="the position of atom 2 is not a finite number; take shorter steps"):
        lost.get_forces()
    bare = some_atoms(pbc=(1, 1, 0))
    bare.cell[1] = 0
    bare.calc = calculator()
    with pytest.raises(ValueError, match="periodic along direction 1, but cell vector 1 is zero; set the cell"):
        bare.get_forces()


def test_precision_single_is_double_but_for_rounding():
    atoms = some_atoms(30, 9.0)
    model = small_model(torch.float64)
    atoms.calc = AllegroCalculator(model, precision="single")
    energy, forces, _ = Potential(model)(
        torch.tensor(atoms.positions), torch.tensor(atoms.cell.array), torch.tensor(atoms.numbers == 8).long()
    )
    assert atoms.get_potential_energy() == pytest.approx(energy.item(), rel=1e-5)  # float32 and its table
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5 * float(forces.abs().max()))
