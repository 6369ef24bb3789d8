"""Time of an evaluation on the processor by the number of edges in a block, for small and large models.

Usage: python tests/benchmarks/block_sizes.py [--atoms 615] [--repeats 15] [--threads 1] [--json]
The sizes take turns, so that what else the machine does falls on all of them; medians in milliseconds.
"""

import argparse
import json
import time

import numpy as np
import torch

from openmm import unit  # isort: skip (after torch)

from openmm_allegro import Allegro, AllegroConfig, units
from openmm_allegro.atom_types import atom_types
from openmm_allegro.bench.water import water
from openmm_allegro.potential import Potential
from openmm_allegro.workers import Workers

MODELS = {"l_max": (1, 2, 2, 3, 2), "num_layers": (1, 1, 2, 2, 2), "num_scalar_features": (16, 32, 64, 64, 128)}
SIZES = (1024, 2048, 3072, 4096, 6144, 8192, 16384)


def evaluations(options: dict[str, int], threads: int) -> dict[int, Potential]:
    """One model with each size of blocks."""
    torch.manual_seed(1)
    config = AllegroConfig(type_names=("H", "O"), r_max=5.0, avg_num_neighbors=52.0, **options)
    model = Allegro(config).to(torch.float32)
    found = {size: Potential(model, block_edges=size) for size in SIZES}
    for potential in found.values():
        if threads > 1:
            potential.workers = Workers(potential.block, [torch.device("cpu")] * threads)
    return found


def main() -> None:
    """Measure each model and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=615)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # of one product; blocks are shared out beyond that
    box = water(arguments.atoms)
    positions = torch.tensor(box.positions_nm * units.NM_TO_ANGSTROM)
    cell = torch.tensor(box.topology.getPeriodicBoxVectors().value_in_unit(unit.angstrom))
    types = torch.tensor(atom_types(("H", "O"), box.topology))
    figures = []
    for row in zip(*MODELS.values(), strict=True):
        options = dict(zip(MODELS, row, strict=True))
        options["num_tensor_features"] = options["num_scalar_features"] // 2
        seconds: dict[int, list[float]] = {size: [] for size in SIZES}
        potentials = evaluations(options, arguments.threads)
        for repeat in range(arguments.repeats + 2):
            for size, potential in potentials.items():
                start = time.perf_counter()
                potential(positions + 0.01 * np.sin(repeat), cell, types)
                seconds[size].append(time.perf_counter() - start)
        medians = {size: round(1e3 * float(np.median(each[2:])), 2) for size, each in seconds.items()}
        figures.append({**options, "milliseconds": medians})
        if not arguments.json:
            print(options, medians, flush=True)
    if arguments.json:
        print(json.dumps({"atoms": len(types), "threads": arguments.threads, "models": figures}))


if __name__ == "__main__":
    main()
