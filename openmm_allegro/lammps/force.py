"""A model as the force of a LAMMPS run, on one rank or many: LAMMPS decomposes, integrates and writes.

LAMMPS calls Python through its `fix external`. Each rank evaluates its own atoms among their ghosts, to the cutoff
and no farther, and the forces on ghosts are sent to the ranks that own the atoms (`ghost_exchange`).

Symbols used in this file
    n  own atoms of this rank        m  those and the ghosts        d  different atoms among them
"""

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from openmm_allegro.checkpoint import dtype_of
from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.ensemble_file import dynamics_model, load_for_dynamics
from openmm_allegro.lammps.ghost_exchange import GhostExchange
from openmm_allegro.lammps.ghosts import GhostPotential, Share
from openmm_allegro.model import Allegro

if TYPE_CHECKING:
    import lammps
    from mpi4py import MPI


class LammpsForce:
    """What LAMMPS calls at each evaluation, with what it has cost."""

    def __init__(
        self, lmp: "lammps.lammps", potential: GhostPotential, types: Sequence[int], communicator: "MPI.Intracomm"
    ) -> None:
        """types: the model's index of each atom type of LAMMPS."""
        self.lmp = lmp
        self.potential = potential
        self.type_indices = np.array([-1, *types])  # LAMMPS counts from 1
        self.communicator = communicator
        self.exchange = GhostExchange(communicator)
        self.fix = "allegro"
        self.after_step: Callable[[int], None] | None = None
        """Called with the number of the step after each evaluation."""
        self.failure: str | None = None
        self.energy = 0.0
        """Of the whole system [eV]."""
        self.virial = np.zeros((3, 3))
        """Of the whole system [eV]."""
        self.evaluations = 0
        self.n_places = 0
        """Own atoms and ghosts, summed over the evaluations."""
        self.bytes_sent = 0
        """Forces on ghosts, summed over the evaluations."""
        self.model_seconds = 0.0
        """Processor time in the model and its neighbour list."""
        self.wait_seconds = 0.0
        """Processor time until all ranks have evaluated: waiting ranks poll."""
        self.exchange_seconds = 0.0
        """Processor time in plans and in the exchange of forces."""

    def run(self, steps: int) -> None:
        """Do `run steps`, and raise what has gone wrong in the model on any rank."""
        self.lmp.command(f"run {steps}")
        self.check()

    def check(self) -> None:
        """Raise what has gone wrong in the model since; after `lmp.command("run …")` it is not raised by itself."""
        if self.failure is not None:
            raise ValueError(self.failure)

    def __call__(
        self,
        caller: object,
        step: int,
        n_own: int,
        tags: NDArray[np.integer],
        positions: NDArray[np.float64],
        forces: NDArray[np.float64],
    ) -> None:
        """What `fix external` calls on every rank: fills `forces` (n, 3) [eV/Å]. tags: (n,); positions: (n, 3) [Å]."""
        try:
            self.evaluate(step, n_own, forces)
        except BaseException as error:  # none passes through LAMMPS, and the other ranks would wait for ever
            print(f"rank {self.communicator.Get_rank()} at step {step}: {error!r}", file=sys.stderr, flush=True)
            self.communicator.Abort(1)

    def evaluate(self, step: int, n_own: int, forces: NDArray[np.float64]) -> None:
        """Energy, virial and forces of all ranks; a failure on one of them ends the run on all."""
        forces[:] = 0
        if self.failure is not None:
            self.lmp.force_timeout()
            return
        started = time.process_time()
        self.exchange.follow(self.lmp.numpy.extract_atom("id"), n_own)
        evaluating = time.process_time()
        share, problem = self.share(n_own)
        evaluated = time.process_time()
        self.add_up(share, problem, step)
        added = time.process_time()
        if self.failure is None and share is not None:
            forces[:] = self.exchange.bring_home(share.forces.cpu().numpy())
            self.hand_over(share)
        self.model_seconds += evaluated - evaluating
        self.wait_seconds += added - evaluated
        self.exchange_seconds += time.process_time() - added + evaluating - started
        self.evaluations += 1
        if self.after_step is not None:
            self.after_step(step)

    def share(self, n_own: int) -> tuple[Share | None, str]:
        """What this rank's own atoms give, or a sentence that says why there is none."""
        device, exchange = self.potential.device, self.exchange
        places = np.array(self.lmp.numpy.extract_atom("x"))  # (m, 3)
        types = np.empty(len(exchange.numbers), dtype=np.int64)
        types[exchange.atoms] = self.type_indices[self.lmp.numpy.extract_atom("type")]
        arrays = (places, exchange.atoms, types, exchange.numbers)
        places_there, atoms, types_there, numbers = (torch.from_numpy(array).to(device) for array in arrays)
        self.n_places += len(places)
        try:
            return self.potential(places_there, atoms, types_there, n_own, numbers), ""
        except ValueError as error:
            return None, str(error)

    def add_up(self, share: Share | None, problem: str, step: int) -> None:
        """Sum energy and virial over the ranks, or keep the first rank's problem; all ranks call it."""
        sums = np.zeros(11)
        sums[0] = share is None
        if share is not None:
            sums[1] = share.energy.item()
            sums[2:] = share.virial.cpu().double().numpy().ravel()
        if self.exchange.size > 1:
            self.communicator.Allreduce(sums.copy(), sums)
        if sums[0] > 0:
            problems = self.communicator.allgather(problem)
            self.failure = f"{next(each for each in problems if each)}; this is step {step} of LAMMPS"
            self.lmp.force_timeout()
            return
        self.energy, self.virial = float(sums[1]), sums[2:].reshape(3, 3)

    def hand_over(self, share: Share) -> None:
        """Tell LAMMPS energies [eV] and virial [eV]; of the system, as it wants them, the same on all ranks."""
        virial = (self.virial + self.virial.T) / 2
        self.lmp.fix_external_set_energy_global(self.fix, self.energy)
        self.lmp.fix_external_set_virial_global(self.fix, virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].tolist())
        if len(share.energies) > 0:
            self.lmp.fix_external_set_energy_peratom(self.fix, share.energies.cpu().numpy())
            self.say_stresses_are_unknown(len(share.energies))
        self.bytes_sent += int(self.exchange.n_sent.sum()) * 3 * share.forces.element_size()

    def say_stresses_are_unknown(self, n_own: int) -> None:
        """Give LAMMPS virials of atoms that are not numbers, where it asks for some: it would take 0 for all."""
        unknown = (ctypes.c_double * 6)(*[float("nan")] * 6)
        rows = np.full(n_own, ctypes.addressof(unknown), dtype=np.uintp)
        pointers = rows.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_double)))
        self.lmp.lib.lammps_fix_external_set_virial_peratom(self.lmp.lmp, self.fix.encode(), pointers)


def attach(
    lmp: "lammps.lammps",
    model: Allegro | Ensemble | str | Path,
    types: Sequence[str],
    *,
    precision: str = "single",
    device: str = "auto",
    skin: float = 1.0,
) -> LammpsForce:
    """Let a model act on all atoms of a LAMMPS run, as its `fix allegro`.

    Call it on all ranks, after the atoms are there and before `run` or `minimize`. Without a pair style it sets
    `pair_style zero`; beside another one it adds its forces. `neighbor` and `comm_modify` must not be given afterwards.
    LAMMPS gets energies of atoms, but no stresses of atoms: what is made of these (`compute stress/atom`, `heat/flux`)
    is not a number.

    Parameters
    ----------
    lmp
        From `mpi_library.open_lammps`, or `lammps.lammps`; `units metal`.
    model
        A model, or the path of a model file or of an ensemble, of which the mean acts.
    types
        Type name of each atom type of LAMMPS, as after `pair_coeff * *`.
    precision
        'single' or 'double', of the network and the forces.
    device
        'auto' gives the ranks of a machine its CUDA devices in turn, or 'cpu', or one device such as 'cuda:1' for all.
    skin
        How far neighbour list and ghosts reach beyond the cutoff [Å].

    Returns
    -------
    LammpsForce
        With `run(steps)`, which raises what goes wrong in the model, and what the ranks have spent where.
    """
    if not skin >= 0:
        raise ValueError(f"`skin` is {skin} Å; it must be zero or more")
    dtype = dtype_of(precision)
    model = load_for_dynamics(model, dtype) if isinstance(model, str | Path) else dynamics_model(model, dtype)
    indices = _type_indices(lmp, types, model.config.type_names)
    communicator = lmp.get_mpi_comm()
    if communicator is None:
        raise ValueError("this LAMMPS gives no MPI communicator; it must be built with MPI, and mpi4py be installed")
    potential = GhostPotential(model, skin, _device_of_rank(device, communicator))
    force = LammpsForce(lmp, potential, indices, communicator)
    lmp.commands_list(commands(model.config.r_max, skin, lmp.extract_global("pair_style") == "none"))
    lmp.set_fix_external_callback(force.fix, force)
    return force


def commands(cutoff: float, skin: float, alone: bool) -> list[str]:
    """What LAMMPS must know of a model. cutoff, skin: [Å]; alone: whether there is no pair style beside it."""
    lines = [f"pair_style zero {cutoff!r} nocoeff", "pair_coeff * *"] if alone else []
    return [
        *lines,
        f"neighbor {skin!r} bin",
        "neigh_modify delay 0 every 1 check yes",
        f"comm_modify cutoff {cutoff + skin!r}",
        "fix allegro all external pf/callback 1 1",
        "fix_modify allegro energy yes virial yes",
    ]


def _type_indices(lmp: "lammps.lammps", types: Sequence[str], known: tuple[str, ...]) -> list[int]:
    """The model's index of each LAMMPS type, with what does not fit refused."""
    if lmp.extract_setting("box_exist") == 0:
        raise ValueError("this LAMMPS has no atoms yet; give `read_data` or `create_box` before `attach`")
    if lmp.extract_global("units") != "metal":
        raise ValueError(f"this LAMMPS has `units {lmp.extract_global('units')}`; the model needs `units metal`")
    n_types = lmp.extract_setting("ntypes")
    if len(types) != n_types:
        raise ValueError(f"`types` has {len(types)} names, but this LAMMPS has {n_types} atom types; name each of them")
    for number, name in enumerate(types, 1):
        if name not in known:
            raise ValueError(
                f"atom type {number} is {name}, but this model knows only {', '.join(known)}; retrain with {name} or "
                "choose another model"
            )
    return [known.index(name) for name in types]


def _device_of_rank(name: str, communicator: "MPI.Intracomm") -> torch.device:
    """The device of this name; 'auto' deals the CUDA devices of a machine out to its ranks."""
    if name != "auto" or not torch.cuda.is_available():
        return chosen_device(name)
    from mpi4py import MPI

    beside = communicator.Split_type(MPI.COMM_TYPE_SHARED)
    device = chosen_device(f"cuda:{beside.Get_rank() % torch.cuda.device_count()}")
    beside.Free()
    return device
