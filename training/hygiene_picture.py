"""One picture of a data set: energies, forces and the shortest distances, as histograms."""

from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from openmm_allegro.training.frames import Array
from openmm_allegro.training.hygiene import DataReport
from openmm_allegro.training.pictures import VALIDATION, save_picture, tidy
from openmm_allegro.units import EV_TO_MEV

BINS = 60
MOST_CURVES = 8
"""Elements and element pairs drawn; of more, those with the most atoms or the shortest distances."""


def draw_data_set(report: DataReport, path: Path) -> None:
    """Write a PNG with three panels."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    energies, forces, distances = figure.subplots(1, 3)
    _energies(energies, report)
    _forces(forces, report)
    _distances(distances, report)
    save_picture(figure, path)


def _energies(axes: Axes, report: DataReport) -> None:
    known = report.energy_residuals[np.isfinite(report.energy_residuals)] * EV_TO_MEV
    if len(known) == 0:
        axes.set_axis_off()
        return
    axes.hist(known, bins=BINS, color=VALIDATION)
    axes.set(title="energies", xlabel="energy beyond composition [meV/atom]", ylabel="frames", yscale="log")
    tidy(axes)


def _forces(axes: Axes, report: DataReport) -> None:
    if all(frame.forces is None for frame in report.frames):
        axes.set_axis_off()
        return
    by_size = sorted(report.elements, key=lambda name: -(report.elements[name]["n_atoms"] or 0))[:MOST_CURVES]
    curves: dict[str, Array] = {}
    for symbol in by_size:
        z = chemical_symbols.index(symbol)
        own = [f.forces[f.numbers == z] for f in report.frames if f.forces is not None]
        curves[symbol] = np.linalg.norm(np.concatenate(own), axis=1)
    _histograms(axes, curves)
    axes.set(title="forces by element", xlabel="length of the force [eV/Å]", ylabel="density", yscale="log")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def _distances(axes: Axes, report: DataReport) -> None:
    shortest = report.surroundings.shortest
    if not shortest:
        axes.set_axis_off()
        return
    nearest = sorted(shortest, key=lambda pair: min(shortest[pair].values()))[:MOST_CURVES]
    named = {(a, b): f"{chemical_symbols[a]}–{chemical_symbols[b]}" for a, b in nearest}
    _histograms(axes, {named[pair]: np.array(list(shortest[pair].values())) for pair in nearest})
    axes.set(title="shortest distance in each frame", xlabel="distance [Å]", ylabel="density")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def _histograms(axes: Axes, curves: dict[str, Array]) -> None:
    """Outlines over common bins, each of the area 1."""
    every = np.concatenate(list(curves.values()))
    bins = np.linspace(every.min(), max(every.max(), every.min() + 1e-6), BINS + 1).tolist()
    for name, values in curves.items():
        axes.hist(values, bins=bins, density=True, histtype="step", lw=1.3, label=name)
