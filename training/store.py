"""Frames in a folder of memory-mapped arrays: only those of a batch are ever read, and their neighbours with them.

Symbols used in this file
    f  frames        n  atoms of all frames        z  pairs of all frames        r  rows, a frame and an element each
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, JsonValue, ValidationError

from openmm_allegro.training.config import LossOptions
from openmm_allegro.training.frames import Frame, check_elements, require_labels
from openmm_allegro.training.pairs import Pairs
from openmm_allegro.training.sums import FrameSums, tabulate_sums

DESCRIPTION_FILE = "description.json"
FORMAT_VERSION = 1
UNITS = {"length": "angstrom", "energy": "eV"}
ARRAYS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "n_atoms": ("f", "<i8", ()),
    "n_pairs": ("f", "<i8", ()),
    "n_elements": ("f", "<i8", ()),
    "periodic": ("f", "|b1", ()),
    "cells": ("f", "<f8", (3, 3)),
    "energies": ("f", "<f8", ()),
    "stresses": ("f", "<f8", (3, 3)),
    "digests": ("f", "|u1", (32,)),
    "sources": ("f", "<i8", (2,)),
    "element_numbers": ("r", "<i8", ()),
    "element_counts": ("r", "<i8", ()),
    "element_squared_forces": ("r", "<f8", ()),
    "numbers": ("n", "|u1", ()),
    "positions": ("n", "<f8", (3,)),
    "forces": ("n", "<f8", (3,)),
    "neighbour_counts": ("n", "<i4", ()),
    "neighbours": ("z", "<i4", ()),
    "neighbour_cells": ("z", "<i2", (3,)),
}
"""Name of each array: what its rows are, its type, and the shape of a row. Labels that are not known are NaN."""


class StoreDescription(BaseModel):
    """What a store says of itself."""

    format: Literal["openmm-allegro frames"] = "openmm-allegro frames"
    format_version: int = Field(default=FORMAT_VERSION, ge=1)
    units: dict[str, str] = UNITS
    r_max: float = Field(gt=0)
    """Cutoff of the neighbour lists [Å]."""
    type_names: tuple[str, ...]
    """Elements that occur, by atomic number."""
    sizes: dict[str, int]
    """Rows of the arrays: f, n, z and r."""
    files: tuple[str, ...]
    """Where the frames come from."""
    fingerprint: str
    """Changes when a frame or a label changes."""
    statistics: dict[str, JsonValue]
    """Of all frames, for the reader; a run works out those of the frames that it trains on."""


class Store:
    """A prepared data set, opened for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = read_description(folder)
        self.arrays = {name: np.asarray(_open_array(folder, name, self.description.sizes)) for name in ARRAYS}
        self.first_atom, self.first_pair, first_row = (
            np.concatenate([[0], np.cumsum(self.arrays[name])]) for name in ("n_atoms", "n_pairs", "n_elements")
        )
        for name, first in (("n", self.first_atom), ("z", self.first_pair), ("r", first_row)):
            if first[-1] != self.description.sizes[name]:
                raise ValueError(f"`{folder}` is damaged: its frames do not add up to its arrays; prepare it again")
        self.sums = tabulate_sums(
            np.repeat(np.arange(len(self)), self.arrays["n_elements"]),
            numbers=self.arrays["element_numbers"],
            counts=self.arrays["element_counts"],
            squares=self.arrays["element_squared_forces"],
            energies=self.arrays["energies"],
        )

    def __len__(self) -> int:
        return self.description.sizes["f"]

    def frame(self, i: int) -> Frame:
        """One frame; its arrays are pieces of the files."""
        own = slice(int(self.first_atom[i]), int(self.first_atom[i + 1]))
        energy, forces, stress = self.arrays["energies"][i], self.arrays["forces"][own], self.arrays["stresses"][i]
        file, number = self.arrays["sources"][i]
        return Frame(
            numbers=self.arrays["numbers"][own].astype(np.int64),
            positions=self.arrays["positions"][own],
            cell=self.arrays["cells"][i],
            periodic=bool(self.arrays["periodic"][i]),
            energy=None if np.isnan(energy) else float(energy),
            forces=None if np.isnan(forces[0, 0]) else forces,
            stress=None if np.isnan(stress[0, 0]) else stress,
            origin=f"frame {number} of `{self.description.files[file]}`",
        )

    def pairs(self, i: int) -> Pairs:
        """The neighbours in one frame."""
        atoms = slice(int(self.first_atom[i]), int(self.first_atom[i + 1]))
        pairs = slice(int(self.first_pair[i]), int(self.first_pair[i + 1]))
        pieces = (
            self.arrays["neighbour_counts"][atoms],
            self.arrays["neighbours"][pairs],
            self.arrays["neighbour_cells"][pairs],
        )
        return Pairs(*(torch.tensor(piece, dtype=torch.int64) for piece in pieces))


class StoredFrames(Sequence[Frame]):
    """Some frames of a store, each read when it is asked for."""

    def __init__(self, store: Store, numbers: Iterable[int] | None = None) -> None:
        """numbers: which frames, in which order; None takes all."""
        self.store = store
        self.numbers: NDArray[np.int64] = (
            np.arange(len(store)) if numbers is None else np.array(list(numbers), np.int64)
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, i: int) -> Frame: ...
    @overload
    def __getitem__(self, i: slice) -> "StoredFrames": ...
    def __getitem__(self, i: int | slice) -> "Frame | StoredFrames":
        if isinstance(i, slice):
            return StoredFrames(self.store, self.numbers[i])
        return self.store.frame(int(self.numbers[i]))

    def take(self, chosen: Sequence[int]) -> "StoredFrames":
        """Some of these frames, by their places here."""
        return StoredFrames(self.store, self.numbers[list(chosen)])

    def pairs(self, i: int) -> Pairs:
        """The neighbours in one of the frames."""
        return self.store.pairs(int(self.numbers[i]))

    def sums(self) -> FrameSums:
        """What the statistics need of these frames."""
        return self.store.sums.rows(self.numbers)

    def digests(self) -> list[bytes]:
        """What identifies each frame."""
        return [row.tobytes() for row in self.store.arrays["digests"][self.numbers]]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Atoms of each frame, (f,)."""
        return self.store.arrays["n_atoms"][self.numbers]

    def most_neighbours(self) -> list[int]:
        """Of any atom, in each frame."""
        counts = self.store.arrays["neighbour_counts"]
        return np.maximum.reduceat(counts, self.store.first_atom[:-1])[self.numbers].tolist()

    @property
    def n_atoms(self) -> int:
        """Atoms of all these frames."""
        return int(self.sizes.sum())

    @property
    def n_pairs(self) -> int:
        """Pairs of neighbours in all these frames, each counted from both ends."""
        return int(self.store.arrays["n_pairs"][self.numbers].sum())

    def check(self, type_names: Sequence[str], cutoff: float) -> None:
        """Refuse elements that a model does not know, and another cutoff [Å]."""
        if cutoff != self.store.description.r_max:
            raise ValueError(
                f"`{self.store.folder}` has neighbours within {self.store.description.r_max:g} Å, but the model's "
                f"`r_max` is {cutoff:g} Å; prepare the data again with `--r-max {cutoff:g}`"
            )
        unknown = [name for name in self.sums().symbols if name not in type_names]
        if unknown:
            column = self.sums().counts_of(unknown[:1])[:, 0]
            check_elements([self[int(np.argmax(column > 0))]], type_names)

    def require_labels(self, loss: LossOptions) -> None:
        """Refuse frames that lack a label which the loss asks for."""
        arrays = self.store.arrays
        first_atoms = self.store.first_atom[:-1][self.numbers]
        labels = {
            "energy": arrays["energies"][self.numbers],
            "forces": arrays["forces"][first_atoms, 0],
            "stress": np.where(arrays["periodic"][self.numbers], arrays["stresses"][self.numbers, 0, 0], 0.0),
        }
        for name, values in labels.items():
            if loss.largest(name) > 0 and np.isnan(values).any():
                require_labels([self[int(np.argmax(np.isnan(values)))]], loss)
        if loss.largest("stress") > 0 and not arrays["periodic"][self.numbers].any():
            require_labels([self[0]], loss)


def read_description(folder: Path) -> StoreDescription:
    """What the store in a folder says of itself; refuses what is none, or is newer."""
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise ValueError(
            f"`{folder}` is a folder without `{DESCRIPTION_FILE}`, no store of frames; "
            "write one with `openmm-allegro prepare`"
        )
    try:
        description = StoreDescription.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`{path}` does not describe a store of frames of this version: {_first_problem(error)}; prepare it again"
        ) from error
    if description.format_version > FORMAT_VERSION:
        raise ValueError(
            f"`{folder}` has format {description.format_version}, but this version reads up to {FORMAT_VERSION}; "
            "install a newer openmm-allegro"
        )
    if description.units != UNITS:
        raise ValueError(f"`{folder}` states the units {description.units}, but this version reads {UNITS}")
    return description


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"`{'.'.join(map(str, problem['loc']))}`: {problem['msg']}"
    return str(error)


def _open_array(folder: Path, name: str, sizes: dict[str, int]) -> np.ndarray:
    rows, dtype, shape = ARRAYS[name]
    path = folder / f"{name}.npy"
    if not path.is_file():
        raise ValueError(f"`{folder}` is not complete: `{path.name}` is missing; prepare it again")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"`{path}` is truncated or damaged: {error}; prepare the data again") from error
    expected = (sizes.get(rows, -1), *shape)
    if array.dtype.str != dtype or array.shape != expected:
        raise ValueError(
            f"`{path}` holds {array.dtype.str} {array.shape}; expected {dtype} {expected}; prepare the data again"
        )
    return array
