"""What a run sets in torch while it trains, and puts back afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from openmm_allegro.training.config import RunOptions

GPU_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


@contextmanager
def torch_settings(run: RunOptions, device: str) -> Iterator[None]:
    """The precision of matrix products that the run asks for; on a processor no search for GPUs in every step.

    device: "cpu" or "cuda". Lightning lets torch's optimisers look for NVIDIA's management library in each step, which
    takes long where there is none (0.4 ms); here they ask the driver instead.
    """
    precision, gpu_check = torch.get_float32_matmul_precision(), os.environ.get(GPU_CHECK)
    torch.set_float32_matmul_precision(run.matmul)
    if device == "cpu":
        os.environ.pop(GPU_CHECK, None)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        if gpu_check is not None:
            os.environ[GPU_CHECK] = gpu_check
