"""Errors of a model over labelled frames: mean absolute and root mean square, in meV and meV/Å."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from rich.table import Table

from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.frames import Array, Frame, check_elements
from openmm_allegro.training.predict import predict
from openmm_allegro.units import EV_TO_MEV


@dataclass(frozen=True)
class ErrorTable:
    """Errors over the frames that have the label; None where no frame has it."""

    n_frames: int
    n_atoms: int
    energy_mae_mev: float | None
    energy_rmse_mev: float | None
    energy_per_atom_mae_mev: float | None
    energy_per_atom_rmse_mev: float | None
    forces_mae_mev_per_angstrom: float | None
    forces_rmse_mev_per_angstrom: float | None
    forces_mae_mev_per_angstrom_by_element: dict[str, float]
    forces_rmse_mev_per_angstrom_by_element: dict[str, float]
    stress_mae_mev_per_angstrom3: float | None
    stress_rmse_mev_per_angstrom3: float | None
    forces_relative_rmse: float | None
    """Over the root mean square of the reference forces."""
    forces_cosine: float | None
    """Of the angle between predicted and reference forces, all atoms as one long vector; 1 where they agree."""

    def as_dict(self) -> dict[str, int | float | None | dict[str, float]]:
        """The figures under their names, for JSON."""
        return asdict(self)

    def table(self, title: str = "") -> Table:
        """The figures for a reader."""
        table = Table("quantity", "MAE", "RMSE", "unit", title=title or None)
        rows = [
            ("energy", self.energy_mae_mev, self.energy_rmse_mev, "meV"),
            ("energy per atom", self.energy_per_atom_mae_mev, self.energy_per_atom_rmse_mev, "meV/atom"),
            ("forces", self.forces_mae_mev_per_angstrom, self.forces_rmse_mev_per_angstrom, "meV/Å"),
            *(
                (f"forces on {symbol}", mae, self.forces_rmse_mev_per_angstrom_by_element[symbol], "meV/Å")
                for symbol, mae in self.forces_mae_mev_per_angstrom_by_element.items()
            ),
            ("stress", self.stress_mae_mev_per_angstrom3, self.stress_rmse_mev_per_angstrom3, "meV/Å³"),
        ]
        for name, mae, rmse, unit in rows:
            if mae is not None and rmse is not None:
                table.add_row(name, f"{mae:.4g}", f"{rmse:.4g}", unit)
        return table


@dataclass(frozen=True)
class FramePrediction:
    """What a model says about one frame."""

    energy: float
    """[eV]."""
    forces: Array
    """[eV/Å], (n, 3)."""
    stress: Array | None
    """[eV/Å³], (3, 3); None when the frame is not periodic."""


def predict_frames(
    model: Allegro,
    frames: Sequence[Frame],
    batch_size: int = 10,
    batch_atoms: int = 4000,
    counted: Callable[[Sequence[range]], Iterable[range]] = iter,
) -> list[FramePrediction]:
    """Energy, forces and stress of each frame, on the device and in the precision of the model.

    Neighbours are found batch by batch, so that memory does not grow with the number of frames.
    batch_size, batch_atoms: the most frames and atoms of a batch; a larger frame is a batch of its own.
    counted: may show progress over the batches.
    """
    check_elements(frames, model.config.type_names)
    weight = next(model.parameters())
    folded = FoldedAllegro(model).to(weight.device)
    predictions: list[FramePrediction] = []
    for numbers in counted(batches_by_atoms([len(frame.numbers) for frame in frames], batch_size, batch_atoms)):
        part = [frames[i] for i in numbers]
        dataset = FrameDataset(part, model.config.type_names, model.config.r_max, model.dtype)
        energy, forces, stress = predict(folded, dataset.batch(range(len(part))).to(weight.device), with_stress=True)
        assert forces is not None
        assert stress is not None
        per_frame = torch.split(forces.double().cpu(), [len(frame.numbers) for frame in part])
        for row, frame in enumerate(part):
            own_stress = stress[row].double().cpu().numpy() if frame.periodic else None
            predictions.append(FramePrediction(float(energy[row]), per_frame[row].numpy(), own_stress))
    return predictions


def batches_by_atoms(sizes: Sequence[int], most_frames: int, most_atoms: int) -> list[range]:
    """Frames in their order, cut so that a batch has at most so many frames and atoms, or one frame. sizes: atoms."""
    batches: list[range] = []
    start = atoms = 0
    for i, size in enumerate(sizes):
        if i > start and (i - start == most_frames or atoms + size > most_atoms):
            batches.append(range(start, i))
            start, atoms = i, 0
        atoms += size
    return [*batches, range(start, len(sizes))] if len(sizes) > 0 else []


def evaluate(model: Allegro, frames: Sequence[Frame], batch_size: int = 10) -> ErrorTable:
    """Errors of a model over labelled frames."""
    return error_table(frames, predict_frames(model, frames, batch_size))


def error_table(frames: Sequence[Frame], predictions: Sequence[FramePrediction]) -> ErrorTable:
    """Compare predictions with the labels of the same frames."""
    energy, per_atom, stress = [], [], []
    by_element: dict[str, list[Array]] = {}
    product = of_reference = of_predicted = 0.0
    for frame, predicted in zip(frames, predictions, strict=True):
        if frame.energy is not None:
            energy.append(predicted.energy - frame.energy)
            per_atom.append(energy[-1] / len(frame.numbers))
        if frame.stress is not None and predicted.stress is not None:
            stress.append((predicted.stress - frame.stress).ravel())
        if frame.forces is not None:
            product += float((frame.forces * predicted.forces).sum())
            of_reference += float(np.square(frame.forces).sum())
            of_predicted += float(np.square(predicted.forces).sum())
            errors = predicted.forces - frame.forces
            for z in np.unique(frame.numbers):
                by_element.setdefault(chemical_symbols[z], []).append(errors[frame.numbers == z])
    element = {symbol: np.concatenate(by_element[symbol]) for symbol in sorted(by_element)}
    forces = np.concatenate(list(element.values())) if element else np.zeros(0)
    stress_errors = np.concatenate(stress) if stress else np.zeros(0)
    return ErrorTable(
        n_frames=len(frames),
        n_atoms=sum(len(frame.numbers) for frame in frames),
        energy_mae_mev=_mae(np.array(energy)),
        energy_rmse_mev=_rmse(np.array(energy)),
        energy_per_atom_mae_mev=_mae(np.array(per_atom)),
        energy_per_atom_rmse_mev=_rmse(np.array(per_atom)),
        forces_mae_mev_per_angstrom=_mae(forces),
        forces_rmse_mev_per_angstrom=_rmse(forces),
        forces_mae_mev_per_angstrom_by_element={name: _mae(e) or 0.0 for name, e in element.items()},
        forces_rmse_mev_per_angstrom_by_element={name: _rmse(e) or 0.0 for name, e in element.items()},
        stress_mae_mev_per_angstrom3=_mae(stress_errors),
        stress_rmse_mev_per_angstrom3=_rmse(stress_errors),
        forces_relative_rmse=float(np.sqrt(np.square(forces).sum() / of_reference)) if of_reference > 0 else None,
        forces_cosine=product / float(np.sqrt(of_reference * of_predicted))
        if of_reference * of_predicted > 0
        else None,
    )


def _mae(errors: Array) -> float | None:
    return float(np.abs(errors).mean()) * EV_TO_MEV if errors.size else None


def _rmse(errors: Array) -> float | None:
    return float(np.sqrt(np.square(errors).mean())) * EV_TO_MEV if errors.size else None
