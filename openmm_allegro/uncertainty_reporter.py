"""A reporter that writes how far the members of an ensemble disagree along a simulation, and acts on it."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import ase
import ase.io
import numpy as np
import openmm
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.atom_types import atom_types, checked_atoms
from openmm_allegro.checkpoint import write_whole
from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble import NOT_CALIBRATED, Ensemble
from openmm_allegro.ensemble_file import load_ensemble
from openmm_allegro.spread import Members, frame_with_spread

COLUMNS = (
    "step",
    "time_ps",
    "energy_spread_mev_per_atom",
    "mean_force_spread_mev_per_angstrom",
    "largest_force_spread_mev_per_angstrom",
    "atom",
)


class SpreadExceeded(RuntimeError):
    """The forces of a simulation have become too uncertain, and it was asked to stop then."""


class UncertaintyReporter:
    """Evaluates all members of an ensemble at the positions reported and writes their spread as CSV.

    `step`, `time_ps`, the calibrated spread of the energy [meV/atom], the mean and the largest spread of the forces
    [meV/Å], a standard deviation of a component, and the index of the atom that has the largest. It does not matter
    which force moves the atoms.
    """

    def __init__(
        self,
        file: str | Path,
        interval: int,
        ensemble: Ensemble | str | Path,
        topology: app.Topology,
        *,
        threshold: float | None = None,
        on_exceed: Literal["save", "stop"] = "save",
        frames_file: str | Path = "uncertain.extxyz",
        atoms: Sequence[int] | None = None,
        types: Sequence[str] | None = None,
        append: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        """Prepare to report.

        Parameters
        ----------
        file
            CSV file to write.
        interval
            Steps between reports.
        ensemble
            An ensemble, or the path of its file.
        topology
            Gives the elements, and says whether the system is periodic.
        threshold
            Largest spread of the force on an atom [meV/Å] that is let pass; None lets everything pass.
        on_exceed
            Beyond it, 'save' writes the frame to `frames_file` and goes on; 'stop' writes it and raises
            SpreadExceeded.
        frames_file
            Extended XYZ file that gets those frames, with the spread on each atom [eV/Å] as `force_spread`; they are
            added to frames that it has already.
        atoms, types
            As in `AllegroForce`.
        append
            Whether to go on with an existing CSV file.
        device
            Where the members are evaluated: 'auto', 'cpu', 'cuda' or 'cuda:1'.
        """
        if interval < 1:
            raise ValueError(f"`interval` is {interval}; it must be at least 1 step")
        if threshold is not None and not threshold > 0:
            raise ValueError(f"`threshold` is {threshold} meV/Å; it must be above zero")
        if on_exceed not in ("save", "stop"):
            raise ValueError(f"`on_exceed` is {on_exceed!r}; it can be 'save' or 'stop'")
        if on_exceed == "stop" and threshold is None:
            raise ValueError("`on_exceed` is 'stop', but there is no `threshold` to stop at; give one in meV/Å")
        if not isinstance(ensemble, Ensemble):
            ensemble = load_ensemble(ensemble)
        if ensemble.factors is None:
            warnings.warn(NOT_CALIBRATED, stacklevel=2)
        self.path, self.frames_path = Path(file), Path(frames_file)
        self.interval = interval
        self.threshold = threshold
        self.on_exceed = on_exceed
        self.atoms = checked_atoms(atoms, topology)
        indices = atom_types(ensemble.config.type_names, topology, self.atoms, types)
        self.types = torch.tensor(indices)
        self.numbers = None if self.atoms is None else torch.tensor(self.atoms)
        self.symbols = [ensemble.config.type_names[index] for index in indices]
        self.is_periodic = topology.getPeriodicBoxVectors() is not None
        self.members = Members(ensemble, chosen_device(device), skin=1.0)
        self.saved_steps: set[int] = set()
        """Whose frames a run that goes on has saved before, see `steps_of_frames`: they are not saved again."""
        for path in (self.path, self.frames_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if not append or not self.path.is_file():
            self.path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, object]:  # noqa: N802 (OpenMM's name)
        """Called by OpenMM."""
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Called by OpenMM."""
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        positions = positions if self.atoms is None else positions[self.atoms]
        cell = np.zeros((3, 3))
        if self.is_periodic:
            cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
        spread = self.members.spread(torch.tensor(positions), torch.tensor(cell), self.types, self.numbers)
        worst = int(spread.force_spread.argmax())
        largest = float(spread.force_spread[worst]) * units.EV_TO_MEV
        atom = worst if self.atoms is None else self.atoms[worst]
        step, time_ps = state.getStepCount(), state.getTime().value_in_unit(unit.picosecond)
        per_atom = spread.energy_spread / len(self.types) * units.EV_TO_MEV
        mean = float(spread.force_spread.mean()) * units.EV_TO_MEV
        _append(self.path, f"{step},{time_ps:.10g},{per_atom:.6g},{mean:.6g},{largest:.6g},{atom}\n")
        if self.threshold is None or largest <= self.threshold:
            return
        if step not in self.saved_steps:
            image = ase.Atoms(self.symbols, positions, cell=cell, pbc=self.is_periodic, info={"step": step})
            _append(self.frames_path, frame_with_spread(image, spread))
        if self.on_exceed == "stop":
            raise SpreadExceeded(
                f"the spread of the force on atom {atom} is {largest:.4g} meV/Å at step {step}, above "
                f"the threshold of {self.threshold:g}; the frame is in `{self.frames_path}`: label it and train again"
            )


def _append(path: Path, text: str) -> None:
    """Add to a file, on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def steps_of_frames(path: Path) -> set[int]:
    """Steps of the frames that a run has saved; the last is taken away if a kill has left a part of it."""
    content = path.read_bytes() if path.is_file() else b""
    lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    steps: set[int] = set()
    start = 0
    while start < len(lines) and start + 2 + int(lines[start]) <= len(lines):
        found = re.search(rb"\bstep=(\d+)", lines[start + 1])
        steps |= set() if found is None else {int(found[1])}
        start += 2 + int(lines[start])
    whole = b"".join(lines[:start])
    if whole != content:
        write_whole(path, whole)
    return steps
