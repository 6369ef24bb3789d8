"""How long a trained liquid or solid stays one: runs from frames of a data set, and the first window that has left it.

Usage: python tests/benchmarks/stability_liquid.py MODEL FRAMES [--runs 10] [--ps 20] [--kelvin 300] [--by-element]
FRAMES is the data set (extended XYZ, one composition) whose radial distributions are the reference; the runs start from
frames spread over it. A run has failed when the mean absolute error of g(r), over a window of 1 ps and times the 6 Å
that it covers, is beyond the threshold: 3 for water, by elements, and 1 for LiPS, all atoms alike (Fu et al.,
arXiv:2210.07237).
"""

import argparse
import json
import math
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before mdtraj, which loads openmm: else TorchForce is not found)
import ase
import ase.io
import numpy as np

from openmm_allegro.analysis.stability import structure_stability
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.run import simulate
from openmm_allegro.training.data import read_frames


def main() -> None:
    """Run one after the other and print when each has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--ps", type=float, default=20.0)
    parser.add_argument("--kelvin", type=float, default=300.0)
    parser.add_argument("--timestep-fs", type=float, default=0.5)
    parser.add_argument("--hydrogen-mass", type=float, help="g/mol")
    parser.add_argument("--threshold", type=float, default=3.0, help="Å")
    parser.add_argument("--by-element", action="store_true", help="the largest over pairs of elements counts")
    parser.add_argument("--output", type=Path, default=Path("stability"), help="a new folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    frames, reference = read_frames(options.frames), open_trajectory(options.frames)
    failed, largest, speed = [], [], []
    for run, number in enumerate(np.linspace(0, len(frames) - 1, options.runs).astype(int)):
        start = options.output / f"start-{run}.extxyz"
        frame = frames[number]
        ase.io.write(start, ase.Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True))
        config = SimulateConfig(
            model=options.model,
            structure=start,
            duration_ps=options.ps,
            timestep_fs=options.timestep_fs,
            hydrogen_mass_amu=options.hydrogen_mass,
            temperature_k=options.kelvin,
            minimize=False,
            report_every=round(50 / options.timestep_fs),
            trajectory_format="xtc",
            seed=run + 1,
        )
        done = simulate(config, options.output / f"run-{run}", progress=False)
        found = structure_stability(
            open_trajectory(done.trajectory, done.final_structure),
            reference,
            threshold_angstrom=options.threshold,
            by_element=options.by_element,
        )
        failed.append(None if math.isnan(found.failed_ps) else found.failed_ps)
        largest.append(float(np.nanmax(found.deviation_angstrom)))
        speed.append(done.ns_per_day)
        print(f"run {run}: failed {failed[-1]}, largest deviation {largest[-1]:.2f} Å", flush=True)
    figures = {
        "runs": options.runs,
        "atoms": len(frames[0].numbers),
        "ps": options.ps,
        "kelvin": options.kelvin,
        "timestep_fs": options.timestep_fs,
        "hydrogen_mass": options.hydrogen_mass,
        "threshold_angstrom": options.threshold,
        "by_element": options.by_element,
        "stable": sum(time is None for time in failed),
        "failed_ps": failed,
        "largest_deviation_angstrom": largest,
        "ns_per_day": speed,
    }
    (options.output / "stability.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
