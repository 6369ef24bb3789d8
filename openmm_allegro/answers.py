"""Answers of the command line: figures as text for a reader, or as one JSON object for a program."""

import contextlib
import ctypes
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping


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
            yield from _lines(each, indent + "  ")
        else:
            shown = ", ".join(map(str, each)) if isinstance(each, list) else each
            yield f"{indent}{name:<{width}}  {f'{shown:.6g}' if isinstance(shown, float) else shown}"


def complain(sentence: str, show_traceback: bool, status: int) -> int:
    if show_traceback:
        traceback.print_exc()
    print(f"openmm-allegro: {' '.join(sentence.split())}", file=sys.stderr)
    return status
