"""The same analysis of several independent runs as one result, whose errors are the scatter of the runs.

Symbols used in this file
    m  runs     k  points of the curve
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.common_points import at_points, common_points
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured, OfKinds, Result, figures_of_all
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RunsTogether:
    """Means over runs, each with its standard error over the runs."""

    results: tuple[Result, ...]
    """One for each run, (m,)."""

    @property
    def name(self) -> str:
        return self.results[0].name

    def write_csv(self, path: str | Path) -> Path:
        """Write the mean curve and that of each run; where there is no curve, the figures of each run."""
        mean = self.curve()
        if mean is None:
            return write_table(path, self._of_each())
        columns = {mean.x_label: mean.x, mean.y_label: mean.y, "standard error": mean.error}
        return write_table(path, columns | {f"run {r}": y for r, y in enumerate(self._on_common_points()[1])})

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """Draw each run thinly under the mean and its error; without a curve points, and the mean as a band."""
        mean = self.curve()
        if mean is None:
            name, of_runs = next(iter(self._of_each().items()))
            numbers, (value, error) = np.arange(1, len(of_runs) + 1), _mean(of_runs)
            (points,) = axes.plot(numbers, of_runs, "o", label=label)
            if np.isfinite(error):
                low, high, color = value - error, value + error, points.get_color()
                axes.axhspan(low, high, color=color, alpha=0.3, linewidth=0, label=with_error(value, error))
                axes.legend(frameon=False, fontsize="small")
            axes.set(xlabel="run", ylabel=name, xticks=numbers)
            return
        for y in self._on_common_points()[1]:
            axes.plot(mean.x, y, linewidth=0.4, color="0.7")
        (line,) = axes.plot(mean.x, mean.y, linewidth=1.2, label=label or f"mean of {len(self.results)} runs")
        band = (mean.y - mean.error, mean.y + mean.error)
        axes.fill_between(mean.x, *band, color=line.get_color(), alpha=0.3, linewidth=0)
        axes.set(xlabel=mean.x_label, ylabel=mean.y_label)
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        """Means of what every run has, with standard errors over the runs; nan or infinite where that of a run is.

        A kind that others have is zero in a run that never had it. Bounds at 95 % are those of the mean.
        """
        means = {name: _mean(of_runs) for name, of_runs in self._of_each().items()}
        return {name: self._bound(name, means) or mean for name, mean in means.items()}

    def figure(self, name: str) -> Measured | None:
        """One figure by its name, of kinds that no run has too."""
        of_runs = [
            figures.get(name) or (result.figure(name) if isinstance(result, OfKinds) else None)
            for result, figures in zip(self.results, figures_of_all(self.results), strict=True)
        ]
        values = [each.value for each in of_runs if each is not None]
        return _mean(np.array(values)) if len(values) == len(self.results) else None

    def curve(self) -> Curve | None:
        """Mean curve on the points of the first run, as far as all runs reach."""
        if any(result.curve() is None for result in self.results):
            return None
        first, y = self._on_common_points()
        return first._replace(y=y.mean(axis=0), error=standard_errors(y))

    def _bound(self, name: str, means: Mapping[str, Measured]) -> Measured | None:
        """The bound of a mean over the runs, if the name is that of one."""
        from scipy.stats import t

        for word, side in (("_low_", -1), ("_high_", 1)):
            mean = means.get(name.replace(word, "_"))
            if word in name and mean is not None:
                return Measured(mean.value + side * float(t.ppf(0.975, len(self.results) - 1)) * mean.error)
        return None

    def summary(self, figure: str) -> str:
        """One figure as text, `1.64 ± 0.15`."""
        return with_error(*self.figures()[figure])

    def _of_each(self) -> dict[str, Array]:
        """Figures that every run has, (m,) each."""
        every = figures_of_all(self.results)
        shared = [name for name in every[0] if all(name in each for each in every)]
        return {name: np.array([each[name].value for each in every]) for name in shared}

    def _on_common_points(self) -> tuple[Curve, np.ndarray]:
        """The first run's curve up to where all reach, and all runs there, (m, k)."""
        curves = [curve for result in self.results if (curve := result.curve()) is not None]
        for r, curve in enumerate(curves):
            if (curve.x_label, curve.y_label) != (curves[0].x_label, curves[0].y_label):
                raise ValueError(
                    f"`{self.name}` of run {r} is `{curve.y_label}` over `{curve.x_label}`, that of run 0 "
                    f"`{curves[0].y_label}` over `{curves[0].x_label}`; give the options that "
                    f"decide this, such as `lags_ps` of van Hove functions"
                )
        x = common_points(curves)
        y = np.stack([at_points(curve, x).y for curve in curves])
        return curves[0]._replace(x=x), y


def _mean(of_runs: Array) -> Measured:
    if not np.isfinite(of_runs).all():
        return Measured(float(of_runs.sum()))
    return Measured(float(of_runs.mean()), float(standard_errors(of_runs[:, None])[0]))


def runs_together(of_runs: Sequence[Sequence[Result]]) -> list[Result]:
    """Results of several runs, one list for each run, as one list; a single run stays as it is."""
    if len(of_runs) == 1:
        return list(of_runs[0])
    names = [[result.name for result in results] for results in of_runs]
    odd = next((r for r, each in enumerate(names) if each != names[0]), None)
    if odd is not None:
        raise ValueError(
            f"run {odd} gave the analyses {', '.join(names[odd])}, run 0 {', '.join(names[0])}; "
            "runs that are taken together must be of one system"
        )
    return [RunsTogether(tuple(results)) for results in zip(*of_runs, strict=True)]
