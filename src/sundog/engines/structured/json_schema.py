"""The part of JSON Schema that sundog's own engines can generate, as a small tree.

Owns reading a schema and refusing what lies outside that part. Never generates and never checks an answer.

Every object is generated with all its listed properties, in their order, and no others: what comes out is
always valid, though not every valid instance can come out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from sundog.errors import BadResponse

ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
ANNOTATIONS |= {"$schema", "$id", "$comment", "$defs", "definitions"}


@dataclass(frozen=True, slots=True)
class LiteralSchema:
    """One of some JSON texts, compact: an enum, a constant, a truth value, null."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberSchema:
    """A number within bounds, both included, None for open; `is_integer` leaves out the fraction."""

    minimum: int | None
    maximum: int | None
    is_integer: bool


@dataclass(frozen=True, slots=True)
class StringSchema:
    """A string; lengths in characters."""

    min_length: int
    max_length: int | None


@dataclass(frozen=True, slots=True)
class ArraySchema:
    item: AnswerSchema
    min_items: int
    max_items: int | None


@dataclass(frozen=True, slots=True)
class ObjectSchema:
    fields: tuple[tuple[str, AnswerSchema], ...]


@dataclass(frozen=True, slots=True)
class AnyOfSchema:
    options: tuple[AnswerSchema, ...]


AnswerSchema = LiteralSchema | NumberSchema | StringSchema | ArraySchema | ObjectSchema | AnyOfSchema


@lru_cache(maxsize=256)
def read_schema(schema_text: str) -> AnswerSchema:
    """Return the tree of a schema given as JSON text; BadResponse, not retryable, for what is outside the subset."""
    try:
        schema = json.loads(schema_text)
    except ValueError as error:
        raise BadResponse(f"the answer's schema is not JSON: {error}") from error
    return _Reader(schema).read(schema, "$", ())


class _Reader:
    def __init__(self, root: Any) -> None:
        self._root = root

    def read(self, schema: Any, path: str, open_refs: tuple[str, ...]) -> AnswerSchema:
        """Return the shape of the values that `schema` allows. `path` is its place for errors, `open_refs` are the
        references that led here. BadResponse for what the engine cannot generate."""
        if not isinstance(schema, Mapping):
            _refuse(path, "a schema that says nothing about the value", "name its type")
        if "$ref" in schema:
            return self._read_ref(schema, path, open_refs)
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return self._read_choice(key, schema, path, open_refs)
        if "const" in schema or "enum" in schema:
            _check_keys(schema, path, {"type", "const", "enum"})
            return LiteralSchema(tuple(map(_compact, [schema["const"]] if "const" in schema else schema["enum"])))
        kind = schema.get("type")
        if isinstance(kind, list):
            return AnyOfSchema(tuple(self.read({**schema, "type": one}, path, open_refs) for one in kind))
        return self._read_type(kind, schema, path, open_refs)

    def _read_ref(self, schema: Mapping[str, Any], path: str, open_refs: tuple[str, ...]) -> AnswerSchema:
        ref = schema["$ref"]
        _check_keys(schema, path, {"$ref"})
        if ref in open_refs:
            _refuse(path, f"the recursive reference {ref}", "write the levels out")
        found: Any = self._root
        for part in ref.removeprefix("#").split("/")[1:] if ref.startswith("#/") else (None,):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is None:
            _refuse(path, f"the reference {ref}, which leads nowhere in the schema", "use '#/$defs/<name>'")
        return self.read(found, path, (*open_refs, ref))

    def _read_choice(self, key: str, schema: Mapping[str, Any], path: str, open_refs: tuple[str, ...]) -> AnswerSchema:
        _check_keys(schema, path, {key})
        options = tuple(self.read(option, f"{path}.{key}[{i}]", open_refs) for i, option in enumerate(schema[key]))
        # Two options of oneOf might both accept one value; with an exact choice of shapes that cannot be seen here.
        if key == "oneOf" or (key == "allOf" and len(options) != 1):
            _refuse(path, f"'{key}'", "use 'anyOf'")
        return options[0] if len(options) == 1 else AnyOfSchema(options)

    def _read_type(self, kind: Any, schema: Mapping[str, Any], path: str, open_refs: tuple[str, ...]) -> AnswerSchema:
        match kind:
            case "object":
                return self._read_object(schema, path, open_refs)
            case "array":
                _check_keys(schema, path, {"type", "items", "minItems", "maxItems"})
                item = self.read(schema.get("items"), f"{path}[]", open_refs)
                return ArraySchema(item, schema.get("minItems", 0), schema.get("maxItems"))
            case "string":
                _check_keys(schema, path, {"type", "minLength", "maxLength"})
                return StringSchema(schema.get("minLength", 0), schema.get("maxLength"))
            case "integer":
                return _read_integer(schema, path)
            case "number":
                _check_keys(schema, path, {"type", "minimum", "maximum"})
                return NumberSchema(_whole(schema, "minimum", path), _whole(schema, "maximum", path), is_integer=False)
            case "boolean" | "null":
                _check_keys(schema, path, {"type"})
                return LiteralSchema(("true", "false") if kind == "boolean" else ("null",))
        return _refuse(path, f"the type {kind!r}", "use object, array, string, integer, number, boolean or null")

    def _read_object(self, schema: Mapping[str, Any], path: str, open_refs: tuple[str, ...]) -> AnswerSchema:
        _check_keys(schema, path, {"type", "properties", "required", "additionalProperties"})
        properties = schema.get("properties") or _refuse(path, "an object without properties", "name its fields")
        missing = [name for name in schema.get("required", ()) if name not in properties]
        if missing:
            _refuse(path, f"the required field '{missing[0]}' without a schema", "describe it under 'properties'")
        return ObjectSchema(
            tuple((name, self.read(one, f"{path}.{name}", open_refs)) for name, one in properties.items())
        )


def _read_integer(schema: Mapping[str, Any], path: str) -> NumberSchema:
    _check_keys(schema, path, {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
    above, below = _whole(schema, "exclusiveMinimum", path), _whole(schema, "exclusiveMaximum", path)
    minimums = [_whole(schema, "minimum", path), None if above is None else above + 1]
    maximums = [_whole(schema, "maximum", path), None if below is None else below - 1]
    low = max((bound for bound in minimums if bound is not None), default=None)
    high = min((bound for bound in maximums if bound is not None), default=None)
    return NumberSchema(low, high, is_integer=True)


def _whole(schema: Mapping[str, Any], key: str, path: str) -> int | None:
    bound = schema.get(key)
    if bound is not None and bound != int(bound):
        _refuse(path, f"the fractional {key} {bound}", "use a whole number")
    return None if bound is None else int(bound)


def _check_keys(schema: Mapping[str, Any], path: str, known: set[str]) -> None:
    for key in schema:
        if key not in known and key not in ANNOTATIONS:
            _refuse(path, f"'{key}'", "leave it out and check the answer in a python step")


def _refuse(path: str, what: str, hint: str) -> NoReturn:
    raise BadResponse(f"this engine cannot generate answers for {what} in a schema", where=f"schema {path}", hint=hint)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
