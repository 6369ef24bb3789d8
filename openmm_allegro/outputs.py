"""What a command writes does not take the place of what it reads, nor of what took long to make."""

from collections.abc import Iterable
from pathlib import Path


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path | str | None]) -> None:
    """Refuse to write over a file that is read, however it is named."""
    read = [Path(path) for path in inputs if path is not None]
    for output in outputs:
        if any(output.resolve() == path.resolve() or _is_same_file(output, path) for path in read):
            raise ValueError(
                f"`{output}` would be written, but it is read, too, and would be lost; name another output"
            )


def check_ending(output: Path | None, ending: str) -> None:
    """Refuse a name that promises another format than is written, as that of a data file would."""
    if output is not None and output.suffix.lower() not in ("", ending):
        raise ValueError(
            f"`{output}` would be written as {ending[1:].upper()}, but its name ends in {output.suffix}; "
            f"name it `{output.with_suffix(ending)}`"
        )


def check_new_outputs(outputs: Iterable[Path], inputs: Iterable[Path | str | None] = ()) -> None:
    """The same, and refuse to write over any other file."""
    outputs = list(outputs)
    check_outputs(outputs, inputs)
    for output in outputs:
        if output.exists():
            raise ValueError(f"`{output}` exists already and is kept as it is; name another output, or remove it first")


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
