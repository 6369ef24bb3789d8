"""Frames per second of training: what is counted, and that nequip trains the same model."""

import json

import pytest
from training_toys import write_toy_set

from openmm_allegro.bench.config import BenchConfig
from openmm_allegro.cli import main
from openmm_allegro.training.speed import training_speed

SMALL = {"l_max": 1, "layers": 1, "scalars": 8, "channels": 4, "cutoff": 4.0, "device": "cpu", "threads": 1}


def test_steps_are_counted_after_the_warm_up(tmp_path, capsys):
    data = write_toy_set(tmp_path / "toy.xyz", 8)
    words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--data", str(data), "--steps", "3", "--warmup", "2", "--batch-size", "2", "--json"]
    assert main(["bench", "--train", *words]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["steps"] == 3
    assert figures["frames"] == 8
    lowest, middle, highest = (
        figures[f"frames_per_second_{name}"] for name in ("lower_quartile", "median", "upper_quartile")
    )
    assert 0 < lowest <= middle <= highest
    assert figures["peer"] is None


def test_a_file_with_too_few_frames_is_refused(tmp_path):
    config = BenchConfig(train=True, data=write_toy_set(tmp_path / "toy.xyz", 3), batch_size=5)
    with pytest.raises(ValueError, match="has 3 frames with energy and forces, but a batch is 5"):
        training_speed(config)


def test_the_peer_of_training_is_not_one_of_dynamics(tmp_path):
    with pytest.raises(ValueError, match="`nequip` is the peer of training, and of training only"):
        BenchConfig(peer="nequip")
    with pytest.raises(ValueError, match="`peer` is openmm-ml, but `nequip` is the peer of training"):
        BenchConfig(train=True, data=tmp_path / "toy.xyz", peer="openmm-ml")


def test_options_that_would_not_be_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`model` has no effect with `train`; leave it out"):
        BenchConfig(train=True, data=tmp_path / "toy.xyz", model=tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="`batch_size` has no effect without `train`; leave it out"):
        BenchConfig(batch_size=2)


@pytest.mark.slow
def test_nequip_trains_the_same_model_between_two_runs_of_ours(tmp_path):
    pytest.importorskip("allegro", reason="nequip-allegro is not installed")
    data = write_toy_set(tmp_path / "toy.xyz", 8)
    figures = training_speed(
        BenchConfig(train=True, data=data, peer="nequip", steps=3, warmup=2, batch_size=2, **SMALL)
    )
    assert (figures["steps"], figures["peer_steps"]) == (6, 3)
    assert figures["times_faster"] == figures["frames_per_second"] / figures["peer_frames_per_second"]
