"""Model files: what is written is read back, and what is not a model is refused."""

import json
import pickle

import pytest
import safetensors.torch
import torch
from conftest import small_model

from openmm_allegro.checkpoint import load_model, model_to_bytes, read_metadata, save_model
from openmm_allegro.recognise import recognise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_is_read_back_to_the_bit(tmp_path, dtype):
    model = small_model(dtype, zbl=True, per_edge_type_cutoff={"H": 3.0}, radial_chemical_embed="spline")
    save_model(model, tmp_path / "model.safetensors", {"seed": 7})
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    assert loaded.dtype == dtype
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert read_metadata(tmp_path / "model.safetensors")["provenance"] == {"seed": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_model_can_be_read_in_another_precision(tmp_path):
    save_model(small_model(torch.float32), tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors", torch.float64).readout[0].weight.dtype == torch.float64


def test_a_model_that_is_saved_again_still_says_how_it_came_to_be(tmp_path):
    save_model(small_model(torch.float32), tmp_path / "first.safetensors", {"seed": 7})
    save_model(load_model(tmp_path / "first.safetensors", torch.float64), tmp_path / "second.safetensors")
    assert read_metadata(tmp_path / "second.safetensors")["provenance"] == {"seed": 7}


def test_a_model_is_read_whatever_the_length_of_its_header(tmp_path):
    """One length in 32 begins with the byte of a pickle."""
    first_bytes = set()
    for padding in range(0, 256, 8):
        save_model(small_model(torch.float32), tmp_path / "model.safetensors", {"padding": "x" * padding})
        first_bytes.add((tmp_path / "model.safetensors").read_bytes()[0])
        assert read_metadata(tmp_path / "model.safetensors")["provenance"] == {"padding": "x" * padding}
    assert 0x80 in first_bytes


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model file .*nowhere.safetensors"):
        load_model(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("read", [load_model, recognise])
def test_in_the_folder_of_a_training_the_model_is_pointed_out(tmp_path, read):
    save_model(small_model(), tmp_path / "best.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no model file .*; did you mean .*best\.safetensors\?"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [4, 200, -100])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_to_bytes(small_model())[:kept])
    with pytest.raises(ValueError, match="truncated|does not begin as a safetensors file"):
        load_model(path)


def test_a_pickle_is_refused_without_being_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="is a pickle or a zip archive"):
        load_model(tmp_path / "model.pt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "zip.pt")
    with pytest.raises(ValueError, match="may run code when opened"):
        load_model(tmp_path / "zip.pt")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_text("this is a text, and a long enough one")
    with pytest.raises(ValueError, match="does not begin as a safetensors file does"):
        load_model(tmp_path / "model.safetensors")


def test_safetensors_of_another_program_are_refused(tmp_path):
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="of another program, not a model of openmm-allegro"):
        load_model(tmp_path / "other.safetensors")


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(_with_metadata(format_version=9))
    with pytest.raises(ValueError, match="has format 9, but this version reads up to 1; install a newer"):
        load_model(path)


def test_other_units_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(_with_metadata(units={"length": "angstrom", "energy": "kcal/mol"}))
    with pytest.raises(ValueError, match="states the units .*kcal/mol"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "another"}, "damaged metadata: `format`"),
        ({"format_version": "one"}, "damaged metadata: `format_version`"),
        ({"format_version": 0}, "damaged metadata: `format_version`"),
        ({"dtype": "bfloat16"}, "damaged metadata: `dtype`"),
        ({"config": {"r_max": 4.0}}, "configuration that does not fit this version: `type_names`"),
    ],
    ids=str,
)
def test_metadata_that_make_no_sense_are_refused(tmp_path, changes, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(_with_metadata(**changes))
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.readout[0].weight[0, 0] = float("nan")
    save_model(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="weights in `readout.0.weight` that are not finite numbers"):
        load_model(tmp_path / "model.safetensors")


def test_weights_of_another_configuration_are_refused(tmp_path):
    other = small_model(num_scalar_features=10)
    path = tmp_path / "model.safetensors"
    path.write_bytes(_with_metadata(config=other.config.model_dump(mode="json")))
    with pytest.raises(ValueError, match="weights that do not fit its own configuration"):
        load_model(path)


def test_a_link_still_names_the_file_that_was_written(tmp_path):
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "m.safetensors")
    for seed in (1, 2):
        save_model(small_model(seed=seed), tmp_path / "link.safetensors")
        assert (tmp_path / "link.safetensors").is_symlink()
        expected = small_model(seed=seed).state_dict()
        found = load_model(tmp_path / "m.safetensors").state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_model(small_model(seed=1), path)
    before = path.read_bytes()
    (tmp_path / "model.safetensors.tmp").mkdir()  # the temporary name cannot be written
    with pytest.raises(OSError, match="model.safetensors.tmp"):
        save_model(small_model(seed=2), path)
    assert path.read_bytes() == before


def _with_metadata(**changes: object) -> bytes:
    """A model file whose metadata say something else."""
    model = small_model()
    content = model_to_bytes(model)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = json.loads(header["__metadata__"]["openmm_allegro"]) | changes
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={"openmm_allegro": json.dumps(metadata)})
