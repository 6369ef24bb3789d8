"""What each way of evaluating costs in accuracy: forces of a water box against plain float64.

Usage: python tests/benchmarks/force_errors.py [MODEL] [--atoms 615]
The reference is the model as trained (autograd, float64, all atoms at once, no skin, nothing folded or tabulated).
Printed are the RMS and the largest error of a force component, both relative to the RMS force component, and the error
of the energy per atom. Without a model its weights are random.
"""

import argparse

import numpy as np
import torch

from openmm import unit  # isort: skip (after torch)

from openmm_allegro import Allegro, AllegroConfig, units
from openmm_allegro.atom_types import atom_types
from openmm_allegro.bench.water import water
from openmm_allegro.checkpoint import load_model
from openmm_allegro.neighbors import neighbor_matrix
from openmm_allegro.potential import Potential
from openmm_allegro.workers import Workers

WAYS: list[tuple[str, torch.dtype, dict]] = [
    ("float64, folded", torch.float64, {"tabulate": False}),
    ("float64, tabulated", torch.float64, {"tabulate": True}),
    ("float32, folded", torch.float32, {"tabulate": False}),
    ("float32, tabulated (the default)", torch.float32, {}),
    ("  in blocks of 300 edges", torch.float32, {"block_edges": 300}),
    ("  in one block", torch.float32, {"block_edges": 10**7}),
    ("  without a skin", torch.float32, {"skin": 0.0}),
    ("  with a skin of 2 Å", torch.float32, {"skin": 2.0}),
    ("  shared by two workers", torch.float32, {"workers": 2}),
]


def plain(model: Allegro, positions: torch.Tensor, cell: torch.Tensor, types: torch.Tensor) -> tuple[float, np.ndarray]:
    """Energy [eV] and forces (n, 3) [eV/Å] of the model itself, in its own precision."""
    matrix = neighbor_matrix(positions, cell, model.config.r_max)
    vectors = matrix.edge_vectors.to(model.dtype).requires_grad_(True)
    energy = model(vectors, types, types[matrix.neighbours]).sum()
    gradient = torch.autograd.grad(energy, vectors)[0]
    forces = gradient.sum(1).index_add(0, matrix.neighbours.flatten(), gradient.flatten(0, 1), alpha=-1)
    return energy.item(), forces.double().numpy()


def in_precision(model: Allegro, dtype: torch.dtype) -> Allegro:
    """The same weights in another precision."""
    copy = Allegro(model.config, dtype)
    copy.load_state_dict(model.state_dict())
    return copy.requires_grad_(False)


def main() -> None:
    """Evaluate in every way and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--atoms", type=int, default=615)
    options = parser.parse_args()
    torch.manual_seed(1)
    config = AllegroConfig(type_names=("H", "O"), r_max=5.0, avg_num_neighbors=52.0)
    model = load_model(options.model, torch.float32) if options.model else Allegro(config)
    box = water(options.atoms)
    positions = torch.tensor(box.positions_nm) * units.NM_TO_ANGSTROM
    cell = torch.tensor(np.array(box.topology.getPeriodicBoxVectors().value_in_unit(unit.angstrom)))
    types = torch.tensor(atom_types(model.config.type_names, box.topology))
    energy, exact = plain(in_precision(model, torch.float64), positions, cell, types)
    size = np.sqrt((exact**2).mean())
    print(f"RMS force component {size:.4g} eV/Å; {len(types)} atoms\n")
    print("| | RMS error | largest error | energy, eV/atom |\n|---|---|---|---|")

    def report(name: str, its_energy: float, its_forces: np.ndarray) -> None:
        error = (its_forces - exact) / size
        row = (np.sqrt((error**2).mean()), np.abs(error).max(), abs(its_energy - energy) / len(types))
        print(f"| {name} | " + " | ".join(f"{value:.1e}" for value in row) + " |")

    report("float32, model as trained", *plain(in_precision(model, torch.float32), positions, cell, types))
    for name, dtype, switches in WAYS:
        n_workers = switches.pop("workers", 0)
        potential = Potential(in_precision(model, dtype), **switches)
        if n_workers:
            potential.workers = Workers(potential.block, [torch.device("cpu")] * n_workers)
        its_energy, forces, _ = potential(positions, cell, types)
        report(name, its_energy.item(), forces.double().numpy())
    table = Potential(in_precision(model, torch.float32)).block.folded.two_body
    print(f"\nThe table has {getattr(table, 'n_intervals', 0)} intervals, slopes to {getattr(table, 'error', 0):.1e}.")


if __name__ == "__main__":
    main()
