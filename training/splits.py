"""Which frames are trained on, which are held back, and which are isolated atoms."""

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.training.config import DataOptions, LabelOptions, LossOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame, check_energies, require_labels
from openmm_allegro.training.store import Store, StoredFrames
from openmm_allegro.training.sums import WITHOUT_STRESS, FrameSums, digest, sums_of_frames


@dataclass(frozen=True)
class FrameSets:
    """The frames of one run."""

    train: Sequence[Frame]
    validation: Sequence[Frame]
    one_atom: Sequence[Frame]
    """Isolated atoms taken out of the training files; empty unless `data.isolated_atoms = "in_train"`."""

    def fingerprint(self) -> str:
        """Changes when the frames, their labels or their order change."""
        hashed = hashlib.sha256(f"{len(self.train)} {len(self.validation)}".encode())
        hashed.update(b"".join(self.train_digests))
        hashed.update(b"".join(self.validation_digests))
        hashed.update(b"".join(_digests(self.one_atom)))
        return hashed.hexdigest()

    @cached_property
    def train_digests(self) -> list[bytes]:
        """What identifies each frame that is trained on, and its labels."""
        return list(_digests(self.train))

    @cached_property
    def validation_digests(self) -> list[bytes]:
        """The same of those that are held back."""
        return list(_digests(self.validation))


def _digests(frames: Sequence[Frame]) -> Iterable[bytes]:
    """Those of a store are in it."""
    return frames.digests() if isinstance(frames, StoredFrames) else map(digest, frames)


def read_frame_sets(data: DataOptions, loss: LossOptions) -> FrameSets:
    """Read, divide and check the frames of a run; those of a store stay where they are."""
    frames = _read(data.train, data)
    one_atom: Sequence[Frame] = []
    if data.isolated_atoms == "in_train":
        single = _sizes(frames) == 1
        single[single] = [frames[i].is_isolated_atom for i in np.flatnonzero(single).tolist()]
        if single.all():
            raise ValueError(
                '`data.isolated_atoms = "in_train"` takes out isolated atoms, but `data.train` has nothing else; '
                "add frames to train on"
            )
        one_atom, frames = take(frames, np.flatnonzero(single)), take(frames, np.flatnonzero(~single))
    held_back: Sequence[Frame] = []
    if data.n_validation is not None:
        frames, held_back = _hold_back(frames, data.n_validation, data)
    if data.validation is not None:
        held_back = _read(data.validation, data)
    if data.n_train is not None:
        frames = _choose(frames, data.n_train, data.seed)
    for each in (frames, held_back):
        if isinstance(each, StoredFrames):
            each.require_labels(loss)
        else:
            require_labels(each, loss)
    _check_energies(frames, held_back, data.max_energy_deviation)
    sets = FrameSets(frames, held_back, one_atom)
    _warn_of_shared(sets)
    return sets


def _warn_of_shared(sets: FrameSets) -> None:
    trained = {digest_of_frame[:WITHOUT_STRESS] for digest_of_frame in sets.train_digests}
    shared = sum(digest_of_frame[:WITHOUT_STRESS] in trained for digest_of_frame in sets.validation_digests)
    if shared:
        warnings.warn(
            f"{shared} of the {len(sets.validation)} validation frames are trained on, too: their errors are smaller "
            "than elsewhere, and the best model is chosen by them; keep them apart",
            stacklevel=3,
        )


def sums_of(frames: Sequence[Frame]) -> FrameSums:
    """What the statistics need of each frame."""
    return frames.sums() if isinstance(frames, StoredFrames) else sums_of_frames(frames)


def take(frames: Sequence[Frame], chosen: NDArray[np.int64]) -> Sequence[Frame]:
    """Some of the frames."""
    return frames.take(chosen.tolist()) if isinstance(frames, StoredFrames) else [frames[i] for i in chosen]


def _read(paths: Sequence[Path], data: DataOptions) -> Sequence[Frame]:
    """The frames of files, or those of one store."""
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return read_frames(paths, data)
    if len(paths) > 1:
        raise ValueError(
            f"`{folders[0]}` is a store of frames and stands beside {len(paths) - 1} other data; "
            "prepare one store from all files"
        )
    given = [name for name in LabelOptions.model_fields if name in data.model_fields_set]
    if given and not _reads_files(data):
        raise ValueError(
            f"`data.{given[0]}` has no effect on the store `{folders[0]}`, whose labels were read when it was "
            "prepared; leave it out"
        )
    return StoredFrames(Store(folders[0]))


def _reads_files(data: DataOptions) -> bool:
    """Whether there are files beside stores, whose labels the options name."""
    return isinstance(data.isolated_atoms, Path) or not all(
        path.is_dir() for path in [*data.train, *(data.validation or ())]
    )


def _sizes(frames: Sequence[Frame]) -> NDArray[np.int64]:
    return frames.sizes if isinstance(frames, StoredFrames) else np.array([len(frame.numbers) for frame in frames])


def _check_energies(train: Sequence[Frame], validation: Sequence[Frame], max_deviation: float) -> None:
    tables = [sums_of(train), sums_of(validation)]
    names = sorted({name for table in tables for name in table.symbols})
    check_energies(
        np.concatenate([table.counts_of(names) for table in tables]),
        np.concatenate([table.energies for table in tables]),
        lambda row: train[row] if row < len(train) else validation[row - len(train)],
        max_deviation,
    )


def _hold_back(frames: Sequence[Frame], count: int, data: DataOptions) -> tuple[Sequence[Frame], Sequence[Frame]]:
    if count >= len(frames):
        raise ValueError(
            f"`data.n_validation` is {count}, but there are only {len(frames)} frames; leave some to train on"
        )
    order = np.arange(len(frames))
    if data.split == "random":
        order = np.random.default_rng(data.seed).permutation(len(frames))
    return take(frames, np.sort(order[:-count])), take(frames, np.sort(order[-count:]))


def _choose(frames: Sequence[Frame], count: int, seed: int) -> Sequence[Frame]:
    if count > len(frames):
        raise ValueError(f"`data.n_train` is {count}, but only {len(frames)} frames are left to train on")
    chosen = np.random.default_rng(seed).permutation(len(frames))[:count]
    return take(frames, np.sort(chosen))
