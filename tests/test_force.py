"""AllegroForce in OpenMM: forces, subsets, parameters, copies, integrators, barostats; and what it refuses."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import numpy as np  # isort: skip (openmm after torch)
import ase
import openmm
from conftest import small_model
from openmm import app, unit

from openmm_allegro import AllegroCalculator, AllegroForce
from openmm_allegro.bridges import PythonComputation, choose_bridge, torchforce_can_be_copied, torchforce_problem
from openmm_allegro.checkpoint import save_model
from openmm_allegro.device import chosen_device, chosen_devices
from openmm_allegro.export import ForceModule, export_torchscript
from openmm_allegro.potential import Potential

KJ, NM = unit.kilojoule_per_mole, unit.nanometer
TRICLINIC = [openmm.Vec3(1.1, 0, 0), openmm.Vec3(0.2, 1.0, 0), openmm.Vec3(-0.1, 0.3, 1.05)]

needs_torchforce = pytest.mark.skipif(
    torchforce_problem() is not None or not torchforce_can_be_copied(),
    reason=str(torchforce_problem() or "openmmtorch 1.5 crashes with OpenMM 8.6 when a System is copied"),
)
both_bridges = pytest.mark.parametrize("bridge", ["python", pytest.param("torchforce", marks=needs_torchforce)])


def water(n_molecules: int = 8, box: list[openmm.Vec3] | None = None) -> tuple[app.Topology, np.ndarray]:
    """Molecules of water on a lattice in a triclinic box: topology and positions [nm]."""
    topology = app.Topology()
    chain = topology.addChain()
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * 0.45
    positions = []
    generator = np.random.default_rng(4)
    for corner in corners[:n_molecules]:
        residue = topology.addResidue("HOH", chain)
        oxygen = topology.addAtom("O", app.element.oxygen, residue)
        for index, offset in enumerate(([0, 0, 0], [0.096, 0, 0], [-0.024, 0.093, 0])):
            if index > 0:
                topology.addBond(oxygen, topology.addAtom(f"H{index}", app.element.hydrogen, residue))
            positions.append(corner + offset + 0.004 * generator.standard_normal(3))
    if box is not None:
        topology.setPeriodicBoxVectors(box * NM)
    return topology, np.array(positions)


def context_of(
    forces: list[openmm.Force],
    positions: np.ndarray,
    box: list[openmm.Vec3] | None = TRICLINIC,
    platform: str = "Reference",
    integrator: openmm.Integrator | None = None,
) -> openmm.Context:
    """A Context of those forces at those positions [nm]."""
    system = openmm.System()
    for _ in positions:
        system.addParticle(16.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    for force in forces:
        system.addForce(force)
    integrator = integrator or openmm.VerletIntegrator(0.0005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform(platform))
    context.setPositions(positions)
    return context


def energy_of(context: openmm.Context) -> float:
    """Potential energy [kJ/mol]."""
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(KJ)


def forces_of(context: openmm.Context) -> np.ndarray:
    """Forces [kJ/mol/nm]."""
    return context.getState(forces=True).getForces(asNumpy=True).value_in_unit(KJ / NM)


def assert_forces_are_the_slope(context: openmm.Context, atoms: list[int], tolerance: float) -> None:
    """OpenMM's forces against central differences of OpenMM's energy at a step of 1e-4 nm."""
    positions = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(NM)
    forces = forces_of(context)
    scale = np.abs(forces).max()
    for atom in atoms:
        for axis in range(3):
            energies = []
            for step in (1e-4, -1e-4):
                moved = positions.copy()
                moved[atom, axis] += step
                context.setPositions(moved)
                energies.append(energy_of(context))
            slope = (energies[0] - energies[1]) / 2e-4
            assert forces[atom, axis] == pytest.approx(-slope, rel=tolerance, abs=tolerance * scale)


@both_bridges
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["isolated", "triclinic"])
@pytest.mark.parametrize("atoms", [None, [3, 4, 5, 9, 10, 11, 0]], ids=["all", "subset"])
def test_openmm_forces_are_minus_the_slope_of_openmm_energy(bridge, platform, box, atoms):
    topology, positions = water(box=box)
    model = small_model(zbl=True)
    force = AllegroForce(model, topology, atoms=atoms, bridge=bridge, precision="double")
    context = context_of([force], positions, box, platform)
    assert_forces_are_the_slope(context, [0, 4], tolerance=1e-5)
    untouched = sorted(set(range(24)) - set(atoms or range(24)))
    assert not forces_of(context)[untouched].any()


@both_bridges
def test_forces_mixed_with_a_classical_force_field(bridge):
    topology, positions = water(box=TRICLINIC)
    classical = openmm.NonbondedForce()
    for atom in topology.atoms():
        classical.addParticle(-0.8 if atom.name == "O" else 0.4, 0.3, 0.6 if atom.name == "O" else 0.0)
    for i in range(3):
        for j in range(i):
            classical.addException(i, j, 0.0, 1.0, 0.0)
    classical.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    classical.setCutoffDistance(0.45)
    force = AllegroForce(small_model(), topology, atoms=[0, 1, 2], bridge=bridge, precision="double")
    alone = energy_of(context_of([copy.deepcopy(classical)], positions))
    model_alone = energy_of(
        context_of([AllegroForce(small_model(), topology, atoms=[0, 1, 2], bridge=bridge)], positions)
    )
    context = context_of([force, classical], positions)
    assert energy_of(context) == pytest.approx(alone + model_alone, rel=1e-6)
    assert_forces_are_the_slope(context, [0, 4], tolerance=1e-4)  # Reference's cutoff is a step in the energy


@needs_torchforce
@pytest.mark.parametrize("precision", ["single", "double"])
def test_both_bridges_give_the_same_numbers(precision):
    topology, positions = water(box=TRICLINIC)
    contexts = [
        context_of([AllegroForce(small_model(), topology, bridge=bridge, precision=precision)], positions)
        for bridge in ("python", "torchforce")
    ]
    tolerance = 1e-12 if precision == "double" else 1e-5  # eager and scripted sum in another order
    assert energy_of(contexts[0]) == pytest.approx(energy_of(contexts[1]), rel=tolerance)
    scale = np.abs(forces_of(contexts[0])).max()
    np.testing.assert_allclose(forces_of(contexts[0]), forces_of(contexts[1]), atol=tolerance * scale)


def test_energy_is_that_of_the_potential_in_other_units():
    topology, positions = water(box=TRICLINIC)
    model = small_model()
    types = torch.tensor([1, 0, 0] * 8)
    cell = torch.tensor([[v.x, v.y, v.z] for v in TRICLINIC], dtype=torch.float64) * 10
    energy, forces, _ = Potential(model)(torch.tensor(positions) * 10, cell, types)
    context = context_of([AllegroForce(model, topology, precision="double", bridge="python")], positions)
    ev = (1 * unit.elementary_charge * unit.volt * unit.AVOGADRO_CONSTANT_NA).value_in_unit(KJ)  # 96.485
    assert energy_of(context) == pytest.approx(energy.item() * ev, rel=1e-7)
    np.testing.assert_allclose(forces_of(context), forces.numpy() * ev * 10, rtol=1e-7)


@both_bridges
def test_a_global_parameter_scales_energy_and_forces(bridge):
    topology, positions = water(box=TRICLINIC)
    force = AllegroForce(small_model(), topology, bridge=bridge, scale_parameter="lambda_ml", force_group=3)
    context = context_of([force], positions)
    energy, forces = energy_of(context), forces_of(context)
    context.setParameter("lambda_ml", 0.25)
    assert energy_of(context) == pytest.approx(0.25 * energy)
    np.testing.assert_allclose(forces_of(context), 0.25 * forces)
    assert context.getState(energy=True, groups={3}).getPotentialEnergy()._value == pytest.approx(0.25 * energy)
    assert context.getState(energy=True, groups={0}).getPotentialEnergy()._value == 0.0


def test_a_scale_as_torchforce_gives_it_on_cuda_leaves_the_energy_double():
    """There it is (1,) in the platform's precision, which would take energies of atoms of 1e5 kJ/mol with it."""
    model = small_model(torch.float32, per_type_energy_shifts={"H": -13.6, "O": -2040.0})
    types = torch.tensor([1, 0, 0] * 8)
    module = ForceModule(Potential(model), types, None, periodic=False, scaled=True)
    positions = torch.tensor(water()[1])
    expected = module(positions, torch.tensor(0.5, dtype=torch.float64))[0]
    energy, _ = torch.jit.script(module)(positions.to(torch.float32), torch.tensor([0.5]))
    assert (energy.dtype, energy.shape) == (torch.float64, expected.shape)
    assert energy.item() == pytest.approx(expected.item(), rel=0, abs=0.01)  # -8e5 kJ/mol; float32 has steps of 0.06


@both_bridges
@pytest.mark.parametrize("how", ["deepcopy", "xml"])
def test_a_copied_system_gives_the_same_numbers(bridge, how):
    topology, positions = water(box=TRICLINIC)
    force = AllegroForce(small_model(), topology, atoms=[0, 1, 2, 6, 7, 8], bridge=bridge, scale_parameter="scale")
    context = context_of([force], positions)
    context.setParameter("scale", 0.5)
    system = context.getSystem()
    if how == "deepcopy":
        copied = copy.deepcopy(system)
    else:
        copied = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    again = openmm.Context(copied, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    again.setPositions(positions)
    again.setParameter("scale", 0.5)
    assert energy_of(again) == pytest.approx(energy_of(context), rel=1e-6)
    np.testing.assert_allclose(forces_of(again), forces_of(context), rtol=1e-4, atol=1e-3)


def test_the_pickle_of_a_python_force_holds_no_class_of_torch():
    module = ForceModule(Potential(small_model()), torch.tensor([1, 0, 0]), None, periodic=False, scaled=False)
    assert b"torch" not in pickle.dumps(PythonComputation(module, None, [torch.device("cpu")]))


def test_a_python_force_evaluates_only_what_has_changed():
    topology, positions = water(box=TRICLINIC)
    force = AllegroForce(small_model(), topology, bridge="python", scale_parameter="scale")
    neighbors = force.getPotential().neighbors
    context = context_of([force], positions)
    whole = energy_of(context)
    forces_of(context), energy_of(context)
    assert neighbors.updates == 1
    context.setParameter("scale", 0.5)
    assert energy_of(context) == pytest.approx(0.5 * whole, rel=1e-12)
    assert neighbors.updates == 2
    context.setPeriodicBoxVectors(*(0.9 * vector for vector in TRICLINIC))
    narrower = energy_of(context)
    assert neighbors.updates == 3
    context.setPositions(positions * 1.01)
    assert len({0.5 * whole, narrower, energy_of(context)}) == 3
    assert neighbors.updates == 4


def test_contexts_of_one_system_that_run_in_threads_do_not_mix_their_answers():
    topology, positions = water(box=TRICLINIC)
    first = context_of([AllegroForce(small_model(), topology, bridge="python")], positions)
    platform = openmm.Platform.getPlatform("Reference")

    def end_of(context: openmm.Context) -> np.ndarray:
        context.getIntegrator().step(60)
        return context.getState(positions=True).getPositions(asNumpy=True)._value

    def contexts() -> list[openmm.Context]:
        made = [openmm.Context(first.getSystem(), openmm.VerletIntegrator(0.0005), platform) for _ in range(3)]
        for shift, context in enumerate(made):
            context.setPositions(positions * (1 + 0.01 * shift))
        return made

    one_by_one = [end_of(context) for context in contexts()]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(end_of, contexts()))
    np.testing.assert_allclose(at_once, one_by_one, rtol=0, atol=1e-7)  # nm; neighbour lists differ in their order


@both_bridges
def test_state_and_checkpoint_continue_the_same_trajectory(bridge):
    topology, positions = water(box=TRICLINIC)
    force = AllegroForce(small_model(zbl=True), topology, bridge=bridge, precision="double")
    integrator = openmm.LangevinMiddleIntegrator(300, 1.0, 0.0005)
    integrator.setRandomNumberSeed(3)
    context = context_of([copy.deepcopy(force)], positions, integrator=integrator)
    context.setVelocitiesToTemperature(300, 5)
    integrator.step(5)
    checkpoint = context.createCheckpoint()
    state = openmm.XmlSerializer.serialize(context.getState(positions=True, velocities=True, parameters=True))
    integrator.step(5)
    ends = [context.getState(positions=True).getPositions(asNumpy=True)._value]
    context.loadCheckpoint(checkpoint)
    integrator.step(5)
    ends.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    np.testing.assert_array_equal(ends[0], ends[1])
    other = context_of([copy.deepcopy(force)], positions + 0.3, integrator=openmm.VerletIntegrator(0.0005))
    other.setState(openmm.XmlSerializer.deserialize(state))
    context.loadCheckpoint(checkpoint)
    assert energy_of(other) == pytest.approx(energy_of(context), rel=1e-9)
    np.testing.assert_allclose(forces_of(other), forces_of(context), rtol=1e-6, atol=1e-6)


@both_bridges
def test_the_force_as_a_collective_variable(bridge):
    topology, positions = water(box=TRICLINIC)
    plain = context_of([AllegroForce(small_model(), topology, bridge=bridge, precision="double")], positions)
    bias = openmm.CustomCVForce("2*ml")
    bias.addCollectiveVariable("ml", AllegroForce(small_model(), topology, bridge=bridge, precision="double"))
    biased = context_of([bias], positions)
    assert energy_of(biased) == pytest.approx(2 * energy_of(plain), rel=1e-9)
    np.testing.assert_allclose(forces_of(biased), 2 * forces_of(plain), rtol=1e-8, atol=1e-8)


@both_bridges
def test_multiple_time_steps_with_the_model_in_the_slow_group(bridge):
    topology, positions = water(box=TRICLINIC)
    springs = openmm.HarmonicBondForce()
    for bond in topology.bonds():
        springs.addBond(bond.atom1.index, bond.atom2.index, 0.096, 2e5)
    force = AllegroForce(small_model(zbl=True), topology, bridge=bridge, force_group=1, precision="double")
    integrator = openmm.MTSIntegrator(0.002, [(1, 1), (0, 4)])
    context = context_of([springs, force], positions, integrator=integrator)

    def kick(group: int, ps: float) -> np.ndarray:
        context.setPositions(positions)
        forces = context.getState(forces=True, groups={group}).getForces(asNumpy=True).value_in_unit(KJ / NM)
        return ps * forces / 16.0

    start, velocities = positions, np.zeros_like(positions)
    for _ in range(3):  # Tuckerman, Berne and Martyna, J. Chem. Phys. 97, 1990 (1992)
        velocities = velocities + kick(1, 0.001)
        for _ in range(4):
            velocities = velocities + kick(0, 0.00025)
            positions = positions + 0.0005 * velocities
            velocities = velocities + kick(0, 0.00025)
        velocities = velocities + kick(1, 0.001)
    context.setPositions(start)
    context.setVelocities(np.zeros_like(start))
    integrator.step(3)
    found = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(NM)
    np.testing.assert_allclose(found, positions, rtol=0, atol=1e-9)
    assert np.abs(found - start).max() > 1e-3


@both_bridges
@pytest.mark.parametrize(
    "barostat",
    [
        openmm.MonteCarloBarostat(1.0, 300.0, 1),
        openmm.MonteCarloAnisotropicBarostat(openmm.Vec3(1, 1, 1), 300.0, True, True, True, 1),
        openmm.MonteCarloFlexibleBarostat(1.0, 300.0, 1),
        openmm.MonteCarloMembraneBarostat(
            1.0, 0.0, 300.0, openmm.MonteCarloMembraneBarostat.XYIsotropic, openmm.MonteCarloMembraneBarostat.ZFree, 1
        ),
    ],
    ids=lambda barostat: type(barostat).__name__,
)
def test_every_barostat_changes_the_box(bridge, barostat):
    box = [openmm.Vec3(1.1, 0, 0), openmm.Vec3(0, 1.1, 0), openmm.Vec3(0, 0, 1.1)]
    topology, positions = water(box=box)
    force = AllegroForce(small_model(zbl=True), topology, bridge=bridge)
    integrator, moves = openmm.LangevinMiddleIntegrator(300, 1.0, 0.0002), copy.deepcopy(barostat)
    integrator.setRandomNumberSeed(1)
    moves.setRandomNumberSeed(1)
    context = context_of([force, moves], positions, box, integrator=integrator)
    before = context.getState().getPeriodicBoxVolume()._value
    integrator.step(20)
    assert context.getState().getPeriodicBoxVolume()._value != before
    assert np.isfinite(energy_of(context))


@both_bridges
def test_minimisation_lowers_the_energy(bridge):
    topology, positions = water(box=TRICLINIC)
    context = context_of([AllegroForce(small_model(zbl=True), topology, bridge=bridge)], positions)
    before = energy_of(context)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, 20)
    assert energy_of(context) < before - 1.0


@both_bridges
def test_virtual_sites_and_constraints_elsewhere_in_the_system(bridge):
    topology, positions = water()
    model_atoms = list(range(21))
    system = openmm.System()
    for index in range(24):
        system.addParticle(0.0 if index == 23 else 16.0)
    system.setVirtualSite(23, openmm.TwoParticleAverageSite(21, 22, 0.5, 0.5))
    system.addConstraint(21, 22, 0.1)
    system.addForce(AllegroForce(small_model(zbl=True), topology, atoms=model_atoms, bridge=bridge))
    integrator = openmm.VerletIntegrator(0.0005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    context.applyConstraints(1e-6)
    context.computeVirtualSites()
    integrator.step(5)
    end = context.getState(positions=True).getPositions(asNumpy=True)._value
    assert np.linalg.norm(end[21] - end[22]) == pytest.approx(0.1, rel=1e-5)
    np.testing.assert_allclose(end[23], (end[21] + end[22]) / 2)


def test_types_can_come_from_atomic_numbers_or_names_without_a_topology():
    topology, positions = water()
    expected = energy_of(context_of([AllegroForce(small_model(), topology, bridge="python")], positions, None))
    for given in ({"atomic_numbers": [8, 1, 1] * 8}, {"types": ["O", "H", "H"] * 8}):
        force = AllegroForce(small_model(), None, periodic=False, bridge="python", **given)
        assert energy_of(context_of([force], positions, None)) == pytest.approx(expected, rel=1e-6)


def test_a_path_and_a_model_give_the_same_force(tmp_path):
    topology, positions = water(box=TRICLINIC)
    save_model(small_model(torch.float32), tmp_path / "model.safetensors")
    energies = [
        energy_of(context_of([AllegroForce(model, topology, bridge="python")], positions))
        for model in (tmp_path / "model.safetensors", str(tmp_path / "model.safetensors"), small_model(torch.float32))
    ]
    assert energies[0] == energies[1] == energies[2]


@needs_torchforce
def test_an_exported_file_works_in_torchforce(tmp_path):
    import openmmtorch

    topology, positions = water(box=TRICLINIC)
    module = ForceModule(Potential(small_model()), torch.tensor([1, 0, 0] * 8), None, periodic=True, scaled=False)
    export_torchscript(module, tmp_path / "force.pt")
    force = openmmtorch.TorchForce(str(tmp_path / "force.pt"))
    force.setOutputsForces(True)
    force.setUsesPeriodicBoundaryConditions(True)
    expected = AllegroForce(small_model(), topology, precision="double", bridge="python")
    assert energy_of(context_of([force], positions)) == pytest.approx(energy_of(context_of([expected], positions)))
    extra = {"metadata.json": ""}
    torch.jit.load(tmp_path / "force.pt", _extra_files=extra)
    assert b'"unit' in extra["metadata.json"]


REFUSALS = [
    ({"atoms": [0, 24]}, "`atoms` has the index 24, but the topology has atoms 0 to 23"),
    ({"atoms": [-1]}, "`atoms` has the index -1; atoms are counted from 0"),
    ({"atoms": [0.9, 1.2]}, "`atoms` must be whole numbers"),
    ({"atoms": [True, False]}, "`atoms` is a mask; give indices"),
    ({"atomic_numbers": [200] * 24}, "`atomic_numbers` has 200, which is no element"),
    ({"atoms": [3, 3]}, "`atoms` names atom 3 twice"),
    ({"atoms": []}, "`atoms` is empty"),
    ({"types": ["O", "H"]}, "there are 2 types for 24 atoms"),
    ({"types": ["O", "H", "Na"] * 8}, "atom 2 is Na, but this model knows only H, O; retrain with Na"),
    ({"types": ["O"] * 24, "atomic_numbers": [8] * 24}, "are both given"),
    ({"precision": "half"}, "`precision` is 'half'; it can be 'single' or 'double'"),
    ({"bridge": "torch"}, "`bridge` is 'torch'; it can be 'auto', 'torchforce' or 'python'"),
    ({"bridge": "python", "device": "tpu"}, "`device` is 'tpu', but here are only cpu"),
    ({"skin": -0.1}, "`skin` is -0.1 nm"),
    ({"max_memory": "two gigabytes"}, "write it as '2 GiB'"),
    ({"max_memory": "1.2.3 GiB"}, "write it as '2 GiB'"),
    ({"max_memory": -5}, "`max_memory` is -5"),
    ({"skin": float("inf")}, "`skin` is inf nm"),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS, ids=[message[:30] for _, message in REFUSALS])
def test_bad_options_are_refused_with_a_sentence(options, message):
    topology, _ = water(box=TRICLINIC)
    with pytest.raises(ValueError, match=message):
        AllegroForce(small_model(), topology, **options)


def test_nothing_to_act_on_is_refused():
    for make in (
        lambda: AllegroForce(small_model(), app.Topology()),
        lambda: AllegroForce(small_model(), None, types=[], periodic=False),
        lambda: AllegroCalculator(small_model()).get_potential_energy(ase.Atoms()),
    ):
        with pytest.raises(ValueError, match="there is no atom for the model to act on"):
            make()


def test_an_element_that_the_model_does_not_know_is_refused():
    topology, _ = water()
    topology.addAtom("Na", app.element.sodium, list(topology.residues())[-1])
    with pytest.raises(ValueError, match="atom 24 is Na, but this model knows only H, O; retrain with Na or choose"):
        AllegroForce(small_model(), topology)


def test_a_particle_without_element_is_refused():
    topology, _ = water()
    topology.addAtom("M", None, list(topology.residues())[-1])
    with pytest.raises(ValueError, match="has no element; leave virtual sites out with `atoms`"):
        AllegroForce(small_model(), topology)


def test_a_periodic_request_without_a_box_is_refused():
    topology, _ = water()
    with pytest.raises(ValueError, match="`periodic` is True, but the topology has no box"):
        AllegroForce(small_model(), topology, periodic=True)


def test_a_box_without_room_for_the_atoms_is_refused():
    """PDB files of molecules without a cell have one of 1 Å in its place, which OpenMM reads as it stands."""
    topology, _ = water(box=[openmm.Vec3(*row) for row in 0.1 * np.eye(3)])
    with pytest.raises(ValueError, match="has a periodic box of 1 Å³ for 24 atoms; take it away by"):
        AllegroForce(small_model(), topology)


def test_a_non_periodic_request_in_a_periodic_topology_is_warned_of():
    topology, _ = water(box=TRICLINIC)
    with pytest.warns(UserWarning, match="the topology is periodic, but this force is asked not to be"):
        force = AllegroForce(small_model(), topology, periodic=False, bridge="python")
    assert not force.usesPeriodicBoundaryConditions()


def test_a_system_that_contradicts_the_topology_is_refused():
    topology, _ = water(box=TRICLINIC)
    system = openmm.System()
    with pytest.raises(ValueError, match="the System has 0 particles and the topology 24 atoms"):
        AllegroForce(small_model(), topology, system=system)
    for _ in range(24):
        system.addParticle(1.0)
    with pytest.raises(ValueError, match="the System's box has edges 2 × 2 × 2 nm and the topology's 1.1 × 1.02 ×"):
        AllegroForce(small_model(), topology, system=system)
    system.setDefaultPeriodicBoxVectors(*TRICLINIC)
    system.addForce(openmm.NonbondedForce())
    with pytest.raises(ValueError, match="has a NonbondedForce that is not periodic, but this force has `periodic`"):
        AllegroForce(small_model(), topology, system=system)


@pytest.mark.parametrize(
    "other",
    [
        openmm.CMMotionRemover(),
        openmm.MonteCarloBarostat(1.0, 300.0),
        openmm.AndersenThermostat(300.0, 1.0),
        openmm.HarmonicBondForce(),
    ],
    ids=lambda force: type(force).__name__,
)
def test_a_system_with_forces_that_know_no_box_is_accepted(other):
    topology, _ = water(box=TRICLINIC)
    system = openmm.System()
    for _ in range(24):
        system.addParticle(1.0)
    system.setDefaultPeriodicBoxVectors(*TRICLINIC)
    system.addForce(copy.deepcopy(other))
    system.addForce(AllegroForce(small_model(), topology, system=system, bridge="python"))
    assert system.getNumForces() == 2


def test_no_topology_needs_types_and_periodicity():
    with pytest.raises(ValueError, match="give `types` or `atomic_numbers`"):
        AllegroForce(small_model(), None, periodic=False)
    with pytest.raises(ValueError, match="give `periodic`"):
        AllegroForce(small_model(), None, types=["O"])


@both_bridges
def test_a_system_of_another_size_is_refused_when_it_runs(bridge):
    topology, positions = water()
    force = AllegroForce(small_model(), topology, bridge=bridge)
    context = context_of([force], np.vstack([positions, positions[:1] + 3]), None)
    with pytest.raises(Exception, match="the System has 25 particles, but this force was made for 24"):
        energy_of(context)


@both_bridges
def test_positions_that_are_not_numbers_are_named_when_it_runs(bridge):
    topology, positions = water()
    positions[5, 0] = np.nan
    context = context_of([AllegroForce(small_model(), topology, bridge=bridge)], positions, None)
    with pytest.raises(Exception, match="the position of atom 5 is not a finite number"):
        energy_of(context)


@both_bridges
def test_errors_name_the_atoms_of_the_system_not_of_the_subset(bridge):
    topology, positions = water()
    force = AllegroForce(small_model(), topology, atoms=[9, 10, 11], bridge=bridge)
    context = context_of([force], positions, None)
    for atom, message in [(10, "the position of atom 10 is not a finite number"), (11, "atoms 9 and 11 are on one")]:
        broken = positions.copy()
        broken[atom] = np.nan if atom == 10 else positions[9]
        context.setPositions(broken)
        with pytest.raises(Exception, match=message):
            energy_of(context)


@both_bridges
def test_a_system_smaller_than_the_subset_is_refused_when_it_runs(bridge):
    _, positions = water()
    force = AllegroForce(small_model(), None, atoms=[0, 99], types=["O", "H"], periodic=False, bridge=bridge)
    with pytest.raises(Exception, match="the System has 24 particles, but this force acts on atom 99"):
        energy_of(context_of([force], positions, None))


def test_a_force_tells_how_often_its_neighbour_list_was_built():
    topology, positions = water(box=TRICLINIC)
    force = AllegroForce(small_model(), topology, bridge="python")
    context = context_of([force], positions)
    neighbors = force.getPotential().neighbors
    for moved_nm, builds in [(0.0, 1), (0.03, 1), (0.2, 2)]:  # the skin is 0.1 nm
        there = positions.copy()
        there[4, 1] += moved_nm
        context.setPositions(there)
        energy_of(context)
        assert neighbors.builds == builds
    assert neighbors.updates == 3


def test_several_devices_are_named_and_checked():
    topology, _ = water()
    with pytest.raises(ValueError, match="a list is for several CUDA devices"):
        AllegroForce(small_model(), topology, device=["cpu", "cpu"])
    with pytest.raises(ValueError, match="`device` is an empty list"):
        AllegroForce(small_model(), topology, device=[])
    with pytest.raises(ValueError, match="`device` is 'cuda:7', but here are only cpu"):
        AllegroForce(small_model(), topology, device=["cuda:6", "cuda:7"][::-1])


def test_a_device_may_be_an_object_of_torch():
    topology, _ = water()
    assert isinstance(AllegroForce(small_model(), topology, device=torch.device("cpu")), openmm.PythonForce)
    assert AllegroCalculator(small_model(), device=torch.device("cpu")).device == torch.device("cpu")


def test_a_cuda_device_without_a_number_is_the_current_one_by_its_number(monkeypatch):
    """OpenMM asks for forces in another thread, where PyTorch's current device is the first again."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert chosen_device("cuda") == torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert chosen_device("cuda") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="names one device twice"):
        chosen_devices(["cuda", "cuda:1"])


class Watched(torch.nn.Module):
    """A force whose energy is far too high when its forces belong to a graph."""

    def __init__(self, module: ForceModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energy, forces = self.module(positions)
        return energy + (1e6 if forces.requires_grad else 0.0), forces


@pytest.mark.skipif(torchforce_problem() is not None, reason=str(torchforce_problem()))
def test_no_graph_is_kept_in_torchforce():
    from openmmtorch import TorchForce

    _, positions = water()
    module = ForceModule(Potential(small_model()), torch.tensor([1, 0, 0] * 8), None, False, False)
    force = TorchForce(torch.jit.script(Watched(module)))
    force.setOutputsForces(True)
    context = context_of([force], positions)
    for _ in range(4):  # TorchScript compiles in the first two
        assert abs(energy_of(context)) < 1e5


def test_naming_a_device_takes_pythonforce():
    topology, _ = water()
    assert isinstance(AllegroForce(small_model(), topology, device="cpu"), openmm.PythonForce)


@pytest.fixture
def _unloadable_openmmtorch(tmp_path, monkeypatch):
    """An openmmtorch that fails to load, as its binary does beside a torch for CUDA 13."""
    reason = "libnvrtc.so.12: cannot open shared object file"
    (tmp_path / "openmmtorch.py").write_text(f"raise ImportError({reason!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openmmtorch", raising=False)
    torchforce_problem.cache_clear()
    yield
    torchforce_problem.cache_clear()


@pytest.mark.usefixtures("_unloadable_openmmtorch")
def test_an_unusable_openmmtorch_is_explained_and_pythonforce_taken():
    with pytest.warns(UserWarning, match="AllegroForce uses openmm.PythonForce: openmmtorch is installed but does not"):
        assert choose_bridge("auto", has_gpu=True, has_cuda=True) == "python"
    topology, _ = water()
    with pytest.raises(ValueError, match="TorchForce cannot be used: .*libnvrtc.so.12"):
        AllegroForce(small_model(), topology, bridge="torchforce")


def test_without_a_gpu_pythonforce_is_taken_and_the_log_says_why(caplog):
    with caplog.at_level("INFO", logger="openmm_allegro"):
        assert choose_bridge("auto", has_gpu=False, has_cuda=False) == "python"
    assert "without a GPU it is the faster one" in caplog.text


@needs_torchforce
def test_without_openmms_cuda_platform_pythonforce_is_taken_and_the_log_says_why(caplog):
    """Beside OpenCL openmm-torch leaves positions on the processor, and so gains nothing."""
    with caplog.at_level("INFO", logger="openmm_allegro"):
        assert choose_bridge("auto", has_gpu=True, has_cuda=False) == "python"
    assert "TorchForce has no CUDA platform here" in caplog.text


@needs_torchforce
def test_with_a_gpu_torchforce_is_taken_and_the_log_says_why(caplog):
    with caplog.at_level("INFO", logger="openmm_allegro"):
        assert choose_bridge("auto", has_gpu=True, has_cuda=True) == "torchforce"
    assert "stay on the GPU" in caplog.text


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@both_bridges
@pytest.mark.parametrize("platform", ["CUDA", "OpenCL"])
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["isolated", "triclinic"])
@pytest.mark.parametrize("atoms", [None, [3, 4, 5, 9, 10, 11, 0]], ids=["all", "subset"])
def test_cuda_gives_the_numbers_of_the_cpu(bridge, platform, box, atoms):
    topology, positions = water(box=box)
    model = small_model(torch.float32, zbl=True)
    contexts = [
        context_of(
            [AllegroForce(model, topology, atoms=atoms, bridge=which, device=device, scale_parameter="scale")],
            positions,
            box,
            name,
        )
        for which, device, name in (("python", "cpu", "Reference"), (bridge, "auto", platform))
    ]
    for context in contexts:
        context.setParameter("scale", 0.5)
    assert energy_of(contexts[1]) == pytest.approx(energy_of(contexts[0]), rel=1e-5)
    scale = np.abs(forces_of(contexts[0])).max()
    np.testing.assert_allclose(forces_of(contexts[1]), forces_of(contexts[0]), atol=1e-4 * scale)
