"""The parameters of tools: what a flow says of them as JSON Schema, and the check of what a model calls them with.

Owns both. Never calls a tool.
"""

from __future__ import annotations

import json
from typing import Any

from sundog.ir.schemas.output_schema import object_schema
from sundog.ir.values.normal_form import normal_form

NUM_SHOWN_MISTAKES = 3
NUM_SHOWN_CHARACTERS = 200
NOTHING = '{"type":"object","properties":{},"required":[],"additionalProperties":false}'


def parameters_schema(written: Any) -> str:
    """Return the schema of a tool's arguments as JSON text, of the short form of `output`, `{json_schema: ...}` or an
    empty mapping; ValueError where it is wrong."""
    if written == {}:
        return NOTHING
    try:
        return json.dumps(object_schema(written, "parameters"), ensure_ascii=False, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("'parameters' is nested too deeply") from error


def read_arguments(text: str, schema_text: str) -> tuple[dict[str, Any] | None, str]:
    """Return the arguments that a model wrote, or None and what is wrong with them: the first mistakes, by place."""
    from sundog.ir.schemas.answer_check import find_answer_mistakes  # few flows have tools, and it is slow to import

    try:
        value = normal_form(json.loads(text))
    except RecursionError:
        return None, "the arguments are nested too deeply"
    except ValueError as error:
        return None, f"the arguments are not JSON ({error}): {text[:NUM_SHOWN_CHARACTERS]}"
    if not isinstance(value, dict):
        return None, "the arguments are no JSON object"
    try:
        mistakes = find_answer_mistakes(value, schema_text)
    except (ValueError, RecursionError) as error:
        return None, f"the arguments cannot be checked: {error}"
    if mistakes:
        shown = [mistake[: 2 * NUM_SHOWN_CHARACTERS] for mistake in mistakes[:NUM_SHOWN_MISTAKES]]
        return None, f"the arguments do not fit the tool's parameters: {'; '.join(shown)}"
    return value, ""
