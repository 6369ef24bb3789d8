"""How figures spread over frames, and which frames lie far outside; robust against the outliers themselves.

Symbols used in this file
    f  frames        t  elements
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openmm_allegro.training.frames import Array, Frame

FAR_OUTSIDE = 12.0
"""A robust z beyond this is named. One set of thermal frames spreads to about 5, mixed compositions to 10."""
SIGMA_OF_MAD = 1.4826
"""Standard deviation over median absolute deviation, for a normal distribution."""
FEWEST = 20
"""Frames below which no frame is called an outlier."""


@dataclass(frozen=True)
class Outlier:
    """A frame far from the others in one figure."""

    frame: str
    quantity: str
    value: float
    unit: str
    z: float
    """Distance from the median, in robust standard deviations."""


def robust_z(values: Array) -> Array:
    """Distance of each value from the median in standard deviations taken from the median deviation, (f,).

    NaN stays NaN; where most values are equal, all are zero.
    """
    if not np.isfinite(values).any():
        return np.full(len(values), np.nan)
    deviation = values - np.nanmedian(values)
    sigma = SIGMA_OF_MAD * float(np.nanmedian(np.abs(deviation)))
    return deviation / sigma if sigma > 0 else np.where(np.isfinite(values), 0.0, np.nan)


def outliers(
    frames: Sequence[Frame], quantity: str, unit: str, values: Array, smallest: float = 0.0, side: int = 0
) -> list[Outlier]:
    """Frames whose value lies far outside, the farthest first.

    values: (f,), NaN where unknown. smallest: deviations below this are never named. side: 1 for large values only,
    -1 for small ones only.
    """
    if np.isfinite(values).sum() < FEWEST:
        return []
    z = robust_z(values)
    with np.errstate(invalid="ignore"):
        far = (np.abs(z) > FAR_OUTSIDE) & (np.abs(values - np.nanmedian(values)) > smallest)
    if side:
        far &= np.sign(z) == side
    named = sorted(np.flatnonzero(far).tolist(), key=lambda i: -abs(z[i]))
    return [Outlier(frames[i].origin, quantity, float(values[i]), unit, float(z[i])) for i in named]


def composition(frames: Sequence[Frame], elements: Sequence[int]) -> Array:
    """How many atoms of each element a frame has, (f, t)."""
    wanted = np.array(elements)
    return np.array([(frame.numbers[:, None] == wanted).sum(0) for frame in frames], dtype=np.float64)


def energy_residuals(frames: Sequence[Frame], elements: Sequence[int]) -> tuple[Array, Array, bool]:
    """Energies beyond a least-squares fit to the compositions, robust against single wrong energies.

    Returns the residuals [eV/atom], (f,), NaN without an energy and for isolated atoms; the fitted energies of the
    elements [eV], (t,), the solution of smallest norm, NaN where no energy is known; and whether the compositions tell
    the elements apart.
    """
    energies = np.array([np.nan if frame.energy is None else frame.energy for frame in frames], dtype=np.float64)
    sizes = np.array([len(frame.numbers) for frame in frames], dtype=np.float64)
    counts = composition(frames, elements)
    known = np.isfinite(energies) & ~np.array([frame.is_isolated_atom for frame in frames])
    residuals: Array = np.full(len(frames), np.nan)
    if not known.any():
        return residuals, np.full(len(elements), np.nan), False
    rows, targets = counts[known] / sizes[known, None], energies[known] / sizes[known]
    weights = np.ones(len(rows))
    for _ in range(5):  # least squares, then again with less weight for what lies far off
        fitted, _, rank, _ = np.linalg.lstsq(rows * weights[:, None], targets * weights, rcond=1e-8)
        z = np.abs(robust_z(targets - rows @ fitted))
        weights = 1 / np.sqrt(np.maximum(1.0, z / 3))
    residuals[known] = targets - rows @ fitted
    return residuals, np.asarray(fitted, dtype=np.float64), bool(rank == len(elements))


def spread(values: Array) -> dict[str, float] | None:
    """Lowest, median, highest, mean and standard deviation; None without values."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return None
    return {
        "min": float(known.min()),
        "median": float(np.median(known)),
        "max": float(known.max()),
        "mean": float(known.mean()),
        "std": float(known.std()),
    }
