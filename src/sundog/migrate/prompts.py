"""Prompts of other tools that are Jinja templates too: the same text with the names of a flow.

Owns the renaming. It follows the tokens of the template language, so text outside of expressions never changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Environment, TemplateSyntaxError

from sundog.errors import FlowError
from sundog.ir.templates.template import column_of_row

JinjaToken = tuple[int, str, str]


def with_names(template: str, records: Mapping[str, Mapping[str, str]], names: Mapping[str, str]) -> str:
    """Return `template` with `record.column`, and `record["column"]`, replaced by what `records` has for it, and bare
    names by what `names` has. FlowError for what is no template.

    >>> with_names("Dr. {{ input.name }}: {{ input['note'] | upper }}", {"input": {"name": "row.name"}}, {})
    'Dr. {{ row.name }}: {{ row.note | upper }}'
    """
    try:
        tokens = list(Environment(keep_trailing_newline=True).lex(template))
    except TemplateSyntaxError as error:
        raise FlowError(f"a prompt is no template: {error.message}") from error
    made: list[str] = []
    place = 0
    while place < len(tokens):
        text, used = _renamed(tokens, place, records, names)
        made.append(text)
        place += used
    return "".join(made)


def _renamed(
    tokens: list[JinjaToken], place: int, records: Mapping[str, Mapping[str, str]], names: Mapping[str, str]
) -> tuple[str, int]:
    """Return the text that stands at `place` in the new template, and how many tokens it replaces."""
    _, kind, text = tokens[place]
    if kind != "name" or _is_attribute(tokens, place):
        return text, 1
    if text in names:
        return names[text], 1
    if text not in records:
        return text, 1
    after = [(kind, value) for _, kind, value in tokens[place + 1 : place + 4]]
    match after:
        case [("operator", "."), ("name", column), *_]:
            return records[text].get(column, column_of_row(column)), 3
        case [("operator", "["), ("string", quoted), ("operator", "]")]:
            return records[text].get(quoted[1:-1], column_of_row(quoted[1:-1])), 4
    return "row", 1


def _is_attribute(tokens: list[JinjaToken], place: int) -> bool:
    before = [(kind, value) for _, kind, value in tokens[:place] if kind != "whitespace"]
    return bool(before) and before[-1] == ("operator", ".")
