"""A model in ASE's own tools: relaxation of atoms and cell, phonons, and the path of a vacancy's hop.

    python examples/ase/silver.py

1. label frames of silver with ASE's EMT potential and train a small Allegro model on them (`silver.toml`);
2. relax a crystal with its cell, and one with a vacancy;
3. phonons by displaced atoms;
4. the barrier of an atom that hops into the vacancy, by a nudged elastic band;
5. lay all of it over the same done with EMT itself: `silver-output/report.png`, `figures.json`.
"""

import argparse
import json
from pathlib import Path

import torch  # noqa: F401  # isort: skip  (before openmm, which the training loads: else TorchForce is not found)
import ase
import numpy as np
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.io import write
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.phonons import Phonons
from ase.utils.forcecurve import ForceFit, fit_images
from report import Results, comparison, draw
from rich.console import Console

from openmm_allegro import AllegroCalculator
from openmm_allegro.training.config import load_config
from openmm_allegro.training.run import train

HERE = Path(__file__).parent
LATTICE_CONSTANT = 4.06  # Å, near that of EMT's silver
HOPS = np.array([1.0, 1.0, 0.0]) / 2  # to the next site, in lattice constants


def main() -> None:
    """Parse the options and do the five things."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("silver-output"), help="a new folder")
    parser.add_argument("--model", type=Path, help="a model file to go on with, instead of training one")
    parser.add_argument("--quick", action="store_true", help="train for a few steps, to see that it runs")
    options = parser.parse_args()
    output: Path = options.output
    if output.exists():
        parser.error(f"`{output}` exists already and is kept as it is; name another folder with `--output`")
    output.mkdir(parents=True)
    console = Console()

    model = options.model
    if model is None:
        console.rule("training on frames labelled by EMT")
        model = trained_model(output, options.quick)
    results = {}
    for name, calculator in (("EMT", EMT()), ("Allegro", AllegroCalculator(model, precision="double"))):
        console.rule(f"relaxation, phonons and a vacancy's hop with {name}")
        results[name] = everything(calculator, output / f"phonons-{name}")
    table, figures = comparison(results["EMT"], results["Allegro"])
    console.print(table)
    (output / "figures.json").write_text(json.dumps(figures, indent=1))
    console.print(f"model: {model}\npicture: {draw(output / 'report.png', results)}")


def trained_model(output: Path, quick: bool) -> Path:
    """A model of the frames, in the output folder."""
    write(output / "frames.extxyz", training_frames())
    (output / "silver.toml").write_text((HERE / "silver.toml").read_text())
    config = load_config(output / "silver.toml")
    if quick:
        config = config.model_copy(update={"run": config.run.model_copy(update={"max_steps": 300})})
    return Path(train(config, output / "training").best_model)


def training_frames() -> list[ase.Atoms]:
    """Crystals, strained and shaken, and vacancies with an atom on its way into them; energies and forces of EMT."""
    rng = np.random.default_rng(1)
    frames = []
    for number in range(80):
        atoms = crystal(LATTICE_CONSTANT)
        if number % 2 == 0:
            atoms = halfway(LATTICE_CONSTANT, rng.uniform(0, 1))
        strain = np.eye(3) * rng.uniform(-0.05, 0.05) + rng.normal(0, 0.01, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.01, 0.12), (len(atoms), 3))
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        frames.append(atoms)
    return frames


def crystal(lattice_constant: float) -> ase.Atoms:
    """32 atoms of silver in a cube."""
    return bulk("Ag", "fcc", a=lattice_constant, cubic=True).repeat(2)


def halfway(lattice_constant: float, share: float) -> ase.Atoms:
    """A vacancy at the origin with a neighbour gone this share of the way into it: 0 and 1 are alike by symmetry."""
    atoms = crystal(lattice_constant)
    hop = lattice_constant * HOPS
    mover = int(np.argmin(np.linalg.norm(atoms.positions - hop, axis=1)))
    atoms.positions[mover] -= share * hop
    del atoms[0]
    return atoms


def everything(calculator: Calculator, folder: Path) -> Results:
    """What is compared, all of it with one calculator."""
    atoms = relaxed_crystal(calculator)
    lattice_constant = (4 * atoms.get_volume() / len(atoms)) ** (1 / 3)
    energy = atoms.get_potential_energy() / len(atoms)
    hop = vacancy_hop(calculator, lattice_constant)
    distances, frequencies, ticks = phonon_bands(calculator, lattice_constant, folder)
    constants = np.linspace(0.96, 1.05, 19) * LATTICE_CONSTANT
    return Results(
        lattice_constant=lattice_constant,
        energy=energy,
        vacancy_energy=calculator.get_potential_energy(relaxed_vacancy(calculator, lattice_constant, 0)) - 31 * energy,
        barrier=max(hop.energies),
        constants=constants,
        energies=np.array([calculator.get_potential_energy(crystal(a)) / 32 for a in constants]),
        band_path=distances,
        frequencies=frequencies,
        ticks=ticks,
        hop=hop,
    )


def relaxed_crystal(calculator: Calculator) -> ase.Atoms:
    """Four atoms with their cell, from a start that is too wide, sheared and shaken."""
    atoms = bulk("Ag", "fcc", a=1.04 * LATTICE_CONSTANT, cubic=True)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * np.eye(3, k=1)), scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=200)
    return atoms


def relaxed_vacancy(calculator: Calculator, lattice_constant: float, share: int) -> ase.Atoms:
    """The vacancy before the hop, 0, or after it, 1."""
    atoms = halfway(lattice_constant, share)
    atoms.calc = calculator
    FIRE(atoms, logfile=None).run(fmax=5e-3, steps=100)
    return atoms


def vacancy_hop(calculator: Calculator, lattice_constant: float) -> ForceFit:
    """Energies [eV] along the hop [Å], with a curve by their slopes, by a climbing nudged elastic band."""
    ends = [relaxed_vacancy(calculator, lattice_constant, share) for share in (0, 1)]
    images = [ends[0], *(ends[0].copy() for _ in range(3)), ends[1]]
    band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
    band.interpolate()
    for image in images:
        image.calc = calculator
    FIRE(band, logfile=None).run(fmax=0.02, steps=60)
    return fit_images(images)


def phonon_bands(
    calculator: Calculator, lattice_constant: float, folder: Path
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, str]]]:
    """Frequencies [THz] along a path through the Brillouin zone, the places on it, and those that have a name."""
    primitive = bulk("Ag", "fcc", a=lattice_constant)
    phonons = Phonons(primitive, calculator, supercell=(5, 5, 5), delta=0.02, name=folder)
    phonons.run()
    phonons.read(acoustic=True)
    phonons.clean()
    path = primitive.cell.bandpath("GXWKGL", npoints=120)
    bands = phonons.get_band_structure(path, verbose=False)
    terahertz = 1 / (2 * np.pi * ase.units._hbar / ase.units._e * 1e12)  # of an energy of one eV
    places, named, names = bands.get_labels()
    return places, bands.energies[0] * terahertz, list(zip(named.tolist(), names, strict=True))


if __name__ == "__main__":
    main()
