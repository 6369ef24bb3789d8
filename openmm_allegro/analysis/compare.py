"""How much analyses of one trajectory differ from those of another.

Symbols used in this file
    k  points of a curve
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.common_points import at_points, common_points
from openmm_allegro.analysis.result import Curve, Measured, Result, figures_of_all
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FigureDifference:
    """One number of both trajectories."""

    reference: Measured
    predicted: Measured

    @property
    def difference(self) -> Measured:
        """Predicted less reference, with the combined error of independent numbers; nan where one is not finite."""
        if not (np.isfinite(self.predicted.value) and np.isfinite(self.reference.value)):
            return Measured(float("nan"))
        error = float(np.hypot(self.reference.error, self.predicted.error))
        return Measured(self.predicted.value - self.reference.value, error)

    @property
    def z(self) -> float:
        """Difference in units of its error, nan where that is not known, or rounding."""
        value, error = self.difference
        return value / error if self.reference.has_error or self.predicted.has_error else float("nan")


@dataclass(frozen=True)
class CurveDifference:
    """Both curves on common points."""

    reference: Curve
    predicted: Curve

    @property
    def difference(self) -> Array:
        """Predicted less reference, (k,)."""
        return self.predicted.y - self.reference.y

    @property
    def error(self) -> Array:
        """Combined error of independent curves, (k,)."""
        return np.hypot(self.reference.error, self.predicted.error)

    @property
    def mean_absolute(self) -> float:
        """Mean of |difference| over the range, in the unit of y."""
        return _mean(self.reference.x, np.abs(self.difference))

    @property
    def expected_from_errors(self) -> float:
        """What the mean absolute difference would be from the errors alone, √(2/π) times their mean; nan without."""
        return float(np.sqrt(2 / np.pi)) * _mean(self.reference.x, self.error)

    @property
    def per_cent(self) -> float:
        """∫|difference| / ∫|reference| in per cent, as NequIP states errors of g(r); nan where that is zero.

        S. Batzner et al., Nat. Commun. 13, 2453 (2022).
        """
        return 100 * self.mean_absolute / self._mean_height

    @property
    def per_cent_from_errors(self) -> float:
        """What `per_cent` would be from the errors alone."""
        return 100 * self.expected_from_errors / self._mean_height

    @property
    def _mean_height(self) -> float:
        height = _mean(self.reference.x, np.abs(self.reference.y))
        return height if height > 0 else float("nan")


@dataclass(frozen=True)
class Comparison:
    """One analysis of both trajectories."""

    name: str
    figures: Mapping[str, FigureDifference]
    """By name; a number that one of both lacks is nan there."""
    curve: CurveDifference | None

    def write_csv(self, path: str | Path) -> Path:
        """Write the curves, or the figures where there are none."""
        if self.curve is None:
            return write_comparisons([self], path)
        reference, predicted = self.curve.reference, self.curve.predicted
        columns = {
            reference.x_label: reference.x,
            f"reference {reference.y_label}": reference.y,
            "reference error": reference.error,
            f"predicted {predicted.y_label}": predicted.y,
            "predicted error": predicted.error,
            "difference": self.curve.difference,
            "difference error": self.curve.error,
        }
        return write_table(path, columns)

    def draw(self, axes: "Axes") -> None:
        """Draw both curves above their difference, or the figures where there are no curves."""
        from openmm_allegro.analysis.compare_picture import draw_curves, draw_figures

        if self.curve is None:
            draw_figures(axes, [self])
        else:
            draw_curves(axes, self.name, self.curve)

    def summary(self) -> dict[str, float]:
        """Numbers to print, units in their names; nan where one cannot be had."""
        found: dict[str, float] = {}
        if self.curve is not None:
            found["mean_absolute_difference"] = self.curve.mean_absolute
            found["mean_absolute_difference_from_errors"] = self.curve.expected_from_errors
            found["difference_per_cent"] = self.curve.per_cent
            found["difference_per_cent_from_errors"] = self.curve.per_cent_from_errors
        for name, figure in self.figures.items():
            found[name] = figure.predicted.value
            found[f"{name}_reference"] = figure.reference.value
            found[f"{name}_difference"], found[f"{name}_difference_error"] = figure.difference
            found[f"{name}_z"] = figure.z
        return found


def compare(reference: Sequence[Result], predicted: Sequence[Result]) -> list[Comparison]:
    """Compare analyses of the same name, in the order of the reference.

    Curves are interpolated linearly to the points of the reference within the range that both have, distributions over
    the range of either. A kind that one of both never had is zero there. Errors of the two trajectories count as
    independent. Every analysis needs its counterpart.
    """
    theirs, ours = _by_name(reference, "reference"), _by_name(predicted, "predicted")
    alone = [name for name in [*theirs, *ours] if (name in theirs) != (name in ours)]
    if alone:
        where = "reference" if alone[0] in theirs else "predicted trajectory"
        raise ValueError(
            f"`{alone[0]}` was analysed for the {where} only; analyse both trajectories with the same options"
        )
    if not theirs:
        raise ValueError("there is nothing to compare; give at least one analysis of each trajectory")
    return [_compare_one(theirs[name], ours[name]) for name in theirs]


def write_comparisons(comparisons: Sequence[Comparison], path: str | Path) -> Path:
    """Write one line for each number: both values, the difference and how many of its errors that is."""
    rows = [(each.name, name, figure) for each in comparisons for name, figure in each.figures.items()]
    columns: dict[str, list[str] | list[float]] = {
        "analysis": [analysis for analysis, _, _ in rows],
        "figure": [name for _, name, _ in rows],
        "reference": [figure.reference.value for _, _, figure in rows],
        "reference_error": [figure.reference.error for _, _, figure in rows],
        "predicted": [figure.predicted.value for _, _, figure in rows],
        "predicted_error": [figure.predicted.error for _, _, figure in rows],
        "difference": [figure.difference.value for _, _, figure in rows],
        "difference_error": [figure.difference.error for _, _, figure in rows],
        "z": [figure.z for _, _, figure in rows],
    }
    return write_table(path, columns)


def _by_name(results: Sequence[Result], whose: str) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for result in results:
        if result.name in found:
            raise ValueError(f"there are two analyses `{result.name}` of the {whose} trajectory; give each once")
        found[result.name] = result
    return found


def _compare_one(reference: Result, predicted: Result) -> Comparison:
    theirs, ours = figures_of_all([reference, predicted])
    missing = Measured(float("nan"))
    figures = {
        name: FigureDifference(theirs.get(name, missing), ours.get(name, missing))
        for name in dict.fromkeys([*theirs, *ours])
    }
    first, second = reference.curve(), predicted.curve()
    if first is not None and second is not None:
        return Comparison(reference.name, figures, _on_common_points(reference.name, first, second))
    if first is not None or second is not None:
        warnings.warn(
            f"`{reference.name}` of the {'reference' if first is None else 'predicted trajectory'} has too few "
            f"different values for a curve, so that only its figures are compared",
            stacklevel=3,
        )
    return Comparison(reference.name, figures, None)


def _on_common_points(name: str, reference: Curve, predicted: Curve) -> CurveDifference:
    for theirs, ours in ((reference.x_label, predicted.x_label), (reference.y_label, predicted.y_label)):
        if theirs != ours:
            raise ValueError(
                f"`{name}` of the reference has `{theirs}`, that of the predicted trajectory `{ours}`; "
                f"analyse both with the same topology and options, and give those whose defaults depend on the "
                f"trajectory, such as `lags_ps` of van Hove functions"
            )
    x = common_points([reference, predicted])
    if len(x) < min(2, len(reference.x), len(predicted.x)):
        raise ValueError(
            f"`{name}` of the reference goes from {reference.x[0]:g} to {reference.x[-1]:g} ({reference.x_label}) and "
            f"of the predicted trajectory from {predicted.x[0]:g} to {predicted.x[-1]:g}, which have fewer than two "
            f"points in common; analyse both with the same options"
        )
    return CurveDifference(at_points(reference, x), at_points(predicted, x))


def _mean(x: Array, y: Array) -> float:
    """Of y over the range of x, (k,) each; of a single point its own."""
    from scipy.integrate import trapezoid

    return float(trapezoid(y, x) / (x[-1] - x[0])) if len(x) > 1 else float(y[0])
