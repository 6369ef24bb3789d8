"""How long a trained molecule stays a molecule: several hot runs at once, and the first bond that breaks in each.

Usage: python tests/benchmarks/stability.py MODEL FRAMES [--copies 10] [--ps 300] [--kelvin 500] [--json]
The copies start from frames spread over FRAMES, a data set of the molecule. They stand so far apart that none feels
another, each held in its place by a weak spring on its centre of mass, which the rest of its motion does not notice; so
one evaluation moves them all. A run has failed at the first look, every 0.1 ps, at which a bond is off by more than
0.5 Å from its mean length in the frames (Fu et al., arXiv:2210.07237). Nothing is minimised: OpenMM's minimiser begins
with steps so long that it leaves what the model has seen.
"""

import argparse
import itertools
import json
import math
import sys
import time
from pathlib import Path

import torch  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import ase.io
import numpy as np
import openmm
from ase.neighborlist import natural_cutoffs, neighbor_list
from openmm import app, unit

from openmm_allegro import AllegroForce
from openmm_allegro.training.data import read_frames

APART_NM = 5.0
LONGEST_CHANGE_NM = 0.05


def molecules(path: Path) -> list[ase.Atoms]:
    """All frames of a file, centred."""
    frames = []
    for frame in read_frames(path):
        atoms = ase.Atoms(numbers=frame.numbers, positions=frame.positions)
        atoms.positions -= atoms.get_center_of_mass()
        frames.append(atoms)
    return frames


def copies_of(frames: list[ase.Atoms], count: int) -> tuple[app.Topology, np.ndarray]:
    """Topology and positions [nm] of some of the frames on a grid."""
    topology = app.Topology()
    for _ in range(count):
        residue = topology.addResidue("MOL", topology.addChain())
        for symbol in frames[0].get_chemical_symbols():
            topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    edge = math.ceil(count ** (1 / 3))
    places = APART_NM * np.array(list(itertools.product(range(edge), repeat=3))[:count])
    chosen = np.array([frames[k].positions for k in np.linspace(0, len(frames) - 1, count).astype(int)])
    return topology, (places[:, None] + chosen / 10).reshape(-1, 3)


def build(topology: app.Topology, positions: np.ndarray, options: argparse.Namespace) -> openmm.Context:
    """A context with the model and the springs, with velocities."""
    system = openmm.System()
    for atom in topology.atoms():
        mass = options.hydrogen_mass if atom.element.symbol == "H" else atom.element.mass
        system.addParticle(mass)
    system.addForce(AllegroForce(options.model, topology, system=system))
    spring = openmm.CustomCentroidBondForce(1, "50*((x1-x0)^2+(y1-y0)^2+(z1-z0)^2)")
    for name in ("x0", "y0", "z0"):
        spring.addPerBondParameter(name)
    masses = np.array([system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())])
    per_copy = len(masses) // options.copies
    for k in range(options.copies):
        mine = np.arange(k * per_copy, (k + 1) * per_copy)
        centre = np.average(positions[mine], axis=0, weights=masses[mine])
        spring.addBond([spring.addGroup(mine.tolist())], centre.tolist())
    system.addForce(spring)
    integrator = openmm.LangevinMiddleIntegrator(options.kelvin, 1.0, options.timestep_fs / 1000)
    integrator.setRandomNumberSeed(options.seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(options.platform))
    context.setPositions(positions)
    context.setVelocitiesToTemperature(options.kelvin, options.seed)
    return context


def bond_lengths(context: openmm.Context, bonds: np.ndarray, copies: int) -> np.ndarray:
    """(copies, bonds) in nm."""
    positions = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    positions = positions.reshape(copies, -1, 3)
    return lengths_of(positions, bonds)


def lengths_of(positions: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """Lengths of bonds, (…, bonds). positions: (…, atoms, 3)."""
    return np.linalg.norm(positions[..., bonds[:, 0], :] - positions[..., bonds[:, 1], :], axis=-1)


def main() -> None:
    """Run, look every 0.1 ps, and print when each copy has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--ps", type=float, default=300.0)
    parser.add_argument("--kelvin", type=float, default=500.0)
    parser.add_argument("--timestep-fs", type=float, default=0.5)
    parser.add_argument("--hydrogen-mass", type=float, default=1.008, help="g/mol")
    parser.add_argument("--platform", default="CPU")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    frames = molecules(options.frames)
    atoms = frames[0]
    first, second = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.2))
    bonds = np.stack([first, second], axis=1)[first < second]
    reference = np.mean([lengths_of(frame.positions / 10, bonds) for frame in frames], axis=0)
    context = build(*copies_of(frames, options.copies), options)
    failed = np.full(options.copies, np.nan)
    longest, started = 0.0, time.perf_counter()
    steps = round(100 / options.timestep_fs)
    for look in range(1, round(options.ps * 10) + 1):
        context.getIntegrator().step(steps)
        change = np.abs(bond_lengths(context, bonds, options.copies) - reference)
        longest = max(longest, float(change[np.isnan(failed)].max()))
        failed[np.isnan(failed) & ~(change.max(axis=1) <= LONGEST_CHANGE_NM)] = look / 10
        if not np.isnan(failed).any():
            break
        if look % 100 == 0:
            print(f"{look / 10:g} ps, {np.isnan(failed).sum()} of {options.copies} stable", file=sys.stderr, flush=True)
    figures = {
        "formula": atoms.get_chemical_formula(),
        "bonds": len(bonds),
        "copies": options.copies,
        "kelvin": options.kelvin,
        "ps": look / 10,
        "timestep_fs": options.timestep_fs,
        "hydrogen_mass": options.hydrogen_mass,
        "seed": options.seed,
        "stable": int(np.isnan(failed).sum()),
        "failed_at_ps": [None if math.isnan(t) else float(t) for t in failed],
        "largest_change_angstrom": 10 * longest,
        "ms_per_step": 1000 * (time.perf_counter() - started) / (look * steps),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures, indent=1) if options.json else "\n".join(f"{k}: {v}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
