"""What members say one by one, and how far they disagree."""

import copy

import pytest
import torch
from conftest import random_atoms, small_model
from ensembles import deep_ensemble, last_layer_ensemble

from openmm_allegro.ensemble import Factors
from openmm_allegro.last_layer import last_features, last_weights
from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.potential import Potential
from openmm_allegro.spread import Members


@pytest.mark.parametrize(
    ("make", "options"),
    [(deep_ensemble, {}), (last_layer_ensemble, {}), (last_layer_ensemble, {"readout_mlp_hidden_layers_depth": 0})],
    ids=["deep", "last layer", "last layer without a hidden one"],
)
def test_members_are_evaluated_as_if_each_were_alone(make, options):
    ensemble = make(zbl=True, **options)
    alone = [Potential(copy.deepcopy(member)) for member in ensemble.members]
    members = Members(ensemble)
    for seed in (2, 3):
        positions, cell, types = random_atoms(15 + seed, 7.0, seed)
        expected = [torch.stack(parts) for parts in zip(*(each(positions, cell, types) for each in alone), strict=True)]
        for ours, theirs in zip(members.answers(positions, cell, types), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)  # mirror images are differences


@pytest.mark.parametrize("make", [deep_ensemble, last_layer_ensemble])
def test_the_spread_is_the_standard_deviation_of_the_members(make):
    ensemble = make(factors=Factors(2.0, 3.0))
    positions, cell, types = random_atoms(12, 6.0)
    alone = [Potential(copy.deepcopy(member))(positions, cell, types) for member in ensemble.members]
    energies, forces = torch.stack([each[0] for each in alone]), torch.stack([each[1] for each in alone])
    count = len(alone) - (1 if ensemble.centre is None else 0)  # the mean of mirrored members is not estimated
    spread = Members(ensemble).spread(positions, cell, types)
    assert spread.energy == pytest.approx(float(energies.mean()), rel=1e-10)
    deviations = energies - energies.mean()
    assert spread.energy_spread == pytest.approx(2.0 * float((deviations.square().sum() / count).sqrt()), rel=1e-8)
    torch.testing.assert_close(spread.forces, forces.mean(0), rtol=1e-10, atol=1e-10)
    of_atoms = ((forces - forces.mean(0)).square().sum((0, 2)) / (3 * count)).sqrt()
    torch.testing.assert_close(spread.force_spread, 3.0 * of_atoms, rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    ("make", "options"),
    [(deep_ensemble, {}), (last_layer_ensemble, {}), (last_layer_ensemble, {"readout_mlp_hidden_layers_depth": 0})],
    ids=["deep", "last layer", "last layer without a hidden one"],
)
def test_the_ensemble_stays_where_it_is(make, options):
    ensemble = make(torch.float32, **options)
    trained = [parameter.requires_grad for parameter in ensemble.parameters()]
    members = Members(ensemble, torch.device("meta"))  # stands for a GPU
    assert {tensor.device.type for tensor in (*ensemble.parameters(), *ensemble.buffers())} == {"cpu"}
    assert [parameter.requires_grad for parameter in ensemble.parameters()] == trained
    there = [members.model, *members.blocks]
    assert {tensor.device.type for each in there for tensor in (*each.parameters(), *each.buffers())} == {"meta"}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_last_features_times_the_last_weights_are_the_energies(depth):
    model = small_model(
        readout_mlp_hidden_layers_depth=depth,
        per_type_energy_scales={"H": 0.7, "O": 1.9},
        per_type_energy_shifts={"H": -13.0, "O": -2041.0},
        avg_num_neighbors={"H": 9.0, "O": 14.0},
    )
    positions, cell, types = random_atoms(12, 6.0)
    matrix = neighbor_matrix(positions, cell, 4.0)
    arguments = matrix.edge_vectors, types, types[matrix.neighbours]
    learnt = last_features(model, *arguments) @ last_weights(model)
    torch.testing.assert_close(learnt + model.shifts[types], model(*arguments), rtol=1e-12, atol=1e-12)
