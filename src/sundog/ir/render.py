"""Templates to values: pure functions of a template and a scope.

Owns rendering. Never changes the scope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, Undefined

from sundog.errors import OperatorError
from sundog.ir.environment import ENVIRONMENT, Skipped
from sundog.ir.template import Literal, Reference, Template

Scope = Mapping[str, Any]


def render_text(template: Template, scope: Scope) -> str:
    """The template's text; OperatorError where it reads what is not there."""
    try:
        return _text_function(template.source)(scope)
    except _RENDER_ERRORS as error:
        raise _render_error(template, error) from error


def render_value(template: Template, scope: Scope) -> Any:
    """The value of a single expression, the text of any other template; a skipped step gives None."""
    if not template.is_expression:
        return render_text(template, scope)
    try:
        value = _value_function(template.source)(scope)
        if isinstance(value, Skipped):
            return None
        if isinstance(value, Undefined):
            str(value)
        return value
    except _RENDER_ERRORS as error:
        raise _render_error(template, error) from error


def render_condition(template: Template, scope: Scope) -> bool:
    """The truth of a condition, by the template language's own rules."""
    return bool(render_value(template, scope))


# A template works on the user's data: it can fail in any of these ways, and each one is that row's error.
_RENDER_ERRORS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


def _render_error(template: Template, error: Exception) -> OperatorError:
    text = template.source if len(template.source) <= 80 else template.source[:77] + "..."
    return OperatorError(f"template error: {error}", hint=f"in the template {text!r}")


@lru_cache(maxsize=4096)
def _text_function(source: str) -> Callable[[Scope], str]:
    segments = Template(source).segments
    if all(isinstance(segment, Literal) for segment in segments):
        text = "".join(segment.text for segment in segments if isinstance(segment, Literal))
        return lambda scope: text
    compiled = ENVIRONMENT.from_string(source)
    return lambda scope: compiled.render(scope)


@lru_cache(maxsize=4096)
def _value_function(source: str) -> Callable[[Scope], Any]:
    (segment,) = Template(source).segments
    if isinstance(segment, Reference) and len(segment.path) == 2:
        name, key = segment.path
        slow = _compiled_expression(source)

        def look_up(scope: Scope) -> Any:
            holder = scope.get(name)
            return holder[key] if type(holder) is dict and key in holder else slow(scope)

        return look_up
    return _compiled_expression(source)


def _compiled_expression(source: str) -> Callable[[Scope], Any]:
    inner = source.strip()[2:-2].strip("-+")
    compiled = ENVIRONMENT.compile_expression(inner, undefined_to_none=False)
    return lambda scope: compiled(scope)
