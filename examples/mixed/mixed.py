"""Alanine dipeptide by an Allegro model in classical water, through openmm-ml.

    python examples/mixed/mixed.py --weights dipeptides.safetensors

1. build ACE-ALA-NME in TIP3P water, hydrogens of the peptide with a mass of 4;
2. make two mixed systems of it with openmm-ml: one in which λ leads from the force field (0) to the model (1), one with
   the model alone inside the peptide; compare their energies with those of the force field and the model, and their
   forces with differences of the energy;
3. lead λ from 0 to 1, and average dU/dλ on the way;
4. run 20 ps at 300 K with the model, and look at bonds, torsions, temperature;
5. leave `report.png`, `figures.json` and the trajectory of the peptide in the output folder.

Embedding is mechanical: the peptide feels the water by the charges and radii of Amber14, and the model only itself.
A model is trained on SPICE dipeptides by `openmm-allegro train examples/recipes/spice_dipeptides.toml
--data-root DATA`. Without `--weights` a small one learns the force field itself from frames that this script makes
(`force_field_frames.py`).

What it showed once, with 27,000 weights (cutoff 4.5 Å, l_max 2, 2 layers, 32 scalars, 16 tensor features, ZBL) after
1,687 steps of batches of 5 on the SPICE dipeptides, force MAE 78 meV/Å on their validation frames, `--padding-nm 0.6`:
λ = 0 is the force field, and λ = 1 force field and model, to 0.05 kJ/mol, which are the pairs within the peptide beyond
the cutoff (openmm-ml has none between them); forces follow differences of the energy to 1e-4 at λ = 0, 0.3 and 1;
⟨dU/dλ⟩ falls by 163 kJ/mol, most of it in the last step; in 20 ps at 299 K no bond leaves its first length by more than
0.18 Å, and the peptide stays extended (φ near 180°, ψ near 165°). That is stability; 20 ps say nothing of populations.
"""

import argparse
import json
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
from force_field_frames import train_on_the_force_field
from mixed_dynamics import Figures, draw_report, lead_lambda, run_with_the_model
from mixed_systems import MixedSystems, check_energies, check_forces, mixed_systems, solvated_dipeptide
from rich.console import Console


def main() -> None:
    """Parse the options and do the five things."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("mixed-output"), help="a new folder")
    parser.add_argument("--weights", type=Path, help="a model of C, H, N and O, instead of one that learns Amber14")
    parser.add_argument("--padding-nm", type=float, default=0.8, help="least distance of the peptide from its images")
    parser.add_argument("--ramp-ps", type=float, default=2.2, help="of all steps of λ together")
    parser.add_argument("--ps", type=float, default=20.0, help="length of the run with the model")
    parser.add_argument("--timestep-fs", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="a little of everything, in half a minute")
    options = parser.parse_args()
    if options.quick:
        options.padding_nm, options.ramp_ps, options.ps = 0.5, 0.11, 0.1
    output: Path = options.output
    if output.exists():
        parser.error(f"`{output}` exists already and is kept as it is; name another folder with `--output`")
    output.mkdir(parents=True)
    console = Console()

    model = options.weights
    if model is None:
        console.rule("training on frames of the force field")
        model = train_on_the_force_field(output, options.quick)

    console.rule("mixed systems")
    start = solvated_dipeptide(output, options.padding_nm)
    systems: MixedSystems = mixed_systems(start, model)
    energies = check_energies(systems)
    slopes = check_forces(systems)
    console.print(f"{systems.topology.getNumAtoms()} atoms, {len(systems.ml_atoms)} of them by the model")
    for name, value in {**energies, **slopes}.items():
        console.print(f"{name}: {value:.3g}")

    console.rule("λ from 0 to 1")
    ramp = lead_lambda(systems, options.ramp_ps, options.timestep_fs)
    console.rule(f"{options.ps:g} ps with the model")
    run = run_with_the_model(systems, ramp.state, options.ps, options.timestep_fs, output)
    figures: Figures = {
        "atoms": systems.topology.getNumAtoms(),
        "ml_atoms": len(systems.ml_atoms),
        **energies,
        **slopes,
        "lambda": list(ramp.lambdas),
        "du_dlambda_kj_per_mol": list(ramp.mean_slopes),
        "stable_ps": run.stability.figures()["stable_ps"].value,
        "bonds_failed": run.stability.failed,
        "largest_bond_deviation_angstrom": float(np.max(run.stability.deviation_angstrom)),
        "temperature_k": run.temperature_k,
        "milliseconds_per_step": run.milliseconds_per_step,
        "ramachandran": {name: share.value for name, share in run.torsions.figures().items()},
    }
    (output / "figures.json").write_text(json.dumps(figures, indent=1, allow_nan=False))
    picture = draw_report(output / "report.png", ramp, run)
    console.print(f"stable for {figures['stable_ps']:g} ps at {run.temperature_k:.0f} K\npicture: {picture}")


if __name__ == "__main__":
    main()
