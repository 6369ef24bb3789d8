"""Labelled frames made on the spot: small clusters whose atoms attract each other by a Morse potential."""

from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from openmm_allegro.training.frames import Frame
from openmm_allegro.training.loss import sum_of_terms, weighted_terms

DEPTH, WIDTH, LENGTH = 0.5, 1.2, 1.1
"""Morse potential: depth [eV], inverse width [1/Å], bond length [Å]."""
ATOM_ENERGY = {1: -13.0, 8: -2041.0}
"""[eV]"""


def weighted_loss(prediction, batch, options, **at):
    """Sum of the weighted mean errors."""
    return sum_of_terms(weighted_terms(prediction, batch, options, **at), batch)


def morse(positions, numbers):
    """Energy [eV] and forces [eV/Å] of atoms at positions [Å]."""
    vectors = positions[None] - positions[:, None]  # (n, n, 3), from the first to the second
    r = np.linalg.norm(vectors, axis=2) + np.eye(len(positions))
    decay = np.exp(-WIDTH * (r - LENGTH))
    pair = DEPTH * (decay**2 - 2 * decay) * (1 - np.eye(len(positions)))
    slope = 2 * DEPTH * WIDTH * (decay - decay**2) * (1 - np.eye(len(positions)))
    energy = pair.sum() / 2 + sum(ATOM_ENERGY[number] for number in numbers)
    return energy, (slope[:, :, None] * vectors / r[:, :, None]).sum(1)


def toy_frames(count=12, seed=0, periodic=False):
    """Water-like chains of H, O and H with one or two more H, off their minimum."""
    random = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        numbers = np.array([1, 8, 1, 1, 1][: 3 + i % 3])
        grid = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]], float)
        positions = 1.2 * grid[: len(numbers)] + random.normal(0, 0.12, (len(numbers), 3))
        energy, forces = morse(positions, numbers)
        stress = random.normal(0, 0.01, (3, 3)) if periodic else None
        frames.append(
            Frame(
                numbers=numbers,
                positions=positions,
                cell=np.diag([4.1, 4.4, 4.7]) if periodic else np.zeros((3, 3)),
                periodic=periodic,
                energy=float(energy),
                forces=forces,
                stress=None if stress is None else stress + stress.T,
                origin=f"frame {i} of a toy set",
            )
        )
    return frames


def toy_atoms(frame):
    """The frame as ASE keeps it."""
    atoms = ase.Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.periodic)
    stress = {} if frame.stress is None else {"stress": full_3x3_to_voigt_6_stress(frame.stress)}
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces, **stress)
    return atoms


def write_toy_set(path: Path, count=12, seed=0) -> Path:
    """An extended XYZ file of toy frames."""
    ase.io.write(path, [toy_atoms(frame) for frame in toy_frames(count, seed)], format="extxyz")
    return path


TOY_TOML = """
[data]
train = "toy.xyz"
n_validation = 4
isolated_atoms = {{ H = -13.0, O = -2041.0 }}
[model]
r_max = 4.0
l_max = 1
num_layers = 1
num_scalar_features = 8
num_tensor_features = 4
allegro_mlp_hidden_layers_width = 16
scalar_embed_mlp_hidden_layers_width = 16
readout_mlp_hidden_layers_width = 8
[optimizer]
lr = 0.01
warmup_steps = 5
{optimizer}
[run]
batch_size = 3
device = "cpu"
num_threads = 1
{run}
"""


def write_toy_run(folder: Path, run: str = "max_epochs = 4", optimizer: str = "", count: int = 16) -> Path:
    """A TOML file and its data in a folder."""
    write_toy_set(folder / "toy.xyz", count)
    path = folder / "toy.toml"
    path.write_text(TOY_TOML.format(run=run, optimizer=optimizer), encoding="utf-8")
    return path
