"""Resumed runs: what they must share with their beginning, what may change, and that a finished one is left alone."""

import shutil

import ase
import ase.io
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from training_toys import ATOM_ENERGY, write_toy_run

from openmm_allegro.checkpoint import load_model, save_model
from openmm_allegro.model import Allegro
from openmm_allegro.training.config import load_config
from openmm_allegro.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")
HEADS = """
[heads.{0}]
train = "toy.xyz"
n_validation = 4
[heads.{1}]
train = "toy.xyz"
n_validation = 4
[model]"""


def run(path, folder, resume=False, data_root=None):
    return train(load_config(path, data_root), folder, resume=resume, progress=False, pictures=False)


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def write_variant(model, path, **options):
    """The same weights under another configuration."""
    variant = Allegro(model.config.model_copy(update=options), model.dtype)
    variant.load_state_dict(model.state_dict())
    save_model(variant, path)


def test_a_fine_tuning_run_is_not_resumed_with_options_of_another_model(tmp_path):
    first = load_model(run(write_toy_run(tmp_path, "max_epochs = 1"), tmp_path / "first").last_model)
    write_variant(first, tmp_path / "start.safetensors")
    path = write_toy_run(tmp_path, 'max_epochs = 1\nstart_from = "start.safetensors"')
    run(path, tmp_path / "out")
    changed(path, "max_epochs = 1", "max_epochs = 2")
    write_variant(first, tmp_path / "start.safetensors", avg_num_neighbors=20.0)
    sentence = r"started with another `avg_num_neighbors of run.start_from` \(.*, now 20.0\); undo the change"
    with pytest.raises(ValueError, match=sentence):
        run(path, tmp_path / "out", resume=True)
    write_variant(first, tmp_path / "start.safetensors")
    assert run(path, tmp_path / "out", resume=True).steps == 8


def test_heads_in_another_order_are_not_resumed(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    _, _, rest = path.read_text().partition("[model]")
    path.write_text(HEADS.format("high", "low") + rest)
    run(path, tmp_path / "out")
    path.write_text(HEADS.format("low", "high") + rest)
    with pytest.raises(ValueError, match=r"another `order of heads` \(\['high', 'low'\], now \['low', 'high'\]\)"):
        run(path, tmp_path / "out", resume=True)


def test_a_file_of_isolated_atoms_counts_by_what_stands_in_it(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    changed(path, "{ H = -13.0, O = -2041.0 }", '"atoms.xyz"')

    def write_atoms(folder, oxygen):
        folder.mkdir(exist_ok=True)
        atoms = [ase.Atoms(symbols) for symbols in "OH"]
        for each, energy in zip(atoms, (oxygen, ATOM_ENERGY[1]), strict=True):
            each.calc = SinglePointCalculator(each, energy=energy)
        ase.io.write(folder / "atoms.xyz", atoms, format="extxyz")

    write_atoms(tmp_path, ATOM_ENERGY[8])
    run(path, tmp_path / "out")
    write_atoms(tmp_path / "moved", ATOM_ENERGY[8])
    shutil.copy(tmp_path / "toy.xyz", tmp_path / "moved")
    changed(path, "max_epochs = 1", "max_epochs = 2")
    assert run(path, tmp_path / "out", resume=True, data_root=tmp_path / "moved").steps == 8
    write_atoms(tmp_path, -2040.0)
    with pytest.raises(ValueError, match="another `data.isolated_atoms` .*-2041.0.* now .*-2040.0"):
        run(path, tmp_path / "out", resume=True)


def test_one_atom_frames_count_by_their_energies(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1")
    changed(path, "{ H = -13.0, O = -2041.0 }", '"in_train"')
    molecules = (tmp_path / "toy.xyz").read_text()

    def write_frames(oxygen):
        atoms = [
            f'1\nProperties=species:S:1:pos:R:3:forces:R:3 energy={e} pbc="F F F"\n{s} 0 0 0 0 0 0\n'
            for s, e in (("H", -13.0), ("O", oxygen))
        ]
        (tmp_path / "toy.xyz").write_text("".join(atoms) + molecules)

    write_frames(-2041.0)
    run(path, tmp_path / "out")
    changed(path, "max_epochs = 1", "max_epochs = 2")
    write_frames(-2040.0)
    with pytest.raises(ValueError, match="started with another `the frames`"):
        run(path, tmp_path / "out", resume=True)
    write_frames(-2041.0)
    assert run(path, tmp_path / "out", resume=True).steps == 8


def test_a_run_of_a_version_that_knew_fewer_options_goes_on(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 1", 'name = "muon"')
    run(path, tmp_path / "run")
    resume_file = tmp_path / "run" / "resume.ckpt"
    content = torch.load(resume_file, weights_only=True)
    del content["run_id"]["optimizer.gradient_clip"]
    torch.save(content, resume_file)
    changed(path, "max_epochs = 1", "max_epochs = 2")
    assert run(path, tmp_path / "run", resume=True).steps == 8
    changed(path, 'name = "muon"', 'name = "muon"\ngradient_clip = 1.0')
    with pytest.raises(ValueError, match=r"started with another `optimizer.gradient_clip` \(None, now 1.0\)"):
        run(path, tmp_path / "run", resume=True)


def test_a_run_that_has_more_epochs_than_it_may_have_is_over(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 3", 'schedule = "constant"')
    ended = run(path, tmp_path / "out")
    before = ended.last_model.read_bytes()
    changed(path, "max_epochs = 3", "max_epochs = 1")
    assert run(path, tmp_path / "out", resume=True).steps == ended.steps
    assert ended.last_model.read_bytes() == before


def test_a_run_that_patience_ended_makes_no_further_step(tmp_path):
    path = write_toy_run(tmp_path, "max_epochs = 30\nearly_stopping_patience = 1")
    changed(path, "lr = 0.01", "lr = 1e-12")
    ended = run(path, tmp_path / "out")
    assert 0 < ended.steps < 30 * 4
    before = ended.last_model.read_bytes()
    again = run(path, tmp_path / "out", resume=True)
    assert again.steps == ended.steps
    assert again.last_model.read_bytes() == before
    changed(path, "patience = 1", "patience = 3")
    assert run(path, tmp_path / "out", resume=True).steps > ended.steps
