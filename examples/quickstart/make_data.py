"""Make the quickstart's data again from nothing: liquid water with GFN1-xTB, about an hour on one core.

    pip install tblite ase openmm mdtraj
    OMP_NUM_THREADS=1 python make_data.py --out data

Every run starts from its own classical (TIP3P) liquid and is continued with GFN1-xTB, so no training
frame shares a history with the reference trajectory. Hydrogen weighs 3.016 u (tritium): a 2 fs step is
then stable, and what the liquid looks like at equilibrium does not depend on masses. A run that was
stopped goes on where it was when started again.
"""

import argparse
import lzma
import os
import time
from pathlib import Path
from typing import NamedTuple

import ase
import ase.io
import mdtraj
import numpy as np
import openmm
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from openmm import app, unit
from tblite.ase import TBLite

METHOD = "GFN1-xTB"
N_MOLECULES = 32
DENSITY = 0.997  # g/cm³
BOX = (N_MOLECULES * 18.015 / (DENSITY * 0.602214076)) ** (1 / 3)  # Å; 1 g/cm³ is 0.602… u/Å³
HYDROGEN_MASS = 3.016  # u
TIMESTEP = 2.0  # fs
FRICTION = 0.005  # 1/fs
SAVE_EVERY = 5  # steps


class Run(NamedTuple):
    """One trajectory: its name, temperature [K], box edge relative to BOX, length [steps] and seed."""

    name: str
    temperature: float
    scale: float
    steps: int
    seed: int


TRAINING_RUNS = (
    Run("train-350K", 350.0, 1.00, 400, 1),
    Run("train-500K-dense", 500.0, 0.97, 200, 2),
    Run("train-500K-loose", 500.0, 1.03, 200, 3),
    Run("train-600K", 600.0, 1.00, 200, 4),
)
REFERENCE_RUN = Run("reference-350K", 350.0, 1.00, 2640, 5)
REFERENCE_EQUILIBRATION = 400  # steps of it that are not used
TEST_EVERY = 80  # steps of it between the frames of the test set


def main() -> None:
    """Parse the options, make every run, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data", help="folder of the files")
    parser.add_argument("--work", type=Path, default=Path("quickstart-runs"), help="folder of unfinished runs")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_frames(options.out / "isolated_atoms.extxyz", isolated_atoms())
    training = [frame for run in TRAINING_RUNS for frame in trajectory(run, options.work)]
    write_frames(options.out / "train.extxyz.xz", training)
    reference = trajectory(REFERENCE_RUN, options.work)[REFERENCE_EQUILIBRATION // SAVE_EVERY :]
    write_frames(options.out / "test.extxyz.xz", reference[:: TEST_EVERY // SAVE_EVERY])
    write_trajectory(options.out, reference)


def trajectory(run: Run, work: Path) -> list[ase.Atoms]:
    """Every SAVE_EVERY-th frame, with energy [eV] and forces [eV/Å]; goes on from the file in `work`."""
    path = work / f"{run.name}.npz"
    atoms = ase.Atoms("OHH" * N_MOLECULES, cell=[run.scale * BOX] * 3, pbc=True)
    atoms.set_masses([HYDROGEN_MASS if symbol == "H" else None for symbol in atoms.symbols])
    positions, energies, forces = [], [], []
    if path.exists():
        kept = np.load(path)
        positions, energies, forces = (list(kept[key]) for key in ("positions", "energies", "forces"))
        atoms.positions = positions[-1]
        atoms.set_velocities(kept["velocities"])
    rng = np.random.default_rng((run.seed, len(positions)))
    if not positions:
        atoms.positions = classical_liquid(run)
        MaxwellBoltzmannDistribution(atoms, temperature_K=run.temperature, rng=rng)
        Stationary(atoms)
    atoms.set_constraint(FixCom())
    atoms.calc = TBLite(method=METHOD, verbosity=0)
    step, friction = TIMESTEP * ase.units.fs, FRICTION / ase.units.fs
    dynamics = Langevin(atoms, step, temperature_K=run.temperature, friction=friction, fixcm=False, rng=rng)
    began = time.perf_counter()
    while len(positions) * SAVE_EVERY < run.steps:
        dynamics.run(SAVE_EVERY)
        positions.append(atoms.get_positions())
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces(apply_constraint=False))  # FixCom would change them
        if len(positions) % 4 and len(positions) * SAVE_EVERY < run.steps:
            continue
        partial = path.with_suffix(".tmp.npz")
        velocities = atoms.get_velocities()
        np.savez(partial, positions=positions, energies=energies, forces=forces, velocities=velocities)
        os.replace(partial, path)
        progress = f"{run.name:18s} step {len(positions) * SAVE_EVERY:5d}/{run.steps}"
        seconds = time.perf_counter() - began
        print(
            f"{progress}  {atoms.get_temperature():6.1f} K  {energies[-1]:12.4f} eV  {seconds:6.0f} s",
            flush=True,
        )
    labelled = zip(positions, energies, forces, strict=True)
    return [labelled_frame(run, *frame) for frame in labelled][: run.steps // SAVE_EVERY]


def labelled_frame(run: Run, positions: np.ndarray, energy: float, forces: np.ndarray) -> ase.Atoms:
    """One frame of a run, rounded to 1e-5 Å, 1e-5 eV and 1e-4 eV/Å so that it packs well."""
    frame = ase.Atoms("OHH" * N_MOLECULES, positions.round(5), cell=[run.scale * BOX] * 3, pbc=True)
    frame.info["run"] = run.name
    tidy_forces = forces.round(4) + 0.0  # turns -0.0 into 0.0
    frame.calc = SinglePointCalculator(frame, energy=round(float(energy), 5), forces=tidy_forces)
    return frame


def classical_liquid(run: Run) -> np.ndarray:
    """Positions [Å] (3 N_MOLECULES, 3), order O H H, after 20 ps of TIP3P from water on a lattice."""
    rng = np.random.default_rng(run.seed)
    edge_nm = run.scale * BOX / 10
    per_edge = int(np.ceil(N_MOLECULES ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3), -1).reshape(-1, 3) * edge_nm / per_edge
    water_nm = np.array([[0, 0, 0], [0.09572, 0, 0], [-0.02400, 0.09266, 0]])
    positions_nm = [
        site + water_nm @ np.linalg.qr(rng.normal(size=(3, 3)))[0] for site in rng.permutation(lattice)[:N_MOLECULES]
    ]
    topology = water_topology().to_openmm()
    topology.setPeriodicBoxVectors(np.eye(3) * edge_nm)
    system = app.ForceField("amber14/tip3p.xml").createSystem(
        topology, nonbondedMethod=app.PME, nonbondedCutoff=0.46 * unit.nanometer
    )
    integrator = openmm.LangevinMiddleIntegrator(run.temperature, 5.0, 0.002)
    integrator.setRandomNumberSeed(run.seed)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("CPU"))
    simulation.context.setPositions(np.concatenate(positions_nm))
    simulation.minimizeEnergy()
    simulation.step(10_000)
    return simulation.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)


def water_topology() -> mdtraj.Topology:
    """N_MOLECULES of H2O, each its own residue, order O H H."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(N_MOLECULES):
        residue = topology.add_residue("HOH", chain)
        oxygen = topology.add_atom("O", mdtraj.element.oxygen, residue)
        for name in ("H1", "H2"):
            topology.add_bond(oxygen, topology.add_atom(name, mdtraj.element.hydrogen, residue))
    return topology


def isolated_atoms() -> list[ase.Atoms]:
    """One H and one O atom alone in vacuum, spin-unpolarised as the liquid is."""
    atoms = []
    for symbol, multiplicity in (("H", 2), ("O", 3)):
        atom = ase.Atoms(symbol)
        atom.calc = TBLite(method=METHOD, multiplicity=multiplicity, verbosity=0)
        energy = round(atom.get_potential_energy(), 5)
        atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
        atoms.append(atom)
    return atoms


def write_frames(path: Path, frames: list[ase.Atoms]) -> None:
    """Write extended XYZ, xz-compressed where the name says so."""
    partial = path.with_name(path.name + ".tmp")
    with lzma.open(partial, "wt", preset=9) if path.suffix == ".xz" else partial.open("w") as file:
        ase.io.write(file, frames, format="extxyz")
    os.replace(partial, path)
    print(f"wrote {path}: {len(frames)} frames")


def write_trajectory(folder: Path, frames: list[ase.Atoms]) -> None:
    """Write `reference.xtc`, unwrapped so that displacements can be read off it, and `reference.pdb`."""
    reference = mdtraj.Trajectory(
        np.stack([frame.positions for frame in frames]) / 10,
        water_topology(),
        time=np.arange(len(frames)) * SAVE_EVERY * TIMESTEP / 1000,
        unitcell_lengths=np.stack([frame.cell.lengths() for frame in frames]) / 10,
        unitcell_angles=np.full((len(frames), 3), 90.0),
    )
    reference.save_xtc(folder / "reference.tmp.xtc")
    reference[0].save_pdb(folder / "reference.tmp.pdb")
    for suffix in ("xtc", "pdb"):
        os.replace(folder / f"reference.tmp.{suffix}", folder / f"reference.{suffix}")
    print(f"wrote {folder / 'reference.xtc'}: {len(frames)} frames, {reference.time[-1]:.2f} ps")


if __name__ == "__main__":
    main()
