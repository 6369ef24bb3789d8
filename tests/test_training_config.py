"""The TOML file of a training run: what it gives, and what it refuses in words."""

from pathlib import Path

import pytest

from openmm_allegro.training.config import load_config

MINIMAL = """
[data]
train = "train.xyz"
n_validation = 10
[model]
r_max = 5.0
[run]
max_epochs = 3
"""


def load_text(folder, text):
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_paths_are_relative_to_the_toml_file(tmp_path):
    assert load_text(tmp_path, MINIMAL).data.train == (tmp_path / "train.xyz",)


def test_data_root_moves_the_data_only(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(MINIMAL + 'start_from = "model.safetensors"\n', encoding="utf-8")
    config = load_config(path, data_root=tmp_path / "data")
    assert config.data.train == (tmp_path / "data" / "train.xyz",)
    assert config.run.start_from == tmp_path / "model.safetensors"


def test_the_text_is_kept_for_the_checkpoint(tmp_path):
    assert load_text(tmp_path, MINIMAL).toml_text == MINIMAL


@pytest.mark.parametrize(("written", "minutes"), [("90", 90), ('"01:30"', 90), ('"00:00:30"', 0.5), ("0.5", 0.5)])
def test_time_is_minutes_or_hours_and_minutes(tmp_path, written, minutes):
    config = load_text(tmp_path, MINIMAL + f"max_time_minutes = {written}\n")
    assert config.run.max_time_minutes == pytest.approx(minutes)


@pytest.mark.parametrize("choice", ['"fit"', '"in_train"', '"atoms.xyz"', "{ H = -13.5, O = -2041.0 }"])
def test_isolated_atoms_may_be_given_in_four_ways(tmp_path, choice):
    config = load_text(tmp_path, MINIMAL.replace("[model]", f"isolated_atoms = {choice}\n[model]"))
    expected = {
        '"fit"': "fit",
        '"in_train"': "in_train",
        '"atoms.xyz"': tmp_path / "atoms.xyz",
        "{ H = -13.5, O = -2041.0 }": {"H": -13.5, "O": -2041.0},
    }
    assert config.data.isolated_atoms == expected[choice]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[run]",
            "[loss]\nenrgy = 1.0\n[run]",
            r"unknown option `loss.enrgy`; did you mean `energy`\? known options: en",
        ),
        ("r_max", "r_maxx", "unknown option `model.r_maxx`; did you mean `r_max`"),
        ("[run]", "[los]\n[run]", "unknown option `los`; did you mean `loss`"),
        ('train = "train.xyz"', "", "option `data.train` is missing"),
        ("r_max = 5.0", "", "option `model.r_max` is missing"),
        ("max_epochs = 3", "max_epochs = 0", "option `run.max_epochs` is 0: input should be greater than 0"),
        ("max_epochs = 3", "", "say when to stop: `run.max_epochs`, `run.max_steps` or `run.max_time_minutes`"),
        ("n_validation = 10", "", "option `data`: give either `validation` .a file. or `n_validation` .a count."),
        ("[run]", "[loss]\nforces = inf\n[run]", "option `loss.forces` is inf: input should be a finite number"),
        ("[run]", "[loss]\nforces = true\n[run]", "option `loss.forces` is True: input should be a valid number"),
        ("max_epochs = 3", "max_epochs = true", "option `run.max_epochs` is True: input should be a valid integer"),
        ("max_epochs = 3", "max_epochs = 3\nvalidate_every = true", "`run.validate_every` is True: .* a valid number"),
        ("r_max = 5.0", 'r_max = "wide"', "option `model.r_max` is 'wide': input should be a valid number"),
        ("r_max = 5.0", "r_max = 5.0\nl_max = -1", "option `model.l_max` is -1"),
        ("max_epochs = 3", 'max_epochs = 3\nprecision = "half"', "option `run.precision` is 'half': .*'float32'"),
        ("[run]", "[loss]\nenergy = 0\nforces = 0\n[run]", "all weights are 0: give `loss.energy`, `loss.forces` or"),
        ("[run]", "[loss]\nenergy = 0\nenergy_end = 1\nforces = 0\n[run]", "all weights are 0 at the beginning: give"),
        ("[run]", "[loss]\nenergy = 0\nforces_end = 0\n[run]", "all weights are 0 at the end: raise `loss.energy_end`"),
        (
            "[run]",
            "[loss]\nforces_end = 1\nramp = [0.5]\n[run]",
            r"option `loss.ramp` is \[0.5\]: it has too few values",
        ),
        (
            "max_epochs = 3",
            "max_epochs = 3\nseed = 1760000000000000000",
            "option `run.seed` is 176.*: .* less than 429",
        ),
        ("n_validation = 10", "n_validation = 10\nseed = -1", "option `data.seed` is -1: .*greater than or equal to 0"),
        ("[run]", "[loss]\nramp = [0.2, 0.8]\n[run]", "`loss.ramp` has no effect without `loss.energy_end`"),
        (
            "[run]",
            "[loss]\nenergy_end = 9\nramp = [0.8, 0.2]\n[run]",
            r"`loss.ramp` is \[0.8, 0.2\]: it must not end bef",
        ),
        ("[run]", "[loss]\nhuber_forces = 0.1\n[run]", '`loss.huber_forces` has no effect with `loss.kind = "mse"`'),
        (
            "[run]",
            '[loss]\nkind = "huber"\nhuber_strata = [[0.0, 1.0]]\n[run]',
            '`loss.huber_strata` has no effect with `loss.kind = "huber"`',
        ),
        (
            "[run]",
            '[loss]\nkind = "stratified_huber"\nhuber_strata = [[1.0, 1.0], [0.5, 0.1]]\n[run]',
            r"the sizes in `loss.huber_strata` are \[1.0, 0.5\]; they must begin with 0 and rise",
        ),
        (
            "[run]",
            '[optimizer]\nname = "muon"\namsgrad = true\n[run]',
            "`optimizer.amsgrad` is not known to `muon`; leave it out",
        ),
        ("[run]", '[optimizer]\nname = "schedule_free"\n[run]', 'set `optimizer.schedule = "constant"`'),
        (
            "[run]",
            '[optimizer]\nname = "schedule_free"\nschedule = "constant"\naverage = "swa"\n[run]',
            "`schedule_free` has an average of its own: leave out `optimizer.average`",
        ),
        (
            "[run]",
            "[optimizer]\nplateau_patience = 10\n[run]",
            '`optimizer.plateau_patience` has no effect with `optimizer.schedule = "cosine"`; leave it out',
        ),
        (
            "[run]",
            '[optimizer]\nschedule = "constant"\nfinal_lr_fraction = 0.1\n[run]',
            '`optimizer.final_lr_fraction` has no effect with `optimizer.schedule = "constant"`',
        ),
        (
            "[run]",
            "[optimizer]\nswa_from = 0.5\n[run]",
            '`optimizer.swa_from` has no effect with `optimizer.average = "ema"`',
        ),
        (
            "[run]",
            '[optimizer]\nname = "schedule_free"\nschedule = "constant"\nema_decay = 0.9\n[run]',
            "`optimizer.ema_decay` has no effect with the average of `schedule_free`",
        ),
        (
            "n_validation = 10",
            'validation = "other.xyz"\nsplit = "last"',
            "option `data`: `split` has no effect beside `validation`",
        ),
        (
            "[model]",
            'isolated_atoms = "fit"\n[model]\nper_type_energy_shifts = { H = 0.0 }',
            "`data.isolated_atoms` has no effect beside `model.per_type_energy_shifts`; leave one of them out",
        ),
        (
            '[data]\ntrain = "train.xyz"\nn_validation = 10\n',
            '[heads.a]\ntrain = "a.xyz"\nn_validation = 1\n[heads.a.loss]\nforces = 0.0\n[loss]\nenergy = 2.0\n',
            r"`\[loss\]` has no effect where every head has a loss of its own",
        ),
        ("n_validation = 10", 'n_validation = 10\nunits = "Rydberg"', "option `data.units` is 'Rydberg': .*'kcal/mol'"),
    ],
)
def test_a_mistake_is_refused_by_the_full_name_of_the_option(tmp_path, old, new, message):
    assert old in MINIMAL
    with pytest.raises(ValueError, match=message):
        load_text(tmp_path, MINIMAL.replace(old, new))


def test_model_options_that_come_from_the_data_may_be_given(tmp_path):
    given = MINIMAL.replace("r_max = 5.0", "r_max = 5.0\nper_type_energy_scales = { H = 1.0, O = 2.0 }")
    assert load_text(tmp_path, given).model["per_type_energy_scales"] == {"H": 1.0, "O": 2.0}


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="there is no file `nowhere.toml`"):
        load_config(Path("nowhere.toml"))


def test_the_recipe_of_the_examples_can_be_read():
    recipe = Path(__file__).parents[1] / "examples" / "acac.toml"
    assert load_config(recipe, "data").model["r_max"] == 5.0


def test_a_run_that_starts_from_a_model_needs_no_model_section(tmp_path):
    text = MINIMAL.replace("[model]\nr_max = 5.0\n", "") + 'start_from = "model.safetensors"\n'
    assert load_text(tmp_path, text).model == {}


def test_energies_of_free_atoms_can_only_be_kept_from_a_model(tmp_path):
    text = MINIMAL.replace("[model]", 'isolated_atoms = "keep"\n[model]')
    with pytest.raises(ValueError, match='`data.isolated_atoms` is "keep", but there is no `run.start_from`'):
        load_text(tmp_path, text)
    assert load_text(tmp_path, text + 'start_from = "a.safetensors"\n').data.isolated_atoms == "keep"
