"""Answers of the command line: figures as text for a reader, or as one JSON object for a program."""

import contextlib
import ctypes
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import cast


@contextlib.contextmanager
def answering(as_json: bool) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """A function that keeps the answer, printed at the end; what libraries print meanwhile goes to standard error."""
    answers: list[Mapping[str, object]] = []
    try:
        with _standard_output_as_error():
            yield answers.append
    except KeyboardInterrupt as stop:
        complain(str(stop) or "stopped", False, 130)  # typer keeps the status and drops the sentence
        raise
    for each in answers:
        figures = _plain(each)
        print(json.dumps(figures, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(_lines(figures)))


@contextlib.contextmanager
def _standard_output_as_error() -> Iterator[None]:
    """Also what C code prints (mdtraj's readers do), which only file descriptors can redirect."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _plain(value: object) -> object:
    """What JSON has: paths as text, None for nan and infinity."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "as_dict"):
        return _plain(value.as_dict())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _lines(value: object, indent: str = "") -> Iterator[str]:
    """The same for a reader: one name and value a line, tables within tables indented."""
    if not isinstance(value, dict):
        yield f"{indent}{value}"
        return
    shown_here = {name: each for name, each in value.items() if each is not None and each != {}}
    width = max((len(name) for name, each in shown_here.items() if not isinstance(each, dict)), default=0)
    for name, each in shown_here.items():
        if isinstance(each, dict):
            yield f"{indent}{name}"
            yield from _table(each, indent + "  ") if _is_table(each) else _lines(each, indent + "  ")
        else:
            yield f"{indent}{name:<{width}}  {_shown(each)}"


def _is_table(rows: dict[str, object]) -> bool:
    """Whether all values are figures under the same names."""
    first = next(iter(rows.values()))
    if len(rows) < 2 or not isinstance(first, dict) or not first:
        return False
    same = all(isinstance(row, dict) and row.keys() == first.keys() for row in rows.values())
    return same and not any(isinstance(each, dict) for row in rows.values() for each in cast(dict, row).values())


def _table(rows: dict[str, object], indent: str) -> Iterator[str]:
    """A line of names, then a line for each row; columns that are empty everywhere are left out."""
    figures = {name: cast(dict[str, object], row) for name, row in rows.items()}
    columns = [name for name in next(iter(figures.values())) if any(row[name] is not None for row in figures.values())]
    cells = [["", *columns]]
    cells += [[name, *("" if row[c] is None else _shown(row[c]) for c in columns)] for name, row in figures.items()]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns) + 1)]
    for row in cells:
        yield (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def complain(sentence: str, show_traceback: bool, status: int) -> int:
    if show_traceback:
        traceback.print_exc()
    print(f"openmm-allegro: {' '.join(sentence.split())}", file=sys.stderr)
    return status
