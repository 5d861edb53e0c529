"""Schemas without references: a schema that becomes a part of another one loses the place that its references name.

Owns their replacement by what they refer to. Never judges what an engine can do with the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sundog.engines.structured.json_schema import ANNOTATIONS
from sundog.serve.wire.body_fields import refuse_field

MAX_SCHEMAS = 10_000
"""The most schemas within one that is written out; references to references can double it at each step."""
_OF_SCHEMAS = ("properties", "patternProperties", "dependentSchemas")
_OF_DATA = ("const", "default", "enum", "examples")
_DEFINITIONS = ("$defs", "definitions")


def without_references(schema_text: str, place: str) -> str:
    """Return a schema, given and returned as JSON text, in which what references name stands in their place. A refusal
    for one that refers to itself, or grows too large; a reference that leads nowhere stays for the engine to refuse."""
    if '"$ref"' not in schema_text:
        return schema_text
    root = json.loads(schema_text)
    try:
        written = _Writer(root, place).written(root, ())
    except RecursionError:
        refuse_field(f"'{place}' is nested too deeply", place)
    kept = {name: value for name, value in written.items() if name not in _DEFINITIONS}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


class _Writer:
    def __init__(self, root: Mapping[str, Any], place: str) -> None:
        self._root = root
        self._place = place
        self._num_schemas = 0

    def written(self, schema: Any, open_references: tuple[str, ...]) -> Any:
        """Return a schema written out. `open_references`: those that led here."""
        self._num_schemas += 1
        if self._num_schemas > MAX_SCHEMAS:
            refuse_field(f"'{self._place}' has more than {MAX_SCHEMAS:,} schemas when written out", self._place)
        if isinstance(schema, list):
            return [self.written(one, open_references) for one in schema]
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._followed(reference, schema, open_references)
        return {name: self._value(name, value, open_references) for name, value in schema.items()}

    def _value(self, name: str, value: Any, open_references: tuple[str, ...]) -> Any:
        if name in _OF_DATA or name in _DEFINITIONS:
            return value
        if name in _OF_SCHEMAS and isinstance(value, dict):
            return {field: self.written(one, open_references) for field, one in value.items()}
        return self.written(value, open_references)

    def _followed(self, reference: str, schema: dict[str, Any], open_references: tuple[str, ...]) -> Any:
        found, beside = self._named(reference), {name: one for name, one in schema.items() if name != "$ref"}
        if not isinstance(found, dict) or not beside.keys() <= ANNOTATIONS:
            return schema
        if reference in open_references:
            refuse_field(f"'{self._place}' refers to itself by {reference}: write the levels out", self._place)
        return {**self.written(found, (*open_references, reference)), **beside}

    def _named(self, reference: str) -> Any:
        """Return what a reference names; None where it leads nowhere."""
        if reference == "#":
            return self._root
        found: Any = self._root if reference.startswith("#/") else None
        for part in reference.split("/")[1:]:
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found
