"""What was asked for, of one run or of several: results, and their figures for JSON."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from openmm_allegro.analysis.catalogue import Request, parse_request, run
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.result import Result
from openmm_allegro.analysis.runs import runs_together


def results_of(requests: Sequence[Request], frames: Frames, order: Sequence[str] = ()) -> dict[str, list[Result]]:
    """What each analysis gives, by its name. order: of elements in pairs, in place of that of the topology."""
    found: dict[str, list[Result]] = {}
    for request in requests:
        found.setdefault(request.name, []).extend(run(request, frames, order))
    return found


def results_as_asked(what: Sequence[str], runs: Sequence[Frames]) -> list[Result]:
    """What texts such as `rdf:pair=O-O` ask for, one after the other; of several runs of one system means over them."""
    by_analysis = results_of_runs([parse_request(text) for text in what], runs)
    return [result for group in by_analysis.values() for result in group]


def results_of_runs(
    requests: Sequence[Request], runs: Sequence[Frames], names: Sequence[str | Path] = (), order: Sequence[str] = ()
) -> dict[str, list[Result]]:
    """The same of several runs of one system, each result a mean over them; of one run its own results.

    names: of the runs, for what is said of one of them. order: of elements in pairs, by default that of the topology.
    """
    of_each: list[dict[str, list[Result]]] = []
    for frames, name in zip_longest(runs, names):
        with _named(name):
            of_each.append(results_of(requests, frames, order))
    return {name: runs_together([results[name] for results in of_each]) for name in of_each[0]}


def plain_figures(result: Result) -> dict[str, float | None]:
    """Figures of a result for JSON, each with its error under `NAME_error`; None for what is not finite."""
    plain: dict[str, float] = {}
    for name, measured in result.figures().items():
        plain[name], plain[f"{name}_error"] = measured
    return finite_or_none(plain)


def finite_or_none(numbers: dict[str, float]) -> dict[str, float | None]:
    """None in place of nan and infinity, which JSON does not have."""
    return {name: float(number) if math.isfinite(number) else None for name, number in numbers.items()}


@contextmanager
def _named(run: str | Path | None) -> Iterator[None]:
    """Put the name of a run, if it has one, before errors and warnings about it."""
    if run is None:
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        except ValueError as error:
            raise ValueError(f"`{run}`: {error}") from error
    for warning in caught:
        warnings.warn(f"`{run}`: {warning.message}", warning.category, stacklevel=4)
