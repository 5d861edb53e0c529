"""Arguments: nested values of a spec whose texts are templates, with secrets that only the flow's own text may name.

Owns rendering such values for a row and revealing their secrets at the call. A `${env:NAME}` that comes out of a row or
an answer is data and is never revealed: the places where the flow's text has one are kept beside the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import PlainValidator

from sundog.errors import ConfigError, FlowError, OperatorError
from sundog.ir.templates.render import Scope, render_value
from sundog.ir.templates.template import Literal, Template
from sundog.ir.values.normal_form import NoNormalForm, normal_form
from sundog.operators.base import HeldTemplate
from sundog.secrets import PATTERN, Secrets

ArgumentPath = list[str | int]


def _to_templates(value: Any) -> Any:
    """Return `value` with every text as a template; FlowError or ValueError for what is not."""
    match value:
        case str():
            return Template(value)
        case None | bool() | int() | float() | Template():
            return value
        case Mapping():
            return {str(key): _to_templates(item) for key, item in value.items()}
        case list() | tuple():
            return [_to_templates(item) for item in value]
    raise ValueError(
        f"an argument is text, a number, true, false, null, a list or a mapping, no {type(value).__name__}"
    )


def _validate(value: Any) -> Any:
    try:
        return _to_templates(value)
    except FlowError as error:
        raise ValueError(str(error)) from error


Argument = Annotated[Any, PlainValidator(_validate)]


def check_secrets(argument: Any) -> None:
    """Raise FlowError where a secret stands inside `{{ }}` or `{% %}`: there it could not be told from data."""
    for template, _ in _templates(argument, []):
        if len(PATTERN.findall(template.source)) != _num_secrets(template):
            raise FlowError(
                f"a secret stands inside an expression: {template.source}",
                hint="write ${env:NAME} outside {{ }} and {% %}",
            )


def render_argument(argument: Any, scope: Scope) -> Any:
    """Return `argument` for one row, in JSON types; OperatorError where a template fails on it."""
    match argument:
        case Template():
            return _render_leaf(argument, scope)
        case Mapping():
            return {key: render_argument(item, scope) for key, item in argument.items()}
        case list():
            return [render_argument(item, scope) for item in argument]
    return argument


def secret_places(argument: Any) -> list[ArgumentPath]:
    """Return where the flow's text names a secret: the keys that lead there, for `reveal_argument`."""
    return [place for template, place in _templates(argument, []) if _num_secrets(template)]


def held_templates(argument: Any, *above: str, is_text: bool = False) -> tuple[HeldTemplate, ...]:
    """Return the templates of an argument that stands in a payload under the keys `above`, rendered and otherwise as it
    is; with `is_text`, values have become text."""
    return tuple(
        HeldTemplate((*above, *place), template, is_text or not template.is_expression)
        for template, place in _templates(argument, [])
    )


def reveal_argument(value: Any, places: list[ArgumentPath], secrets: Secrets) -> Any:
    """Return a copy of a rendered argument with the secrets at `places` revealed; OperatorError for an unset
    variable."""
    if not places:
        return value
    if [] in places:
        return reveal_text(value, secrets)
    items = value.items() if isinstance(value, dict) else enumerate(value)
    below = {key: [place[1:] for place in places if place[0] == key] for key, _ in items}
    if isinstance(value, dict):
        return {key: reveal_argument(item, below[key], secrets) for key, item in value.items()}
    return [reveal_argument(item, below[index], secrets) for index, item in enumerate(value)]


def reveal_text(text: str, secrets: Secrets) -> str:
    """Return `text` with its secrets; OperatorError where the environment has none."""
    try:
        return secrets.reveal(text)
    except ConfigError as error:
        raise OperatorError(error.what, hint=error.hint) from error


def redact_error(error: OperatorError, secrets: Secrets) -> OperatorError:
    """Return the same failure without the values revealed so far; raise it `from None`, as its cause may still show
    them."""
    return OperatorError(
        secrets.redact(error.what),
        where=secrets.redact(str(error.where)) if error.where else None,
        hint=secrets.redact(error.hint) if error.hint else None,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        is_outcome_unknown=error.is_outcome_unknown,
    )


def _render_leaf(template: Template, scope: Scope) -> Any:
    value = render_value(template, scope)
    if (num_secrets := _num_secrets(template)) and len(PATTERN.findall(value)) != num_secrets:
        raise OperatorError(
            "a value of this row spells a secret's name beside a secret of the flow",
            hint=f"in the template {template.source!r}: put the secret and the value into two arguments",
        )
    try:
        return normal_form(value)
    except NoNormalForm as error:
        raise OperatorError(f"an argument is no JSON value: {error}", hint=f"in {template.source!r}") from error


def _num_secrets(template: Template) -> int:
    texts = (segment.text for segment in template.segments if isinstance(segment, Literal))
    return sum(len(PATTERN.findall(text)) for text in texts)


def _templates(argument: Any, place: ArgumentPath) -> Iterator[tuple[Template, ArgumentPath]]:
    match argument:
        case Template():
            yield argument, place
        case Mapping():
            for key, item in argument.items():
                yield from _templates(item, [*place, key])
        case list():
            for index, item in enumerate(argument):
                yield from _templates(item, [*place, index])
