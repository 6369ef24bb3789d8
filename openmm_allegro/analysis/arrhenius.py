"""Arrhenius' law through diffusion coefficients or conductivities of several temperatures.

Symbols used in this file
    n  temperatures
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from openmm_allegro import units
from openmm_allegro.analysis.pictures import with_error
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Arrhenius:
    """value × T^p = A exp(−E/kT)."""

    quantity: str
    """Name with its unit: `diffusion_cm2_per_s`."""
    temperature_k: Array
    """(n,)"""
    values: Array
    """(n,)"""
    errors: Array
    """(n,); nan where none were given."""
    times_temperature: bool
    """Whether the law is for value × T."""
    activation_ev: Measured
    log_prefactor: float
    """ln A"""
    covariance: Array
    """Of ln A and E [eV], (2, 2)."""
    reduced_chi2: float
    """Squared deviations over squared errors for each degree of freedom; nan without errors."""
    quantile: float
    """Half width of a 95 % interval in standard errors."""

    @property
    def name(self) -> str:
        return f"arrhenius_{self.quantity}"

    def at(self, temperature_k: float) -> tuple[float, float, float]:
        """Value at a temperature and the ends of its 95 % interval."""
        if temperature_k <= 0:
            raise ValueError(f"the temperature is {temperature_k} K; it must be positive")
        gradient = np.array([1.0, -1 / (units.BOLTZMANN_EV_PER_K * temperature_k)])
        log_value = self.log_prefactor + gradient[1] * self.activation_ev.value
        log_value -= math.log(temperature_k) if self.times_temperature else 0.0
        reach = self.quantile * math.sqrt(gradient @ self.covariance @ gradient)
        return math.exp(log_value), math.exp(log_value - reach), math.exp(log_value + reach)

    def activation_interval_ev(self) -> tuple[float, float]:
        """95 % confidence interval of the activation energy."""
        reach = self.quantile * self.activation_ev.error
        return self.activation_ev.value - reach, self.activation_ev.value + reach

    def write_csv(self, path: str | Path) -> Path:
        columns = {
            "temperature_k": self.temperature_k,
            self.quantity: self.values,
            f"{self.quantity}_error": self.errors,
            f"{self.quantity}_fitted": np.array([self.at(each)[0] for each in self.temperature_k]),
        }
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        """Against 1000/T, from the highest temperature to 300 K or the lowest, with the 95 % band of the line."""
        hottest, coldest = float(self.temperature_k.max()), min(300.0, float(self.temperature_k.min()))
        inverse = np.linspace(1 / hottest, 1 / coldest, 60)
        fit, low, high = np.array([self.at(1 / each) for each in inverse]).T
        words = f"{'' if label is None else f'{label}: '}E = {with_error(*self.activation_ev)} eV"
        (line,) = axes.plot(1e3 * inverse, fit, linewidth=1.0, label=words)
        axes.fill_between(1e3 * inverse, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
        errors = np.nan_to_num(self.errors)
        axes.errorbar(1e3 / self.temperature_k, self.values, errors, fmt="o", markersize=4, color=line.get_color())
        axes.set(yscale="log", xlabel="1000 K / T", ylabel=self._label())
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        low, high = self.activation_interval_ev()
        value, value_low, value_high = self.at(300.0)
        return {
            "activation_ev": self.activation_ev,
            "activation_low_ev": Measured(low),
            "activation_high_ev": Measured(high),
            "reduced_chi2": Measured(self.reduced_chi2),
            f"{self.quantity}_at_300_k": Measured(value),
            f"{self.quantity}_at_300_k_low": Measured(value_low),
            f"{self.quantity}_at_300_k_high": Measured(value_high),
        }

    def curve(self) -> Curve:
        return Curve(1e3 / self.temperature_k, self.values, self.errors, "1000 K / T", self._label())

    def _label(self) -> str:
        for ending, unit in (("_cm2_per_s", "(cm²/s)"), ("_s_per_m", "(S/m)")):
            if self.quantity.endswith(ending):
                return f"{self.quantity.removesuffix(ending).replace('_', ' ')} / {unit}"
        return self.quantity.replace("_", " ")


def arrhenius(
    temperatures_k: Sequence[float],
    values: Sequence[float],
    errors: Sequence[float] | None = None,
    *,
    quantity: str = "diffusion_cm2_per_s",
    times_temperature: bool = False,
) -> Arrhenius:
    """Activation energy and prefactor of positive values at three temperatures or more.

    A straight line through ln(value) against 1/T, of ln(value T) with `times_temperature`, which is the law for
    conductivities. With standard errors each point has the weight of its own; where the points deviate by more than
    their errors, those of the line grow with the root of the reduced χ². Without errors all points weigh the same and
    the scatter about the line sets its errors, by Student's t.
    """
    temperature, value = np.array(temperatures_k, dtype=float), np.array(values, dtype=float)
    error = np.full(len(value), np.nan) if errors is None else np.array(errors, dtype=float)
    _check(temperature, value, error if errors is not None else np.ones(len(value)))
    x = 1 / (units.BOLTZMANN_EV_PER_K * temperature)
    y = np.log(value * temperature if times_temperature else value)
    relative = np.ones(len(value)) if errors is None else error / value
    middle = np.average(x, weights=relative**-2)
    (slope, start), covariance = np.polyfit(x - middle, y, 1, w=1 / relative, cov="unscaled")
    residual = (y - start - slope * (x - middle)) / relative
    freedom = len(value) - 2
    chi2 = float((residual**2).sum() / freedom)
    covariance = covariance * (chi2 if errors is None else max(1.0, chi2))
    back = np.array([[-middle, 1.0], [-1.0, 0.0]])  # from slope and value in the middle to ln A and E
    covariance = back @ covariance @ back.T
    return Arrhenius(
        quantity=quantity,
        temperature_k=temperature,
        values=value,
        errors=error,
        times_temperature=times_temperature,
        activation_ev=Measured(-float(slope), float(np.sqrt(covariance[1, 1]))),
        log_prefactor=float(start - slope * middle),
        covariance=covariance,
        reduced_chi2=float("nan") if errors is None else chi2,
        quantile=float(student.ppf(0.975, freedom) if errors is None else norm.ppf(0.975)),
    )


def arrhenius_of_files(
    paths: Sequence[str | Path], temperatures_k: Sequence[float], figure: str, *, times_temperature: bool | None = None
) -> Arrhenius:
    """The same from JSON answers of `openmm-allegro analyze`, one of each temperature.

    figure: where the number is, with dots between: `msd.msd_Li.diffusion_cm2_per_s`; its error is under the same name
    with `_error`. What is in S/m is multiplied by T unless `times_temperature` says otherwise.
    """
    if len(paths) != len(temperatures_k):
        raise ValueError(f"there are {len(paths)} files and {len(temperatures_k)} temperatures; give one for each")
    found = [_figure(Path(path), figure) for path in paths]
    quantity = figure.rsplit(".", 1)[-1]
    if times_temperature is None:
        times_temperature = quantity.endswith("_s_per_m")
    return arrhenius(
        temperatures_k,
        [each.value for each in found],
        [each.error for each in found],
        quantity=quantity,
        times_temperature=times_temperature,
    )


def _figure(path: Path, figure: str) -> Measured:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file `{path}`")
    try:
        place = json.loads(path.read_text())
    except ValueError as wrong:
        raise ValueError(f"`{path}` is no JSON ({wrong}); write it with `openmm-allegro analyze --json`") from wrong
    *parents, name = figure.split(".")
    for key in [*parents, name]:
        if not isinstance(place, Mapping) or key not in place:
            known = ", ".join(place) if isinstance(place, Mapping) else "a number"
            raise ValueError(f"`{path.name}` has no `{figure}`: at `{key}` there is only {known}")
        above, place = place, place[key]
    error = above.get(f"{name}_error")
    if not isinstance(place, int | float) or not isinstance(error, int | float):
        raise ValueError(f"`{figure}` of `{path.name}` is {place} with the error {error}; both must be numbers")
    return Measured(float(place), float(error))


def _check(temperature: Array, value: Array, error: Array) -> None:
    if not len(temperature) == len(value) == len(error):
        raise ValueError(
            f"there are {len(temperature)} temperatures, {len(value)} values and {len(error)} errors; give one of each"
        )
    if len(np.unique(temperature)) < 3:
        raise ValueError(f"there are {len(np.unique(temperature))} temperatures; the errors of a line need 3 or more")
    for what, numbers in (("temperature", temperature), ("value", value), ("error", error)):
        bad = np.flatnonzero(~(numbers > 0))
        if len(bad):
            raise ValueError(
                f"{what} number {bad[0] + 1} is {numbers[bad[0]]:g}; all must be positive, leave out what did not move"
            )
