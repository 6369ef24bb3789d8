"""The one place that makes picture files: panels drawn by the results themselves."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.result import Curve, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def with_error(value: float, error: float) -> str:
    """A number to the second digit of its error, `1.64 ± 0.15`, with a common power of ten where it is far from one."""
    if not Measured(value, error).has_error:
        return f"{value:.4g}"
    largest = math.floor(math.log10(max(abs(value), error)))
    power = largest if not -3 <= largest <= 3 else 0
    decimals = max(0, power + 1 - math.floor(math.log10(error)))
    numbers = f"{value / 10**power:.{decimals}f} ± {error / 10**power:.{decimals}f}"
    return f"({numbers})·10{str(power).translate(SUPERSCRIPTS)}" if power else numbers


def times_or_numbers(times_ps: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """What a course is drawn over, and its label: the times (f,), or numbers of frames where none are known."""
    if np.isnan(times_ps).any():
        return np.arange(len(times_ps), dtype=np.float64), "frame"
    return times_ps, "time / ps"


def logarithmic_times(axes: "Axes", lag_ps: NDArray[np.float64]) -> None:
    """A logarithmic axis of times (l,), whose numbers do not lie on each other however few of them there are."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xscale="log", xlabel="time between frames / ps")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if lag_ps.max() < 30 * lag_ps.min() else (1,)))
    axes.xaxis.set_major_formatter(lambda time, _: f"{time:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_curve(axes: "Axes", curve: Curve, label: str | None = None) -> None:
    """A line with its standard error as a band."""
    (line,) = axes.plot(curve.x, curve.y, linewidth=1.2, label=label)
    if np.any(np.isfinite(curve.error)):
        low, high = curve.y - curve.error, curve.y + curve.error
        axes.fill_between(curve.x, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    if label is not None:
        axes.legend(frameon=False)


def save_picture(path: str | Path, panels: Sequence[Callable[["Axes"], None]]) -> Path:
    """Draw each panel on its own axes, at most three in a row; the format follows the name's ending."""
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("there is nothing to draw; give at least one panel")
    path = Path(path)
    if not path.suffix:
        raise ValueError(f"the picture's name `{path.name}` has no ending; use for example `{path.name}.png`")
    n_columns = min(3, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    figure = Figure(figsize=(4.6 * n_columns, 3.4 * n_rows), layout="constrained")
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, draw in zip(all_axes, panels, strict=False):
        draw(axes)
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    unfinished = path.with_name(path.name + ".tmp")
    figure.savefig(unfinished, format=path.suffix[1:], dpi=150)
    os.replace(unfinished, path)
    return path
