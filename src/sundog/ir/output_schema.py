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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sundog.errors import BadResponse, suggest
from sundog.ir.normal_form import normal_form
from sundog.ir.shape import Anything, ListOf, Record, Scalar, Shape

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from referencing import Registry

_SCALARS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_NUM_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """`text`: JSON Schema as JSON, properties in the order written. `shape`: what templates may read."""

    text: str
    shape: Shape

    @classmethod
    def of(cls, written: Any) -> OutputSchema:
        """From the short form or `{json_schema: ...}`; ValueError with the field where it is wrong."""
        if isinstance(written, Mapping) and "json_schema" in written:
            schema = _full_schema(written)
        else:
            schema = _object(written, "output")
        if "text" in schema.get("properties", {}):
            raise ValueError("an output field cannot be called 'text': that is the whole answer")
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        return cls(text, _shape(schema))


def parse_answer(answer: str, schema_text: str, *, hint: str | None = None, retryable: bool = False) -> dict[str, Any]:
    """`answer` as the object that the schema asks for; BadResponse that says what is wrong and shows its beginning."""
    try:
        value = normal_form(json.loads(answer, parse_constant=_refuse_constant))
    except RecursionError as error:
        raise _bad("the answer is nested too deeply", answer, hint, retryable) from error
    except ValueError as error:
        raise _bad(f"the answer is not JSON: {error}", answer, hint, retryable) from error
    mistakes = sorted(_validator(schema_text).iter_errors(value), key=lambda mistake: mistake.json_path)
    if mistakes:
        what = f"the answer does not fit the output schema: {mistakes[0].json_path}: {mistakes[0].message}"
        raise _bad(what, answer, hint, retryable)
    assert isinstance(value, dict)
    return value


def _bad(what: str, answer: str, hint: str | None, retryable: bool) -> BadResponse:
    beginning = f"the answer begins with {answer[:_NUM_SHOWN_CHARACTERS]!r}" if answer else "the answer is empty"
    return BadResponse(what, hint=f"{hint}; {beginning}" if hint else beginning, retryable=retryable)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Validator:
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    schema = json.loads(schema_text)
    # An empty registry: a schema that names a web address must not make a run fetch it.
    return validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())


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


def _full_schema(written: Mapping[str, Any]) -> dict[str, Any]:
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    schema = written["json_schema"]
    if len(written) != 1:
        raise ValueError("'json_schema' stands alone in 'output'")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ValueError("'json_schema' must describe an object: {type: object, properties: {...}}")
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"'json_schema' is no JSON Schema: {error.json_path}: {error.message}") from error
    _check_references(schema)
    return schema


def _check_references(schema: dict[str, Any]) -> None:
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(schema.get("$id", ""), resource)
    resolver = registry.resolver(schema.get("$id", ""))
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(f"'json_schema' refers to '{reference}', which is not in it") from error


def _references(schema: Any) -> Iterator[str]:
    match schema:
        case dict():
            if isinstance(schema.get("$ref"), str):
                yield schema["$ref"]
            for value in schema.values():
                yield from _references(value)
        case list():
            for value in schema:
                yield from _references(value)


def _shape(schema: Any) -> Shape:
    match schema:
        case {"type": "object", "properties": dict() as properties, "additionalProperties": False}:
            return Record(tuple((name, _shape(value)) for name, value in properties.items()))
        case {"type": "array", "items": dict() as items}:
            return ListOf(_shape(items))
        case {"type": "string" | "integer" | "number" | "boolean"} | {"enum": _}:
            return Scalar()
    return Anything()
