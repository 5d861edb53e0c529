"""Data to pydantic models, and what is wrong with it in words a user likes.

Owns the translation of pydantic's errors. Never knows what the models mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from jinja2 import TemplateSyntaxError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sundog.errors import suggest
from sundog.flow.complaints import Complaints
from sundog.flow.positions import DataPath, Positions

M = TypeVar("M", bound=BaseModel)
MAX_NUMBER = 2**64

_WORDS = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "string_too_short": "must not be empty",
}


def read(
    model: type[M],
    data: Any,
    path: DataPath,
    positions: Positions,
    complaints: Complaints,
    elsewhere: Mapping[str, str] | None = None,
) -> M | None:
    """Return `data`, which stands at `path`, as a `model`; None when it is wrong, after complaining.

    `elsewhere`: hints for keys that are unknown here but have another place.
    """
    try:
        found = model.model_validate(data)
        huge = list(_huge(found))
        for place in huge:
            what = f"{_label(place)} must be a number below {MAX_NUMBER:,}"
            complaints.add(what, positions.value((*path, *_inside(data, place))))
        return None if huge else found
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _complain(model, data, path, details, positions, complaints, elsewhere or {})
    return None


def _huge(model: BaseModel, place: DataPath = ()) -> Iterator[DataPath]:
    """Yield where a model's own fields hold numbers that no limit, time or count can be: arithmetic on them would
    overflow. What stands in fields of any type is the user's data."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        here: DataPath = (*place, field.alias or name)
        if isinstance(value, int | float) and not abs(value) < MAX_NUMBER:
            yield here
        elif isinstance(value, BaseModel):
            yield from _huge(value, here)
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                if isinstance(inner, BaseModel):
                    yield from _huge(inner, (*here, index))


def known_keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _complain(
    model: type[BaseModel],
    data: Any,
    path: DataPath,
    details: ErrorDetails,
    positions: Positions,
    complaints: Complaints,
    elsewhere: Mapping[str, str],
) -> None:
    kind, loc = details["type"], details["loc"]
    inner = _inside(data, loc)
    if kind == "missing":
        holder = _label(inner) or _label(path[-1:]) or "the flow"
        complaints.add(f"'{loc[-1]}' is missing in {holder}", positions.key((*path, *inner)))
        return
    if kind == "extra_forbidden":
        key = str(loc[-1])
        holder = _label(inner[:-1]) or _label(path[-1:]) or "the flow"
        hint = elsewhere.get(key) or suggest(key, _keys_at(model, inner[:-1]))
        complaints.add(f"unknown key '{key}' in {holder}", positions.key((*path, *inner)), hint)
        return
    where = positions.value((*path, *inner))
    cause = details.get("ctx", {}).get("error")
    if kind == "value_error" and isinstance(cause, ValueError):
        pattern = _template_mistake(cause, str(details["input"]))
        if pattern is not None:
            where = positions.match((*path, *inner), pattern)
        complaints.add(_sentence(cause, _label(inner)), where, getattr(cause, "hint", None))
        return
    what = _WORDS.get(kind) or details["msg"].replace("Input should be", "must be")
    label = _label(inner) or _label(path[-1:]) or "a flow"
    complaints.add(f"{label} {what}{_shown(details['input'])}", where)


def _sentence(error: ValueError, label: str) -> str:
    """Return the validator's own words; short ones that lack a subject get the name of the value."""
    text = str(error)
    return f"{label} {text}" if label and text.startswith(("must ", "needs ")) else text


def _template_mistake(error: ValueError, source: str) -> re.Pattern[str] | None:
    """Return a pattern for the line of a template that Jinja could not parse."""
    syntax = error.__cause__.__cause__ if error.__cause__ is not None else None
    if not isinstance(syntax, TemplateSyntaxError):
        return None
    lines = source.splitlines()
    line = lines[syntax.lineno - 1].strip() if 0 < syntax.lineno <= len(lines) else ""
    return re.compile(re.escape(line)) if line else None


def _inside(data: Any, loc: DataPath) -> DataPath:
    """Return `loc` without the parts that pydantic adds for its own branches."""
    found: list[str | int] = []
    for part in loc:
        match data:
            case dict() if part in data:
                data = data[part]
            case list() | tuple() if isinstance(part, int) and part < len(data):
                data = data[part]
            case _:
                continue
        found.append(part)
    return tuple(found)


def _label(path: DataPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"'{text}'" if text else ""


def _shown(value: object) -> str:
    if isinstance(value, bool | int | float | str) and len(str(value)) <= 40:
        return f", not {str(value).lower() if isinstance(value, bool) else repr(value)}"
    return ""


def _keys_at(model: type[BaseModel], path: DataPath) -> list[str]:
    """Return the keys that the model at `path` inside `model` knows."""
    models = [model]
    for part in path:
        if isinstance(part, int):
            continue
        inner = [
            found
            for outer in models
            for name, field in outer.model_fields.items()
            if part in (name, field.alias)
            for found in _models_in(field.annotation)
        ]
        models = inner or models
    return [key for found in models for key in known_keys(found)]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
