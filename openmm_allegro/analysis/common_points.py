"""Curves of several trajectories on the same points.

Symbols used in this file
    k  points
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.result import Curve

Array = NDArray[np.float64]


def common_points(curves: Sequence[Curve]) -> Array:
    """Points of the first curve as far as all reach, (k,).

    Of curves that are all known beyond their ends, all of the first, and those of the others beyond its ends.
    """
    x = curves[0].x
    if all(curve.outside is not None for curve in curves):
        beyond = [curve.x[(curve.x < x[0]) | (curve.x > x[-1])] for curve in curves[1:]]
        return np.unique(np.concatenate([x, *beyond]))
    low, high = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    slack = 1e-9 * abs(high - low)
    return x[(x >= low - slack) & (x <= high + slack)]


def at_points(curve: Curve, x: Array) -> Curve:
    """The curve at these points, (k,), by straight lines between its own."""
    beyond = None if curve.outside is None else 0.0
    return curve._replace(
        x=x,
        y=np.interp(x, curve.x, curve.y, curve.outside, curve.outside),
        error=np.interp(x, curve.x, curve.error, beyond, beyond),
    )
