"""A progress bar for long walks over frames: in a terminal, on standard error; elsewhere nothing."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
LONG = 50
"""Walks over fewer steps are not worth a bar."""


def counted(items: Sequence[T], what: str, console: Console | None = None) -> Iterator[T]:
    """The items one by one, with a bar that goes away at the end."""
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = len(items) < LONG or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        yield from bar.track(items, description=what)
