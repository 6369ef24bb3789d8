"""Flags of a verb from the fields of its options: what a TOML file takes, the command line takes."""

import inspect
from collections.abc import Callable
from typing import Annotated

import typer
from pydantic import BaseModel

from openmm_allegro.options import nested_table


def options_from(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add one option for each field of a model to a verb, which takes them as keywords; None when not given."""

    def add(verb: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(verb)
        kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        # a list of tables has no flag
        flags = [name for name, field in model.model_fields.items() if nested_table(field.annotation) is None]
        added = [_parameter(name, model) for name in flags]
        vars(verb)["__signature__"] = own.replace(parameters=kept + added)
        return verb

    return add


def _parameter(name: str, model: type[BaseModel]) -> inspect.Parameter:
    annotation = model.model_fields[name].annotation
    assert annotation is not None
    option = typer.Option(show_default=False, help=_help(name, model))
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=Annotated[annotation | None, option])


def _help(name: str, model: type[BaseModel]) -> str:
    field = model.model_fields[name]
    meaning = (field.description or name.replace("_", " ").capitalize()).replace("`", "")
    default = field.default
    if field.is_required() or default is None:
        return meaning
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    return f"{meaning}  [default: {str(default).lower() if isinstance(default, bool) else default}]"
