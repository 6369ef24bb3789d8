"""Does the neighbour list miss a pair under a barostat? A box of 64 water molecules, checked by brute force.

Usage: python tests/benchmarks/barostat_pairs.py [--ps 20] [--cutoff-angstrom 4] [--skin-nm 0.1]
The water is flexible TIP3P at 300 K and 1 bar with a Monte Carlo barostat, so that atoms move and the box breathes;
an AllegroForce rides along with its energy scaled to nothing. Every 50 steps the pairs of its list are compared with
those found by looking at all images of all atoms.
"""

import argparse
import json

import numpy as np
import torch

import openmm  # isort: skip (after torch)
from openmm import app, unit

from openmm_allegro import Allegro, AllegroConfig, AllegroForce
from openmm_allegro.neighbors import Neighbors
from openmm_allegro.systems.water import water_box


def all_pairs(positions: torch.Tensor, cell: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Distances (e,) of every pair and image closer than the cutoff, sorted. positions: (n, 3); cell: (3, 3) [Å]."""
    steps = torch.arange(-1, 2, dtype=torch.float64)
    shifts = torch.cartesian_prod(steps, steps, steps) @ cell
    fractional = positions @ torch.linalg.inv(cell)
    wrapped = (fractional - fractional.floor()) @ cell
    found = []
    for shift in shifts:
        distance = torch.cdist(wrapped, wrapped + shift, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(distance[(distance < cutoff) & (distance > 1e-6)])
    return torch.cat(found).sort().values


def listed_pairs(search: Neighbors, positions: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
    """The same from the list as it stands."""
    return search(positions, cell).vectors.norm(dim=1).sort().values


def main() -> None:
    """Run, compare, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ps", type=float, default=20.0)
    parser.add_argument("--timestep-fs", type=float, default=1.0)
    parser.add_argument("--cutoff-angstrom", type=float, default=4.0)
    parser.add_argument("--skin-nm", type=float, default=0.1)
    options = parser.parse_args()
    topology, positions, box = water_box(64, seed=1)
    topology.setPeriodicBoxVectors(box)
    field = app.ForceField("tip3p.xml")
    system = field.createSystem(
        topology, nonbondedMethod=app.PME, nonbondedCutoff=0.55 * unit.nanometer, rigidWater=False
    )
    config = AllegroConfig(
        type_names=("H", "O"), r_max=options.cutoff_angstrom, num_scalar_features=8, num_tensor_features=4,
        num_layers=1, avg_num_neighbors=30.0,
    )  # fmt: skip
    force = AllegroForce(
        Allegro(config), topology, bridge="python", skin=options.skin_nm, scale_parameter="allegro_scale"
    )
    system.addForce(force)
    system.addForce(openmm.MonteCarloBarostat(1 * unit.bar, 300 * unit.kelvin, 5))
    integrator = openmm.LangevinMiddleIntegrator(
        300 * unit.kelvin, 1 / unit.picosecond, options.timestep_fs * unit.femtosecond
    )
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("CPU"))
    context.setPositions(positions)
    context.setParameter("allegro_scale", 0.0)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=200)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    search = force.getPotential().neighbors
    volumes, missed, checked, largest_error = [], 0, 0, 0.0
    steps = round(options.ps * 1000 / options.timestep_fs)
    before = (search.builds, search.updates)
    for _ in range(0, steps, 50):
        integrator.step(50)
        state = context.getState(positions=True)
        here = torch.tensor(state.getPositions(asNumpy=True).value_in_unit(unit.angstrom))
        cell = torch.tensor(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom))
        expected = all_pairs(here, cell, options.cutoff_angstrom)
        found = listed_pairs(search, here, cell)
        missed += abs(len(expected) - len(found))
        if len(expected) == len(found):
            largest_error = max(largest_error, float((expected - found).abs().max()))
        checked += 1
        volumes.append(float(torch.linalg.det(cell)))
    figures = {
        "ps": options.ps,
        "frames_checked": checked,
        "pairs_in_the_last": len(expected),
        "missed_or_extra_pairs": missed,
        "largest_difference_of_a_distance_angstrom": largest_error,
        "lists_built": search.builds - before[0],
        "evaluations": search.updates - before[1],
        "volume_angstrom3": [min(volumes), float(np.mean(volumes)), max(volumes)],
        "boxes": len({round(volume, 9) for volume in volumes}),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
