"""Templates with other names or values in them, and nodes with other templates.

Owns the rewriting of template text. A template that cannot be rewritten for certain stays as it is: the new text is
parsed again and must be the old syntax tree with nothing but the asked-for names changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from jinja2 import nodes
from jinja2.visitor import NodeTransformer
from pydantic import BaseModel

from sundog.errors import FlowError
from sundog.ir.agents import Agent, ToolFlow
from sundog.ir.alternatives import Alternatives
from sundog.ir.logical import Filter, ForEach, Loop, Node, Step, ValueNode
from sundog.ir.templates.environment import ENVIRONMENT, shown_value
from sundog.ir.templates.template import ROW, Literal, Reference, Segment, Template

TemplateChange = Callable[[Template], Template]
N = TypeVar("N", bound=Node)
Token = tuple[int, str, str]

# Either could make another template of the text around it.
_MARKUP = ("{", "\r")


def change_templates(node: N, change: TemplateChange) -> N:
    """Return `node` with `change` applied to every template in it, those of a loop's body too."""
    match node:
        case Step():
            each = _change_each(node.for_each, change)
            return replace(node, spec=_changed(node.spec, change), when=_changed(node.when, change), for_each=each)
        case Loop():
            body = tuple(change_templates(inner, change) for inner in node.body)
            each = _change_each(node.for_each, change)
            until, when = _changed(node.until, change), _changed(node.when, change)
            turns = _changed(node.max_turns, change)
            changed = replace(node, body=body, max_turns=turns, until=until, when=when, for_each=each)
            if isinstance(changed, Agent):
                return replace(changed, stop_when=_changed(changed.stop_when, change))
            if isinstance(changed, Alternatives):
                return replace(changed, otherwise=_changed(changed.otherwise, change))
            if isinstance(changed, ToolFlow):
                return replace(changed, outputs=tuple((name, change(one)) for name, one in changed.outputs))
            return changed
        case Filter():
            return replace(node, predicate=change(node.predicate), reason=_changed(node.reason, change))
        case ValueNode():
            each, when = _change_each(node.for_each, change), _changed(node.when, change)
            return replace(node, template=change(node.template), when=when, for_each=each)
    return node


def rename(template: Template, names: Mapping[str, str]) -> Template | None:
    """Return `template` reading the values of `names` wherever it read their keys; None where that cannot be done for
    certain."""
    read = {old: new for old, new in names.items() if old in template.names}
    if not read:
        return template
    return _substitute(template, read, {old: nodes.Name(new, "load") for old, new in read.items()})


def rename_columns(template: Template, columns: Mapping[str, str]) -> Template | None:
    """Return `template` reading, for each `row.COLUMN` that is a key of `columns`, the column that is its value; None
    as for `rename`."""
    tokens = _tokens(template)
    if tokens is None:
        return None
    texts: list[str] = []
    before = ("", "")
    for _, kind, text in tokens:
        texts.append(columns.get(text, text) if kind == "name" and before == (ROW, ".") else text)
        before = before if kind == "whitespace" else (before[1], text)
    try:
        found = Template("".join(texts))
    except FlowError:
        return None
    new = ENVIRONMENT.parse(found.source)
    return found if _ReplaceColumns(columns).visit(ENVIRONMENT.parse(template.source)) == new else None


def with_values(template: Template, values: Mapping[str, Any]) -> Template | None:
    """Return `template` with the scalars of `values` written in place of their names; None as for `rename`."""
    scalars = {name: value for name, value in values.items() if name in template.names and _is_scalar(value)}
    if not scalars:
        return template
    return _substitute(
        template,
        {name: _spell(value) for name, value in scalars.items()},
        {name: nodes.Const(value) for name, value in scalars.items()},
    )


def with_literals(template: Template, values: Mapping[str, Any]) -> Template | None:
    """Return `template` with the plain references `{{ name }}` to `values` as text; None as for `rename`.

    A template that is one expression stays one: it yields the value, not its text.
    """
    used = {name: value for name, value in values.items() if name in template.names}
    texts = {name: shown_value(value) for name, value in used.items()}
    wanted = tuple(_merged([_as_literal(segment, texts) for segment in template.segments]))
    if wanted == template.segments or template.is_expression:
        return template
    if any(mark in text for text in texts.values() for mark in _MARKUP):
        return None
    tokens = _tokens(template)
    if tokens is None or any(
        "-" in text or "+" in text for _, kind, text in tokens if kind.endswith(("_begin", "_end"))
    ):
        return None
    found = Template("".join(_with_literal_tags(tokens, texts)))
    return found if found.segments == wanted and not found.is_expression else None


def _as_literal(segment: Segment, texts: Mapping[str, str]) -> Segment:
    match segment:
        case Reference(path=(name,)) if name in texts:
            return Literal(texts[name])
    return segment


def _merged(segments: list[Segment]) -> list[Segment]:
    found: list[Segment] = []
    for segment in segments:
        match found, segment:
            case [*_, Literal(text=first)], Literal(text=second):
                found[-1] = Literal(first + second)
            case _, Literal(text=""):
                pass
            case _:
                found.append(segment)
    return found


def _with_literal_tags(tokens: list[Token], texts: Mapping[str, str]) -> list[str]:
    """Return the template's texts, with each tag that holds one name of `texts` replaced."""
    found: list[str] = []
    tag: list[Token] = []
    for token in tokens:
        tag.append(token)
        if token[1] == "variable_begin":
            found += [text for _, _, text in tag[:-1]]
            tag = [token]
        elif token[1] == "variable_end":
            inside = [(kind, text) for _, kind, text in tag[1:-1] if kind != "whitespace"]
            is_constant = len(inside) == 1 and inside[0][0] == "name" and inside[0][1] in texts
            found.append(texts[inside[0][1]] if is_constant else "".join(text for _, _, text in tag))
            tag = []
    return found + [text for _, _, text in tag]


def _substitute(template: Template, spelling: Mapping[str, str], values: Mapping[str, nodes.Expr]) -> Template | None:
    tokens = _tokens(template)
    if tokens is None:
        return None
    texts: list[str] = []
    before = ""
    for _, kind, text in tokens:
        # A name after a dot or a bar is an attribute or a filter; the comparison finds whatever else is no name.
        is_name = kind == "name" and text in spelling and before not in (".", "|")
        texts.append(spelling[text] if is_name else text)
        before = before if kind == "whitespace" else text
    try:
        found = Template("".join(texts))
    except FlowError:
        # The name was also a keyword's, as in `round(precision=precision)`, or is bound again, as by `for`.
        return None
    old, new = ENVIRONMENT.parse(template.source), ENVIRONMENT.parse(found.source)
    stored = {name.name for tree in (old, new) for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    if stored & (spelling.keys() | set(spelling.values())):
        return None
    return found if _Replace(values).visit(old) == new else None


class _Replace(NodeTransformer):
    def __init__(self, values: Mapping[str, nodes.Expr]) -> None:
        self._values = values

    def visit_Name(self, node: nodes.Name) -> nodes.Expr:
        return self._values.get(node.name, node)


class _ReplaceColumns(NodeTransformer):
    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Expr:
        if isinstance(node.node, nodes.Name) and node.node.name == ROW:
            return nodes.Getattr(node.node, self._columns.get(node.attr, node.attr), node.ctx)
        self.generic_visit(node)
        return node


def _tokens(template: Template) -> list[Token] | None:
    """Return the template's tokens; None where they do not spell it, as after `{%-` and with Windows line ends."""
    tokens = list(ENVIRONMENT.lex(template.source))
    return tokens if "".join(text for _, _, text in tokens) == template.source else None


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _spell(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _change_each(each: ForEach | None, change: TemplateChange) -> ForEach | None:
    return None if each is None else replace(each, items=change(each.items))


def _changed(value: Any, change: TemplateChange) -> Any:
    match value:
        case Template():
            return change(value)
        case BaseModel():
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            new = {name: _changed(inner, change) for name, inner in fields.items()}
            return value.model_copy(update={name: inner for name, inner in new.items() if inner != fields[name]})
        case dict():
            return {key: _changed(inner, change) for key, inner in value.items()}
        case list():
            return [_changed(inner, change) for inner in value]
        case tuple():
            return tuple(_changed(inner, change) for inner in value)
    return value
