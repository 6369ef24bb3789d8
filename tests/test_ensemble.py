"""Ensembles: their files, and their mean as a potential and as an OpenMM force."""

import copy
import json

import pytest
import safetensors.torch
import torch

import numpy as np  # isort: skip (openmm after torch)
import openmm
from conftest import random_atoms, small_model
from ensembles import deep_ensemble, last_layer_ensemble
from test_force import TRICLINIC, assert_forces_are_the_slope, both_bridges, context_of, energy_of, forces_of, water

from openmm_allegro import AllegroForce
from openmm_allegro.checkpoint import load_model, model_to_bytes, save_model
from openmm_allegro.ensemble import Ensemble, Factors, mirrored_ensemble
from openmm_allegro.ensemble_file import (
    describe,
    ensemble_to_bytes,
    from_bytes,
    load_ensemble,
    load_for_dynamics,
    save_ensemble,
    to_bytes,
)
from openmm_allegro.export_file import export_file
from openmm_allegro.potential import Potential
from openmm_allegro.spread import Members

KINDS = pytest.mark.parametrize("make", [deep_ensemble, last_layer_ensemble])


def states(ensemble: Ensemble) -> list[dict[str, torch.Tensor]]:
    """Tensors of the members."""
    return [member.state_dict() for member in ensemble.members]


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_ensemble_is_read_back_to_the_bit(tmp_path, make, dtype):
    ensemble = make(dtype, factors=Factors(2.5, 1.25))
    ensemble.calibration, ensemble.provenance = {"data": "validation.xyz"}, {"seed": 3}
    save_ensemble(ensemble, tmp_path / "e.safetensors")
    loaded = load_ensemble(tmp_path / "e.safetensors")
    assert [member.config for member in loaded.members] == [member.config for member in ensemble.members]
    for ours, theirs in zip(states(loaded), states(ensemble), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert loaded.factors == Factors(2.5, 1.25)
    assert (loaded.calibration, loaded.provenance) == ({"data": "validation.xyz"}, {"seed": 3})
    assert (loaded.centre is None) == (ensemble.centre is None)
    assert [path.name for path in tmp_path.iterdir()] == ["e.safetensors"]


def test_what_members_share_is_stored_and_held_once(tmp_path):
    ensemble = last_layer_ensemble(pairs=8)
    names = list(safetensors.torch.load(ensemble_to_bytes(ensemble)))
    own = [name for name in names if not name.startswith("0.")]
    assert sorted(own) == sorted(f"{number}.readout.2.weight" for number in range(1, 17))
    assert len(names) == len(own) + len(ensemble.centre.state_dict())
    save_ensemble(ensemble, tmp_path / "e.safetensors")
    members = load_ensemble(tmp_path / "e.safetensors").members
    places = {member.two_body_mlp[0].weight.data_ptr() for member in members}
    assert len(places) == 1
    assert len({member.readout[2].weight.data_ptr() for member in members}) == 16


def test_models_that_do_not_answer_the_same_question_are_refused():
    with pytest.raises(
        ValueError, match="model 1 has `r_max` 5.0 Å, but model 0 has 4.0 Å; an ensemble's models share"
    ):
        Ensemble([small_model(), small_model(r_max=5.0)])
    with pytest.raises(ValueError, match="model 2 has `type_names` O, H, but model 0 has H, O"):
        Ensemble([small_model(), small_model(), small_model(type_names=("O", "H"))])
    with pytest.raises(ValueError, match="model 1 has torch.float64 weights, but model 0 torch.float32"):
        Ensemble([small_model(torch.float32), small_model()])
    with pytest.raises(ValueError, match="needs two or more models, but 1 is given"):
        Ensemble([small_model()])


def test_a_model_and_an_ensemble_are_told_apart(tmp_path):
    save_model(small_model(), tmp_path / "m.safetensors")
    save_ensemble(deep_ensemble(), tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match="m.safetensors is one model, where an ensemble is expected"):
        load_ensemble(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="e.safetensors is an ensemble, where one model is expected"):
        load_model(tmp_path / "e.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no model file .*none"):
        load_ensemble(tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 9}, "has format 9, but this version reads up to 1"),
        ({"units": {"length": "bohr", "energy": "eV"}}, "states the units .*bohr"),
        ({"factors": {"energy": -1.0, "forces": 1.0}}, "damaged metadata: `factors.energy`"),
        ({"configs": [{"r_max": 4.0}] * 7}, "model 0 of .* configuration that does not fit this version"),
        ({"configs": [{"r_max": 4.0}] * 3}, "has weights `[3-6].readout.2.weight` of no model that it lists"),
    ],
    ids=str,
)
def test_a_file_whose_metadata_make_no_sense_is_refused(tmp_path, changes, message):
    content = ensemble_to_bytes(last_layer_ensemble())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = json.loads(header["__metadata__"]["openmm_allegro"]) | changes
    tensors = safetensors.torch.load(content)
    path = tmp_path / "e.safetensors"
    path.write_bytes(safetensors.torch.save(tensors, metadata={"openmm_allegro": json.dumps(metadata)}))
    with pytest.raises(ValueError, match=message):
        load_ensemble(path)


@pytest.mark.parametrize(
    "change",
    [
        {"2.readout.2.weight": None},
        {"2.readout.0.weight": torch.ones(2, 2)},
        {"2.readout.2.weight": torch.full((8, 1), torch.nan, dtype=torch.float64)},
        {"2.readout.2.weight": torch.ones(3, 1)},
    ],
    ids=["absent", "another", "nan", "shape"],
)
def test_a_member_that_is_not_the_centre_with_another_last_layer_is_refused(tmp_path, change):
    content = ensemble_to_bytes(last_layer_ensemble())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = {name: each for name, each in (safetensors.torch.load(content) | change).items() if each is not None}
    path = tmp_path / "e.safetensors"
    path.write_bytes(safetensors.torch.save(tensors, metadata=header["__metadata__"]))
    with pytest.raises(ValueError, match="is damaged: model 2 is not its centre with another last layer"):
        load_ensemble(path)


def test_a_truncated_ensemble_is_refused(tmp_path):
    path = tmp_path / "e.safetensors"
    path.write_bytes(ensemble_to_bytes(deep_ensemble())[:-100])
    with pytest.raises(ValueError, match="is not complete"):
        load_ensemble(path)


def test_a_file_says_what_it_holds(tmp_path):
    ensemble = last_layer_ensemble(factors=Factors(2.0, 3.0))
    save_ensemble(ensemble, tmp_path / "e.safetensors")
    said = describe(tmp_path / "e.safetensors")
    assert (said["members"], said["factors"]) == (6, {"energy": 2.0, "forces": 3.0})
    assert said["config"] == ensemble.config.model_dump(mode="json")
    save_model(small_model(), tmp_path / "m.safetensors")
    assert describe(tmp_path / "m.safetensors")["format"] == "openmm-allegro model"


def test_bytes_of_either_are_read_back():
    assert isinstance(from_bytes(to_bytes(deep_ensemble())), Ensemble)
    assert from_bytes(model_to_bytes(small_model())).config == small_model().config


@KINDS
@pytest.mark.parametrize("block_edges", [None, 60])
def test_energy_forces_and_virial_are_means_of_the_members(make, block_edges):
    ensemble = make(zbl=True)
    positions, cell, types = random_atoms(20, 7.0)
    apart = [Potential(copy.deepcopy(member))(positions, cell, types) for member in ensemble.members]
    together = Potential(ensemble.for_dynamics(), block_edges=block_edges)(positions, cell, types)
    for ours, theirs in zip(together, zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(theirs).mean(0), rtol=1e-11, atol=1e-11)  # sums in another order


def test_mirrored_members_act_at_the_price_of_their_centre():
    ensemble = last_layer_ensemble()
    assert ensemble.for_dynamics() is ensemble.centre


def test_mirrored_members_differ_by_the_deviations():
    centre = small_model()
    deviation = torch.arange(8, dtype=torch.float64).unsqueeze(0)
    plus, minus = mirrored_ensemble(centre, deviation).members
    scale = centre.readout[-1].scale  # of the map, beside its weights
    torch.testing.assert_close((plus.readout[-1].weight - minus.readout[-1].weight) * scale / 2, deviation.t())
    torch.testing.assert_close((plus.readout[-1].weight + minus.readout[-1].weight) / 2, centre.readout[-1].weight)


@both_bridges
def test_a_force_of_an_ensemble_is_the_mean_of_its_members(bridge, tmp_path):
    topology, positions = water(box=TRICLINIC)
    ensemble = deep_ensemble()
    save_ensemble(ensemble, tmp_path / "e.safetensors")
    apart = [
        context_of([AllegroForce(member, topology, precision="double", bridge="python")], positions)
        for member in ensemble.members
    ]
    for model in (ensemble, tmp_path / "e.safetensors"):
        force = AllegroForce(model, topology, precision="double", bridge=bridge, max_memory="1 GiB")
        context = context_of([force], positions)
        assert energy_of(context) == pytest.approx(np.mean([energy_of(each) for each in apart]), rel=1e-10)
        mean = np.mean([forces_of(each) for each in apart], axis=0)
        np.testing.assert_allclose(forces_of(context), mean, atol=1e-10 * np.abs(mean).max())
    assert_forces_are_the_slope(context, [0, 4], tolerance=3e-5)  # the difference's own error: it falls as step²


@both_bridges
def test_a_copied_force_of_an_ensemble_gives_the_same_numbers(bridge):
    topology, positions = water(box=TRICLINIC)
    force = AllegroForce(deep_ensemble(torch.float32), topology, atoms=[0, 1, 2, 6, 7, 8], bridge=bridge)
    context = context_of([force], positions)
    copied = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(context.getSystem()))
    for system in (copied, copy.deepcopy(context.getSystem())):
        again = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        again.setPositions(positions)
        assert energy_of(again) == pytest.approx(energy_of(context), rel=1e-6)  # float32
        np.testing.assert_allclose(forces_of(again), forces_of(context), rtol=1e-4, atol=1e-3)


def test_a_force_of_mirrored_members_is_that_of_their_centre():
    topology, positions = water(box=TRICLINIC)
    ensemble = last_layer_ensemble()
    contexts = [
        context_of([AllegroForce(model, topology, precision="double", bridge="python")], positions)
        for model in (ensemble, ensemble.centre)
    ]
    assert energy_of(contexts[0]) == energy_of(contexts[1])


def test_an_ensemble_can_be_exported(tmp_path):
    topology, positions = water()
    with (tmp_path / "water.pdb").open("w") as file:
        openmm.app.PDBFile.writeFile(topology, positions * 10, file)
    save_ensemble(deep_ensemble(), tmp_path / "e.safetensors")
    export_file(tmp_path / "e.safetensors", tmp_path / "water.pdb", tmp_path / "e.pt", precision="double")
    energy, _ = torch.jit.load(str(tmp_path / "e.pt"))(torch.tensor(positions))
    context = context_of(
        [AllegroForce(load_for_dynamics(tmp_path / "e.safetensors"), topology, precision="double")], positions, None
    )
    assert energy.item() == pytest.approx(energy_of(context), rel=1e-10)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("made", [deep_ensemble, last_layer_ensemble])
def test_an_ensemble_that_was_evaluated_on_a_gpu_is_saved_as_before(made):
    ensemble = made(torch.float32)
    before = ensemble_to_bytes(ensemble)
    Members(ensemble, torch.device("cuda"))
    assert ensemble_to_bytes(ensemble) == before
