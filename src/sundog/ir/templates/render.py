"""Templates to values: pure functions of a template and a scope.

Owns rendering. Never changes the scope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import TemplateError, Undefined

from sundog.errors import OperatorError
from sundog.ir.templates.environment import ENVIRONMENT, Skipped, shown_value
from sundog.ir.templates.spending import SPENT, Spending, refuse_long
from sundog.ir.templates.template import MAX_KEPT_TEMPLATES, Literal, Path, Reference, Template
from sundog.ir.values.normal_form import normal_form

Scope = Mapping[str, Any]
MAX_SHOWN_CHARACTERS = 300
"""Python puts whole values into its errors."""


def render_text(template: Template, scope: Scope) -> str:
    """Return the template's text; OperatorError where it reads what is not there."""
    try:
        return _text_function(template.source)(scope)
    except OperatorError:
        raise
    except Exception as error:  # a template works on the user's data: whatever it does there is that row's error
        raise _render_error(template, error) from error


def render_value(template: Template, scope: Scope) -> Any:
    """Return the value of a single expression, the text of any other template; a skipped step gives None."""
    if not template.is_expression:
        return render_text(template, scope)
    try:
        value = _value_function(template.source)(scope)
        if isinstance(value, Skipped):
            return None
        if isinstance(value, Undefined):
            str(value)
        return value
    except OperatorError:
        raise
    except Exception as error:  # a template works on the user's data: whatever it does there is that row's error
        raise _render_error(template, error) from error


def render_json(template: Template, scope: Scope) -> Any:
    """Return what `render_value` does as a JSON value that can always be written and read back."""
    try:
        return normal_form(render_value(template, scope))
    except ValueError as error:
        raise OperatorError(f"no JSON value: {error}") from error


def render_condition(template: Template, scope: Scope) -> bool:
    """Return the truth of a condition, by the template language's own rules."""
    return bool(render_value(template, scope))


def _render_error(template: Template, error: Exception) -> OperatorError:
    text = template.source if len(template.source) <= 80 else template.source[:77] + "..."
    return OperatorError(f"template error: {_words(error)}", hint=f"in the template {text!r}")


def _words(error: Exception) -> str:
    match error:
        case TemplateError():
            return str(error)
        case RecursionError():
            return "it calls itself without end, or a value is nested too deeply"
        case MemoryError():
            return "there is not enough memory for it"
    text = str(error) or type(error).__name__
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."


@lru_cache(maxsize=MAX_KEPT_TEMPLATES)
def _text_function(source: str) -> Callable[[Scope], str]:
    pieces = _plain_pieces(source)

    def render(scope: Scope) -> str:
        compiled = _compiled_text(source)
        context = compiled.new_context({**scope, SPENT: Spending(len(source))})
        return "".join(compiled.root_render_func(context))

    if pieces is None:
        return render

    def join(scope: Scope) -> str:
        texts: list[str] = []
        for piece in pieces:
            value = piece if isinstance(piece, str) else _look_up(scope, piece)
            if value is _NOT_PLAIN:
                return render(scope)
            texts.append(value if type(value) is str else shown_value(value))
        return refuse_long("".join(texts))

    return join


@lru_cache(maxsize=MAX_KEPT_TEMPLATES)
def _value_function(source: str) -> Callable[[Scope], Any]:
    pieces = _plain_pieces(source)
    if pieces is None:
        return _compiled_expression(source)
    (path,) = pieces
    assert not isinstance(path, str)

    def look_up(scope: Scope) -> Any:
        value = _look_up(scope, path)
        return _compiled_expression(source)(scope) if value is _NOT_PLAIN else value

    return look_up


# Most templates are text and dotted paths into dicts. Walking those here costs a tenth of a Jinja context;
# whatever is not that simple goes to Jinja, which also words the errors.
_NOT_PLAIN = object()
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None), list, dict})


def _plain_pieces(source: str) -> tuple[str | Path, ...] | None:
    """Return the template as texts and paths of names; None where it has more (a digit may be an element or a key)."""
    pieces: list[str | Path] = []
    for segment in Template(source).segments:
        match segment:
            case Literal(text=text):
                pieces.append(text)
            case Reference(path=path) if not any(key.isdigit() for key in path):
                pieces.append(path)
            case _:
                return None
    return tuple(pieces)


def _look_up(scope: Scope, path: Path) -> Any:
    value: Any = scope
    for key in path:
        if type(value) is not dict or key not in value:
            return _NOT_PLAIN
        value = value[key]
    return value if type(value) in _PLAIN_TYPES else _NOT_PLAIN


# Compiling one takes half a millisecond, and most are never needed: so only where they are.
@lru_cache(maxsize=MAX_KEPT_TEMPLATES)
def _compiled_text(source: str) -> jinja2.Template:
    return ENVIRONMENT.from_string(source)


@lru_cache(maxsize=MAX_KEPT_TEMPLATES)
def _compiled_expression(source: str) -> Callable[[Scope], Any]:
    inner = source.strip()[2:-2].strip("-+")
    compiled = ENVIRONMENT.compile_expression(inner, undefined_to_none=False)

    def compute(scope: Scope) -> Any:
        spending = Spending(len(source))
        value = compiled({**scope, SPENT: spending})
        if isinstance(value, list | tuple | dict):
            # A value that it holds several times is written several times.
            spending.text_of(value)
        return value

    return compute
