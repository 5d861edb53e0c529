"""JSON Schema as bodies have it: the form of an answer, and of a tool's arguments.

Owns what is a schema and can be written as JSON. What an engine can do with one is asked of the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sundog.errors import BadResponse, error_text
from sundog.ir.schemas.answer_check import check_schema
from sundog.serve.wire.body_fields import Fields, refuse_field, whole_string

SchemaCheck = Callable[[str], None]
"""A check that raises BadResponse for a schema, as JSON text, of which an engine can generate no answer."""
_ANY_OBJECT = '{"type":"object"}'


def answer_schema(body: Fields) -> str | None:
    """Return the schema that `response_format` asks for, as JSON text; None where an answer is text."""
    if body.value("response_format") is None:
        return None
    form = body.inner("response_format")
    match form.needed_text("type"):
        case "text":
            return None
        case "json_object":
            return _ANY_OBJECT
        case "json_schema":
            wanted = form.inner("json_schema")
            return schema_text(wanted.value("schema"), wanted.place("schema"))
        case kind:
            return refuse_field(
                f"'{form.place('type')}' is {kind}: use text, json_object or json_schema", form.place("type")
            )


def schema_text(schema: Any, place: str) -> str:
    """Return a schema as JSON text; a refusal for what is none."""
    if not isinstance(schema, dict):
        refuse_field(f"'{place}' must be a JSON Schema, which is an object", place)
    try:
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        check_schema(schema)
    except RecursionError:
        refuse_field(f"'{place}' is nested too deeply", place)
    except ValueError as error:
        refuse_field(f"'{place}' is no schema that can be used: {error}", place)
    return whole_string(text, place)


def check_ability(schema: str | None, check: SchemaCheck | None, place: str) -> None:
    """Raise a refusal where an engine cannot generate answers of a schema."""
    if schema is None or check is None:
        return
    try:
        check(schema)
    except BadResponse as error:
        refuse_field(f"'{place}': {' '.join(str(error).split())}", place)
    except Exception as error:  # the reader of an engine, before what a stranger wrote
        refuse_field(f"'{place}' cannot be read by this model's engine: {error_text(error)}", place)
