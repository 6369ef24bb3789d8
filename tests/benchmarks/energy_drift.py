"""Energy drift of liquid water without thermostat, in single and in double precision.

Usage: python tests/benchmarks/energy_drift.py MODEL [--molecules 64] [--ps 10] [--output drift]
The box is equilibrated for 2 ps at 300 K first; both precisions start from the same structure. Prints the slope of
the total energy [meV/atom/ns] with its error from blocks, and the fluctuation about it.
"""

import argparse
import json
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
from openmm import app

from openmm_allegro.analysis.energy import energy_drift
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.run import simulate
from openmm_allegro.systems.water import water_box


def main() -> None:
    """Equilibrate once, run without thermostat in each precision, print the drifts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--molecules", type=int, default=64)
    parser.add_argument("--ps", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=Path("drift"), help="a new folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    topology, positions, _ = water_box(options.molecules)
    start = options.output / "water.pdb"
    with start.open("w") as file:
        app.PDBFile.writeFile(topology, positions, file)

    common = {"model": options.model, "timestep_fs": 0.5, "temperature_k": 300.0, "report_every": 20}
    warm = SimulateConfig(structure=start, duration_ps=2.0, friction_per_ps=10.0, **common)
    structure = simulate(warm, options.output / "nvt").final_structure
    figures: dict[str, object] = {"atoms": 3 * options.molecules, "ps": options.ps, "timestep_fs": 0.5}
    for precision in ("single", "double"):
        free = SimulateConfig(
            structure=structure,
            duration_ps=options.ps,
            friction_per_ps=0.0,
            minimize=False,
            precision=precision,
            **common,
        )
        result = simulate(free, options.output / precision)
        drift = energy_drift(result.log, 3 * options.molecules, start_ps=0.2)
        figures[precision] = {
            "drift_mev_per_atom_per_ns": drift.drift_mev_per_atom_per_ns,
            "error": drift.drift_error_mev_per_atom_per_ns,
            "fluctuation_mev_per_atom": drift.fluctuation_mev_per_atom,
            "ns_per_day": result.ns_per_day,
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
