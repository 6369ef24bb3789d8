"""Time and memory of the analyses of motion on a large file of random walks.

Usage: python tests/benchmarks/analyses_kinetics.py [--atoms 100000] [--frames 200] [--only msd …] [--json]
Half of the atoms are Li, half S, in a cell of 100 atoms a cubic nanometre, written every 0.01 ps. Each analysis reads
the file in a process of its own, whose processor seconds after opening the file and peak memory are told. `open` only
opens it.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mdtraj
import numpy as np
from mdtraj.formats import DCDTrajectoryFile

from openmm_allegro.analysis.conductivity import ionic_conductivity
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.hops import hops
from openmm_allegro.analysis.msd import mean_squared_displacement
from openmm_allegro.analysis.non_gaussian import non_gaussian_parameter
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.residence import residence_time
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.analysis.van_hove import van_hove_distinct, van_hove_self
from openmm_allegro.analysis.velocities import velocity_autocorrelation
from openmm_allegro.analysis.vibrations import vibrational_density

ANALYSES: dict[str, Callable[[Frames], object]] = {
    "open": lambda frames: None,
    "paths of all": lambda frames: collect_paths(frames, ["all"]),
    "msd of all": lambda frames: mean_squared_displacement(frames, "all"),
    "conductivity": lambda frames: ionic_conductivity(frames, ("Li", "S"), (1.0, -1.0), 300.0),
    "non_gaussian": lambda frames: non_gaussian_parameter(frames, "Li"),
    "van_hove_self": lambda frames: van_hove_self(frames, "Li"),
    "van_hove_distinct": lambda frames: van_hove_distinct(frames, ("Li", "Li"), lags_ps=(0.5,)),
    "residence": lambda frames: residence_time(frames, ("Li", "S"), 0.2),
    "hops": lambda frames: hops(frames, "Li", window_ps=0.2),
    "vacf": lambda frames: velocity_autocorrelation(frames, "Li"),
    "vibrations": lambda frames: vibrational_density(frames, "Li", resolution_per_cm=200.0),
}


def write_walks(folder: Path, n_atoms: int, n_frames: int) -> tuple[Path, Path]:
    """A .dcd file and its topology."""
    random = np.random.default_rng(0)
    topology = mdtraj.Topology()
    residue = topology.add_residue("SYS", topology.add_chain())
    for k in range(n_atoms):
        topology.add_atom("A", mdtraj.element.get_by_symbol("Li" if k % 2 else "S"), residue)
    edge = (n_atoms / 100) ** (1 / 3)
    positions = edge * random.uniform(size=(n_atoms, 3)).astype(np.float32)
    first = mdtraj.Trajectory(positions, topology, unitcell_lengths=[[edge] * 3], unitcell_angles=[[90] * 3])
    first.save(str(folder / "walks.pdb"))
    with DCDTrajectoryFile(str(folder / "walks.dcd"), "w") as file:
        for _ in range(n_frames):
            positions = positions + random.normal(scale=0.01, size=positions.shape).astype(np.float32)
            inside = (positions % np.float32(edge)) * 10
            file.write(inside[None], cell_lengths=[[10 * edge] * 3], cell_angles=[[90] * 3])
    return folder / "walks.dcd", folder / "walks.pdb"


def measure(name: str, trajectory: Path, topology: Path) -> dict[str, float]:
    """Processor seconds and peak memory of one analysis, in this process."""
    start = time.process_time()
    frames = open_trajectory(trajectory, topology, timestep_ps=0.01)
    opened = time.process_time()
    ANALYSES[name](frames)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"open_s": opened - start, "seconds": time.process_time() - opened, "peak_mib": peak}


def main() -> None:
    """Measure each analysis and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=list(ANALYSES), default=list(ANALYSES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        files = write_walks(Path(folder), options.atoms, options.frames)
        for name in options.only:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                figures[name] = pool.apply(measure, (name, *files))
            if not options.json:
                row = figures[name]
                print(f"{name:20s} {row['seconds']:8.1f} s {row['peak_mib']:8.0f} MiB", flush=True)
    if options.json:
        print(json.dumps({"atoms": options.atoms, "frames": options.frames, "analyses": figures}))


if __name__ == "__main__":
    main()
