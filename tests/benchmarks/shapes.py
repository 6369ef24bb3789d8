"""Bulk, slab and droplet of water: how much of the blocks is padding, and what an edge costs.

Usage: python tests/benchmarks/shapes.py [--atoms 3000] [--repeats 10] [--json]
The slab is the bulk box made three times as long, the droplet the largest sphere of it in a box twice as wide; atoms
at their surfaces have few neighbours. `padding` is what blocks evaluate beyond true edges, `padding_unsorted` what
they would with the atoms in the order of the file.
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
from openmm_allegro.potential import Potential, even_blocks, usual_block_edges
from openmm_allegro.workers import Workers


def shapes(n_atoms: int) -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Positions (n, 3), cell (3, 3) [Å] and types (n,) of each; molecules stay whole."""
    box = water(n_atoms)
    positions = box.positions_nm * units.NM_TO_ANGSTROM
    cell = np.array(box.topology.getPeriodicBoxVectors().value_in_unit(unit.angstrom))
    types = np.array(atom_types(("H", "O"), box.topology))
    edge = cell[0, 0]
    molecules = positions.reshape(-1, 3, 3)
    from_centre = np.linalg.norm(molecules[:, 0] % edge - edge / 2, axis=1)
    inside = np.repeat(from_centre < edge / 2 - 1.0, 3)
    whole = (molecules - molecules[:, :1] + molecules[:, :1] % edge).reshape(-1, 3)
    found = {
        "bulk": (positions, cell, types),
        "slab": (whole, cell * np.array([[1.0], [1.0], [3.0]]), types),
        "droplet": (whole[inside], 2 * cell, types[inside]),
    }
    return {name: tuple(torch.tensor(each) for each in system) for name, system in found.items()}


def main() -> None:
    """Measure each shape and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(1)
    potential = Potential(Allegro(AllegroConfig(type_names=("H", "O"), r_max=5.0, avg_num_neighbors=52.0)))
    cores = torch.get_num_threads()
    if cores > 1:
        potential.workers = Workers(potential.block, [torch.device("cpu")] * cores)
    figures = {}
    for name, (positions, cell, types) in shapes(options.atoms).items():
        seconds = []
        for _ in range(options.repeats + 3):
            start = time.perf_counter()
            potential(positions, cell, types)
            seconds.append(time.perf_counter() - start)
        pairs = potential.neighbors.pairs(0, len(types))
        blocks = even_blocks(pairs, usual_block_edges(on_gpu=False), potential.atom_edges, cores)
        per_block = len(types) // len(blocks)
        unsorted = torch.arange(len(types)).split(per_block)
        edges, median = len(pairs.neighbour), float(np.median(seconds[3:]))
        slots, whole = (
            sum(len(rows) * int(pairs.counts[rows].max()) for rows in rows_of) for rows_of in (blocks, unsorted)
        )
        figures[name] = {
            "atoms": len(types),
            "edges": edges,
            "fewest_and_most_neighbours": [int(pairs.counts.min()), int(pairs.counts.max())],
            "padding": slots / edges - 1,
            "padding_unsorted": whole / edges - 1,
            "seconds": median,
            "lowest": min(seconds[3:]),
            "highest": max(seconds[3:]),
            "microseconds_per_edge": median / edges * 1e6,
        }
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
