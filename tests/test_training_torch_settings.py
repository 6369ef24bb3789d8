"""What a run sets in torch holds while it trains, and not afterwards."""

import os

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from training_toys import write_toy_run

from openmm_allegro.training.config import RunOptions, load_config
from openmm_allegro.training.run import train
from openmm_allegro.training.torch_settings import GPU_CHECK, torch_settings

# Lightning names the packages it would rather see than those it finds
pytestmark = [pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning")]


class Watcher(Callback):
    """Notes the settings in each step."""

    def __init__(self):
        self.seen = set()

    def on_train_batch_end(self, *arguments, **more):
        self.seen.add((torch.get_float32_matmul_precision(), GPU_CHECK in os.environ))


@pytest.mark.parametrize(("line", "precision"), [("", "highest"), ('matmul = "high"', "high")])
def test_a_run_multiplies_in_its_precision_and_leaves_torch_as_it_was(tmp_path, monkeypatch, line, precision):
    monkeypatch.setenv(GPU_CHECK, "1")
    config = load_config(write_toy_run(tmp_path, f"max_steps = 2\n{line}"))
    watcher = Watcher()
    before = torch.get_float32_matmul_precision()
    train(config, tmp_path / "out", progress=False, pictures=False, callbacks=[watcher])
    assert watcher.seen == {(precision, False)}
    assert torch.get_float32_matmul_precision() == before
    assert os.environ[GPU_CHECK] == "1"


def test_settings_are_put_back_after_an_error_too(monkeypatch):
    monkeypatch.delenv(GPU_CHECK, raising=False)

    def fails():
        with torch_settings(RunOptions(max_steps=1, matmul="medium"), "cpu"):
            assert torch.get_float32_matmul_precision() == "medium"
            raise OSError("the plug is out")

    before = torch.get_float32_matmul_precision()
    with pytest.raises(OSError, match="the plug is out"):
        fails()
    assert torch.get_float32_matmul_precision() == before
    assert GPU_CHECK not in os.environ


def test_a_step_of_the_optimizer_does_not_look_for_the_management_library(monkeypatch):
    def library(*arguments, **more):
        raise AssertionError("looked for NVIDIA's management library")

    monkeypatch.setenv(GPU_CHECK, "1")
    monkeypatch.setattr(torch.cuda, "_raw_device_count_nvml", library)
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    with torch_settings(RunOptions(max_steps=1), "cpu"):
        torch.optim.Adam([weight], lr=0.1, fused=True).step()
    assert weight.tolist() == pytest.approx([0.9] * 3)  # the first step of Adam is the learning rate


def test_precision_of_products_of_float64_is_refused():
    with pytest.raises(ValueError, match='`run.matmul` has no effect with `run.precision = "float64"`; leave one'):
        RunOptions(max_steps=1, matmul="high", precision="float64")
