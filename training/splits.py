"""Which frames are trained on, which are held back, and which are isolated atoms."""

import hashlib
from dataclasses import dataclass

import numpy as np

from openmm_allegro.training.config import DataOptions, LossOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame, check_energies, require_labels


@dataclass(frozen=True)
class FrameSets:
    """The frames of one run."""

    train: list[Frame]
    validation: list[Frame]
    one_atom: list[Frame]
    """Isolated atoms taken out of the training files; empty unless `data.isolated_atoms = "in_train"`."""

    def fingerprint(self) -> str:
        """Changes when the frames, their labels or their order change."""
        digest = hashlib.sha256(f"{len(self.train)} {len(self.validation)}".encode())
        for frame in self.train + self.validation:
            for value in (frame.numbers, frame.cell, frame.positions, frame.energy, frame.forces, frame.stress):
                digest.update(b"none" if value is None else np.asarray(value, dtype=np.float64).tobytes())
        return digest.hexdigest()


def read_frame_sets(data: DataOptions, loss: LossOptions) -> FrameSets:
    """Read, divide and check the frames of a run."""
    frames = read_frames(data.train, data)
    one_atom: list[Frame] = []
    if data.isolated_atoms == "in_train":
        one_atom = [frame for frame in frames if len(frame.numbers) == 1]
        frames = [frame for frame in frames if len(frame.numbers) > 1]
    held_back: list[Frame] = []
    if data.n_validation is not None:
        frames, held_back = _hold_back(frames, data.n_validation, data)
    if data.validation is not None:
        held_back = read_frames(data.validation, data)
    if data.n_train is not None:
        frames = _choose(frames, data.n_train, data.seed)
    require_labels(frames, loss)
    require_labels(held_back, loss)
    check_energies([*frames, *held_back], data.max_energy_deviation)
    return FrameSets(frames, held_back, one_atom)


def _hold_back(frames: list[Frame], count: int, data: DataOptions) -> tuple[list[Frame], list[Frame]]:
    if count >= len(frames):
        raise ValueError(
            f"`data.n_validation` is {count}, but there are only {len(frames)} frames; leave some to train on"
        )
    order = np.arange(len(frames))
    if data.split == "random":
        order = np.random.default_rng(data.seed).permutation(len(frames))
    train, held_back = sorted(order[:-count]), sorted(order[-count:])
    return [frames[i] for i in train], [frames[i] for i in held_back]


def _choose(frames: list[Frame], count: int, seed: int) -> list[Frame]:
    if count > len(frames):
        raise ValueError(f"`data.n_train` is {count}, but only {len(frames)} frames are left to train on")
    chosen = np.random.default_rng(seed).permutation(len(frames))[:count]
    return [frames[i] for i in sorted(chosen)]
