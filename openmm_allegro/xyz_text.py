"""The text of extended XYZ files, frame by frame."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

OPENERS: dict[str, Callable[..., TextIO]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def is_xyz(path: Path) -> bool:
    """Whether the name is that of extended XYZ, compressed or not."""
    return Path(path.stem if path.suffix in OPENERS else path).suffix.lower() in (".xyz", ".extxyz")


def open_text(path: Path) -> TextIO:
    """The file as text, decompressed by its name."""
    return OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8")


def texts_of_frames(file: TextIO) -> Iterator[list[str]]:
    """The lines of each frame: a count, a comment, that many atoms, and VEC lines, which some programs add."""
    line = file.readline()
    while line.strip():
        try:
            n_atoms = int(line)
        except ValueError as error:
            raise ValueError(f"expected the number of atoms of a frame, found {line.strip()!r}") from error
        lines = [line, *(file.readline() for _ in range(n_atoms + 1))]
        if not lines[-1]:
            raise ValueError(f"the file ends within a frame of {n_atoms} atoms")
        line = file.readline()
        while line.lstrip().startswith("VEC"):
            lines.append(line)
            line = file.readline()
        yield lines
    if any(rest.strip() for rest in file):
        raise ValueError("an empty line stands between frames, which ends the file for most programs; remove it")


def check_whole(file: TextIO) -> None:
    """Refuse what ASE leaves unread without a word: all that follows an empty line between frames."""
    for _ in texts_of_frames(file):
        pass


def check_file(path: Path) -> None:
    """The same of a file, compressed or not; one of another format passes."""
    if is_xyz(path):
        with open_text(path) as file:
            check_whole(file)
