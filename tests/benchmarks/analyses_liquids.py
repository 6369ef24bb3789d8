"""Time and memory of analyses of liquids and large molecules on a file larger than what they keep in memory.

Usage: python tests/benchmarks/analyses_liquids.py [--molecules 33000] [--frames 20] [--only dielectric]
Writes water at random orientations, wrapped atom by atom, to an .xtc file, a poly-alanine of 200 residues among it, and
runs each analysis in a process of its own. `pass` is reading the file once and doing nothing, which all others do too.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mdtraj
import numpy as np
from scipy.spatial.transform import Rotation

from openmm_allegro.analysis.density import mass_density
from openmm_allegro.analysis.dielectric import dielectric_constant
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.hydration import hydration
from openmm_allegro.analysis.ramachandran import ramachandran
from openmm_allegro.analysis.rmsd import rmsd, rmsf
from openmm_allegro.analysis.secondary_structure import secondary_structure
from openmm_allegro.analysis.shape import radius_of_gyration
from openmm_allegro.analysis.stability import bond_stability, structure_stability
from openmm_allegro.analysis.trajectory_file import open_trajectory

sys.path.insert(0, str(Path(__file__).parents[1]))
from peptides import HELIX, backbone, peptide  # noqa: E402

WATER_NM = np.array([[0, 0, 0], [0.09572, 0, 0], [-0.024, 0.0927, 0]])
CHARGES = "N=0 C=0 O=-0.834 H=0.417"
ANALYSES: dict[str, Callable[[Frames], object]] = {
    "pass": lambda frames: sum(1 for _ in frames.positions_nm()),
    "density": lambda frames: mass_density(frames),
    "dielectric": lambda frames: dielectric_constant(frames, CHARGES, temperature_k=300.0, selection="water"),
    "rmsd": lambda frames: rmsd(frames, "name CA"),
    "rmsf": lambda frames: rmsf(frames, "name CA"),
    "gyration": lambda frames: radius_of_gyration(frames, "protein"),
    "ramachandran": lambda frames: ramachandran(frames),
    "dssp": lambda frames: secondary_structure(frames),
    "hydration": lambda frames: hydration(frames, "protein", water="water and name O"),
    "bonds": lambda frames: bond_stability(frames),
    "structure": lambda frames: structure_stability(frames, one_frame(frames), window_ps=0.001),
}


def one_frame(frames: Frames) -> mdtraj.Trajectory:
    return next(frames.chunks())[0]


def write(folder: Path, n_molecules: int, n_frames: int) -> None:
    """trajectory.xtc and start.pdb; each frame has its own orientations."""
    helix = backbone(*np.array([HELIX] * 200).T)
    topology = peptide(helix[None]).topology
    chain = topology.add_chain()
    for _ in range(n_molecules):
        residue = topology.add_residue("HOH", chain)
        oxygen, *hydrogens = (
            topology.add_atom(name, mdtraj.element.get_by_symbol(name[0]), residue) for name in ("O", "H1", "H2")
        )
        for hydrogen in hydrogens:
            topology.add_bond(oxygen, hydrogen)
    side = int(np.ceil(n_molecules ** (1 / 3)))
    edge = 0.3104 * side
    oxygens = 0.3104 * np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 1, 3)[:n_molecules]
    random = np.random.default_rng(0)
    xyz = np.empty((n_frames, topology.n_atoms, 3), dtype=np.float32)
    for f in range(n_frames):
        turned = WATER_NM @ Rotation.random(n_molecules, random_state=random).as_matrix()
        noisy = helix + 0.005 * random.normal(size=helix.shape)
        xyz[f] = np.concatenate([noisy, (oxygens + turned).reshape(-1, 3)]) % edge
    trajectory = mdtraj.Trajectory(xyz, topology, time=0.1 * np.arange(n_frames))
    trajectory.unitcell_vectors = np.broadcast_to(edge * np.eye(3), (n_frames, 3, 3)).astype(np.float32)
    trajectory.save_xtc(str(folder / "trajectory.xtc"))
    trajectory[0].save_pdb(str(folder / "start.pdb"))


def measure(folder: Path, name: str) -> None:
    """Print seconds by the processor's clock after the file was surveyed, and this process' peak of memory."""
    frames = open_trajectory(folder / "trajectory.xtc", folder / "start.pdb")
    opened = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.process_time()
    ANALYSES[name](frames)
    seconds = (time.process_time() - start) / frames.n_frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:14s} {seconds:9.3f} s/frame {opened:8.2f} GiB opened {peak:8.2f} GiB peak", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=33_000)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--only", choices=ANALYSES)
    parser.add_argument("--folder", type=Path, help="with a file that was written before")
    options = parser.parse_args()
    if options.folder is not None:
        measure(options.folder, options.only)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.molecules, options.frames)
        for name in [options.only] if options.only else ANALYSES:
            command = [sys.executable, __file__, "--folder", folder, "--only", name]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
