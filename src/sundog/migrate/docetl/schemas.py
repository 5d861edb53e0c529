"""The types that DocETL writes as text, such as `list[{name: string, age: int}]`, as the forms of a flow's answers.

Owns the reading of that notation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sundog.errors import FlowError

_SCALARS = {
    "string": "str", "str": "str", "text": "str", "varchar": "str", "integer": "int", "int": "int", "number": "float",
    "float": "float", "decimal": "float", "boolean": "bool", "bool": "bool",
}  # fmt: skip
_SCHEMAS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_OBJECTS = {"object", "dict"}
_TOKEN = re.compile(r"\s*([A-Za-z_][\w ]*?(?=\s*[\[\]{}:,]|\s*$)|[\[\]{}:,]|\S)")
RESERVED = "text"
"""A flow's answers have their whole text under this name."""


def answer_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `output` of an llm step: the short form where that can say it, else a JSON Schema. FlowError for a type
    that cannot be read. The field RESERVED is called `text_` there."""
    fields = {field_name(name): _parsed(str(written)) for name, written in schema.items()}
    shorts = {name: _short(form) for name, form in fields.items()}
    return {"json_schema": _json_schema(fields)} if None in shorts.values() else shorts


def field_name(name: str) -> str:
    """Return what a column is called in an answer."""
    return f"{name}_" if name == RESERVED else name


def _parsed(written: str) -> Any:
    tokens = _TOKEN.findall(written)
    value, rest = _type(tokens, written)
    if rest:
        raise _unread(written)
    return value


def _type(tokens: list[str], written: str) -> tuple[Any, list[str]]:
    match tokens:
        case ["{", *rest]:
            return _fields(rest, written)
        case ["list" | "array", "[", *rest]:
            inner, rest = _type(rest, written)
            return [inner], _after("]", rest, written)
        case ["enum", "[", *rest] if "]" in rest:
            end = rest.index("]")
            return tuple(word for word in rest[:end] if word != ","), rest[end + 1 :]
        case [name, *rest] if name.lower() in _SCALARS:
            return _SCALARS[name.lower()], rest
        case [name, *rest] if name.lower() in _OBJECTS:
            return None, rest
        case ["list" | "array"]:
            return [None], []
    raise _unread(written)


def _fields(tokens: list[str], written: str) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    while True:
        match tokens:
            case ["}", *rest]:
                return found, rest
            case [name, ":", *rest]:
                found[name], tokens = _type(rest, written)
                tokens = tokens[1:] if tokens[:1] == [","] else tokens
            case _:
                raise _unread(written)


def _after(token: str, tokens: list[str], written: str) -> list[str]:
    if tokens[:1] != [token]:
        raise _unread(written)
    return tokens[1:]


def _unread(written: str) -> FlowError:
    return FlowError(f"the type '{written}' cannot be read")


def _short(form: Any) -> Any:
    """Return a form as the short form of `output` says it; None where it cannot. A parsed form is a scalar's name, a
    list of one form, a mapping of forms, a tuple of literals, or None for an object of any fields."""
    match form:
        case str():
            return form
        case dict():
            inner = {name: _short(one) for name, one in form.items()}
            return None if None in inner.values() else inner
        case [dict() as fields] if isinstance(form, list):
            return None if (short := _short(fields)) is None else [short]
        case [inner] if isinstance(form, list):
            short = _short(inner)
            return f"list[{short}]" if isinstance(short, str) else None
        case tuple():
            return list(form) if len(form) > 1 else None
    return None


def _json_schema(form: Any) -> dict[str, Any]:
    match form:
        case None:
            return {"type": "object"}
        case dict():
            return {
                "type": "object",
                "properties": {name: _json_schema(inner) for name, inner in form.items()},
                "required": list(form),
                "additionalProperties": False,
            }
        case tuple():
            return {"enum": list(form)}
        case [inner]:
            return {"type": "array", "items": _json_schema(inner)}
    return {"type": _SCHEMAS[form]}
