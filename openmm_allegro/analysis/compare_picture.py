"""Pictures of a comparison: both curves above their difference, and all numbers in units of their errors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from openmm_allegro.analysis.pictures import with_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from openmm_allegro.analysis.compare import Comparison, CurveDifference

REFERENCE, PREDICTED = "black", "#d1495b"


def draw_curves(axes: "Axes", name: str, curve: "CurveDifference") -> None:
    """Both curves with their errors, and the difference with the combined error in the lower third of the place."""
    place = axes.get_subplotspec()
    assert place is not None  # of `Figure.subplots`
    assert axes.figure is not None
    grid = place.subgridspec(2, 1, height_ratios=(2.6, 1), hspace=0.05)
    axes.set_subplotspec(grid[0])
    below = axes.figure.add_subplot(grid[1], sharex=axes)
    for each, color, label in ((curve.reference, REFERENCE, "reference"), (curve.predicted, PREDICTED, "predicted")):
        axes.plot(each.x, each.y, "." if len(each.x) == 1 else "", color=color, linewidth=1.1, label=label)
        axes.fill_between(each.x, each.y - each.error, each.y + each.error, color=color, alpha=0.25, linewidth=0)
    below.fill_between(
        curve.reference.x, -curve.error, curve.error, color="#bbbbbb", linewidth=0, label="combined error"
    )
    below.plot(curve.reference.x, curve.difference, color=PREDICTED, linewidth=0.9)
    below.axhline(0.0, color="black", linewidth=0.6)
    below.set_xlabel(curve.reference.x_label)
    below.set_ylabel("difference")
    axes.set_ylabel(curve.reference.y_label)
    axes.tick_params(labelbottom=False)
    if len(curve.reference.x) > 1:
        axes.set_xlim(float(curve.reference.x[0]), float(curve.reference.x[-1]))
    by_chance = f" ({curve.per_cent_from_errors:.2g} % from errors)" if np.isfinite(curve.per_cent_from_errors) else ""
    axes.set_title(f"{name}: {curve.per_cent:.2g} %{by_chance}", fontsize="small")
    axes.legend(frameon=False, fontsize="small")


def draw_figures(axes: "Axes", comparisons: Sequence["Comparison"]) -> None:
    """Every number's difference in units of its error, with the band of two errors; those without error are written."""
    rows = [(each.name, name, figure) for each in comparisons for name, figure in each.figures.items()]
    z = np.array([figure.z for _, _, figure in rows])
    reach = max(4.0, 1.15 * float(np.max(np.abs(z[np.isfinite(z)]), initial=0.0)))
    axes.axvspan(-2.0, 2.0, color="#dddddd", linewidth=0)
    axes.axvline(0.0, color="black", linewidth=0.6, zorder=1)
    axes.plot(z, np.arange(len(rows)), "o", color=PREDICTED, markersize=5)
    over_line = {"facecolor": "#dddddd", "edgecolor": "none", "pad": 0.8}
    for row, (_, _, figure) in enumerate(rows):
        words = f"{with_error(*figure.reference)} → {with_error(*figure.predicted)}"
        axes.text(0.0, row - 0.32, words, ha="center", va="center", fontsize=7, bbox=over_line, zorder=1.5)
    axes.set_yticks(np.arange(len(rows)), [f"{analysis}\n{name}" for analysis, name, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("difference / its error")
