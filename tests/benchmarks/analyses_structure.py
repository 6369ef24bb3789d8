"""Time and peak memory of the analyses of structure on a synthetic file.

Run as `python analyses_structure.py [N_ATOMS] [N_FRAMES] [WORD]`, the word being part of the names of the analyses.

The file holds random waters and ions, 100 atoms in a cubic nanometre, as water has. Each analysis runs in a process of
its own, whose peak is given above that of the imports.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import mdtraj
import numpy as np

from openmm_allegro.analysis.angles import angle_distribution
from openmm_allegro.analysis.bonds import bond_lengths
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.hydrogen_bonds import hydrogen_bonds
from openmm_allegro.analysis.ion_pairs import ion_pairs
from openmm_allegro.analysis.network import network_units
from openmm_allegro.analysis.profiles import density_profile
from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.solvation import solvation_shell
from openmm_allegro.analysis.structure_factor import structure_factor
from openmm_allegro.analysis.trajectory_file import open_trajectory

ANALYSES: dict[str, Callable[[Frames], object]] = {
    "reading alone": lambda frames: sum(1 for _ in frames.positions_nm()),
    "g(r) O-O to 1 nm": lambda frames: radial_distribution(frames, ("O", "O"), r_max_nm=1.0, n_blocks=1),
    "g(r) O-H to 1 nm": lambda frames: radial_distribution(frames, ("O", "H"), r_max_nm=1.0, n_blocks=1),
    "g(r) Na-O to 1 nm": lambda frames: radial_distribution(frames, ("Na", "O"), r_max_nm=1.0, n_blocks=1),
    "angles O-O-O to 0.35 nm": lambda frames: angle_distribution(frames, ("O",) * 3, cutoff_nm=0.35, n_blocks=1),
    "bonds O-H": lambda frames: bond_lengths(frames, ("O", "H"), cutoff_nm=0.12, n_blocks=1),
    "S(q) to 40 per nm": lambda frames: structure_factor(frames, isotopes=("2H",), q_max_per_nm=40.0, n_blocks=1),
    "S(q) to 100 per nm": lambda frames: structure_factor(frames, isotopes=("2H",), n_blocks=1),
    "network O-H": lambda frames: network_units(frames, ("O", "H"), cutoff_nm=0.12, n_blocks=1),
    "shell of Na": lambda frames: solvation_shell(frames, ("Na", "O", "Cl"), cutoff_nm=0.35, n_blocks=1),
    "ion pairs": lambda frames: ion_pairs(frames, ("Na", "Cl"), contact_nm=0.4, separated_nm=0.65, n_blocks=1),
    "hydrogen bonds": lambda frames: hydrogen_bonds(frames, n_blocks=1),
    "profile of O": lambda frames: density_profile(frames, "O", n_blocks=1),
}


def write_file(folder: Path, n_atoms: int, n_frames: int) -> None:
    """Oxygens at random, each with two hydrogens; one atom in twenty is Na, one Cl."""
    random = np.random.default_rng(0)
    length = (n_atoms / 100) ** (1 / 3)
    n_waters, n_ions = round(0.3 * n_atoms), round(0.05 * n_atoms)
    topology = mdtraj.Topology()
    residue = topology.add_residue("SYS", topology.add_chain())
    for symbol in ["O", "H", "H"] * n_waters + ["Na"] * n_ions + ["Cl"] * n_ions:
        topology.add_atom(symbol, mdtraj.element.get_by_symbol(symbol), residue)
    xyz = np.empty((n_frames, topology.n_atoms, 3), dtype=np.float32)
    for positions in xyz:
        oxygens = random.uniform(0, length, (n_waters, 3))
        arms = random.normal(size=(n_waters, 2, 3))
        arms *= 0.096 / np.linalg.norm(arms, axis=2, keepdims=True)
        waters = np.concatenate([oxygens[:, None], oxygens[:, None] + arms], axis=1).reshape(-1, 3)
        positions[:] = np.concatenate([waters, random.uniform(0, length, (2 * n_ions, 3))])
    trajectory = mdtraj.Trajectory(xyz, topology, time=np.arange(n_frames, dtype=float))
    trajectory.unitcell_vectors = np.stack([length * np.eye(3, dtype=np.float32)] * n_frames)
    trajectory.save(str(folder / "run.xtc"))
    trajectory[0].save(str(folder / "run.gro"))


def measure(name: str, folder: str) -> None:
    """Print one line of the table."""
    import_module("vesin")  # and torch with it
    frames = open_trajectory(f"{folder}/run.xtc", f"{folder}/run.gro")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    ANALYSES[name](frames)
    seconds = time.process_time() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"| {name} | {seconds / frames.n_frames:.3f} | {peak:.0f} |", flush=True)


def main() -> None:
    given = sys.argv[1:] + ["100000", "1", ""][len(sys.argv) - 1 :]
    n_atoms, n_frames, word = int(given[0]), int(given[1]), given[2]
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder), n_atoms, n_frames)
        print(f"{n_atoms} atoms, {n_frames} frames of an .xtc file\n")
        print("| analysis | CPU s/frame | peak MiB |\n|---|---|---|")
        for name in filter(lambda name: word in name, ANALYSES):
            process = multiprocessing.get_context("spawn").Process(target=measure, args=(name, folder))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
