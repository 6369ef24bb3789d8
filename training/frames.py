"""One labelled configuration of atoms, and the checks every frame must pass.

Symbols used in this file
    n  atoms of the frame
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from openmm_allegro.training.config import LabelOptions, LossOptions

Array = NDArray[np.float64]
ISOLATED = 7.0
"""An atom alone in a cell is isolated if opposite faces are so far apart [Å]; in primitive cells of crystals they are
nearer, in boxes for single atoms farther."""
SMALLEST_CELL_HEIGHT = 0.5
"""Two opposite faces of a cell closer than this [Å] cannot be meant."""


@dataclass(frozen=True)
class Frame:
    """Atoms with what quantum mechanics says about them; None for a label that the file does not have."""

    numbers: NDArray[np.int64]
    """Atomic numbers, (n,)."""
    positions: Array
    """[Å], (n, 3)."""
    cell: Array
    """Rows are lattice vectors [Å], (3, 3); zeros when not periodic."""
    periodic: bool
    energy: float | None
    """Total energy [eV]."""
    forces: Array | None
    """[eV/Å], (n, 3)."""
    stress: Array | None
    """dE/dstrain / volume [eV/Å³], (3, 3)."""
    origin: str
    """File and number of the frame, counted from 0, for messages."""
    info: Mapping[str, str | int | float] = field(default_factory=dict)
    """What else the file says about the frame in single words and numbers, such as `config_type`."""
    unread: tuple[str, ...] = ()
    """What the file calls other values, of the frame and of its atoms."""

    def looks_like(self, label: str) -> str | None:
        """What the file may call `energy`, `forces` or `stress`, if it has another name for it.

        Not `energy_spread` and `force_spread`, which are an ensemble's doubts in frames that were chosen with it.
        """
        names = (name for name in self.unread if not name.endswith("_spread"))
        return next((name for name in names if label.removesuffix("s") in name.lower()), None)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols of the atoms."""
        return [chemical_symbols[number] for number in self.numbers.tolist()]

    @property
    def is_isolated_atom(self) -> bool:
        """Whether this is one atom without neighbours, not even images of its own."""
        if len(self.numbers) != 1:
            return False
        return not self.periodic or float(np.linalg.norm(np.linalg.inv(self.cell), axis=0).max()) < 1 / ISOLATED

    def atoms(self) -> ase.Atoms:
        """The same for ASE, without labels."""
        return ase.Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.periodic)

    @property
    def formula(self) -> str:
        """Elements and how many atoms of each, by atomic number, such as H2O1."""
        elements, counts = np.unique(self.numbers, return_counts=True)
        return "".join(f"{chemical_symbols[z]}{n}" for z, n in zip(elements, counts, strict=True))

    @property
    def volume(self) -> float:
        """Volume of the cell [Å³]; zero when not periodic."""
        return float(abs(np.linalg.det(self.cell)))


def check_frame(frame: Frame, options: LabelOptions) -> None:
    """Refuse what cannot be meant: broken numbers, flat cells, absurd forces."""
    where = frame.origin
    if len(frame.numbers) == 0:
        raise ValueError(f"{where} has no atoms; remove it")
    if frame.numbers.min() < 1 or frame.numbers.max() > 118:
        atom = int(np.argmax((frame.numbers < 1) | (frame.numbers > 118)))
        raise ValueError(f"{where}: the atomic number of atom {atom} is {frame.numbers[atom]}; expected 1 to 118")
    if not np.isfinite(frame.positions).all():
        atom = int(np.argmin(np.isfinite(frame.positions).all(axis=1)))
        raise ValueError(f"{where}: the position of atom {atom} is not a finite number; remove the frame")
    if frame.periodic:
        _check_cell(frame)
    if frame.energy is not None and not np.isfinite(frame.energy):
        raise ValueError(f"{where}: the energy is {frame.energy}; remove the frame or repeat its calculation")
    if frame.stress is not None and not np.isfinite(frame.stress).all():
        raise ValueError(f"{where}: the stress is not a finite number; remove the frame or repeat its calculation")
    if frame.forces is not None:
        _check_forces(frame, options.max_force)


def _check_cell(frame: Frame) -> None:
    a, b, c = frame.cell
    areas = [np.linalg.norm(np.cross(*sides)) for sides in ((b, c), (c, a), (a, b))]
    height = frame.volume / max(areas) if max(areas) > 0 else 0.0
    if not height >= SMALLEST_CELL_HEIGHT:
        raise ValueError(
            f"{frame.origin}: the cell is flat, {height:.3g} Å between two of its faces; expected at least "
            f"{SMALLEST_CELL_HEIGHT} Å, check the lattice vectors or mark the frame as not periodic"
        )


def _check_forces(frame: Frame, max_force: float) -> None:
    assert frame.forces is not None
    if frame.forces.shape != frame.positions.shape:
        raise ValueError(
            f"{frame.origin}: the forces have shape {frame.forces.shape}, but there are {len(frame.numbers)} atoms"
        )
    finite = np.isfinite(frame.forces).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{frame.origin}: the force on atom {int(np.argmin(finite))} is not a finite number; "
            "remove the frame or repeat its calculation"
        )
    largest = np.abs(frame.forces).max(axis=1)
    if largest.max() > max_force:
        raise ValueError(
            f"{frame.origin}: the force on atom {int(largest.argmax())} is {largest.max():.4g} eV/Å; "
            f"expected at most {max_force:g} (`data.max_force`); remove the frame, or check `data.units`"
        )


def check_energies(
    counts: NDArray[np.int64], energies: Array, frame_of: Callable[[int], Frame], max_deviation: float
) -> None:
    """Refuse an energy far from what the composition predicts. max_deviation: [eV/atom].

    Each frame is compared with a least-squares fit to all the others, in closed form: with leverage h its
    residual grows by 1/(1 - h). The frame named is the one without which the rest fits best.
    counts: atoms of each element, (f, e); energies: (f,) [eV], NaN where not known; frame_of: the frame of a row.
    """
    rows = np.flatnonzero(np.isfinite(energies))
    if len(rows) == 0:
        return
    energies = energies[rows]
    basis, sizes, _ = np.linalg.svd(counts[rows].astype(np.float64), full_matrices=False)
    basis = basis[:, sizes > 1e-8 * sizes[0]]
    freedom = 1 - np.square(basis).sum(1)  # 1 - h; zero where no other frame can tell
    residuals = np.where(freedom > 1e-6, energies - basis @ (basis.T @ energies), 0.0)
    freedom = np.maximum(freedom, 1e-6)
    worst = int(np.argmax(residuals**2 / freedom))
    frame = frame_of(int(rows[worst]))
    deviation = residuals[worst] / freedom[worst] / len(frame.numbers)
    if abs(deviation) > max_deviation:
        raise ValueError(
            f"{frame.origin}: the energy is {frame.energy:.6g} eV, {abs(deviation):.3g} eV/atom away from what the "
            f"other frames say of its elements; expected at most {max_deviation:g} (`data.max_energy_deviation`); "
            "remove the frame, or check `data.units`"
        )


def require_labels(frames: Sequence[Frame], loss: LossOptions) -> None:
    """Refuse frames that lack a label which the loss asks for."""
    for frame in frames:
        labels = {"energy": frame.energy, "forces": frame.forces}
        if frame.periodic:
            labels["stress"] = frame.stress
        for name, value in labels.items():
            weight = loss.largest(name)
            if weight > 0 and value is None:
                other = frame.looks_like(name)
                key = f"`data.{name}_key`" if other is None else f'`data.{name}_key`, perhaps "{other}"'
                raise ValueError(
                    f"{frame.origin} has no {name}, but `loss.{name}` is {weight:g}; name the right key in "
                    f"{key}, remove the frame, or set `loss.{name} = 0`"
                )
    if loss.largest("stress") > 0 and not any(frame.periodic for frame in frames):
        raise ValueError(
            f"`loss.stress` is {loss.largest('stress'):g}, but no frame is periodic; set `loss.stress = 0`"
        )


def check_elements(frames: Sequence[Frame], type_names: Sequence[str]) -> None:
    """Refuse atoms of an element that the model does not know."""
    for frame in frames:
        for atom, symbol in enumerate(frame.symbols):
            if symbol not in type_names:
                raise ValueError(
                    f"{frame.origin}: atom {atom} is {symbol}, but this model knows only "
                    f"{', '.join(type_names)}; add {symbol} to `model.type_names`, or remove the frame"
                )
