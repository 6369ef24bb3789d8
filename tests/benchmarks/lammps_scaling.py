"""Strong and weak scaling of LAMMPS with a model on one and two ranks, and what ghosts and their forces cost.

Usage: python tests/benchmarks/lammps_scaling.py [--atoms 1536] [--steps 20] [--ranks 1 2]
Water with the model of `openmm-allegro bench` (random weights), NVE at 300 K, a rank a core. Prints JSON, a line a run:
its wall time, and for each rank the processor time of a step in the model, in waiting for the other rank (which polls)
and in exchanging, and its atoms, ghosts and bytes. Processor time tells more than wall time where other programs run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from openmm_allegro.bench.water import water
from openmm_allegro.checkpoint import save_model
from openmm_allegro.config import AllegroConfig
from openmm_allegro.lammps.config import LammpsConfig
from openmm_allegro.lammps.force import attach
from openmm_allegro.lammps.input import DYNAMICS, SETUP, write_input
from openmm_allegro.lammps.mpi_library import mpiexec, open_lammps
from openmm_allegro.model import Allegro

WARM_UP = 10
ARCHITECTURE = AllegroConfig(
    type_names=("H", "O"),
    r_max=5.0,
    l_max=2,
    num_layers=2,
    num_scalar_features=64,
    num_tensor_features=32,
    avg_num_neighbors=52.0,
)
"""That of `openmm-allegro bench`."""


def main() -> None:
    """Time the runs one after another, or be a rank of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=1536)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rank-in", type=Path, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for folder in options.rank_in or []:
        be_a_rank(folder, options.steps)
    for ranks in options.ranks if options.rank_in is None else []:
        with tempfile.TemporaryDirectory() as name:
            start(Path(name), sorted({options.atoms, ranks * options.atoms}), ranks, options.steps)


def start(folder: Path, sizes: list[int], ranks: int, steps: int) -> None:
    """Run systems of these sizes on so many ranks, one after another in the same processes."""
    torch.manual_seed(1)
    model = Allegro(ARCHITECTURE, torch.float32)
    save_model(model, folder / "model.safetensors")
    inputs = [folder / str(n_atoms) for n_atoms in sizes]
    for n_atoms, each in zip(sizes, inputs, strict=True):
        files = {"model": folder / "model.safetensors", "structure": each}
        config = LammpsConfig(steps=steps, friction_per_ps=0, minimize=False, report_every=steps, **files)
        each.mkdir()
        write_input(each, config, model.config, water(n_atoms))
    own = [sys.executable, __file__, "--steps", str(steps), "--rank-in", *map(str, inputs)]
    subprocess.run([mpiexec(), "-n", str(ranks), *own], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def be_a_rank(folder: Path, steps: int) -> None:
    """Run, and let the first rank print what all have measured."""
    os.chdir(folder)
    lmp = open_lammps()
    lmp.file(SETUP)
    force = attach(lmp, "../model.safetensors", ["H", "O"], device="cpu")
    lmp.file(DYNAMICS)
    force.run(WARM_UP)
    model, waited, exchanged = force.model_seconds, force.wait_seconds, force.exchange_seconds
    evaluations, builds = force.evaluations, force.potential.neighbors.builds
    begun, computed = time.perf_counter(), time.process_time()
    force.run(steps)
    seconds, computed = time.perf_counter() - begun, time.process_time() - computed
    evaluations = force.evaluations - evaluations
    figures = {
        "own_atoms": lmp.extract_setting("nlocal"),
        "ghosts": lmp.extract_setting("nghost"),
        "atoms_of_others": int(force.exchange.n_sent.sum()),
        "bytes_sent_a_step": int(force.exchange.n_sent.sum()) * 12,  # three float32
        "neighbour_lists": force.potential.neighbors.builds - builds,
        "model_seconds": (force.model_seconds - model) / evaluations,
        "wait_seconds": (force.wait_seconds - waited) / evaluations,
        "exchange_seconds": (force.exchange_seconds - exchanged) / evaluations,
        "processor_seconds": computed / evaluations,
    }
    of_ranks = lmp.get_mpi_comm().gather(figures)
    n_atoms = lmp.get_natoms()
    lmp.close()
    if of_ranks is not None:
        print(json.dumps({"atoms": n_atoms, "seconds_a_step": seconds / evaluations, "of_ranks": of_ranks}), flush=True)


if __name__ == "__main__":
    main()
