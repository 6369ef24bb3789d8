"""What every analysis gives back: a table, a picture, figures with errors, and a curve to compare."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDING = 1e-12
"""As a share of a figure: an error below it is that of floating-point numbers."""


class Measured(NamedTuple):
    """A number and its standard error, nan where there is none; the unit is in its name."""

    value: float
    error: float = float("nan")

    @property
    def has_error(self) -> bool:
        """Whether the error is known and more than the rounding of figures that are equal in all runs."""
        return math.isfinite(self.error) and self.error > ROUNDING * abs(self.value)


class Curve(NamedTuple):
    """What is compared between two trajectories, point by point."""

    x: NDArray[np.float64]
    """(k,)"""
    y: NDArray[np.float64]
    """(k,)"""
    error: NDArray[np.float64]
    """Standard error of y, (k,); nan where there is none."""
    x_label: str
    """With its unit: `r / nm`."""
    y_label: str
    outside: float | None = None
    """y beyond the ends, such as 0 of a distribution; None where it is not known."""


class Result(Protocol):
    """One analysis of one trajectory."""

    @property
    def name(self) -> str:
        """What was analysed, fit for the name of a file: `rdf_Li-S`."""

    def write_csv(self, path: str | Path) -> Path:
        """Write the numbers, units in the names of the columns."""

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """Draw them with errors, units in the labels of the axes. label: of a curve that is drawn with others."""

    def figures(self) -> dict[str, Measured]:
        """What a reader would quote, by name with its unit: `diffusion_cm2_per_s`."""

    def curve(self) -> Curve | None:
        """What `compare` lays over another; None where there is only a number."""


@runtime_checkable
class OfKinds(Protocol):
    """A result with figures of the kinds that occurred, of which another trajectory may have others."""

    def figure(self, name: str) -> Measured | None:
        """One figure by its name, zero for a kind that never occurred; None where there is no such figure."""


def figures_of_all(results: Sequence[Result]) -> list[dict[str, Measured]]:
    """Figures of each result under the names that any of them has, as far as it knows them."""
    every = [result.figures() for result in results]
    names = dict.fromkeys(name for figures in every for name in figures)
    found: list[dict[str, Measured]] = []
    for result, figures in zip(results, every, strict=True):
        asked = {
            name: figures[name] if name in figures else result.figure(name) if isinstance(result, OfKinds) else None
            for name in names
        }
        found.append({name: figure for name, figure in asked.items() if figure is not None})
    return found
