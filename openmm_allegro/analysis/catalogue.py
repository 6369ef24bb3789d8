"""The analyses by name, and how a line of text asks for one.

`rdf` is done for every pair of elements, `rdf:pair=Li-S` for one, `angles:triplet=S-P-S:cutoff_nm=0.27` has options.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Literal, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.result import Result
from openmm_allegro.analysis.selection import element_symbols, elements_of

Function = Callable[..., Result]
REQUIRED = inspect.Parameter.empty


class Entry(NamedTuple):
    """Where an analysis is, and what it is done for when nothing is chosen."""

    module: str
    function: str
    each: Literal["pair", "element"] | None = None
    """For every pair of elements or every element of the topology; None: once, its selections have to be given."""
    example: str = ""
    """What it needs or may be asked for, as in a request."""


CATALOGUE: dict[str, Entry] = {
    "rdf": Entry("rdf", "radial_distribution", "pair", "pair=Li-S"),
    "bonds": Entry("bonds", "bond_lengths", example="pair=P-S"),
    "angles": Entry("angles", "angle_distribution", example="triplet=S-P-S"),
    "structure_factor": Entry("structure_factor", "structure_factor"),
    "partial_structure_factor": Entry("structure_factor", "partial_structure_factor", example="pair=Li-S"),
    "network": Entry("network", "network_units", example="pair=P-S"),
    "solvation": Entry("solvation", "solvation_shell", example="selections=Li-O-F"),
    "ion_pairs": Entry("ion_pairs", "ion_pairs", example="pair=Na-Cl"),
    "hydrogen_bonds": Entry("hydrogen_bonds", "hydrogen_bonds"),
    "profile": Entry("profiles", "density_profile", example="selection=O"),
    "msd": Entry("msd", "mean_squared_displacement", "element", "element=Li"),
    "conductivity": Entry("conductivity", "ionic_conductivity", example="ions=Li-Cl:charges=1,-1:temperature_k=300"),
    "non_gaussian": Entry("non_gaussian", "non_gaussian_parameter", "element", "element=Li"),
    "van_hove_self": Entry("van_hove", "van_hove_self", "element", "element=Li"),
    "van_hove_distinct": Entry("van_hove", "van_hove_distinct", "pair", "pair=Li-Li"),
    "residence": Entry("residence", "residence_time", example="pair=Li-O"),
    "hops": Entry("hops", "hops", "element", "element=Li"),
    "vacf": Entry("velocities", "velocity_autocorrelation", "element", "element=Li"),
    "vibrations": Entry("vibrations", "vibrational_density", "element", "element=O"),
    "density": Entry("density", "mass_density"),
    "dielectric": Entry("dielectric", "dielectric_constant", example="charges=O=-0.834 H=0.417:temperature_k=300"),
    "hydration": Entry("hydration", "hydration", example="solute=protein"),
    "rmsd": Entry("rmsd", "rmsd"),
    "rmsf": Entry("rmsd", "rmsf"),
    "ramachandran": Entry("ramachandran", "ramachandran"),
    "dssp": Entry("secondary_structure", "secondary_structure"),
    "gyration": Entry("shape", "radius_of_gyration"),
    "end_to_end": Entry("shape", "end_to_end_distance", example="ends=name H1-name H2"),
    "stability": Entry("stability", "bond_stability"),
}


HOW_TO_ASK = """\
Ask as below or as NAME:OPTION=VALUE:OPTION=VALUE, in quotes where there are blanks. Words have hyphens between them,
numbers commas. A selection, also in place of an element, is an element or what mdtraj selects, such as `name CA`.
"""


class Request(NamedTuple):
    """One analysis with its options."""

    name: str
    options: Mapping[str, object]


def parse_request(text: str) -> Request:
    """Read `NAME:OPTION=VALUE:OPTION=VALUE`; words of a tuple have hyphens between them, numbers commas."""
    name, *settings = text.split(":")
    function = function_of(name)
    known, options = parameters_of(function), {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if not equals or option not in known:
            raise ValueError(
                f"`{setting}` in `{text}` is not an option of `{name}`; "
                f"write OPTION=VALUE with one of {', '.join(known)}"
            )
        options[option] = _converted(value, known[option], f"`{option}` of `{name}`")
    return Request(name, options)


def function_of(name: str) -> Function:
    """The function behind a name; its module is imported here."""
    if name not in CATALOGUE:
        raise ValueError(f"there is no analysis `{name}`; choose from {', '.join(CATALOGUE)}")
    entry = CATALOGUE[name]
    return getattr(importlib.import_module(f"openmm_allegro.analysis.{entry.module}"), entry.function)


def parameters_of(function: Function) -> dict[str, type]:
    """Options of an analysis with their types: all that it takes beside frames."""
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)[1:]
    return {name: hints[name] for name in names if Frames not in get_args(hints[name])}


def run(request: Request, frames: Frames, order: Sequence[str] = ()) -> list[Result]:
    """Do one analysis; where it is done for each pair or element, all of them that are not chosen.

    With fewer frames than blocks, and no `n_blocks` asked for, each frame is a block. order: of elements in pairs, in
    place of that of the topology.
    """
    function, each = function_of(request.name), CATALOGUE[request.name].each
    blocks = inspect.signature(function).parameters.get("n_blocks")
    if blocks is not None and "n_blocks" not in request.options and frames.n_frames < blocks.default:
        request = Request(request.name, {**request.options, "n_blocks": frames.n_frames})
    if each is None or each in request.options:
        _check_given(request, function)
        return [function(frames, **request.options)]
    place = {element: number for number, element in enumerate(order)}
    elements = sorted(elements_of(frames.topology), key=lambda element: place.get(element, len(place)))
    if each == "element":
        return [function(frames, element, **request.options) for element in elements]
    symbols = element_symbols(frames.topology).tolist()
    pairs = combinations_with_replacement(elements, 2)
    return [
        function(frames, pair, **request.options) for pair in pairs if pair[0] != pair[1] or symbols.count(pair[0]) > 1
    ]


def described() -> str:
    """Every analysis: how it is asked for, what it is, and its other options with their defaults."""
    lines = [HOW_TO_ASK]
    for name, entry in CATALOGUE.items():
        function = function_of(name)
        known = parameters_of(function)
        defaults = {option: inspect.signature(function).parameters[option].default for option in known}
        free = [
            option if defaults[option] in (None, (), "") else f"{option}={_shown(defaults[option])}"
            for option in known
            if option != entry.each and defaults[option] is not REQUIRED
        ]
        one = f"{name}:{entry.example}" if entry.example else name
        lines += [f"{name}  (every {entry.each}, or one: {one})" if entry.each else one]
        lines += [f"    {_first_sentence(function)}"]
        lines += [f"    options: {', '.join(free)}"] if free else []
    return "\n".join(lines)


def _check_given(request: Request, function: Function) -> None:
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.default is REQUIRED and parameter.name not in request.options:
            raise ValueError(
                f"`{request.name}` needs `{parameter.name}`; write for example "
                f"`{request.name}:{CATALOGUE[request.name].example}` "
                "(`openmm-allegro analyze --list` shows all options)"
            )


def _converted(text: str, annotation: type, what: str) -> object:
    """A value from its text by the annotation of the parameter."""
    kinds = get_args(annotation) if get_origin(annotation) is not tuple else (annotation,)
    of_tuple = [kind for kind in kinds if get_origin(kind) is tuple]
    value: object = text
    if of_tuple:
        words = text.split("-" if str in get_args(of_tuple[0]) else ",")
        value = text if len(words) == 1 and float in kinds else tuple(words)
    found: object
    try:
        found = TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        if of_tuple and error.errors()[0]["type"] in ("missing", "too_long"):
            between, n_words = ("hyphens", "words") if str in get_args(of_tuple[0]) else ("commas", "numbers")
            n = len(get_args(of_tuple[0]))
            raise ValueError(f"{what} is `{text}`; it takes {n} {n_words} with {between} between them") from error
        raise ValueError(f"{what} is `{text}`: {error.errors()[0]['msg']}") from error
    numbers: tuple[object, ...] = found if isinstance(found, tuple) else (found,)
    if not all(math.isfinite(each) for each in numbers if isinstance(each, float)):
        raise ValueError(f"{what} is `{text}`; it must be a finite number")
    if isinstance(found, int) and not isinstance(found, bool) and found < 1:
        raise ValueError(f"{what} is {found}; it must be 1 or more")
    return found


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ("-" if any(isinstance(word, str) for word in default) else ",").join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _first_sentence(function: Function) -> str:
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
