"""Seconds of single steps, of two programs in turn, and of the matrix products that a step cannot do without."""

import time
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress, TaskID

from openmm_allegro.bench.config import BenchConfig
from openmm_allegro.bench.peers import Stepper
from openmm_allegro.mlp import ScaledLinear
from openmm_allegro.model import Allegro

FEWEST_STEPS = 3
GEMM_ROWS, GEMM_BLOCKS, GEMM_PASSES = 4096, 32, 9


class Times(NamedTuple):
    """Seconds of timed steps."""

    median: float
    lowest: float
    highest: float
    steps: int


def warm_up(stepper: Stepper, config: BenchConfig, device: torch.device) -> int:
    """Step until everything is compiled; how many timed steps there is time for."""
    started = time.perf_counter()
    for _ in range(config.warmup):
        seconds = _timed(stepper, device)
        if time.perf_counter() - started > config.max_seconds:
            break
    return min(config.steps, max(FEWEST_STEPS, int(config.max_seconds / seconds)))


def interleaved(
    ours: Stepper,
    steps: int,
    peer: Stepper | None,
    peer_steps: int,
    device: torch.device,
    bar: Progress,
    task: TaskID,
) -> tuple[Times, Times | None]:
    """Time steps of both in turn; where one has fewer they are spread evenly."""
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    rounds = max(steps, peer_steps)
    for index in range(rounds):
        for name, stepper, count in (("ours", ours, steps), ("peer", peer, peer_steps)):
            if stepper is not None and (index + 1) * count // rounds > index * count // rounds:
                seconds[name].append(_timed(stepper, device))
                bar.advance(task)
    return _times(seconds["ours"]), _times(seconds["peer"]) if peer is not None else None


def gemm_seconds(model: Allegro, n_edges: int, device: torch.device) -> float:
    """The matrix products of the model's dense networks alone, for the energy and for its gradient [s].

    Every layer multiplies blocks of edges that stay in cache, x (e, i) @ W (i, o) and g (e, o) @ Wᵀ, always from the
    same finite numbers into memory of its own. Measured on some blocks and scaled to all edges.
    """
    rows = max(1, min(GEMM_ROWS, n_edges))
    blocks = max(1, min(GEMM_BLOCKS, n_edges // rows))
    products = []
    for layer in (module for module in model.modules() if isinstance(module, ScaledLinear)):
        weight = (layer.weight.detach() * layer.scale).to(device)
        x, g = (torch.ones((rows, width), dtype=weight.dtype, device=device) for width in weight.shape)
        products.append((x, weight, torch.empty_like(g)))
        products.append((g, weight.T, torch.empty_like(x)))

    def multiply() -> None:
        for _ in range(blocks):
            for left, right, out in products:
                torch.mm(left, right, out=out)

    seconds = [_timed(Stepper("products", multiply, lambda: 0.0), device) for _ in range(GEMM_PASSES + 2)]
    return float(np.median(seconds[2:])) * n_edges / (rows * blocks)


def _timed(stepper: Stepper, device: torch.device) -> float:
    started = time.perf_counter()
    stepper.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _times(seconds: list[float]) -> Times:
    return Times(float(np.median(seconds)), min(seconds), max(seconds), len(seconds))
