"""Fine-tuning: what the given model knew stays, new elements and new atomic energies fit in, frozen parts rest."""

import dataclasses

import ase.io
import numpy as np
import pytest
import torch
from conftest import random_atoms, small_model
from safetensors.torch import load_file
from training_toys import toy_atoms, toy_frames, write_toy_run

from openmm_allegro.checkpoint import load_model, save_model
from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.config import load_config
from openmm_allegro.training.fine_tuning import fitted_to_the_rest, freeze, rebased, with_types
from openmm_allegro.training.metrics import predict_frames
from openmm_allegro.training.run import train

training = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")
OTHER_LEVEL = {1: 0.7, 8: -2.5}
"""What another level of theory adds to the energy of each atom [eV]."""


def run(path, folder, resume=False):
    return train(load_config(path), folder, resume=resume, progress=False, pictures=False)


def fine_tuning_toml(folder, frames, run_options="max_epochs = 1", data_options="", lr=0.01, model_options=""):
    """A run that starts from a model trained for a few epochs, on other frames."""
    if not (folder / "first").exists():
        run(write_toy_run(folder, "max_epochs = 10"), folder / "first")
    path = write_toy_run(folder, f'{run_options}\nstart_from = "first/last.safetensors"')
    ase.io.write(folder / "toy.xyz", [toy_atoms(frame) for frame in frames], format="extxyz")
    text = path.read_text().replace("isolated_atoms = { H = -13.0, O = -2041.0 }", data_options)
    path.write_text(text.replace("lr = 0.01", f"lr = {lr}").replace("[model]", f"[model]\n{model_options}"))
    return path


def at_another_level(frames):
    return [
        dataclasses.replace(frame, energy=frame.energy + sum(OTHER_LEVEL[number] for number in frame.numbers))
        for frame in frames
    ]


def with_nitrogen(frames):
    """The last hydrogen of every other frame becomes nitrogen, with an energy of its own."""
    changed = [
        dataclasses.replace(f, numbers=np.append(f.numbers[:-1], 7), energy=f.energy + 13.0 - 1480.0)
        for f in frames[::2]
    ]
    return [frame for pair in zip(frames[1::2], changed, strict=True) for frame in pair]


@pytest.mark.parametrize(
    "options",
    [
        {"per_type_energy_scales": {"H": 0.7, "O": 1.3}, "per_type_energy_shifts": {"H": -13.6, "O": -2041.2}},
        {"radial_chemical_embed": "spline", "zbl": True, "avg_num_neighbors": {"H": 11.0, "O": 13.0}},
        {"per_edge_type_cutoff": {"H": 3.0}, "per_type_energy_scales_trainable": True},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_new_elements_leave_the_energies_of_the_others_as_they_are(tmp_path, options, dtype):
    model = small_model(dtype, **options)
    extended = with_types(model, ["N", "C"], {"N": 0.9, "C": 0.8}, neighbours=10.0)
    assert extended.config.type_names == ("H", "O", "N", "C")
    save_model(extended, tmp_path / "extended.safetensors")
    extended = load_model(tmp_path / "extended.safetensors")
    positions, cell, types = random_atoms(30, 8.0)
    neighbours, vectors, _ = neighbor_matrix(positions, cell, 4.0)
    with torch.no_grad():
        before = model(vectors.to(dtype), types, types[neighbours])
        assert torch.equal(extended(vectors.to(dtype), types, types[neighbours]), before)
        types[3] = 2
        changed = extended(vectors.to(dtype), types, types[neighbours])
    assert bool(torch.isfinite(changed).all())
    near = torch.unique(neighbours[3])
    assert not torch.equal(changed[near], before[near])


def test_fitted_atomic_energies_are_what_the_labels_differ_by():
    model = small_model(per_type_energy_shifts={"H": -13.0, "O": -2041.0})
    frames = toy_frames(9)
    predicted = predict_frames(model, frames)
    frames = [
        dataclasses.replace(frame, energy=own.energy + sum(OTHER_LEVEL[number] for number in frame.numbers))
        for frame, own in zip(frames, predicted, strict=True)
    ]
    frames[4] = dataclasses.replace(frames[4], energy=None)
    data = FrameDataset(frames, ("H", "O"), 4.0, torch.float64)
    shifts = fitted_to_the_rest(model, data, ("H", "O"), batch_size=4)
    # rounding of energies of 2000 eV
    assert shifts == pytest.approx({"H": -13.0 + 0.7, "O": -2041.0 - 2.5}, abs=1e-9)
    rebased(model, shifts)
    for frame, own in zip(frames, predict_frames(model, frames), strict=True):
        assert frame.energy is None or own.energy == pytest.approx(frame.energy, abs=1e-9)


def test_frozen_parts_are_named_as_the_model_names_them():
    model = small_model()
    with pytest.raises(
        ValueError, match=r"`run.freeze` names 'readuot'; the parts of a model are .*two_body, .*readout"
    ):
        freeze(model, ["operators", "readuot"])
    parts = list(dict.fromkeys(name.split(".")[0] for name, _ in model.named_parameters()))
    with pytest.raises(ValueError, match="`run.freeze` leaves no weight to train"):
        freeze(model, parts)


def test_atomic_energies_are_not_drawn_towards_zero(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1", 'name = "adamw"\nweight_decay = 0.01')
    path.write_text(path.read_text().replace("l_max = 1", "l_max = 1\nper_type_energy_shifts_trainable = true"))
    with pytest.raises(ValueError, match="`optimizer.weight_decay` would draw the energies of the free atoms"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@training
def test_frozen_weights_do_not_move_and_all_others_do(tmp_path):
    frozen = ["two_body", "two_body_mlp", "operators"]
    path = fine_tuning_toml(tmp_path, toy_frames(16, seed=3), f"max_epochs = 2\nfreeze = {frozen}")
    after = load_file(run(path, tmp_path / "second").last_model)
    model = load_model(tmp_path / "first" / "last.safetensors")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    for name, before in model.state_dict().items():
        rests = name.split(".")[0] in frozen or name not in trained
        assert torch.equal(before, after[name]) == rests, name


@training
@pytest.mark.parametrize(("choice", "difference"), [('isolated_atoms = "fit"', 0.0), ("", 500.0)])
def test_atomic_energies_of_another_level_of_theory_can_be_fitted(tmp_path, choice, difference):
    same = fine_tuning_toml(tmp_path, toy_frames(16), lr=1e-12)
    before = run(same, tmp_path / "same").validation
    path = fine_tuning_toml(tmp_path, at_another_level(toy_frames(16)), data_options=choice, lr=1e-12)
    after = run(path, tmp_path / "other").validation
    # weights that do not move: the forces stay, the energies fit as well as before or are off by what was added
    assert after.forces_mae_mev_per_angstrom == pytest.approx(before.forces_mae_mev_per_angstrom, rel=1e-5)
    if difference:
        assert after.energy_mae_mev > before.energy_mae_mev + difference
    else:
        assert after.energy_mae_mev < 1.3 * before.energy_mae_mev
    unmoved = load_model(tmp_path / "same" / "last.safetensors").config.per_type_energy_shifts
    assert unmoved == {"H": -13.0, "O": -2041.0}


@training
def test_another_zero_of_energy_is_warned_of(tmp_path):
    frames = [dataclasses.replace(frame, energy=frame.energy + 686.0 * len(frame.numbers)) for frame in toy_frames(16)]
    path = fine_tuning_toml(tmp_path, frames)
    sentence = r'are 68[56].* eV/atom away from what the model .* says, .*; .* set `data.isolated_atoms = "fit"`'
    with pytest.warns(UserWarning, match=sentence):
        run(path, tmp_path / "kept")
    path = fine_tuning_toml(tmp_path, frames, data_options='isolated_atoms = "fit"')
    fitted = run(path, tmp_path / "fitted").validation  # without a word, which would be an error here
    assert fitted.energy_per_atom_mae_mev < 200


@training
def test_atomic_energies_can_be_given_beside_a_model(tmp_path):
    energies = {"H": -12.3, "O": -2043.5}
    table = "isolated_atoms = { H = -12.3, O = -2043.5 }"
    path = fine_tuning_toml(tmp_path, at_another_level(toy_frames(16)), data_options=table)
    model = load_model(run(path, tmp_path / "out").best_model)
    assert model.config.per_type_energy_shifts == energies
    assert model.shifts.tolist() == list(energies.values())


@training
def test_an_element_that_the_model_does_not_know_is_learnt(tmp_path):
    frames = with_nitrogen(toy_frames(24))
    path = fine_tuning_toml(tmp_path, frames, "max_epochs = 30")
    with pytest.raises(ValueError, match="is N, but this model knows only H, O; add N to `model.type_names`"):
        run(path, tmp_path / "refused")
    types = 'type_names = ["N", "H", "O"]'
    path = fine_tuning_toml(tmp_path, frames, "max_epochs = 30", model_options=types)
    result = run(path, tmp_path / "out")
    config = load_model(result.best_model).config
    assert config.type_names == ("H", "O", "N")
    assert config.per_type_energy_shifts["H"] == -13.0
    assert config.per_type_energy_shifts["N"] == pytest.approx(-1480.0, abs=5.0)  # the bonds take up the rest
    untrained = run(fine_tuning_toml(tmp_path, frames, lr=1e-12, model_options=types), tmp_path / "untrained")
    trained, before = (each.validation.forces_mae_mev_per_angstrom_by_element["N"] for each in (result, untrained))
    assert trained < 0.6 * before


@training
def test_an_element_of_the_model_cannot_be_left_out(tmp_path):
    path = fine_tuning_toml(tmp_path, toy_frames(16), model_options='type_names = ["H", "N"]')
    with pytest.raises(ValueError, match="`model.type_names` lacks O, which the model of `run.start_from` knows"):
        run(path, tmp_path / "out")


@training
@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        ('"Li"', r"option `model.type_names` is 'Li'; expected a list of symbols, such as \["),
        ('["H", "O", "Xx"]', "`type_names` has 'Xx', which is not a chemical symbol"),
    ],
)
@pytest.mark.filterwarnings("ignore:no training frame has")
def test_types_that_cannot_be_meant_are_refused(tmp_path, types, sentence):
    save_model(small_model(torch.float32), tmp_path / "start.safetensors")
    path = write_toy_run(tmp_path, 'max_epochs = 1\nstart_from = "start.safetensors"')
    text = path.read_text().partition("[model]")[0].replace("isolated_atoms = { H = -13.0, O = -2041.0 }", "")
    path.write_text(f"{text}[model]\ntype_names = {types}\n[run]{path.read_text().partition('[run]')[2]}")
    with pytest.raises(ValueError, match=sentence) as caught:
        run(path, tmp_path / "out")
    assert "validation error" not in str(caught.value)


@training
def test_a_fine_tuning_run_goes_on_to_the_same_weights(tmp_path):
    options = ('isolated_atoms = "fit"', 0.01, 'type_names = ["H", "O", "N"]')
    frames = at_another_level(toy_frames(8)) + with_nitrogen(toy_frames(8))
    path = fine_tuning_toml(tmp_path, frames, 'max_epochs = 2\nfreeze = ["operators"]', *options)
    path.write_text(path.read_text().replace("[run]", 'schedule = "constant"\n[run]'))
    run(path, tmp_path / "in-two-parts")
    path.write_text(path.read_text().replace("max_epochs = 2", "max_epochs = 4"))
    one, two = run(path, tmp_path / "whole"), run(path, tmp_path / "in-two-parts", resume=True)
    assert one.last_model.read_bytes() != (tmp_path / "first" / "last.safetensors").read_bytes()
    for name, weights in load_file(one.last_model).items():
        assert torch.equal(weights, load_file(two.last_model)[name]), name
    assert load_model(one.last_model).config == load_model(two.last_model).config
    path.write_text(path.read_text().replace('["operators"]', '["readout"]'))
    with pytest.raises(ValueError, match="started with another `run.freeze`"):
        run(path, tmp_path / "whole", resume=True)
