"""The potential `allegro` of openmm-ml: how options reach the force, and what is refused."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("openmmml", reason="openmm-ml is not installed")
from conftest import small_model
from openmm import app, unit
from openmmml import MLPotential
from test_force import TRICLINIC
from test_openmm_ml import TWO_WATERS, context_at, force_energy, force_field, mixed, model_energy, part, waters

from openmm_allegro.bridges import NOT_INSTALLED, torchforce_problem
from openmm_allegro.openmm_ml_potential import caps_cut_bonds


def test_constraints_within_the_model_are_removed_unless_kept():
    topology, _ = waters()
    system = force_field(topology, rigidWater=True)
    assert system.getNumConstraints() == 24
    assert mixed(topology, system).getNumConstraints() == 18
    assert mixed(topology, system, removeConstraints=False).getNumConstraints() == 24


def test_the_force_is_in_the_group_asked_for():
    topology, positions = waters()
    context = context_at(mixed(topology, force_field(topology), forceGroup=3), positions)
    state = context.getState(energy=True, groups={3})
    expected = model_energy(topology, positions, TWO_WATERS, TRICLINIC)
    assert state.getPotentialEnergy()._value == pytest.approx(expected, rel=1e-9)


def test_types_and_a_device_object_reach_the_force():
    topology, positions = waters(None)
    options = {"types": ["O", "H", "H", "H", "H", "O"], "device": torch.device("cpu"), "forceGroup": 1}
    context = context_at(mixed(topology, force_field(topology), **options), positions)
    alone, places = part(topology, positions, TWO_WATERS)
    exchanged = [*places[:3], places[5], *places[3:5]]  # the model's water has its oxygen first
    energy = context.getState(energy=True, groups={1}).getPotentialEnergy()._value
    assert energy == pytest.approx(force_energy(alone, exchanged), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precison": "double"}, "unknown option `precison` for .* 'allegro'; known options: .*types.*skin"),
        ({"force_group": 1}, "unknown option `force_group`"),
        ({"precision": "half"}, "`precision` is 'half'; it can be 'single' or 'double'"),
        ({"skin": -1.0}, "`skin` is -1.0 nm; it must be zero or more"),
        ({"max_memory": "2 GB"}, "`max_memory` is '2 GB'; write it as '2 GiB'"),
        ({"device": "cuda:99"}, "`device` is 'cuda:99', but here are only cpu"),
        ({"atoms": [6, 7, 8, 8]}, "`atoms` names atom 8 twice"),
        ({"atoms": []}, "`atoms` is empty"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_with_a_sentence(options, message):
    topology, _ = waters()
    with pytest.raises(ValueError, match=message):
        mixed(topology, force_field(topology), **options)


def test_a_potential_wants_a_model_and_no_other_option():
    with pytest.raises(ValueError, match=r"MLPotential\('allegro'\) needs `modelPath`, the path of a `.safetensors`"):
        MLPotential("allegro")
    with pytest.raises(
        ValueError, match=r"has no option `lengthScale`, only `modelPath`; .* `model_units` of a file of nequip"
    ):
        MLPotential("allegro", modelPath="model.safetensors", lengthScale=0.1, energyScale=96.5)


def test_the_model_cannot_have_every_particle_where_there_are_virtual_sites():
    topology, positions = waters(None)
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.addExtraParticles(app.ForceField("tip4pew.xml"))
    with pytest.raises(ValueError, match=r"atom 3 \(M of HOH\) has no element, and `createSystem` gives the model"):
        MLPotential("allegro", modelPath=small_model()).createSystem(modeller.topology)


def test_a_box_that_the_topology_does_not_have_is_refused():
    topology, _ = waters()
    system = force_field(topology)
    topology.setPeriodicBoxVectors(None)
    with pytest.raises(ValueError, match="NonbondedForce that is periodic, but this force has `periodic` = False"):
        mixed(topology, system)


def test_importing_openmm_ml_does_not_load_torch_and_torch_after_it_is_told_to_come_first():
    code = (
        "import sys, openmmml\n"
        "print('allegro' in openmmml.MLPotential._implFactories, 'torch' in sys.modules)\n"
        "from openmm_allegro.bridges import torchforce_problem\n"
        "print(torchforce_problem())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith("True False\n"), done.stderr
    if torchforce_problem() != NOT_INSTALLED:
        assert "torch was imported after openmm" in done.stdout
        assert "put `import torch` first in the script, before openmm, openmmml and mdtraj" in done.stdout


@pytest.mark.skipif(caps_cut_bonds(), reason="this openmm-ml caps bonds that are cut")
def test_a_cut_bond_is_warned_of_where_openmm_ml_does_not_cap_it():
    topology, _ = waters(None)
    with pytest.warns(UserWarning, match=r"bonded to 1 others, the first at O \(6\)–H2 \(8\), .*open valences") as told:
        mixed(topology, force_field(topology), [6, 7])
    assert told[0].filename == mixed.__code__.co_filename  # where `createMixedSystem` is called
    with pytest.raises(ValueError, match="`linkAtomDistances` is an option of openmm-ml 1.8 and newer"):
        mixed(topology, force_field(topology), linkAtomDistances=[])
