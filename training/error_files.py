"""The files of an evaluation: a table of frames, predictions against labels, and bars by element and group."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from openmm_allegro.checkpoint import write_whole
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.metrics import ErrorTable, FramePrediction
from openmm_allegro.training.pictures import TRAIN, VALIDATION, draw_parity, save_picture, tidy
from openmm_allegro.units import EV_TO_MEV

if TYPE_CHECKING:
    from openmm_allegro.training.evaluation import Evaluation

COLUMNS = (
    "frame",
    "group",
    "formula",
    "n_atoms",
    "energy_ev",
    "predicted_energy_ev",
    "energy_error_mev_per_atom",
    "forces_mae_mev_per_angstrom",
    "forces_rmse_mev_per_angstrom",
    "largest_force_error_mev_per_angstrom",
    "stress_rmse_mev_per_angstrom3",
)
"""Of errors.csv, a row for each frame; empty where a frame lacks the label. Energies are compared after the shift."""
MOST_BARS = 25
"""Groups drawn; of more, those with the largest force (or energy) errors."""


def write_error_files(
    evaluation: "Evaluation",
    frames: Sequence[Frame],
    predictions: Sequence[FramePrediction],
    groups: Sequence[str] | None,
    folder: Path,
) -> tuple[Path, ...]:
    """Write errors.csv, parity.png and errors.png; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    table, parity, bars = folder / "errors.csv", folder / "parity.png", folder / "errors.png"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    names = groups or [""] * len(frames)
    writer.writerows(_row(*each) for each in zip(frames, predictions, names, strict=True))
    write_whole(table, text.getvalue().encode())
    draw_parity(frames, predictions, parity)
    _draw_bars(evaluation, bars)
    return table, parity, bars


def worst_groups(groups: Mapping[str, ErrorTable]) -> list[str]:
    """The groups that are drawn: by their force errors, and where there are no forces by their energy errors."""

    def errors(name: str) -> tuple[float, float]:
        return _size(groups[name].forces_rmse_mev_per_angstrom), _size(groups[name].energy_per_atom_rmse_mev)

    return sorted(groups, key=errors, reverse=True)[:MOST_BARS]


def _row(frame: Frame, predicted: FramePrediction, group: str) -> list[str | float | int]:
    n_atoms = len(frame.numbers)
    row: list[str | float | int] = [frame.origin, group, frame.formula, n_atoms]
    row += ["" if frame.energy is None else frame.energy, predicted.energy]
    row.append("" if frame.energy is None else (predicted.energy - frame.energy) / n_atoms * EV_TO_MEV)
    if frame.forces is None:
        row += ["", "", ""]
    else:
        errors = (predicted.forces - frame.forces) * EV_TO_MEV
        row += [float(np.abs(errors).mean()), float(np.sqrt(np.square(errors).mean()))]
        row.append(float(np.linalg.norm(errors, axis=1).max()))
    if frame.stress is None or predicted.stress is None:
        row.append("")
    else:
        row.append(float(np.sqrt(np.square(predicted.stress - frame.stress).mean())) * EV_TO_MEV)
    return row


def _draw_bars(evaluation: "Evaluation", path: Path) -> None:
    """Force errors by element; force and energy errors by group, where there are groups."""
    overall, groups = evaluation.overall, evaluation.groups
    shown = sorted(worst_groups(groups))
    panels: list[tuple[str, dict[str, float | None], dict[str, float | None]]] = [
        (
            "forces by element [meV/Å]",
            {**overall.forces_mae_mev_per_angstrom_by_element},
            {**overall.forces_rmse_mev_per_angstrom_by_element},
        )
    ]
    if shown:
        panels += [
            (
                "forces by group [meV/Å]",
                {name: groups[name].forces_mae_mev_per_angstrom for name in shown},
                {name: groups[name].forces_rmse_mev_per_angstrom for name in shown},
            ),
            (
                "energies by group [meV/atom]",
                {name: groups[name].energy_per_atom_mae_mev for name in shown},
                {name: groups[name].energy_per_atom_rmse_mev for name in shown},
            ),
        ]
    most = max(len(mae) for _, mae, _ in panels)
    figure = Figure(figsize=(4.6 * len(panels), 1.6 + 0.3 * max(most, 4)), layout="constrained")
    for axes, (title, mae, rmse) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _bars(axes, title, mae, rmse)
    save_picture(figure, path)


def _bars(axes: Axes, title: str, mae: dict[str, float | None], rmse: dict[str, float | None]) -> None:
    places = np.arange(len(mae))[::-1]
    if not any(value is not None for value in mae.values()):
        axes.set_axis_off()
        return
    axes.barh(places + 0.2, [_size(value) for value in mae.values()], 0.38, color=VALIDATION, label="MAE")
    axes.barh(places - 0.2, [_size(value) for value in rmse.values()], 0.38, color=TRAIN, label="RMSE")
    axes.set_yticks(places.tolist(), [name.strip() for name in mae], fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def _size(value: float | None) -> float:
    return 0.0 if value is None else value
