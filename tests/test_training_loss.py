"""Batches, the forces on the loss path, the loss by hand, and the statistics a model starts from."""

import dataclasses

import numpy as np
import pytest
import torch
from training_toys import ATOM_ENERGY, toy_frames, weighted_loss

from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.training.batch import FrameDataset, ShuffledBatches
from openmm_allegro.training.config import DataOptions, LossOptions
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.loss import mean_error, strata_thresholds, weighted_terms, weights_at
from openmm_allegro.training.module import ErrorSums
from openmm_allegro.training.predict import Prediction, predict
from openmm_allegro.training.statistics import (
    average_neighbours,
    energy_shifts,
    fitted_shifts,
    force_scales,
    isolated_energies,
    types_in,
)

TYPES = ("H", "O")
CUTOFF = 3.0


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = AllegroConfig(
        type_names=TYPES,
        r_max=CUTOFF,
        l_max=2,
        num_layers=2,
        num_scalar_features=8,
        num_tensor_features=4,
        avg_num_neighbors=3.0,
        per_type_energy_shifts={"H": -13.0, "O": -2041.0},
    )
    return Allegro(config, torch.float64)


def dataset(frames):
    return FrameDataset(frames, TYPES, CUTOFF, torch.float64)


def energy_at(model, frame, positions, cell):
    """Energy of the model, from the neighbours up."""
    matrix = neighbor_matrix(torch.tensor(positions), torch.tensor(cell), CUTOFF)
    types = torch.tensor([TYPES.index(symbol) for symbol in frame.symbols])
    return model(matrix.edge_vectors, types, types[matrix.neighbours]).sum().item()


@pytest.mark.parametrize("periodic", [False, True])
def test_forces_of_the_loss_are_minus_the_slope_of_the_energy(model, periodic):
    frame = toy_frames(3, periodic=periodic)[2]
    forces = predict(model, dataset([frame]).batch([0])).forces
    step = 1e-4
    for atom, axis in [(0, 0), (1, 2), (4, 1)]:
        shift = np.zeros_like(frame.positions)
        shift[atom, axis] = step
        ahead = energy_at(model, frame, frame.positions + shift, frame.cell)
        behind = energy_at(model, frame, frame.positions - shift, frame.cell)
        assert float(forces[atom, axis]) == pytest.approx((behind - ahead) / (2 * step), abs=1e-6)  # ~ step²


def test_stress_of_the_loss_is_the_slope_of_the_energy_with_strain(model):
    frame = toy_frames(3, periodic=True)[2]
    stress = predict(model, dataset([frame]).batch([0]), with_stress=True).stress
    step = 1e-4
    for a, b in [(0, 0), (1, 2), (2, 0)]:
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            energies.append(energy_at(model, frame, frame.positions @ strain, frame.cell @ strain))
        expected = (energies[0] - energies[1]) / (2 * step) / frame.volume
        assert float(stress[0, a, b]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("periodic", [False, True])
def test_a_batch_gives_what_its_frames_give_one_by_one(model, periodic):
    frames = toy_frames(6, periodic=periodic)
    data = dataset(frames)
    together = predict(model, data.batch([4, 0, 5, 2]), with_stress=True)
    alone = [predict(model, data.batch([i]), with_stress=True) for i in (4, 0, 5, 2)]
    tolerance = {"rtol": 0, "atol": 1e-11}  # rounding of sums of 1e3 eV
    torch.testing.assert_close(together.energy, torch.cat([p.energy for p in alone]), **tolerance)
    torch.testing.assert_close(together.forces, torch.cat([p.forces for p in alone]), **tolerance)
    if periodic:
        torch.testing.assert_close(together.stress, torch.cat([p.stress for p in alone]), **tolerance)


def test_gradient_of_the_loss_is_its_slope_with_the_weights(model):
    batch = dataset(toy_frames(3)).batch([0, 1, 2])
    weights = LossOptions(energy=2.0, forces=3.0)
    weight = model.readout.parameters().__next__()
    weighted_loss(predict(model, batch, training=True), batch, weights).backward()
    slope, step = weight.grad.flatten()[3].item(), 1e-5
    model.zero_grad()
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.view(-1)[3] += sign * step
        losses.append(float(weighted_loss(predict(model, batch), batch, weights)))
        with torch.no_grad():
            weight.view(-1)[3] -= sign * step
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_loss_is_the_weighted_mean_square_by_hand():
    frames = toy_frames(2, periodic=True)  # three and four atoms
    batch = dataset(frames).batch([0, 1])
    forces_error = torch.arange(21, dtype=torch.float64).reshape(7, 3) / 10
    stress_error = torch.full((2, 3, 3), 0.2, dtype=torch.float64)
    prediction = Prediction(
        energy=batch.energy + torch.tensor([0.3, -0.8], dtype=torch.float64),
        forces=batch.forces + forces_error,
        stress=batch.stress + stress_error,
    )
    per_atom = ((0.3 / 3) ** 2 + (0.8 / 4) ** 2) / 2
    forces = sum((i / 10) ** 2 for i in range(21)) / 21
    loss = weighted_loss(prediction, batch, LossOptions(energy=5.0, forces=2.0, stress=10.0))
    assert float(loss) == pytest.approx(5 * per_atom + 2 * forces + 10 * 0.04)
    total = weighted_loss(prediction, batch, LossOptions(energy=1.0, forces=0.0, per_atom_energy=False))
    assert float(total) == pytest.approx((0.3**2 + 0.8**2) / 2)


def errors_and_labels(seed=0):
    """Predictions and labels of forces (200, 3) from 0.1 to 1000 eV/Å, with errors from 1e-4 to 1 eV/Å."""
    random = np.random.default_rng(seed)
    labels = random.normal(size=(200, 3)) * 10 ** random.uniform(-1, 3, (200, 1))
    errors = random.choice([-1.0, 1.0], (200, 3)) * 10 ** random.uniform(-4, 0, (200, 3))
    return torch.tensor(labels + errors), torch.tensor(labels)


def test_huber_is_twice_that_of_torch():
    predicted, labels = errors_and_labels()
    expected = 2 * torch.nn.functional.huber_loss(predicted, labels, delta=0.05)
    torch.testing.assert_close(mean_error(predicted, labels, 0.05), expected, rtol=1e-12, atol=0)
    mean_square = torch.nn.functional.mse_loss(predicted, labels)
    torch.testing.assert_close(mean_error(predicted, labels, None), mean_square, rtol=1e-12, atol=0)
    torch.testing.assert_close(mean_error(predicted, labels, 1e9), mean_square, rtol=1e-12, atol=0)


def test_stratified_huber_is_twice_that_of_nequip():
    from nequip.train import StratifiedHuberForceLoss

    predicted, labels = errors_and_labels()
    strata = {0.0: 0.01, 100.0: 0.007, 200.0: 0.004, 300.0: 0.001}
    sizes = labels.norm(dim=1)
    assert all((sizes > bound).any() for bound in strata)
    nequip = StratifiedHuberForceLoss(strata)
    nequip.update(predicted, labels)
    options = LossOptions(kind="stratified_huber")
    ours = mean_error(predicted, labels, strata_thresholds(labels, options))
    assert float(ours) == pytest.approx(2 * float(nequip.compute()), rel=1e-6)  # nequip sums in float32


def test_a_stratum_begins_with_its_bound():
    options = LossOptions(kind="stratified_huber", huber_forces=0.2, huber_strata=((0.0, 1.0), (5.0, 0.5)))
    forces = torch.tensor([[4.99, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert strata_thresholds(forces, options).flatten().tolist() == pytest.approx([0.2, 0.1, 0.2])


def test_huber_acts_on_energies_per_atom_and_on_stresses():
    batch = dataset(toy_frames(2, periodic=True)).batch([0, 1])  # three and four atoms
    prediction = Prediction(batch.energy + torch.tensor([0.3, -0.008]), batch.forces, batch.stress + 0.2)
    options = LossOptions(kind="huber", energy=2.0, stress=3.0, huber_energy=0.05, huber_stress=0.1)
    energy = (0.05 * (2 * 0.3 / 3 - 0.05) + (0.008 / 4) ** 2) / 2
    stress = 0.1 * (2 * 0.2 - 0.1)
    assert float(weighted_loss(prediction, batch, options)) == pytest.approx(2 * energy + 3 * stress)


@pytest.mark.parametrize(
    ("ramp", "progress", "energy"),
    [
        ((0.0, 1.0), 0.0, 1.0),
        ((0.0, 1.0), 0.5, 6.0),
        ((0.0, 1.0), 1.0, 11.0),
        ((0.2, 0.6), 0.1, 1.0),
        ((0.2, 0.6), 0.3, 3.5),
        ((0.2, 0.6), 0.7, 11.0),
        ((0.75, 0.75), 0.74, 1.0),
        ((0.75, 0.75), 0.75, 11.0),
    ],
)
def test_weights_go_in_a_straight_line_or_at_once(ramp, progress, energy):
    options = LossOptions(energy=1.0, energy_end=11.0, forces=2.0, ramp=ramp)
    assert weights_at(options, progress) == pytest.approx((energy, 2.0, 0.0))


def test_validations_have_the_weights_of_the_end():
    batch = dataset(toy_frames(1)).batch([0])
    prediction = Prediction(batch.energy + 3 * 0.1, batch.forces, None)
    options = LossOptions(energy=1.0, energy_end=11.0)
    assert float(weighted_loss(prediction, batch, options)) == pytest.approx(11 * 0.01)
    assert float(weighted_loss(prediction, batch, options, progress=0.5)) == pytest.approx(6 * 0.01)


def test_labels_that_are_not_known_do_not_count():
    batch = dataset(toy_frames(2)).batch([0, 1])
    energy, forces = batch.energy.clone(), batch.forces.clone()
    energy[1], forces[2] = torch.nan, torch.nan
    batch = batch._replace(energy=energy, forces=forces)
    frames = dataset(toy_frames(2)).batch([0, 1])
    predicted_forces = (frames.forces + 0.5).requires_grad_()
    prediction = Prediction(frames.energy + 0.3, predicted_forces, None)
    loss = weighted_loss(prediction, batch, LossOptions())
    loss.backward()
    assert loss.item() == pytest.approx((0.3 / 3) ** 2 + 0.25)
    assert not predicted_forces.grad[2].any()
    sums = ErrorSums()
    sums.add(weighted_terms(prediction, batch, LossOptions()), prediction, batch)
    assert sums.take(torch.device("cpu")) == pytest.approx(
        {
            "loss": loss.item(),
            "energy_per_atom_mae_mev": 100.0,
            "forces_mae_mev_per_angstrom": 500.0,
            "forces_rmse_mev_per_angstrom": 500.0,
        }
    )


@pytest.mark.parametrize("size", [1, 4, 8])
def test_the_mean_loss_does_not_depend_on_the_batches(model, size):
    frames = toy_frames(12) + toy_frames(3, seed=3, periodic=True)
    frames[2], frames[7] = dataclasses.replace(frames[2], energy=None), dataclasses.replace(frames[7], forces=None)
    data, options = dataset(frames), LossOptions(stress=10.0, kind="huber")

    def mean(size):
        sums = ErrorSums()
        for batch in ShuffledBatches(data, size, seed=None):
            prediction = predict(model, batch, with_stress=True)
            sums.add(weighted_terms(prediction, batch, options), prediction, batch)
        return sums.take(torch.device("cpu"))["loss"]

    whole = data.batch(range(15))
    direct = float(weighted_loss(predict(model, whole, with_stress=True), whole, options))
    assert mean(size) == pytest.approx(direct, rel=1e-6)
    assert mean(15) == pytest.approx(direct, rel=1e-6)


def test_errors_of_labels_that_nobody_has_are_left_out():
    batch = dataset(toy_frames(2)).batch([0, 1])
    prediction = Prediction(batch.energy, batch.forces, None)
    sums = ErrorSums()
    unlabelled = batch._replace(forces=torch.full_like(batch.forces, torch.nan))
    sums.add(weighted_terms(prediction, unlabelled, LossOptions()), prediction, unlabelled)
    assert sums.take(torch.device("cpu")) == {"loss": 0.0, "energy_per_atom_mae_mev": 0.0}


def test_a_stress_that_is_not_known_does_not_count():
    batch = dataset([toy_frames(1)[0], toy_frames(2, periodic=True)[1]]).batch([0, 1])
    prediction = Prediction(batch.energy, batch.forces, torch.nan_to_num(batch.stress) + 0.2)
    assert float(weighted_loss(prediction, batch, LossOptions(stress=1.0))) == pytest.approx(0.04)


def test_atoms_on_one_spot_are_refused_by_frame():
    frames = toy_frames(3)
    frames[1].positions[2] = frames[1].positions[0]
    with pytest.raises(ValueError, match="frame 1 of a toy set: atoms 0 and 2 are on one spot"):
        dataset(frames)
    frames[1].positions[2, 0] += 0.01
    with pytest.raises(ValueError, match="frame 1 of a toy set: atoms 0 and 2 are 0.01 Å apart; expected at least 0.1"):
        FrameDataset(frames, TYPES, CUTOFF, min_distance=0.1)


def test_a_lone_atom_is_a_frame_too(model):
    atom = Frame(np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), False, -2041.0, np.zeros((1, 3)), None, "x")
    prediction = predict(model, dataset([atom]).batch([0]))
    assert prediction.energy.tolist() == [-2041.0]
    assert prediction.forces.tolist() == [[0.0, 0.0, 0.0]]


def test_order_of_an_epoch_depends_on_seed_and_epoch_only():
    data = dataset(toy_frames(20))
    first, second = ShuffledBatches(data, 3, seed=1), ShuffledBatches(data, 3, seed=1)
    list(first)
    assert first.order(7) == second.order(7) != second.order(8)
    assert sorted(first.order(7)) == list(range(20))
    assert ShuffledBatches(data, 3, seed=None).order(7) == list(range(20))
    assert [len(batch.energy) for batch in first] == [3, 3, 3, 3, 3, 3, 2]
    rest = [batch.energy.tolist() for batch in first.of_epoch(7, 4)]
    assert rest == [batch.energy.tolist() for batch in first.of_epoch(7)][4:]


def test_batches_grouped_by_size_have_every_frame_once_and_less_padding():
    data = dataset(toy_frames(200))
    grouped, plain = ShuffledBatches(data, 3, seed=1, group_by_size=True), ShuffledBatches(data, 3, seed=1)
    assert sorted(grouped.order(0)) == list(range(200))
    assert [len(batch.energy) for batch in grouped] == [3] * 66 + [2]
    slots = [sum(batch.neighbours.numel() for batch in batches) for batches in (grouped, plain)]
    pairs = sum(data.items[i].neighbours.numel() for i in range(200))  # molecules whose atoms all see each other
    assert pairs <= slots[0] < pairs + 0.2 * (slots[1] - pairs)
    again = ShuffledBatches(data, 3, seed=1, group_by_size=True)
    assert again.order(0) == grouped.order(0) != again.order(1)
    sizes = [len(batch.centre_types) for batch in grouped]
    assert sizes[:16] != sorted(sizes[:16])  # the batches of a group come in random order


def test_statistics_agree_with_numpy():
    frames = toy_frames(9)
    forces = np.concatenate([frame.forces for frame in frames])
    symbols = np.concatenate([frame.symbols for frame in frames])
    assert types_in(frames) == ("H", "O")
    scales = force_scales(frames, ("H", "O", "C"))
    assert scales["H"] == pytest.approx(np.sqrt((forces[symbols == "H"] ** 2).mean()))
    assert scales["C"] == 1.0
    near = [np.linalg.norm(f.positions[:, None] - f.positions[None], axis=2) < CUTOFF for f in frames]
    expected = sum(n.sum() - len(n) for n in near) / len(symbols)
    assert average_neighbours(dataset(frames)) == pytest.approx(expected)


def test_forces_that_symmetry_makes_zero_give_no_scale():
    frames = [dataclasses.replace(frame, forces=1e-9 * frame.forces) for frame in toy_frames(3)]
    assert force_scales(frames, TYPES) == {"H": 1.0, "O": 1.0}


def test_fitted_shifts_are_the_least_squares_solution():
    frames = toy_frames(9)
    counts = np.array([[f.symbols.count("H"), f.symbols.count("O")] for f in frames], float)
    expected = np.linalg.solve(counts.T @ counts, counts.T @ np.array([f.energy for f in frames]))
    assert list(fitted_shifts(frames, TYPES).values()) == pytest.approx(list(expected))


def test_fitted_shifts_of_one_molecule_still_add_up():
    frames = toy_frames(9)[::3]  # all of one composition
    shifts = fitted_shifts(frames, TYPES)
    mean = np.mean([frame.energy for frame in frames])
    assert 2 * shifts["H"] + shifts["O"] == pytest.approx(mean)


def one_atom(number):
    zeros = np.zeros((1, 3))
    return Frame(np.array([number]), zeros, np.zeros((3, 3)), False, ATOM_ENERGY[number], None, None, "frame 0 of `a`")


def test_isolated_atoms_are_taken_from_one_atom_frames():
    frames = [one_atom(1), one_atom(8), *toy_frames(2)]
    assert isolated_energies(frames, "`a`") == {"H": -13.0, "O": -2041.0}


def test_isolated_atoms_must_cover_the_types():
    options = DataOptions(train="a", n_validation=1, isolated_atoms={"H": -13.0})
    with pytest.raises(ValueError, match=r"`data.isolated_atoms` \[eV\] has no energy of an isolated O, only of H"):
        energy_shifts(toy_frames(2), [], TYPES, options)
    with pytest.raises(ValueError, match="`data.train` has no frame of an isolated atom"):
        energy_shifts(toy_frames(2), [], TYPES, options.model_copy(update={"isolated_atoms": "in_train"}))


def test_clusters_beside_periodic_frames_leave_the_gradient_of_the_stress_finite(model):
    frames = [toy_frames(3, periodic=True)[2], toy_frames(3)[2]]
    batch = dataset(frames).batch([0, 1])
    loss = weighted_loss(predict(model, batch, with_stress=True, training=True), batch, LossOptions(stress=1.0))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
