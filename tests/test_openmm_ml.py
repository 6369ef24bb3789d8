"""The potential `allegro` of openmm-ml: what mixed ML/MM systems compute."""

import copy

import pytest

import numpy as np  # isort: skip (openmm after torch)
import openmm
from conftest import small_model
from openmm import app, unit
from test_bench import nequip_state  # noqa: F401 (a fixture)
from test_force import TRICLINIC, energy_of, forces_of, needs_torchforce, water

from openmm_allegro import AllegroForce
from openmm_allegro.bench.peers import write_nequip_checkpoint
from openmm_allegro.checkpoint import save_model
from openmm_allegro.units import ANGSTROM_TO_NM, EV_TO_KJ_PER_MOL

openmmml = pytest.importorskip("openmmml", reason="openmm-ml is not installed")
from openmmml import MLPotential  # noqa: E402

from openmm_allegro.openmm_ml_potential import caps_cut_bonds  # noqa: E402

TWO_WATERS = [6, 7, 8, 9, 10, 11]
LAMBDA = "lambda_interpolate"
both_bridges = pytest.mark.parametrize("bridge", ["python", pytest.param("torchforce", marks=needs_torchforce)])
PERIODIC_NEQUIP = {"mlLongRange": False} if caps_cut_bonds() else {}


def waters(box=TRICLINIC):
    """Eight molecules of which the model's two are near: openmm-ml adds up their force field without a cutoff."""
    topology, positions = water(box=box)
    positions[9:12, 2] -= 0.16
    return topology, positions


def force_field(topology, model="tip3p.xml", **options):
    """Flexible water with its electrostatics converged to 1e-6, without jumps at the cutoff."""
    if topology.getPeriodicBoxVectors() is not None:
        smooth = {"ewaldErrorTolerance": 1e-6, "switchDistance": 0.4 * unit.nanometer}
        options = {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.45 * unit.nanometer} | smooth | options
    return app.ForceField(model).createSystem(topology, **{"rigidWater": False} | options)


def mixed(topology, system, atoms=TWO_WATERS, model=None, **options):
    """A mixed system in double precision."""
    potential = MLPotential("allegro", modelPath=model or small_model(zbl=True))
    return potential.createMixedSystem(topology, system, atoms, **{"precision": "double"} | options)


def context_at(system, positions, integrator=None):
    """On the Reference platform, in double precision."""
    integrator = integrator or openmm.VerletIntegrator(0.0005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    context.computeVirtualSites()
    return context


def part(topology, positions, atoms):
    """Those atoms alone, without a box: topology and positions [nm]."""
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.delete([atom for atom in topology.atoms() if atom.index not in atoms])
    modeller.topology.setPeriodicBoxVectors(None)
    return modeller.topology, positions[sorted(atoms)]


def model_energy(topology, positions, atoms, box=None):
    """What the model gives for these atoms with no others in the world [kJ/mol]."""
    alone, places = part(topology, positions, atoms)
    alone.setPeriodicBoxVectors(None if box is None else box * unit.nanometer)
    return force_energy(alone, places)


def force_energy(topology, positions):
    """What AllegroForce gives for all atoms [kJ/mol]."""
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    if topology.getPeriodicBoxVectors() is not None:
        system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
    system.addForce(AllegroForce(small_model(zbl=True), topology, precision="double"))
    return energy_of(context_at(system, positions))


def internal_energy(topology, positions, atoms, **options):
    """What the force field gives for these atoms with no others in the world [kJ/mol]."""
    alone, places = part(topology, positions, atoms)
    return energy_of(context_at(force_field(alone, **options), places))


def assert_slopes(context, atoms, parameters=None):
    """Forces against central differences of the energy over 2e-5 nm: to 1e-5 of the largest, which springs stiffen."""
    for name, value in (parameters or {}).items():
        context.setParameter(name, value)
    positions = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    forces, slopes = forces_of(context)[atoms], np.zeros((len(atoms), 3))
    for row, axis in np.ndindex(*slopes.shape):
        for step in (1e-5, -1e-5):
            moved = positions.copy()
            moved[atoms[row], axis] += step
            context.setPositions(moved)
            context.computeVirtualSites()
            slopes[row, axis] -= energy_of(context) / (2 * step)
    context.setPositions(positions)
    context.computeVirtualSites()
    np.testing.assert_allclose(forces, slopes, atol=1e-5 * np.abs(forces).max())


@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["isolated", "triclinic"])
def test_a_system_of_the_model_alone_has_the_energy_of_the_force(tmp_path, box):
    topology, positions = waters(box)
    save_model(small_model(zbl=True), tmp_path / "model.safetensors")
    potential = MLPotential("allegro", modelPath=str(tmp_path / "model.safetensors"))
    system = potential.createSystem(topology, precision="double")
    assert [force.getName() for force in system.getForces()] == ["AllegroForce", "CMMotionRemover"]
    direct = model_energy(topology, positions, range(24), box)
    assert energy_of(context_at(system, positions)) == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["isolated", "triclinic"])
def test_the_mixed_energy_is_the_models_inside_and_the_force_fields_elsewhere(box):
    topology, positions = waters(box)
    system = force_field(topology)
    everything = energy_of(context_at(system, positions))
    inside = internal_energy(topology, positions, TWO_WATERS)
    expected = everything - inside + model_energy(topology, positions, TWO_WATERS, box)
    context = context_at(mixed(topology, system), positions)
    # openmm-ml writes Coulomb's constant with nine digits; the sum over the grid converges to 1e-6
    assert energy_of(context) == pytest.approx(expected, abs=2e-3)
    assert abs(inside) > 1


@both_bridges
@pytest.mark.parametrize("box", [None, TRICLINIC], ids=["isolated", "triclinic"])
def test_interpolation_goes_straight_from_the_force_field_to_the_mixed_system(box, bridge):
    topology, positions = waters(box)
    system = force_field(topology)
    ends = energy_of(context_at(system, positions)), energy_of(context_at(mixed(topology, system), positions))
    context = context_at(mixed(topology, system, bridge=bridge, interpolate=True), positions)
    assert energy_of(context) == pytest.approx(ends[1], abs=2e-3)
    for share in (0.0, 0.3, 1.0):
        context.setParameter(LAMBDA, share)
        assert energy_of(context) == pytest.approx(ends[0] + share * (ends[1] - ends[0]), abs=2e-3)


@both_bridges
def test_interpolated_forces_are_the_slope_of_the_energy(bridge):
    topology, positions = waters()
    system = force_field(topology, ewaldErrorTolerance=1e-4)  # a coarser grid is as differentiable
    context = context_at(mixed(topology, system, bridge=bridge, interpolate=True), positions)
    some = {"python": [*TWO_WATERS, 0, 1, 12, 14], "torchforce": [6, 0]}[bridge]
    for share, atoms in {0.3: some, 0.0: [6, 11, 0], 1.0: [6, 11, 0]}.items():
        assert_slopes(context, atoms, {LAMBDA: share})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.usefixtures("nequip_state")
@pytest.mark.parametrize("interpolate", [False, True])
def test_openmm_mls_own_plugin_gives_the_same_numbers_with_the_same_weights(tmp_path, interpolate):
    topology, positions = waters()
    model = small_model(zbl=True)
    write_nequip_checkpoint(model, tmp_path / "model.ckpt")
    theirs = MLPotential(
        "nequip",
        modelPath=str(tmp_path / "model.ckpt"),
        lengthScale=ANGSTROM_TO_NM,
        energyScale=EV_TO_KJ_PER_MOL,
    )
    options = {"interpolate": interpolate}
    system = force_field(topology)
    peer = theirs.createMixedSystem(topology, system, TWO_WATERS, device="cpu", **options, **PERIODIC_NEQUIP)
    ours = mixed(topology, system, model=model, **options)
    contexts = [context_at(each, positions) for each in (ours, peer)]
    for share in (0.3, 1.0) if interpolate else (None,):
        for context in contexts:
            if share is not None:
                context.setParameter(LAMBDA, share)
        energies, forces = map(energy_of, contexts), [forces_of(context) for context in contexts]
        assert next(energies) == pytest.approx(next(energies), rel=1e-9)
        np.testing.assert_allclose(*forces, atol=1e-9 * np.abs(forces[0]).max())


def test_virtual_sites_of_the_water_pass_their_forces_on():
    topology, positions = waters()
    modeller = app.Modeller(topology, positions * unit.nanometer)
    field = app.ForceField("tip4pew.xml")
    modeller.addExtraParticles(field)
    topology = modeller.topology
    system = force_field(topology, "tip4pew.xml", ewaldErrorTolerance=1e-4)
    ml = [atom.index for atom in topology.atoms() if atom.residue.index in (2, 3) and atom.element is not None]
    if caps_cut_bonds():
        with pytest.raises(AttributeError, match="atomic_number"):  # openmm-ml 1.8 asks sites for their element
            mixed(topology, system, ml)
        return
    context = context_at(mixed(topology, system, ml, interpolate=True), modeller.positions)
    real = [atom.index for atom in topology.atoms() if atom.element is not None]
    assert_slopes(context, real[3:9], {LAMBDA: 0.4})
    with pytest.raises(ValueError, match=r"atom 11 \(M of HOH\) has no element; leave virtual sites out with `atoms`"):
        mixed(topology, system, [*ml, 11])


@pytest.mark.parametrize("interpolate", [False, True])
def test_barostats_rescale_the_mixed_system(interpolate):
    topology, positions = waters()
    system = mixed(topology, force_field(topology), interpolate=interpolate)
    assert system.usesPeriodicBoundaryConditions()
    plain = copy.deepcopy(system)
    barostat, integrator = openmm.MonteCarloBarostat(1.0, 300.0, 1), openmm.LangevinMiddleIntegrator(300, 1.0, 0.0002)
    barostat.setRandomNumberSeed(1)
    integrator.setRandomNumberSeed(1)
    system.addForce(barostat)
    context = context_at(system, positions, integrator)
    before = context.getState().getPeriodicBoxVolume()._value
    context.getIntegrator().step(20)
    state = context.getState(positions=True, energy=True)
    assert state.getPeriodicBoxVolume()._value != before
    fresh = context_at(plain, positions)
    fresh.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    fresh.setPositions(state.getPositions())
    assert energy_of(fresh) == pytest.approx(state.getPotentialEnergy()._value, rel=1e-6)


@both_bridges
@pytest.mark.parametrize("interpolate", [False, True])
def test_a_mixed_system_survives_xml(interpolate, bridge):
    topology, positions = waters()
    system = mixed(topology, force_field(topology), interpolate=interpolate, bridge=bridge)
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    one, other = (context_at(each, positions) for each in (system, again))
    assert energy_of(other) == pytest.approx(energy_of(one), rel=1e-12)
    np.testing.assert_allclose(forces_of(other), forces_of(one), rtol=1e-9, atol=1e-9)


def test_a_scale_parameter_weighs_the_model_also_within_the_interpolation():
    topology, positions = waters()
    system = force_field(topology)
    ml = model_energy(topology, positions, TWO_WATERS, TRICLINIC)
    for interpolate in (False, True):
        scaled = mixed(topology, system, interpolate=interpolate, scale_parameter="strength")
        context = context_at(scaled, positions)
        whole = energy_of(context)
        context.setParameter("strength", 0.25)
        assert energy_of(context) == pytest.approx(whole - 0.75 * ml, rel=1e-9)


@pytest.mark.skipif(not caps_cut_bonds(), reason="openmm-ml caps bonds from 1.8 on, which wants OpenMM 8.6")
@pytest.mark.parametrize("interpolate", [False, True])
def test_a_cut_bond_gets_a_link_atom_of_the_model(interpolate):
    topology, positions = waters(None)
    system = mixed(topology, force_field(topology), [6, 7], interpolate=interpolate, scale_parameter="strength")
    assert system.getNumParticles() == 25
    bond = positions[8] - positions[6]
    link = positions[6] + 0.095 * bond / np.linalg.norm(bond)  # covalent radii of O and H, 63 + 32 pm
    context = context_at(system, [*positions, link])
    whole = energy_of(context)
    context.setParameter("strength", 0.0)
    alone, _ = part(topology, positions, [6, 7, 8])
    assert whole - energy_of(context) == pytest.approx(force_energy(alone, [*positions[6:8], link]), rel=1e-9)
    context.setParameter("strength", 1.0)
    assert_slopes(context, [6, 7, 8, 0])
