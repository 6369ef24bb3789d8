"""Whether frames are among those that a model was trained on: its file keeps fingerprints of some of them.

The fingerprints kept are the smallest ones, so that those of any set of frames are compared with the same few of the
training set, however many it has (a bottom-k sketch; Cohen and Kaplan, doi:10.1145/1281100.1281133).
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from openmm_allegro.summary import TRAINED_ON
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.sums import digest

MOST_KEPT = 1024
"""Fingerprints in a model file: 13 kB."""
LENGTH = 12
"""Hexadecimal digits of each: two frames of 10⁶ share one with a probability of 0.002."""


def fingerprints(digests: Iterable[bytes], before: Iterable[str] = ()) -> list[str]:
    """Those that a model file keeps. digests: of `sums.digest`. before: what the model it came from has kept."""
    return sorted({*before, *(_fingerprint(each) for each in digests)})[:MOST_KEPT]


def kept_in(provenance: Mapping[str, JsonValue]) -> set[str]:
    """The fingerprints in what a model or an ensemble says of its origin."""
    return set(_kept(dict(provenance)))


def warn_of_trained(frames: Sequence[Frame], files: Sequence[Path | str], provenance: Mapping[str, JsonValue]) -> None:
    """Say how many of the frames of some files the model was trained on, if any."""
    kept = kept_in(provenance)
    known = sum(_fingerprint(digest(frame)) in kept for frame in frames) if kept else 0
    if known:
        count = f"{known}" if len(kept) < MOST_KEPT else f"{known} or more"
        warnings.warn(
            f"{count} of the {len(frames)} frames of {', '.join(f'`{path}`' for path in files)} are among those that "
            "the model was trained on, where its errors are smaller than elsewhere; give frames that it has not seen",
            stacklevel=2,
        )


def _fingerprint(digest_of_frame: bytes) -> str:
    return digest_of_frame.hex()[:LENGTH]


def _kept(provenance: JsonValue) -> Iterator[str]:
    if isinstance(provenance, dict):
        for name, value in provenance.items():
            if name == TRAINED_ON and isinstance(value, list):
                yield from map(str, value)
            else:
                yield from _kept(value)
