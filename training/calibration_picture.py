"""A picture of what an ensemble's spreads are worth: spread against error, and coverage against confidence."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from openmm_allegro.training.calibration import CONFIDENCE, Comparison, coverage, tells
from openmm_allegro.training.frames import Array
from openmm_allegro.training.pictures import NEUTRAL, TRAIN, VALIDATION, save_picture, tidy
from openmm_allegro.units import EV_TO_MEV

MOST_BINS = 12
SMALLEST_BIN = 10
"""Values in a bin; fewer say little about a root mean square."""


def draw_reliability(found: Comparison, path: Path) -> None:
    """Write a PNG. Left and middle: root mean square errors in bins of like spread, on the diagonal where they agree.

    Right: the share of errors within each central interval, above the diagonal where the spreads are too large.
    """
    figure = Figure(figsize=(10.5, 3.7), layout="constrained")
    energy, forces, quantiles = figure.subplots(1, 3)
    per_atom = found.energy_errors / found.energy_atoms, found.energy_spreads / found.energy_atoms
    components = np.repeat(found.force_spreads, 3)
    _draw_bins(energy, *binned(*per_atom), "energy per atom [meV]")
    _draw_bins(forces, *binned(found.force_errors.ravel(), components), "force component [meV/Å]")
    quantiles.plot((0, 1), (0, 1), color=TRAIN, lw=1, zorder=1)
    for name, errors, spreads, color in (
        ("energies", found.energy_errors, found.energy_spreads, NEUTRAL),
        ("forces", found.force_errors, found.force_spreads[:, None], VALIDATION),
    ):
        if len(errors):
            quantiles.plot(CONFIDENCE, coverage(errors, spreads), ".-", color=color, lw=1.4, label=name)
    quantiles.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="expected coverage", ylabel="observed coverage")
    quantiles.legend(frameon=False, fontsize=8, loc="upper left")
    tidy(quantiles)
    save_picture(figure, path)


def binned(errors: Array, spreads: Array) -> tuple[Array, Array]:
    """Root mean squares of spreads and of errors in bins of as many values each, in the order of the spreads.

    Spreads that tell nothing of the factor are left out here, too: they would stretch the axes over many decades.
    """
    told = tells(spreads) if len(spreads) else np.zeros(0, dtype=bool)
    errors, spreads = errors[told], spreads[told]
    n_bins = max(1, min(MOST_BINS, len(errors) // SMALLEST_BIN))
    bins = [part for part in np.array_split(np.argsort(spreads, kind="stable"), n_bins) if len(part)]
    rms = [[np.sqrt(np.square(values[part]).mean()) for part in bins] for values in (spreads, errors)]
    return np.array(rms[0]), np.array(rms[1])


def _draw_bins(axes: Axes, spreads: Array, errors: Array, name: str) -> None:
    """spreads, errors: of each bin, in eV or eV/Å."""
    if len(errors) == 0:
        axes.set_axis_off()
        return
    both = np.concatenate([spreads, errors]) * EV_TO_MEV
    limits = (0.7 * float(both.min()), 1.4 * float(both.max()))
    axes.plot(limits, limits, color=TRAIN, lw=1, zorder=1)
    axes.plot(spreads * EV_TO_MEV, errors * EV_TO_MEV, "o-", color=VALIDATION, ms=4, lw=1)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal", title=name)
    axes.title.set_fontsize(10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set_xlabel("predicted spread")
    axes.set_ylabel("root mean square error")
    tidy(axes)
