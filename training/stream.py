"""Reading extended XYZ piece by piece, plain or compressed, for files that do not fit into memory."""

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import ase

from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.data import (
    check_unit_flags,
    frame_from_ase,
    images_in,
    labels_not_found,
    read_frames,
    refuse_labels,
)
from openmm_allegro.training.frames import Frame, check_frame
from openmm_allegro.xyz_text import OPENERS, is_xyz, texts_of_frames

FRAMES_OF_A_PIECE = 50


def stream_frames(path: Path, options: LabelOptions, read_so_far: Callable[[int], None]) -> Iterator[Frame]:
    """Every frame of a file in eV and Å, checked; extended XYZ is never held whole, other formats are.

    read_so_far: told now and then how many bytes of the file have been read.
    """
    if not is_xyz(path) or not path.is_file() or path.stat().st_size == 0:
        yield from read_frames(path, options)
        return
    first: list[ase.Atoms] = []
    number, only_single_atoms = 0, True
    not_found: set[str] | None = None
    with path.open("rb") as raw:
        for images in _pieces(path, raw):
            first = first or images[:1]
            check_unit_flags([*first, *images], path, options, [0, *range(number, number + len(images))])
            only_single_atoms &= all(len(atoms) == 1 for atoms in images)
            missing = set(labels_not_found(images, options))
            not_found = missing if not_found is None else not_found & missing
            for i, atoms in enumerate(images, start=number):
                frame = frame_from_ase(atoms, f"frame {i} of `{path.name}`", options)
                check_frame(frame, options)
                yield frame
            number += len(images)
            read_so_far(raw.tell())
    if number == 0:
        raise ValueError(f"`{path}` has no frames")
    if not only_single_atoms:
        refuse_labels(sorted(not_found or []), path, options)


def _pieces(path: Path, raw: BinaryIO) -> Iterator[list[ase.Atoms]]:
    """Some frames at a time: ASE jumps about in what it reads, so it gets pieces of text in memory."""
    opener = OPENERS.get(path.suffix)
    try:
        with opener(raw, "rt", encoding="utf-8") if opener else io.TextIOWrapper(raw, encoding="utf-8") as text:
            frames = texts_of_frames(text)
            before = 0
            while piece := list(itertools.islice(frames, FRAMES_OF_A_PIECE)):
                yield images_in(io.StringIO("".join(itertools.chain(*piece))), "extxyz", before)
                before += len(piece)
    except Exception as error:  # ASE and each decompressor fail in their own ways
        raise ValueError(f"cannot read `{path}`: {str(error) or type(error).__name__}") from error
