"""The smallest answers that a JSON Schema allows, as JSON text: what an answer's limit must hold at the least.

Owns reading the schema for this. It never refuses one: of what it cannot read it says that anything is small enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

MAX_SCHEMA_DEPTH = 50
MAX_OPTIONS = 1_000
MAX_ANSWER_CHARACTERS = 100_000
"""A text that is longer fits into no answer, and is told up to here."""
SMALLEST = {
    "object": "{}",
    "array": "[]",
    "string": '""',
    "integer": "0",
    "number": "0",
    "boolean": "true",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class SmallestAnswers:
    """The shortest answers that a schema allows."""

    #: The shortest answer.
    text: str
    #: The shortest answer with a given option of an enum, by field and option, where it is longer than `text`; fields
    #: are named as in "facts.unit".
    by_option: Mapping[tuple[str, str], str]


@lru_cache(maxsize=256)
def smallest_answers(schema_text: str) -> SmallestAnswers:
    """Return the smallest answers of a schema given as JSON text."""
    schema = json.loads(schema_text)
    reader = _Reader(schema)
    smallest = reader.smallest(schema)
    found = islice(reader.with_option(schema), MAX_OPTIONS)
    texts = {place: text for place, text in found if len(text) > len(smallest)}
    return SmallestAnswers(smallest, texts)


class _Reader:
    def __init__(self, root: Any) -> None:
        self._root = root
        # By the identity of a part, so that one which is referred to often is read once, and one inside itself ends.
        self._known: dict[int, str] = {}

    def smallest(self, schema: Any, depth: int = 0) -> str:
        """Return the shortest JSON text that `schema` seems to allow, at most MAX_CHARACTERS of it; `0` where the
        schema says nothing."""
        if not isinstance(schema, Mapping) or depth > MAX_SCHEMA_DEPTH:
            return "0"
        if id(schema) not in self._known:
            self._known[id(schema)] = "0"
            self._known[id(schema)] = self._read(schema, depth)[:MAX_ANSWER_CHARACTERS]
        return self._known[id(schema)]

    def _read(self, schema: Mapping[str, Any], depth: int) -> str:
        if "$ref" in schema:
            return self.smallest(self._target(schema["$ref"]), depth + 1)
        if "const" in schema:
            return _compact(schema["const"])
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return min(map(_compact, schema["enum"]), key=len)
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return min((self.smallest(one, depth + 1) for one in schema[key]), key=len)
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) and kinds else [kinds]
        return min((self._of_type(kind, schema, depth) for kind in kinds), key=len)

    def with_option(self, schema: Any, place: str = "", depth: int = 0) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield the smallest answer with each option of each enum that stands in required objects."""
        if not isinstance(schema, Mapping) or depth > MAX_SCHEMA_DEPTH:
            return
        if isinstance(schema.get("enum"), list):
            for option in schema["enum"]:
                yield (place, _compact(option)), _compact(option)
        if schema.get("type") != "object":
            return
        fields = dict(self._fields(schema, depth))
        for name in fields:
            path = f"{place}.{name}" if place else name
            for at, text in self.with_option(_properties(schema).get(name), path, depth + 1):
                yield at, _object({**fields, name: text})

    def _of_type(self, kind: Any, schema: Mapping[str, Any], depth: int) -> str:
        match kind:
            case "object":
                return _object(dict(self._fields(schema, depth)))
            case "array":
                item = self.smallest(schema.get("items"), depth + 1)
                num_items = min(_count(schema, "minItems"), MAX_ANSWER_CHARACTERS // len(item))
                return f"[{','.join([item] * num_items)}]"
            case "string":
                return f'"{"x" * _count(schema, "minLength")}"'
        return SMALLEST.get(kind, "0")

    def _fields(self, schema: Mapping[str, Any], depth: int) -> Iterator[tuple[str, str]]:
        known = _properties(schema)
        required = schema.get("required")
        for name in required if isinstance(required, list) else ():
            yield str(name), self.smallest(known.get(name), depth + 1)

    def _target(self, reference: Any) -> Any:
        found = self._root
        for part in str(reference).removeprefix("#").split("/")[1:]:
            found = found.get(part) if isinstance(found, Mapping) else None
        return found


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _object(fields: Mapping[str, str]) -> str:
    return f"{{{','.join(f'{_compact(name)}:{text}' for name, text in fields.items())}}}"


def _count(schema: Mapping[str, Any], key: str) -> int:
    value = schema.get(key, 0)
    return min(int(value), MAX_ANSWER_CHARACTERS) if isinstance(value, int) else 0


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
