"""From when to when two atoms are near each other.

Symbols used in this file
    p  pairs of atoms that are together     i  intervals
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Intervals(NamedTuple):
    """Stretches of frames during which pairs stayed together, first and last frame included."""

    begin: Indices
    """(i,)"""
    end: Indices
    """(i,)"""
    pair: Indices
    """Number of the pair, (i,)."""


def intervals_together(pairs_of_frames: Iterable[Indices], tolerance: int) -> Intervals:
    """Intervals of all pairs, from the numbers of those that are together in each frame.

    Absences of up to `tolerance` frames are forgiven. Only pairs that are together now are kept in memory, beside
    the intervals that have ended.
    """
    known = begin = last = np.zeros(0, dtype=np.int64)  # (p,) each; `known` increases
    ended: list[tuple[Indices, Indices, Indices]] = []
    for f, pairs in enumerate(pairs_of_frames):
        lost = last < f - 1 - tolerance
        if lost.any():
            ended.append((begin[lost], last[lost], known[lost]))
            known, begin, last = known[~lost], begin[~lost], last[~lost]
        pairs = np.unique(pairs)
        place = np.searchsorted(known, pairs)
        old = np.zeros(len(pairs), dtype=bool)
        inside = place < len(known)
        old[inside] = known[place[inside]] == pairs[inside]
        last = last.copy()
        last[place[old]] = f
        new = pairs[~old]
        order = np.argsort(np.concatenate([known, new]), kind="stable")
        since = np.full(len(new), f)
        known = np.concatenate([known, new])[order]
        begin = np.concatenate([begin, since])[order]
        last = np.concatenate([last, since])[order]
    ended.append((begin, last, known))
    return Intervals(*(np.concatenate(parts) for parts in zip(*ended, strict=True)))


def of_pairs(intervals: Intervals, wanted: NDArray[np.bool_]) -> Intervals:
    """Some of the intervals. wanted: (i,)."""
    return Intervals(*(numbers[wanted] for numbers in intervals))


def surviving(intervals: Intervals, origins: slice, lag: int, n_frames: int) -> tuple[int, int]:
    """Pairs together at an origin, and those of them that stay so until `lag` frames later; counted over origins.

    Origins whose later frame is not in the trajectory count for neither, so that its end cuts nothing short.
    """
    stop = min(origins.stop, n_frames - lag)
    start_at = np.maximum(intervals.begin, origins.start)
    together = np.minimum(intervals.end + 1, stop) - start_at
    until = np.minimum(intervals.end + 1 - lag, stop) - start_at
    return int(np.maximum(together, 0).sum()), int(np.maximum(until, 0).sum())
