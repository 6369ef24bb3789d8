"""Where the first shell of neighbours is and where it ends, read from a radial distribution function.

Symbols used in this file
    r  bins of distance [nm]     g  radial distribution function
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

SMOOTHING_NM = 0.008
"""Width of the Gaussian under which peaks are looked for."""
PROMINENCE = 0.1
"""How far a peak or a minimum must stand out of its surroundings."""
NOISE = 6.0
"""How many standard errors it must stand out; of white noise the highest top stands out by about five."""

Array = NDArray[np.float64]


class FirstShell(NamedTuple):
    """Extrema of g(r); nan where there is none."""

    peak_nm: float
    peak_g: float
    minimum_nm: float
    minimum_g: float
    second_minimum_nm: float


NO_SHELL = FirstShell(*[float("nan")] * 5)


def first_shell(r_nm: Array, g: Array, g_error: Array) -> FirstShell:
    """First peak and the first two minima behind it. All (r,), on equal bins; errors may be nan.

    A peak or minimum counts where it stands out of the smoothed g by `PROMINENCE` and by `NOISE` errors; a minimum that
    is a stretch of zeros is its middle.
    """
    width = r_nm[1] - r_nm[0] if len(r_nm) > 1 else 1.0
    smooth = gaussian_filter1d(g, SMOOTHING_NM / width, mode="nearest")
    averaged = min(1.0, np.sqrt(width / (2 * np.sqrt(np.pi) * SMOOTHING_NM)))
    least = np.maximum(PROMINENCE, NOISE * averaged * np.nan_to_num(g_error))
    peaks, minima = (_outstanding(sign * smooth, least) for sign in (1, -1))
    if len(peaks) == 0:
        return NO_SHELL
    first, reach = int(peaks[0]), max(1, round(SMOOTHING_NM / width))
    highest = max(0, first - reach) + int(np.argmax(g[max(0, first - reach) : first + reach + 1]))
    behind = minima[minima > first]
    return FirstShell(
        peak_nm=_vertex(r_nm, g, highest),
        peak_g=float(g[highest]),
        minimum_nm=float(r_nm[behind[0]]) if len(behind) else float("nan"),
        minimum_g=float(smooth[behind[0]]) if len(behind) else float("nan"),
        second_minimum_nm=float(r_nm[behind[1]]) if len(behind) > 1 else float("nan"),
    )


def _outstanding(values: Array, least: Array) -> NDArray[np.int64]:
    """Local maxima that stand out by `least` or more; the middle of a flat one."""
    found, properties = find_peaks(values, prominence=PROMINENCE)
    return np.asarray(found[properties["prominences"] > least[found]], dtype=np.int64)


def _vertex(x: Array, y: Array, k: int) -> float:
    """Top of the parabola through the points k − 1, k and k + 1 of an equally spaced curve."""
    if not 0 < k < len(y) - 1:
        return float(x[k])
    left, middle, right = y[k - 1 : k + 2]
    bend = left - 2 * middle + right
    return float(x[k]) if bend >= 0 else float(x[k] + 0.5 * (left - right) / bend * (x[1] - x[0]))
