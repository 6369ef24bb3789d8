"""Writing a store: frames of files, checked, with their neighbours, piece by piece and whole or not at all."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import JsonValue
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.data import refuse_folder
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.pairs import Pairs, find_pairs
from openmm_allegro.training.statistics import fitted_shifts, force_scales
from openmm_allegro.training.store import ARRAYS, DESCRIPTION_FILE, Store, StoreDescription, StoredFrames
from openmm_allegro.training.stream import stream_frames
from openmm_allegro.training.sums import digest, sums_of_frame


class GrowingArray:
    """A .npy file that rows are added to; its header is completed at the end."""

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        """shape: of a row."""
        self.file = path.open("wb")
        self.dtype, self.shape = np.dtype(dtype), shape
        self.rows = 0
        self._write_header()

    def append(self, rows: ArrayLike) -> None:
        """Add rows, (any, *shape); a single one as well."""
        array = np.asarray(rows, dtype=self.dtype).reshape(-1, *self.shape)
        self.rows += len(array)
        self.file.write(array.tobytes())

    def _write_header(self) -> None:
        """NumPy leaves room in it for the number of rows to grow."""
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()


def prepare(
    paths: Sequence[Path], output: Path, r_max: float, options: LabelOptions | None = None, progress: bool = True
) -> dict[str, JsonValue]:
    """Write the store of some files and return what it says of itself. r_max: cutoff of the neighbours [Å]."""
    options = options or LabelOptions()
    if output.exists():
        raise ValueError(f"`{output}` exists already and is kept as it is; name another folder")
    for path in paths:
        refuse_folder(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file `{path}`")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f"{output.name}.") as around:  # for the owner alone
        unfinished = Path(around) / output.name
        unfinished.mkdir()
        description = _write(paths, unfinished, r_max, options, progress)
        os.rename(unfinished, output)
    return {"store": str(output)} | description.model_dump(mode="json", include={"r_max", "files", "statistics"})


def _write(
    paths: Sequence[Path], folder: Path, r_max: float, options: LabelOptions, progress: bool
) -> StoreDescription:
    fingerprint = hashlib.sha256()
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(GrowingArray(folder / f"{name}.npy", dtype, shape))
            for name, (_, dtype, shape) in ARRAYS.items()
        }
        for file, number, frame in _frames(paths, options, progress):
            row = _rows(frame, find_pairs(frame, r_max, options.min_distance)) | {"sources": [file, number]}
            for name, values in row.items():
                arrays[name].append(values)
            fingerprint.update(digest(frame))
    sizes = {rows: arrays[name].rows for name, (rows, _, _) in ARRAYS.items()}
    description = StoreDescription(
        r_max=r_max,
        type_names=(),
        sizes=sizes,
        files=tuple(path.name for path in paths),
        fingerprint=fingerprint.hexdigest(),
        statistics={},
    )
    _describe(folder, description)
    frames = StoredFrames(Store(folder))
    names = frames.sums().symbols
    described = description.model_copy(update={"type_names": names, "statistics": _statistics(frames)})
    _describe(folder, described)
    return described


def _describe(folder: Path, description: StoreDescription) -> None:
    (folder / DESCRIPTION_FILE).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _frames(paths: Sequence[Path], options: LabelOptions, progress: bool) -> Iterator[tuple[int, int, Frame]]:
    """Number of the file, number of the frame in it, and the frame, with a bar for the bytes that are read."""
    console = Console(stderr=True)
    columns = (TextColumn("preparing {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (progress and console.is_terminal)) as bar:
        for file, path in enumerate(paths):
            task = bar.add_task(path.name, total=path.stat().st_size)
            for number, frame in enumerate(stream_frames(path, options, partial(_show, bar, task))):
                yield file, number, frame


def _show(bar: Progress, task: TaskID, bytes_read: int) -> None:
    bar.update(task, completed=bytes_read)


def _rows(frame: Frame, pairs: Pairs) -> dict[str, ArrayLike]:
    """What each array gets from one frame."""
    numbers, counts, squares = sums_of_frame(frame)
    most = int(pairs.cells.abs().max()) if len(pairs.cells) else 0
    if most > np.iinfo(np.int16).max:
        raise ValueError(f"{frame.origin}: atoms lie {most} cells apart; wrap them into the cell")
    return {
        "n_atoms": len(frame.numbers),
        "n_pairs": len(pairs.neighbours),
        "n_elements": len(numbers),
        "periodic": frame.periodic,
        "cells": frame.cell,
        "energies": np.nan if frame.energy is None else frame.energy,
        "stresses": np.full((3, 3), np.nan) if frame.stress is None else frame.stress,
        "digests": np.frombuffer(digest(frame), dtype=np.uint8),
        "element_numbers": numbers,
        "element_counts": counts,
        "element_squared_forces": squares,
        "numbers": frame.numbers,
        "positions": frame.positions,
        "forces": np.full(frame.positions.shape, np.nan) if frame.forces is None else frame.forces,
        "neighbour_counts": pairs.counts,
        "neighbours": pairs.neighbours,
        "neighbour_cells": pairs.cells,
    }


def _statistics(frames: StoredFrames) -> dict[str, JsonValue]:
    """Of all frames: counts, neighbours, forces and energies by element."""
    sums = frames.sums()
    atoms = dict(zip(sums.symbols, sums.counts.sum(axis=0).tolist(), strict=True))
    return {
        "frames": len(frames),
        "atoms": frames.n_atoms,
        "atoms_by_element": atoms,
        "neighbours_of_an_atom": frames.n_pairs / frames.n_atoms,
        "frames_with_energy": int(np.isfinite(sums.energies).sum()),
        "frames_with_forces": int(np.isfinite(sums.squared_forces.sum(axis=1)).sum()),
        "force_rms_ev_per_angstrom": dict(force_scales(frames, sums.symbols)),
        "fitted_energy_of_an_atom_ev": dict(fitted_shifts(frames, sums.symbols)),
    }
