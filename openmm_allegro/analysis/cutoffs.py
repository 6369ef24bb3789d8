"""Cutoffs that nobody has given: where a shell of neighbours ends in g(r)."""

import numpy as np

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.rdf import longest_distance_nm, radial_distribution
from openmm_allegro.analysis.shells import FirstShell

REACH_NM = 1.0
"""How far the end of a shell is looked for."""


def cutoff_from_shell(frames: Frames, pair: tuple[str, str], cutoff_nm: float | None, option: str) -> float:
    """The given cutoff, or where the first shell of the pair ends: the first minimum of its g(r)."""
    if cutoff_nm is not None:
        return check_cutoff(cutoff_nm, option)
    return _end_of_shell(frames, pair, option).minimum_nm


def cutoff_from_second_shell(frames: Frames, pair: tuple[str, str], cutoff_nm: float | None, option: str) -> float:
    """The given cutoff, or where the second shell of the pair ends: the second minimum of its g(r)."""
    if cutoff_nm is not None:
        return check_cutoff(cutoff_nm, option)
    second = _end_of_shell(frames, pair, option).second_minimum_nm
    if np.isfinite(second):
        return second
    raise ValueError(f"g(r) of {'–'.join(pair)} has no clear second minimum; give `{option}`")


def check_cutoff(cutoff_nm: float, option: str) -> float:
    """The cutoff, refused where it is no length."""
    if not 0 < cutoff_nm < np.inf:
        raise ValueError(f"`{option}` is {cutoff_nm}; a cutoff must be positive")
    return cutoff_nm


def _end_of_shell(frames: Frames, pair: tuple[str, str], option: str) -> FirstShell:
    if frames.cells_nm is None:
        raise ValueError(f"without a periodic cell there is no g(r) to read a cutoff from; give `{option}`")
    reach = min(REACH_NM, longest_distance_nm(frames.cells_for("a cutoff read from g(r)")))
    found = radial_distribution(frames, pair, r_max_nm=reach, n_blocks=min(5, frames.n_frames)).shell
    if np.isfinite(found.minimum_nm):
        return found
    raise ValueError(f"g(r) of {'–'.join(pair)} has no clear first minimum below {reach:.3f} nm; give `{option}`")
