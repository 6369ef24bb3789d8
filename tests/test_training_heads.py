"""Several levels of theory in one run: one head is the training without heads, two share all but their readouts."""

import csv
import json
from dataclasses import replace

import ase.io
import pytest
import torch
from safetensors.torch import load_file
from test_training_processes import command
from test_training_run import assert_same_weights, kill_in_rename, run
from training_toys import TOY_TOML, toy_atoms, toy_frames, weighted_loss, write_toy_run

from openmm_allegro.checkpoint import load_model, read_metadata
from openmm_allegro.cli import main
from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.training import keeper, rounds
from openmm_allegro.training.batch import FrameDataset, ShuffledBatches
from openmm_allegro.training.config import load_config
from openmm_allegro.training.heads import HeadBatch, InterleavedBatches, another_head, completed, history_columns
from openmm_allegro.training.metrics import evaluate
from openmm_allegro.training.module import TrainingModule
from openmm_allegro.training.predict import predict
from openmm_allegro.training.prepare import prepare
from openmm_allegro.training.schedule import MovingAverage

# Lightning names the packages it would rather see than those it finds
pytestmark = [pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")]

LOW_ATOMS, HIGH_ATOMS = "{ H = -13.0, O = -2041.0 }", "{ H = -12.0, O = -2040.0 }"
HEADS = f"""
[heads.low]
train = "low.xyz"
n_validation = 3
isolated_atoms = {LOW_ATOMS}
[heads.high]
train = "high.xyz"
n_validation = 2
isolated_atoms = {HIGH_ATOMS}
weight = 2.0
"""
OWN = ("readout.0.weight", "readout.2.weight", "scales", "shifts")


def high_level(frames):
    """The same frames at another level of theory: bonds a tenth stronger, and other atoms."""
    atoms = {1: -13.0, 8: -2041.0}
    moved = []
    for frame in frames:
        bound = frame.energy - sum(atoms[number] for number in frame.numbers)
        energy = 1.1 * bound + sum(atoms[number] + 1 for number in frame.numbers)
        moved.append(replace(frame, energy=energy, forces=1.1 * frame.forces))
    return moved


def write_frames(path, frames):
    ase.io.write(path, [toy_atoms(frame) for frame in frames], format="extxyz")


def write_heads(folder, run="max_epochs = 4", optimizer="", heads=HEADS):
    """11 frames of a low level and 7 others of a high one: 8 + 5 are trained on, in 3 + 2 batches."""
    write_frames(folder / "low.xyz", toy_frames(11))
    write_frames(folder / "high.xyz", high_level(toy_frames(7, seed=1)))
    path = folder / "heads.toml"
    text = TOY_TOML.format(run=run, optimizer=optimizer)
    path.write_text(heads + text[text.index("[model]") :], encoding="utf-8")
    return path


def assert_shared_weights_are_the_same(one, other):
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]) == (name not in OWN), name


@pytest.mark.parametrize("optimizer", ["", 'name = "muon"', "sam_rho = 0.1"])
def test_one_head_is_the_training_without_heads(tmp_path, optimizer):
    path = write_toy_run(tmp_path, "max_epochs = 2", optimizer)
    without = run(path, tmp_path / "without")
    path.write_text(path.read_text().replace("[data]", "[heads.only]"))
    only = run(path, tmp_path / "only")
    assert only.best_model.name == "best.only.safetensors"
    assert_same_weights(without.last_model, only.last_model)
    assert_same_weights(without.best_model, only.best_model)
    assert without.validation == only.validation


def test_each_head_learns_its_own_level_and_leaves_an_ordinary_model(tmp_path):
    result = run(write_heads(tmp_path, "max_epochs = 40"), tmp_path / "out", pictures=True)
    low, high = result.heads["low"], result.heads["high"]
    assert_shared_weights_are_the_same(low.last_model, high.last_model)
    assert_shared_weights_are_the_same(low.best_model, high.best_model)
    unseen = toy_frames(20, seed=5)
    frames = {"low": unseen, "high": high_level(unseen)}
    for name, each in result.heads.items():
        other = next(frames[head] for head in frames if head != name)
        own_errors = evaluate(load_model(each.best_model), frames[name])
        # the levels differ by 1 eV for each of 3 to 5 atoms
        assert own_errors.energy_mae_mev < 1000 < evaluate(load_model(each.best_model), other).energy_mae_mev
        rms_force = (sum((f.forces**2).sum() for f in frames[name]) / sum(f.forces.size for f in frames[name])) ** 0.5
        assert own_errors.forces_rmse_mev_per_angstrom < 0.6e3 * rms_force
        assert each.validation.n_frames == {"low": 3, "high": 2}[name]
        assert {path.name for path in each.pictures} == {f"learning_curve.{name}.png", f"parity.{name}.png"}
        assert all(path.stat().st_size > 0 for path in each.pictures)
        provenance = read_metadata(each.best_model)["provenance"]
        assert (provenance["head"], provenance["heads"]) == (name, ["low", "high"])
        assert (provenance["train_files"], provenance["n_train"]) == ([f"{name}.xyz"], {"low": 8, "high": 5}[name])
        assert json.loads((tmp_path / "out" / f"statistics.{name}.json").read_text())["type_names"] == ["H", "O"]
    with pytest.raises(ValueError, match="this run has a model for each of low, high; take one from `heads`"):
        result.best_model  # noqa: B018


def test_the_history_has_each_head_and_their_weighted_mean_chooses_the_best(tmp_path):
    result = run(write_heads(tmp_path, "max_epochs = 8"), tmp_path / "out")
    with result.history.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        for kind in ("train", "validation"):
            mean = (row[f"low.{kind}_loss"] + 2 * row[f"high.{kind}_loss"]) / 3
            assert row[f"{kind}_loss"] == pytest.approx(mean, rel=1e-12)
            assert row[f"high.{kind}_forces_mae_mev_per_angstrom"] > 0
    best = min(rows, key=lambda row: row["validation_loss"])
    for name, head in result.heads.items():
        kept = read_metadata(head.best_model)["provenance"]["training"]
        assert kept["step"] == best["step"]
        assert kept["validation_loss"] == best[f"{name}.validation_loss"]
        assert head.validation.forces_mae_mev_per_angstrom == pytest.approx(
            best[f"{name}.validation_forces_mae_mev_per_angstrom"],
            rel=1e-4,  # float32, other batches
        )


def two_models():
    options = dict(r_max=4.0, l_max=1, num_scalar_features=8, num_tensor_features=4, avg_num_neighbors=3.0)
    torch.manual_seed(3)
    low = Allegro(AllegroConfig.model_validate({"type_names": ("H", "O"), **options}), torch.float64)
    high = another_head(low, {"H": 2.0, "O": 3.0}, {"H": -12.0, "O": -2040.0})
    with torch.no_grad():
        for weight in high.readout.parameters():
            weight.mul_(1.3)
    return low, high


def test_gradients_of_both_heads_are_those_of_the_sum_by_hand(tmp_path):
    config = load_config(write_heads(tmp_path))
    low, high = two_models()
    batches = [
        FrameDataset(frames, ("H", "O"), 4.0, torch.float64).batch([0, 1, 2])
        for frames in (toy_frames(3), high_level(toy_frames(3, seed=1)))
    ]
    module = TrainingModule({"low": low, "high": high}, config, 5)
    for number, batch in enumerate(batches):
        module.training_step(HeadBatch(number, batch), number).backward()
    # by hand: two models that share nothing, differentiated twice, and the loss written out
    by_hand = [Allegro(model.config, torch.float64) for model in (low, high)]
    for mine, model, batch, factor in zip(by_hand, (low, high), batches, (1.0, 2.0), strict=True):
        mine.load_state_dict(model.state_dict())
        predicted = predict(mine, batch, training=True)
        energy = ((predicted.energy - batch.energy) / batch.n_atoms).square().mean()
        (factor * (energy + (predicted.forces - batch.forces).square().mean())).backward()
    gradients = [dict(mine.named_parameters()) for mine in by_hand]
    for name, weight in low.named_parameters():
        other = high.get_parameter(name)
        of_low, of_high = (gradient[name].grad for gradient in gradients)
        if of_low is None:
            assert weight.grad is None
        elif name in OWN:
            assert other is not weight
            torch.testing.assert_close(weight.grad, of_low, rtol=1e-9, atol=1e-12)  # rounding of another order of sums
            torch.testing.assert_close(other.grad, of_high, rtol=1e-9, atol=1e-12)
        else:
            assert other is weight
            torch.testing.assert_close(weight.grad, of_low + of_high, rtol=1e-9, atol=1e-12)


def test_a_weight_of_a_head_multiplies_its_gradients(tmp_path):
    batch = FrameDataset(toy_frames(3), ("H", "O"), 4.0, torch.float64).batch([0, 1, 2])
    config = load_config(write_heads(tmp_path))
    gradients = []
    for number in (0, 1):  # the same model and frames, with the weight 1 and 2
        low, _ = two_models()
        module = TrainingModule({"low": low, "high": low}, config, 5)
        loss = module.training_step(HeadBatch(number, batch), 0)
        loss.backward()
        gradients.append([weight.grad for weight in low.parameters() if weight.grad is not None])
        expected = weighted_loss(predict(low, batch), batch, config.loss)
        torch.testing.assert_close(loss.detach(), (1.0, 2.0)[number] * expected)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(two, 2 * one)


def test_a_head_may_have_a_loss_of_its_own(tmp_path):
    heads = HEADS + "[heads.high.loss]\nforces = 0.0\n"
    path = write_heads(tmp_path, heads=heads)
    without_forces = [replace(frame, forces=None) for frame in high_level(toy_frames(7, seed=1))]
    atoms = [toy_atoms(replace(frame, forces=0 * frame.positions)) for frame in without_forces]
    for each in atoms:
        del each.calc.results["forces"]
    ase.io.write(tmp_path / "high.xyz", atoms, format="extxyz")
    result = run(path, tmp_path / "out")
    assert result.heads["high"].validation.forces_mae_mev_per_angstrom is None
    assert result.heads["low"].validation.forces_mae_mev_per_angstrom > 0
    path.write_text(path.read_text().replace("[heads.high.loss]\nforces = 0.0\n", ""))
    message = r"head `high`: frame . of `high.xyz` has no forces, .* or set `heads.high.loss.forces = 0`"
    with pytest.raises(ValueError, match=message):
        run(path, tmp_path / "again")


@pytest.mark.parametrize("average", ['average = "ema"', 'average = "none"'])
def test_weights_of_a_head_rest_while_others_are_trained(tmp_path, average):
    config = load_config(write_heads(tmp_path, optimizer=average))
    low, high = two_models()
    module = TrainingModule({"low": low, "high": high}, config, 5)
    data = [FrameDataset(frames, ("H", "O"), 4.0, torch.float64) for frames in (toy_frames(3), toy_frames(3, seed=1))]
    optimizer = module.configure_optimizers()

    def step(number):
        optimizer.zero_grad()
        module.training_step(HeadBatch(number, data[number].batch([0, 1, 2])), 0).backward()
        for weight in module.average.weights:  # as several processes leave them
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        module.on_before_optimizer_step(optimizer)
        optimizer.step()

    step(1)
    before = [weight.clone() for weight in high.readout.parameters()]
    shared = low.first_latent[0].weight.clone()
    step(0)
    assert all(torch.equal(*pair) for pair in zip(before, high.readout.parameters(), strict=True))
    assert not torch.equal(shared, high.first_latent[0].weight)


def test_an_epoch_has_every_frame_once_in_an_order_known_from_its_seed():
    frames = [toy_frames(8), toy_frames(5, seed=1)]
    data = [FrameDataset(each, ("H", "O"), 4.0, torch.float64) for each in frames]

    def batches(seed, epoch):
        made = InterleavedBatches([ShuffledBatches(each, 3, seed) for each in data], seed)
        assert len(made) == 5
        return list(made.of_epoch(epoch))

    def order(seed, epoch):
        return [batch.head for batch in batches(seed, epoch)]

    for number, each in enumerate(frames):
        seen = [energy for batch in batches(1, 0) if batch.head == number for energy in batch.frames.energy.tolist()]
        assert sorted(seen) == sorted(frame.energy for frame in each)
    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(1, epoch)) for epoch in range(10)}) > 3
    assert [batch.head for batch in InterleavedBatches([ShuffledBatches(each, 3, None) for each in data], None)] == [
        0, 0, 0, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("optimizer", ['name = "muon"\nsam_rho = 0.1', 'name = "schedule_free"\nschedule = "constant"'])
def test_a_broken_run_of_two_heads_goes_on_to_the_same_weights(tmp_path, monkeypatch, optimizer):
    path = write_heads(tmp_path, "max_epochs = 4\nvalidate_every = 2", optimizer)
    whole, update = run(path, tmp_path / "whole"), MovingAverage.update

    def update_and_break(self, progress):
        update(self, progress)
        if self.steps == 17:  # in the last of four epochs
            raise OSError("the plug is out")

    monkeypatch.setattr(MovingAverage, "update", update_and_break)
    with pytest.raises(OSError, match="the plug is out"):
        run(path, tmp_path / "broken")
    monkeypatch.setattr(MovingAverage, "update", update)
    resumed = run(path, tmp_path / "broken", resume=True)
    assert resumed.steps == whole.steps == 20
    for name, head in whole.heads.items():
        assert_same_weights(head.last_model, resumed.heads[name].last_model)
        assert_same_weights(head.best_model, resumed.heads[name].best_model)
    with whole.history.open() as one, resumed.history.open() as other:
        for row, again in zip(csv.DictReader(one), csv.DictReader(other), strict=True):
            assert all(row[name] == again[name] for name in row if name != "seconds")


def test_a_run_broken_within_an_epoch_goes_on_from_there_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "LONGEST_ROUND", 2)
    monkeypatch.setattr(keeper, "SECONDS_BETWEEN_SAVES", 0)
    path = write_heads(tmp_path, "max_epochs = 4\nvalidate_every = 0.6")  # each 3 of 5 steps
    whole, update, steps = run(path, tmp_path / "whole"), MovingAverage.update, []

    def update_and_break(self, progress):
        update(self, progress)
        steps.append(self.steps)
        if steps == [*range(1, 10)]:  # the fourth of the five steps of the second epoch
            raise OSError("the plug is out")

    monkeypatch.setattr(MovingAverage, "update", update_and_break)
    with pytest.raises(OSError, match="the plug is out"):
        run(path, tmp_path / "broken")
    resumed = run(path, tmp_path / "broken", resume=True)
    assert steps == [*range(1, 10), *range(9, 21)]
    for name, head in whole.heads.items():
        assert_same_weights(head.last_model, resumed.heads[name].last_model)
    with whole.history.open() as one, resumed.history.open() as other:
        rows, again = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert [row["step"] for row in rows] == ["3", "6", "9", "12", "15", "18", "20"]
    assert [{**row, "seconds": ""} for row in rows] == [{**row, "seconds": ""} for row in again]


def test_a_run_killed_between_the_files_of_two_heads_goes_on_to_the_same_weights(tmp_path):
    path = write_heads(tmp_path)
    kill_in_rename(5, path, tmp_path / "killed")  # statistics of both, resume file, `last` and `best` of `low`
    assert (tmp_path / "killed" / "last.low.safetensors").is_file()
    assert not (tmp_path / "killed" / "last.high.safetensors").is_file()
    again = run(path, tmp_path / "killed", resume=True)
    whole = run(path, tmp_path / "whole")
    for name, head in whole.heads.items():
        assert_same_weights(head.best_model, again.heads[name].best_model)


def test_another_weight_of_a_head_is_not_resumed(tmp_path):
    path = write_heads(tmp_path, "max_epochs = 1")
    run(path, tmp_path / "out")
    text = path.read_text()
    path.write_text(text.replace("weight = 2.0", "weight = 3.0"))
    with pytest.raises(ValueError, match=r"started with another `heads.high.weight` \(2.0, now 3.0\)"):
        run(path, tmp_path / "out", resume=True)
    path.write_text(text)
    write_frames(tmp_path / "high.xyz", high_level(toy_frames(7, seed=2)))
    with pytest.raises(ValueError, match="started with another `the frames of high`"):
        run(path, tmp_path / "out", resume=True)


def test_two_processes_give_the_weights_of_one(tmp_path):
    path = write_heads(tmp_path, 'max_epochs = 3\nprecision = "float64"\ndevices = 2')
    done = command(path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer["heads"]) == {"low", "high"}
    path.write_text(path.read_text().replace("devices = 2", "devices = 1"))
    for name, head in run(path, tmp_path / "one").heads.items():
        for weight, values in load_file(head.last_model).items():
            other = load_file(answer["heads"][name]["last_model"])[weight]
            # sums in another order: 1e-16 a step, which Adam does not enlarge
            torch.testing.assert_close(other, values, rtol=0, atol=1e-13)


def with_nitrogen(frames):
    """The first hydrogen of each frame is nitrogen, 1000 eV lower."""
    changed = []
    for frame in frames:
        numbers = frame.numbers.copy()
        numbers[0] = 7
        changed.append(replace(frame, numbers=numbers, energy=frame.energy - 1000.0))
    return changed


def test_a_head_without_an_element_says_so_and_takes_it_from_another(tmp_path):
    heads = HEADS.replace(LOW_ATOMS, "{ H = -13.0, O = -2041.0, N = -1013.0 }")
    path = write_heads(tmp_path, "max_epochs = 1", heads=heads)
    write_frames(tmp_path / "low.xyz", with_nitrogen(toy_frames(11)))
    with pytest.warns(UserWarning, match="no training frame of head `high` has N: the atomic energies and scales"):
        result = run(path, tmp_path / "out")
    low, high = (load_model(result.heads[name].last_model).config for name in ("low", "high"))
    assert low.type_names == high.type_names == ("H", "N", "O")
    assert high.per_type_energy_shifts == {"H": -12.0, "N": -1013.0, "O": -2040.0}
    assert high.per_type_energy_scales["N"] == low.per_type_energy_scales["N"]
    assert high.per_type_energy_scales["H"] != low.per_type_energy_scales["H"]
    path.write_text(path.read_text().replace(HIGH_ATOMS, "{ H = -12.0, O = -2040.0, N = -1012.5 }"))
    with pytest.warns(UserWarning, match="of head `high` has N"):
        result = run(path, tmp_path / "told")
    assert load_model(result.heads["high"].last_model).config.per_type_energy_shifts["N"] == -1012.5


def test_what_no_head_knows_is_not_made_up():
    assert completed({"a": {"H": 1.0}, "b": {"H": 2.0, "O": 3.0}}, ["H", "O"]) == {
        "a": {"H": 1.0, "O": 3.0},
        "b": {"H": 2.0, "O": 3.0},
    }
    with pytest.raises(KeyError):
        completed({"a": {"H": 1.0}}, ["H", "O"])


def test_a_head_without_frames_in_an_interval_does_not_count():
    errors = {"a": {"loss": 2.0}, "b": {"loss": 5.0}, "c": {}}
    columns = history_columns("train", errors, {"a": 1.0, "b": 2.0, "c": 7.0})
    assert columns == {"train_loss": 4.0, "a.train_loss": 2.0, "b.train_loss": 5.0}


def test_both_heads_start_from_a_model(tmp_path):
    first = run(write_toy_run(tmp_path, "max_epochs = 20"), tmp_path / "first")
    heads = HEADS.replace(LOW_ATOMS, '"keep"').replace(HIGH_ATOMS, '"fit"')
    start = 'max_epochs = 1\nstart_from = "first/best.safetensors"\nfreeze = ["two_body_mlp", "readout"]'
    path = write_heads(tmp_path, start, heads=heads)
    text = path.read_text()
    path.write_text(text.replace("lr = 0.01", "lr = 1e-9"))
    result = run(path, tmp_path / "second")
    before = load_file(first.best_model)
    for head in result.heads.values():
        for name, tensor in load_file(head.last_model).items():
            if name.startswith(("two_body_mlp", "readout")):
                assert torch.equal(tensor, before[name]), name
    low, high = (load_model(result.heads[name].last_model) for name in ("low", "high"))
    assert low.shifts.tolist() == [-13.0, -2041.0]
    moved = high.shifts - low.shifts
    # 1 eV for each of 3 atoms, less a tenth of the bonds (1.5 eV at most), within the errors of the first model
    assert float(2 * moved[0] + moved[1]) == pytest.approx(3.0 - 0.1, abs=0.5)
    assert result.heads["high"].validation.energy_per_atom_mae_mev < 100


def test_heads_of_a_given_model_learn_a_new_element(tmp_path):
    run(write_toy_run(tmp_path, "max_epochs = 1"), tmp_path / "first")
    heads = HEADS.replace(LOW_ATOMS, '"keep"').replace(HIGH_ATOMS, '"fit"')
    path = write_heads(tmp_path, 'max_epochs = 1\nstart_from = "first/best.safetensors"', heads=heads)
    path.write_text(path.read_text().replace("[model]", '[model]\ntype_names = ["H", "O", "N"]'))
    write_frames(tmp_path / "low.xyz", with_nitrogen(toy_frames(11)))
    with pytest.warns(UserWarning, match="no training frame of head `high` has N"):
        result = run(path, tmp_path / "second")
    low, high = (load_model(result.heads[name].last_model) for name in ("low", "high"))
    assert low.shifts[:2].tolist() == [-13.0, -2041.0]
    # from zero to the energy of the atom, but for what the new element's random embedding makes of its bonds
    assert float(low.shifts[2]) == pytest.approx(-1013.0, abs=6.0)
    assert float(high.shifts[2]) == float(low.shifts[2])
    assert float(high.scales[2]) == float(low.scales[2])


def test_a_head_may_be_a_store(tmp_path):
    path = write_heads(tmp_path, "max_epochs = 2")
    from_files = run(path, tmp_path / "from-files")
    prepare([tmp_path / "high.xyz"], tmp_path / "store", 4.0)
    path.write_text(path.read_text().replace('"high.xyz"', '"store"'))
    from_store = run(path, tmp_path / "from-store")
    for name, head in from_files.heads.items():
        assert_same_weights(head.last_model, from_store.heads[name].last_model)


@pytest.mark.filterwarnings("ignore:.* are among those that the model was trained on")
def test_the_command_answers_for_each_head_and_evaluates_its_model(tmp_path, capsys):
    path = write_heads(tmp_path, "max_epochs = 1")
    assert main(["train", str(path), "--output", str(tmp_path / "out"), "--no-pictures"]) == 0
    said = capsys.readouterr().out
    assert "best.low.safetensors" in said
    assert "best.high.safetensors" in said
    assert main(["evaluate", str(tmp_path / "out" / "best.high.safetensors"), str(tmp_path / "high.xyz")]) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[heads.low]", "[data]", r"give either `\[data\]`, or `\[heads.NAME\]` for each level of theory"),
        ("[heads.low]", '[heads."low/level"]', "the head 'low/level' names files: use letters, digits"),
        ('train = "low.xyz"', "", "option `heads.low.train` is missing"),
        ("weight = 2.0", "weight = 0", "option `heads.high.weight` is 0: input should be greater than 0"),
        ("weight = 2.0", "wieght = 2.0", "unknown option `heads.high.wieght`; did you mean `weight`"),
        ("weight = 2.0", "loss = { enrgy = 1.0 }", "unknown option `heads.high.loss.enrgy`; did you mean `energy`"),
        ("n_validation = 3", "", "option `heads.low`: give either `validation` .a file. or"),
        (LOW_ATOMS, '"keep"', '`heads.low.isolated_atoms` is "keep", but there is no `run.start_from`'),
        (
            "[model]",
            "[model]\nper_type_energy_shifts = { H = 0.0, O = 0.0 }",
            "`model.per_type_energy_shifts` would be the same for all heads; give `isolated_atoms` of each head",
        ),
        (
            f"isolated_atoms = {LOW_ATOMS}",
            "",
            "`heads.low.isolated_atoms` is missing: with `run.start_from` say of each head whether",
        ),
    ],
)
def test_mistakes_in_heads_are_said_in_words(tmp_path, old, new, message):
    path = write_heads(
        tmp_path, 'max_epochs = 1\nstart_from = "a.safetensors"' if "missing: with" in message else "max_epochs = 1"
    )
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_config(path)


def test_a_mistake_in_the_frames_names_the_head(tmp_path):
    path = write_heads(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("n_validation = 2", "n_validation = 20"))
    with pytest.raises(ValueError, match="head `high`: `heads.high.n_validation` is 20, but there are only 7 frames"):
        run(path, tmp_path / "out")
    path.write_text(text.replace('"high.xyz"', '"hihg.xyz"'))
    with pytest.raises(FileNotFoundError, match="head `high`: there is no file .*hihg.xyz"):
        run(path, tmp_path / "out")
    path.write_text(text.replace(HIGH_ATOMS, "{ H = -12.0 }"))
    with pytest.raises(ValueError, match="head `high`: `heads.high.isolated_atoms` .* no energy of an isolated O"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
