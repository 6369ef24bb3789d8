"""Pictures of a training run: the learning curve, and predicted against reference values."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from openmm_allegro.checkpoint import write_whole
from openmm_allegro.training.frames import Array, Frame
from openmm_allegro.training.metrics import FramePrediction
from openmm_allegro.training.spread import composition
from openmm_allegro.units import EV_TO_MEV

DOTS_PER_INCH = 150
MOST_DOTS = 20_000
"""More points than this are drawn as their density, on a logarithmic scale of colours."""
TRAIN, VALIDATION, NEUTRAL = "#9aa5b1", "#1f5fa8", "#444444"


def draw_learning_curve(history: Sequence[dict[str, float]], path: Path) -> None:
    """Errors and learning rate over the epochs, from the rows of `history.csv`."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    forces, energy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    names = ("forces_mae_mev_per_angstrom", "energy_per_atom_mae_mev")
    titles = ("force error, MAE [meV/Å]", "energy error, MAE [meV/atom]")
    for axes, name, title in zip((forces, energy), names, titles, strict=True):
        train = [row.get(f"train_{name}", np.nan) for row in history]
        axes.plot(epochs, train, color=TRAIN, label="training (while it moves)", lw=1.2)
        validation = [row.get(f"validation_{name}", np.nan) for row in history]
        axes.plot(epochs, validation, color=VALIDATION, label="validation", lw=1.6)
        axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=8)
        if np.isnan(validation).all():
            axes.set_visible(False)
    rate.plot(epochs, [row["learning_rate"] for row in history], color=NEUTRAL, lw=1.2)
    rate.set_title("learning rate", fontsize=10)
    for axes in (forces, energy, rate):
        axes.set_xlabel("epoch")
        tidy(axes)
    save_picture(figure, path)


def save_picture(figure: Figure, path: Path) -> None:
    """A PNG file, there only when it is whole."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH)
    write_whole(path, content.getvalue())


def draw_parity(frames: Sequence[Frame], predictions: Sequence[FramePrediction], path: Path) -> None:
    """Predicted against reference energies, beyond what the frames' compositions explain, and force components."""
    labelled = [(f, f.energy, p.energy) for f, p in zip(frames, predictions, strict=True) if f.energy is not None]
    energies = np.array([pair for _, *pair in labelled], dtype=np.float64).reshape(-1, 2)
    if labelled:
        elements = np.unique(np.concatenate([frame.numbers for frame, *_ in labelled]))
        counts = composition([frame for frame, *_ in labelled], elements.tolist())
        explained = counts @ np.linalg.lstsq(counts, energies[:, 0], rcond=1e-8)[0]
        energies = (energies - explained[:, None]) / counts.sum(1, keepdims=True) * EV_TO_MEV
    components = [
        np.stack([frame.forces.ravel(), predicted.forces.ravel()], axis=1)
        for frame, predicted in zip(frames, predictions, strict=True)
        if frame.forces is not None
    ]
    forces = np.concatenate(components) if components else np.zeros((0, 2))
    figure = Figure(figsize=(7.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    _parity(left, energies, "energy beyond composition", "meV/atom")
    _parity(right, forces, "force component", "eV/Å")
    save_picture(figure, path)


def _parity(axes: Axes, values: Array, name: str, unit: str) -> None:
    """values: (points, 2) reference and prediction [unit]. unit: of eV or of meV; errors are written in meV."""
    if len(values) == 0:
        axes.set_axis_off()
        return
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * max(high - low, 1e-6)
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=TRAIN, lw=1, zorder=1)
    if len(values) > MOST_DOTS:
        extent = (*limits, *limits)
        axes.hexbin(values[:, 0], values[:, 1], gridsize=120, bins="log", extent=extent, mincnt=1, lw=0.1, zorder=2)
    else:
        axes.plot(values[:, 0], values[:, 1], ".", color=VALIDATION, ms=4, mew=0, alpha=0.5, zorder=2, rasterized=True)
    milli, factor = (unit, 1.0) if unit.startswith("m") else (f"m{unit}", EV_TO_MEV)
    error = (values[:, 1] - values[:, 0]) * factor
    text = f"MAE {np.abs(error).mean():.3g} {milli}\nRMSE {np.sqrt((error**2).mean()):.3g} {milli}"
    axes.text(0.05, 0.95, text, transform=axes.transAxes, va="top", fontsize=9)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel(f"reference {name} [{unit}]")
    axes.set_ylabel(f"predicted {name} [{unit}]")
    tidy(axes)


def tidy(axes: Axes) -> None:
    """Fewer lines around a plot, a faint grid behind it."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
