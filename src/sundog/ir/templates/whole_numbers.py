"""Whole numbers that a user writes, or has a template give for each row.

Owns what such a field may hold and what becomes of it for one row.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator

from sundog.errors import OperatorError
from sundog.ir.templates.render import Scope, render_value
from sundog.ir.templates.template import Template, template_of


def _read(value: Any) -> int | Template:
    if isinstance(value, str | Template):
        template = template_of(value)
        if template.is_expression:
            return template
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    elif isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError("must be a whole number, or one expression between {{ and }} that gives one")


WholeNumber = Annotated[int | Template, PlainValidator(_read)]
"""A field for either."""


def render_whole_number(written: int | Template, scope: Scope, name: str, low: int, high: int) -> int:
    """Return the number for one row. OperatorError where a template gives anything but a whole number from `low` to
    `high`; `name` is the field's."""
    if not isinstance(written, Template):
        return written
    value = render_value(written, scope)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    shown = repr(value) if isinstance(value, int | float | bool | str | None) else f"a {type(value).__name__}"
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    hint = f"the template is {written.source!r}" + ("; `| int` makes a number of text" if type(value) is str else "")
    raise OperatorError(f"{name} must be a whole number from {low:,} to {high:,}, and is {shown}", hint=hint)
