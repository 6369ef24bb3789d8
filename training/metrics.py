"""Errors of a model over labelled frames: mean absolute and root mean square, in meV and meV/Å."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from openmm_allegro.checkpoint import load_model
from openmm_allegro.device import chosen_device
from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Array, Frame
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


def predict_frames(model: Allegro, frames: Sequence[Frame], batch_size: int = 10) -> list[FramePrediction]:
    """Energy, forces and stress of each frame, on the device and in the precision of the model."""
    weight = next(model.parameters())
    dataset = FrameDataset(frames, model.config.type_names, model.config.r_max, model.dtype)
    predictions: list[FramePrediction] = []
    for start in range(0, len(frames), batch_size):
        numbers = range(start, min(start + batch_size, len(frames)))
        batch = dataset.batch(numbers).to(weight.device)
        energy, forces, stress = predict(model, batch, with_stress=True)
        assert stress is not None
        per_frame = torch.split(forces.double().cpu(), [len(frames[i].numbers) for i in numbers])
        for row, i in enumerate(numbers):
            own_stress = stress[row].double().cpu().numpy() if frames[i].periodic else None
            predictions.append(FramePrediction(float(energy[row]), per_frame[row].numpy(), own_stress))
    return predictions


def evaluate(model: Allegro, frames: Sequence[Frame], batch_size: int = 10) -> ErrorTable:
    """Errors of a model over labelled frames."""
    return error_table(frames, predict_frames(model, frames, batch_size))


def evaluate_file(
    model_path: Path | str,
    data_path: Path | str,
    *,
    options: LabelOptions | None = None,
    batch_size: int = 10,
    device: str = "auto",
) -> ErrorTable:
    """Errors of a model file over the frames of a data file. device: "auto", "cpu" or "cuda"."""
    place = chosen_device(device)
    frames = read_frames(Path(data_path), options)
    return evaluate(load_model(Path(model_path)).to(place), frames, batch_size)


def error_table(frames: Sequence[Frame], predictions: Sequence[FramePrediction]) -> ErrorTable:
    """Compare predictions with the labels of the same frames."""
    energy, per_atom, stress = [], [], []
    by_element: dict[str, list[Array]] = {}
    for frame, predicted in zip(frames, predictions, strict=True):
        if frame.energy is not None:
            energy.append(predicted.energy - frame.energy)
            per_atom.append(energy[-1] / len(frame.numbers))
        if frame.stress is not None and predicted.stress is not None:
            stress.append((predicted.stress - frame.stress).ravel())
        if frame.forces is not None:
            for symbol, error in zip(frame.symbols, predicted.forces - frame.forces, strict=True):
                by_element.setdefault(symbol, []).append(error)
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
    )


def _mae(errors: Array) -> float | None:
    return float(np.abs(errors).mean()) * EV_TO_MEV if errors.size else None


def _rmse(errors: Array) -> float | None:
    return float(np.sqrt(np.square(errors).mean())) * EV_TO_MEV if errors.size else None
