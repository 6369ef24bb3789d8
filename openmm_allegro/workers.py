"""Blocks of atoms evaluated beside each other: by the cores of a processor, or by several GPUs of one machine.

Symbols used in this file
    n  atoms        b  centre atoms of a block
"""

import copy
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from openmm_allegro.neighbors import NeighborPairs
from openmm_allegro.potential import Block, Potential, Total, add_block
from openmm_allegro.torchscript import script

COMPILE_AFTER = 40
"""Blocks; compiling takes seconds, which a short run does not win back."""


def work_on(potential: Potential, devices: list[torch.device]) -> None:
    """Share a potential's blocks, on a processor among its cores. devices: the first is where the potential is."""
    if devices[0].type == "cpu":
        potential.workers = Workers(potential.block, devices * torch.get_num_threads())
    elif len(devices) > 1:
        potential.workers = Workers(potential.block, devices)


class Workers:
    """Threads that share the blocks of a step; each adds to sums of its own, which are added at the end.

    On a processor each thread works alone on its block: many small operations scale better so than each
    operation over several threads. With several GPUs each has a thread and a copy of the model.
    """

    def __init__(self, block: Block, devices: list[torch.device]) -> None:
        """devices: where each worker evaluates; "cpu" many times for that many cores."""
        self.devices = devices
        self.blocks: list[torch.nn.Module] = [block] * len(devices)
        if devices[0].type != "cpu":
            self.blocks = [copy.deepcopy(block).to(device) for device in devices]
        self.evaluated = 0
        self.is_compiled = devices[0].type != "cpu"
        self.start()

    def start(self) -> None:
        """Threads of this process: one that was forked from another has none of its."""
        self.threads = ThreadPoolExecutor(len(self.devices), "allegro", initializer=_one_thread)
        self.process = os.getpid()

    def evaluate(self, pairs: NeighborPairs, rows: list[Tensor], types: Tensor, total: Total) -> None:
        """Add all blocks, given by their rows of `pairs` (b,), to `total`."""
        self.evaluated += len(rows)
        if not self.is_compiled and self.evaluated > COMPILE_AFTER:
            self.blocks = [script(self.blocks[0])] * len(self.devices)
            self.is_compiled = True
        if len(rows) == 1:
            add_block(self.blocks[0], pairs, rows[0], types, total)
            return

        def work(worker: int) -> Total:
            device = self.devices[worker]
            here = NeighborPairs(*(tensor.to(device) for tensor in pairs))
            own = Total(*(torch.zeros_like(tensor, device=device) for tensor in total))
            types_here = types.to(device)
            for block in rows[worker :: len(self.devices)]:  # always the same ones, so that a run can be repeated
                add_block(self.blocks[worker], here, block.to(device), types_here, own)
            return own

        if self.process != os.getpid():
            self.start()
        for own in self.threads.map(work, range(len(self.devices))):
            for ours, theirs in zip(total, own, strict=True):
                ours.add_(theirs.to(ours.device))


def _one_thread() -> None:
    torch.set_num_threads(1)
