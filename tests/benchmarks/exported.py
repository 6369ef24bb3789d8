"""Nequip's ASE calculator with the same weights twice: from our exported file, and compiled by nequip itself.

    python tests/benchmarks/exported.py [--atoms 615] [--steps 10]

Water of `openmm-allegro bench` with its default model in single precision; evaluations alternate, positions move a
little before each. Prints medians of processor seconds, the lowest and highest, and how far energies and forces are
apart.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import torch  # isort: skip  (before openmm)
import ase
import numpy as np
from openmm import unit

from openmm_allegro import AllegroCalculator, AllegroConfig
from openmm_allegro.bench.peers import EXAMPLE_ATOMS, _as_nequip_runs, _compiled, write_nequip_checkpoint
from openmm_allegro.bench.water import water
from openmm_allegro.checkpoint import save_model
from openmm_allegro.export_graph import export_graph
from openmm_allegro.model import Allegro


def main() -> None:
    """Make the three calculators and time them in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=615)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    atoms = some_water(options.atoms)
    torch.manual_seed(1)
    config = AllegroConfig(type_names=("H", "O"), r_max=5.0, avg_num_neighbors=52.4)  # bench's defaults
    model = Allegro(config, torch.float32)
    with tempfile.TemporaryDirectory() as folder, _as_nequip_runs():
        calculators = the_three(model, atoms, Path(folder))
        times, results = {name: [] for name in calculators}, {}
        random = np.random.default_rng(1)
        for step in range(options.steps + 3):
            atoms.positions += random.normal(0, 1e-3, atoms.positions.shape)
            for name, calculator in calculators.items():
                start = time.process_time()
                forces = calculator.get_forces(atoms)
                if step >= 3:  # TorchScript compiles in the first ones
                    times[name].append(time.process_time() - start)
                results[name] = calculator.get_potential_energy(atoms), forces
    energy, forces = results["nequip"]
    for name, seconds in times.items():
        apart = abs(float(results[name][0] - energy)), np.abs(results[name][1] - forces).max()
        print(
            f"{name:22} {np.median(seconds):8.4f} s ({min(seconds):.4f}-{max(seconds):.4f}), "
            f"energy {apart[0] / len(atoms):.1e} eV/atom and forces {apart[1]:.1e} eV/Å from nequip's own "
            f"(largest {np.abs(forces).max():.2g})"
        )


def some_water(n_atoms: int) -> ase.Atoms:
    """Bench's box of water."""
    topology, positions_nm = water(n_atoms)
    cell = [list(vector.value_in_unit(unit.angstrom)) for vector in topology.getPeriodicBoxVectors()]
    symbols = [atom.element.symbol for atom in topology.atoms()]
    return ase.Atoms(symbols, 10 * np.asarray(positions_nm), cell=cell, pbc=True)


def the_three(model: Allegro, atoms: ase.Atoms, folder: Path) -> dict[str, object]:
    """Nequip's calculator with nequip's file and with ours, and our own."""
    from nequip.integrations.ase import NequIPCalculator

    write_nequip_checkpoint(model, folder / "model.ckpt")
    cpu = torch.device("cpu")
    own = _compiled("nequip-torchscript", folder / "model.ckpt", atoms[:EXAMPLE_ATOMS], model, cpu)
    save_model(model, folder / "model.safetensors")
    ours = folder / "ours.nequip.pth"
    export_graph(folder / "model.safetensors", ours, "single")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = {"nequip": own, "nequip, exported file": ours}
        found = {
            name: NequIPCalculator.from_compiled_model(file, chemical_species_to_atom_type_map=True)
            for name, file in files.items()
        }
    return {**found, "AllegroCalculator": AllegroCalculator(model, device="cpu")}


if __name__ == "__main__":
    main()
