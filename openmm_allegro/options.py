"""Options from TOML files, and what is wrong with them said in sentences with each option's full name."""

import difflib
import tomllib
from pathlib import Path
from typing import TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path | str, model_class: type[Model]) -> Model:
    """The options in a TOML file as a checked object."""
    return checked(read_table(path), model_class)


def read_table(path: Path | str) -> dict[str, object]:
    """The options in a TOML file, unchecked."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file `{path}`")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"`{path}` is not TOML: {error}") from error


def checked(table: dict[str, object], model_class: type[Model], section: str = "") -> Model:
    """The options in a table as a checked object. section: what their full names begin with."""
    try:
        return model_class.model_validate(table)
    except ValidationError as error:
        raise options_error(error, model_class, section) from error


def options_error(error: ValidationError, model_class: type[BaseModel], section: str = "") -> ValueError:
    """All mistakes of one configuration in a sentence. section: what the names of its options begin with."""
    return ValueError("; ".join(_sentence(problem, model_class, section) for problem in _one_each(error, model_class)))


def unknown_option(name: str, known: list[str]) -> str:
    """The sentence for an option that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name.rpartition(".")[2], known, n=1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return f"unknown option `{name}`; {hint}known options: {', '.join(known)}"


def _sentence(problem: ErrorDetails, model_class: type[BaseModel], section: str) -> str:
    path, owner = _located(problem, model_class)
    name = ".".join([section, *path] if section else path)
    if problem["type"] == "extra_forbidden":
        return unknown_option(name, [name for name, field in owner.model_fields.items() if field.repr])
    if problem["type"] == "missing" and isinstance(problem["loc"][-1], int):
        return f"option `{name}` is {problem['input']!r}: it has too few values"
    if problem["type"] == "missing":
        return f"option `{name}` is missing"
    if problem["type"] == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return message if not path or path[-1] in message else f"option `{name}`: {message}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"option `{name}` is {problem['input']!r}: {message}"


def _one_each(error: ValidationError, model_class: type[BaseModel]) -> list[ErrorDetails]:
    """The first problem of each option: pydantic lists one for every alternative type."""
    first: dict[tuple[str, ...], ErrorDetails] = {}
    for problem in error.errors(include_url=False):
        first.setdefault(tuple(_located(problem, model_class)[0]), problem)
    return list(first.values())


def _located(problem: ErrorDetails, model_class: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """Full name of the option in parts, and the table that it is in.

    pydantic goes on into the alternatives of a union and places in a list, which are no names of options.
    """
    owner: type[BaseModel] = model_class
    path: list[str] = []
    named_by_user = False
    for part in problem["loc"]:
        if isinstance(part, int) and owner is not model_class:
            path[-1] += f"[{part}]"  # in a list of tables
            continue
        path.append(str(part))
        if named_by_user:
            named_by_user = False
            continue
        field = owner.model_fields.get(str(part))
        inner = nested_table(field.annotation) if field is not None else None
        if field is None or inner is None:
            break
        owner, named_by_user = inner, get_origin(field.annotation) is dict
    return path, owner


def nested_table(annotation: object) -> type[BaseModel] | None:
    """The model of a nested table, which may be optional."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    tables = [nested_table(argument) for argument in get_args(annotation)]
    return next((table for table in tables if table is not None), None)
