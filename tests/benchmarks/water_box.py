"""Seconds per step of a water box, ours beside openmm-ml with nequip-allegro, on the same weights in one run.

Usage: python tests/benchmarks/water_box.py [--atoms-edge 1.86] [--steps 20] [--threads 2] [--json]
1.86 nm is 615 atoms. Needs the `bench` extra; TorchForce is timed too where it can be used. The peer's checkpoint
is made on the spot by one optimiser step of nequip-train on two small frames with made-up labels: speed does not
depend on the weights.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import openmm  # isort: skip (after torch)
from openmm import unit
from openmmtools.testsystems import WaterBox

from openmm_allegro import Allegro, AllegroConfig, AllegroForce
from openmm_allegro.mlp import ScaledLinear
from openmm_allegro.nequip import copy_nequip_weights

OPTIONS = {
    "r_max": 5.0,
    "l_max": 2,
    "num_layers": 2,
    "num_scalar_features": 64,
    "num_tensor_features": 32,
    "avg_num_neighbors": 52.0,
}
NEQUIP = """
run: [train]
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: frames.xyz
  val_file_path: frames.xyz
  transforms:
    - {{_target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper, model_type_names: [H, O]}}
    - {{_target_: nequip.data.transforms.NeighborListTransform, r_max: {r_max}}}
  train_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 1}}
  val_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 1}}
trainer:
  _target_: lightning.Trainer
  max_epochs: 1
  enable_progress_bar: false
  logger: false
  callbacks:
    - {{_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: ".", save_last: true}}
training_module:
  _target_: nequip.train.NequIPLightningModule
  loss: {{_target_: nequip.train.EnergyForceLoss, coeffs: {{total_energy: 1.0, forces: 1.0}}}}
  val_metrics: {{_target_: nequip.train.EnergyForceMetrics, coeffs: {{total_energy_rmse: 1.0, forces_rmse: 1.0}}}}
  optimizer: {{_target_: torch.optim.Adam, lr: 0.0001}}
  model:
    _target_: allegro.model.AllegroModel
    seed: 1
    model_dtype: float32
    type_names: [H, O]
    radial_chemical_embed: {{_target_: allegro.nn.TwoBodyBesselScalarEmbed, num_bessels: 8}}
    r_max: {r_max}
    l_max: {l_max}
    num_layers: {num_layers}
    num_scalar_features: {num_scalar_features}
    num_tensor_features: {num_tensor_features}
    avg_num_neighbors: {avg_num_neighbors}
"""


def make_checkpoint(folder: Path) -> Path:
    """A nequip-allegro checkpoint of the benchmark's hyperparameters."""
    import ase.build
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for seed in (0, 1):
        atoms = ase.build.molecule("H2O", cell=[6.0] * 3, pbc=True) * (2, 1, 1)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=0.1 * np.ones((len(atoms), 3)))
        frames.append(atoms)
    ase.io.write(folder / "frames.xyz", frames)
    (folder / "config.yaml").write_text(NEQUIP.format(**OPTIONS))
    command = [Path(sys.executable).with_name("nequip-train"), "-cp", folder, "-cn", "config", "hydra.run.dir=."]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "last.ckpt"


def contexts(checkpoint: Path, edge_nm: float) -> dict[str, openmm.Context]:
    """The same box in OpenMM by the peer and by each of our bridges that works here."""
    from nequip.model.saved_models.load_utils import load_saved_model
    from openmmml import MLPotential

    box = WaterBox(box_edge=edge_nm * unit.nanometer, cutoff=0.6 * unit.nanometer, constrained=False)
    peer = MLPotential("nequip", modelPath=str(checkpoint), lengthScale=0.1, energyScale=96.4853)
    systems = {"openmm-ml": peer.createSystem(box.topology)}
    model = Allegro(AllegroConfig(type_names=("H", "O"), **OPTIONS))
    copy_nequip_weights(load_saved_model(str(checkpoint)), model)
    for bridge in ("python", "torchforce"):
        try:
            force = AllegroForce(model, box.topology, bridge=bridge)
        except ValueError as error:
            print(f"without {bridge}: {error}", file=sys.stderr)
            continue
        systems[bridge] = openmm.System()
        for atom in box.topology.atoms():
            systems[bridge].addParticle(atom.element.mass)
        systems[bridge].setDefaultPeriodicBoxVectors(*box.system.getDefaultPeriodicBoxVectors())
        systems[bridge].addForce(force)
    made = {}
    for name, system in systems.items():
        platform = openmm.Platform.getPlatform("CPU")
        made[name] = openmm.Context(system, openmm.VerletIntegrator(0.0001), platform)
        made[name].setPositions(box.positions)
    return made


def gemm_seconds(n_edges: int, repeats: int, block: int = 4096) -> float:
    """The matrix products of the dense networks alone, forwards and for the gradient, in blocks that stay in cache."""
    model = Allegro(AllegroConfig(type_names=("H", "O"), **OPTIONS))
    sizes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, ScaledLinear)]
    arrays = [(torch.randn(block, n_in), torch.randn(n_in, n_out), torch.empty(block, n_out)) for n_in, n_out in sizes]
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        for _ in range(-(-n_edges // block)):
            for features, weight, products in arrays:
                torch.mm(features, weight, out=products)
                torch.mm(products, weight.T, out=features)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[2:]))


def main() -> None:
    """Time every force in turn, step by step, and print medians, spread and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms-edge", type=float, default=1.86, help="edge of the water box [nm]")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        made = contexts(make_checkpoint(Path(folder)), options.atoms_edge)
    n_atoms = next(iter(made.values())).getSystem().getNumParticles()
    energies = {name: c.getState(energy=True).getPotentialEnergy()._value for name, c in made.items()}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for step in range(options.steps + 8):  # the first steps compile and are not counted
        for name, context in made.items():
            if name == "openmm-ml" and step >= 8 and (step - 8) % 4 > 0:
                continue  # the peer is slow: a quarter of the steps
            start = time.perf_counter()
            context.getIntegrator().step(1)
            if step >= 8:
                seconds[name].append(time.perf_counter() - start)
    peer = float(np.median(seconds["openmm-ml"]))
    figures: dict[str, object] = {
        "atoms": n_atoms,
        "threads": options.threads,
        "gemm_seconds": gemm_seconds(52 * n_atoms, 10),
        "energies_kj_per_mol": energies,
    }
    for name, values in seconds.items():
        median = float(np.median(values))
        figures[name] = {
            "seconds_per_step": median,
            "lowest": min(values),
            "highest": max(values),
            "times_faster_than_openmm_ml": peer / median,
        }
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
