"""Models in ASE: energies, forces, stress, and how far the members of an ensemble disagree.

Symbols used in this file
    n  atoms
"""

from collections.abc import Sequence
from pathlib import Path

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from openmm_allegro.atom_types import atom_types
from openmm_allegro.checkpoint import dtype_of
from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.ensemble_file import dynamics_model, from_bytes, to_bytes
from openmm_allegro.model import Allegro
from openmm_allegro.model_file import loaded
from openmm_allegro.open_cell import OpenCell
from openmm_allegro.potential import Potential
from openmm_allegro.scripted import ScriptedModel
from openmm_allegro.spread import Members
from openmm_allegro.workers import work_on

SPREADS = ("energy_spread", "force_spread")


class AllegroCalculator(Calculator):
    """An ASE calculator of a model or of the mean of an ensemble.

    Results: `energy` and `free_energy`, which are the same [eV]; `energies` of the atoms (n,) [eV]; `forces` (n, 3)
    [eV/Å]; `stress` (6,) in Voigt's order [eV/Å³], where the cell has a volume. Of an ensemble also `energy_spread`
    [eV] and `force_spread` (n,) [eV/Å], the root mean square over the components, by
    `calculator.get_property("force_spread", atoms)`; they are computed only when asked for.

    Any of the three directions may be periodic.
    """

    implemented_properties: list[str] = ["energy", "free_energy", "energies", "forces", "stress"]
    ignored_changes: set[str] = {"initial_magmoms", "initial_charges"}

    def __init__(
        self,
        model: Allegro | Ensemble | str | Path,
        *,
        model_units: tuple[str, str] | None = None,
        device: str | torch.device = "auto",
        precision: str = "single",
        skin: float = 1.0,
        tabulate: bool | None = None,
    ) -> None:
        """Put a model to work.

        Parameters
        ----------
        model
            A model or an ensemble, or the path of a `.safetensors` file of one; or the path of a model trained with
            nequip-allegro 0.5-0.8: a `.ckpt`, `.nequip.zip` or `.nequip.pth`.
        model_units
            What a file of nequip was trained in, which it does not say: energy and length, as ('eV', 'angstrom').
        device
            'auto', 'cpu', 'cuda', 'cuda:1'.
        precision
            'single' or 'double', of the arithmetic. Double is for what differs by little: phonons, tight
            relaxation, numerical derivatives.
        skin
            How far beyond the cutoff the neighbour list reaches [Å]; it is kept while no atom has moved by half of it.
        tabulate
            Whether splines stand for the two-body network, where they give its slopes to 5e-7; None means in single
            precision, where rounding is larger.
        """
        super().__init__()
        if not 0 <= skin < np.inf:
            raise ValueError(f"`skin` is {skin} Å; it must be zero or more")
        dtype = dtype_of(precision)
        given = loaded(model, model_units)
        if isinstance(given, ScriptedModel):
            raise ValueError(
                "this file of nequip holds no Allegro model, and AllegroCalculator runs nothing else; take nequip's "
                "own `NequIPCalculator`, or AllegroForce in OpenMM"
            )
        self.device = chosen_device(device)
        self.skin = skin
        self.ensemble = given.in_precision(dtype) if isinstance(given, Ensemble) else None
        if self.ensemble is not None:
            self.implemented_properties = [*type(self).implemented_properties, *SPREADS]
        self.members: Members | None = None
        self.potential = Potential(dynamics_model(given, dtype), skin, tabulate=tabulate).to(self.device)
        work_on(self.potential, [self.device])
        self.options = {"device": device, "precision": precision, "skin": skin, "tabulate": tabulate}
        self.type_names: tuple[str, ...] = given.config.type_names
        self.open_cell = OpenCell(given.config.r_max + skin)

    def __reduce__(self) -> tuple[object, ...]:
        """Copied and pickled as the content of the model file and plain options."""
        return _rebuilt, (to_bytes(self.ensemble or self.potential.model), self.options)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """What ASE calls when a result is asked for that it does not have."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # ASE's copy of what it was given
        if system_changes:
            self.results = {}  # also if what follows fails
        positions, cell, types = self.tensors(self.atoms)
        if "energy" not in self.results:
            total = self.potential.of_atoms(positions, cell, types)
            energy = total.energies.sum().item()
            self.results.update(energy=energy, free_energy=energy, energies=total.energies.cpu().numpy())
            self.results["forces"] = total.forces.double().cpu().numpy()
            if self.atoms.cell.rank == 3:
                stress = -total.virial.double().cpu().numpy() / self.atoms.get_volume()
                self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        if "stress" in properties and "stress" not in self.results:
            raise PropertyNotImplementedError(
                "the cell has no volume, so there is no stress; give the atoms a cell of three vectors"
            )
        if self.ensemble is not None and any(name in properties for name in SPREADS):
            if self.members is None:
                self.members = Members(self.ensemble, self.device, self.skin)
            spread = self.members.spread(positions, cell, types)
            self.results.update(energy_spread=spread.energy_spread, force_spread=spread.force_spread.numpy())

    def tensors(self, atoms: ase.Atoms) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (n, 3) [Å], a cell (3, 3) [Å] for the neighbour list, and types (n,)."""
        for direction, vector in enumerate(atoms.cell):
            if atoms.pbc[direction] and not vector.any():
                raise ValueError(
                    f"the atoms are periodic along direction {direction}, but cell vector {direction} is zero; "
                    "set the cell, or `atoms.pbc` to False there"
                )
        broken = ~np.isfinite(atoms.positions).all(axis=1)
        if broken.any():  # before a cell is made from them
            raise ValueError(f"the position of atom {broken.argmax()} is not a finite number; take shorter steps")
        types = atom_types(self.type_names, None, types=atoms.get_chemical_symbols())
        cell = self.open_cell.completed(atoms.positions, atoms.cell.array, atoms.pbc)
        return (
            torch.tensor(atoms.positions, dtype=torch.float64, device=self.device),
            torch.tensor(cell, dtype=torch.float64, device=self.device),
            torch.tensor(types, device=self.device),
        )


def _rebuilt(model_bytes: bytes, options: dict) -> AllegroCalculator:
    return AllegroCalculator(from_bytes(model_bytes), **options)
