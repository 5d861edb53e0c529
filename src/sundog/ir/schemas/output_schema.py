"""Structured output: what a flow says of an answer's form, as JSON Schema, as a shape, and as a check.

Owns the short form. A mapping of fields to types, each one of

    str, int, float, bool          a scalar
    list[str], list[list[int]]     a list of scalars or lists
    [none, thousand, million]      one of two or more literals
    {name: str, value: float}      an object
    [{name: str, value: float}]    a list of objects

every field is required and there are no others. `{json_schema: {...}}` is full JSON Schema of an object instead.
Never talks to an engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sundog.errors import BadResponse, suggest
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, ScalarKind, Shape
from sundog.ir.values.normal_form import normal_form

_SCALARS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_KINDS: Mapping[str, ScalarKind] = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
_KIND_OF_LITERAL: Mapping[type, ScalarKind] = {str: "str", int: "int", float: "float", bool: "bool"}
_NUM_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The form that an LLM step's answer must have."""

    #: JSON Schema as JSON, properties in the order written.
    text: str
    #: The paths that templates may read.
    shape: Shape

    @property
    def field_names(self) -> tuple[str, ...]:
        """Return the names of the fields that the schema lists."""
        return tuple(json.loads(self.text).get("properties", {}))

    @classmethod
    def of(cls, written: Any) -> OutputSchema:
        """Read the form of an LLM's answer as `of_value` does; fields that an answer has anyway are refused too."""
        found = cls.of_value(written)
        properties = json.loads(found.text).get("properties", {})
        if "text" in properties:
            raise ValueError("an output field cannot be called 'text': that is the whole answer")
        if "usage" in properties:
            raise ValueError("an output field cannot be called 'usage': that is the tokens that the answer took")
        return found

    @classmethod
    def of_value(cls, written: Any) -> OutputSchema:
        """Read the short form or `{json_schema: ...}`; ValueError with the field where it is wrong."""
        try:
            schema = object_schema(written)
            text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        except RecursionError as error:
            raise ValueError("'output' is nested too deeply") from error
        return cls(text, schema_shape(schema))


def object_schema(written: Any, what: str = "output") -> dict[str, Any]:
    """Return the JSON Schema of an object, of the short form or `{json_schema: ...}`; ValueError with the field where
    it is wrong. `what`: the key under which it is written."""
    if isinstance(written, Mapping) and "json_schema" in written:
        return _full_schema(written, what)
    return _object(written, what)


def parse_answer(
    answer: str,
    schema_text: str,
    *,
    hint: str | None = None,
    retryable: bool = False,
    redact: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Return `answer` as the object that the schema asks for; BadResponse that says what is wrong and shows its
    beginning. `redact`: takes secrets out of a text, before that is cut."""
    try:
        return _fitting(answer, schema_text)
    except _NoAnswer as error:
        what, shown = _beginning(redact(error.what)), redact(answer)[:_NUM_SHOWN_CHARACTERS]
        beginning = f"the answer begins with {shown!r}" if answer else "the answer is empty"
        hint = f"{hint}; {beginning}" if hint else beginning
        raise BadResponse(what, hint=hint, retryable=retryable) from error


class _NoAnswer(Exception):
    """Raised for a text that is not what was asked for, with the reason in `what`, which may be long; caught in this
    module, which makes a BadResponse of it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def _fitting(answer: str, schema_text: str) -> dict[str, Any]:
    try:
        value = normal_form(json.loads(answer, parse_constant=_refuse_constant))
    except RecursionError as error:
        raise _NoAnswer("the answer is nested too deeply") from error
    except ValueError as error:
        raise _NoAnswer(f"the answer is not JSON: {error}") from error
    if why := why_not_fitting(value, schema_text):
        raise _NoAnswer(f"the answer {why}")
    assert isinstance(value, dict)
    return value


def why_not_fitting(value: Any, schema_text: str) -> str | None:
    """Return why a JSON value is not what a schema asks for, as the rest of a sentence; None where it is."""
    from sundog.ir.schemas.answer_check import find_answer_mistake

    try:
        mistake = find_answer_mistake(value, schema_text)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        return f"cannot be checked: {why}"
    return None if mistake is None else f"does not fit the output schema: {mistake}"


def _beginning(text: str) -> str:
    return text if len(text) <= 2 * _NUM_SHOWN_CHARACTERS else f"{text[: 2 * _NUM_SHOWN_CHARACTERS]}..."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _object(written: Any, where: str) -> dict[str, Any]:
    if not isinstance(written, Mapping) or not written:
        raise ValueError(f"'{where}' must be a mapping of fields to types, as in {{answer: str}}")
    properties = {str(name): _type(value, f"{where}.{name}") for name, value in written.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _type(written: Any, where: str) -> dict[str, Any]:
    match written:
        case str():
            return _named(written.replace(" ", ""), written, where)
        case Mapping():
            return _object(written, where)
        case [Mapping() as item]:
            return {"type": "array", "items": _object(item, f"{where}[]")}
        case list() | tuple():
            return _one_of(list(written), where)
    raise ValueError(f"'{where}' is no type: {written!r}; {_EXAMPLES}")


_EXAMPLES = "a type is str, int, float, bool, list[str], [one, of, these], {a: str} or [{a: str}]"


def _named(name: str, written: str, where: str) -> dict[str, Any]:
    if name in _SCALARS:
        return {"type": _SCALARS[name]}
    if name.startswith("list[") and name.endswith("]"):
        return {"type": "array", "items": _named(name[5:-1], written, where)}
    raise ValueError(f"'{where}' has the unknown type '{written}'; {suggest(written, [*_SCALARS, 'list[str]'])}")


def _one_of(literals: list[Any], where: str) -> dict[str, Any]:
    if not all(literal is None or isinstance(literal, str | int | float) for literal in literals):
        raise ValueError(f"'{where}' must list text, numbers, truth values or null; {_EXAMPLES}")
    if len(literals) == 1 and literals[0] in _SCALARS:
        raise ValueError(f"'{where}': a list of values is written list[{literals[0]}], as text")
    if len(literals) < 2:
        raise ValueError(f"'{where}' must list two or more values to choose from")
    if all(literal in _SCALARS for literal in literals):
        raise ValueError(f"'{where}' has more than one type; write {{json_schema: ...}} for that")
    if len({json.dumps(literal) for literal in literals}) < len(literals):
        raise ValueError(f"'{where}' lists a value twice")
    return {"enum": literals}


def _full_schema(written: Mapping[str, Any], what: str) -> dict[str, Any]:
    from sundog.ir.schemas.answer_check import check_schema

    schema = written["json_schema"]
    if len(written) != 1:
        raise ValueError(f"'json_schema' stands alone in '{what}'")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ValueError("'json_schema' must describe an object: {type: object, properties: {...}}")
    check_schema(schema)
    return schema


def schema_shape(schema: Any) -> Shape:
    """Return the paths that values of a schema have, as far as it tells."""
    match schema:
        case {"type": "object", "properties": dict() as properties, "additionalProperties": False}:
            return Record(tuple((name, schema_shape(value)) for name, value in properties.items()))
        case {"type": "array", "items": dict() as items}:
            return ListOf(schema_shape(items))
        case {"type": str() as name} if name in _KINDS:
            return Scalar(_KINDS[name])
        case {"enum": list() as literals}:
            kinds = {_KIND_OF_LITERAL.get(type(literal)) for literal in literals if literal is not None}
            return Scalar(kinds.pop() if len(kinds) == 1 else None)
    return Anything()
