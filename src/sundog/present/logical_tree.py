"""Plans as text trees, the same on every machine and day.

Owns the tree and its printing, and what of a logical plan is shown. Never computes anything about a plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sundog.ir.agents import Agent, ToolFlow
from sundog.ir.alternatives import Alternatives
from sundog.ir.logical import (
    EngineBlock,
    Filter,
    InputSource,
    LogicalPlan,
    Loop,
    Node,
    Step,
    Table,
    ValueNode,
    WorkerGroup,
    templates_of,
)
from sundog.ir.schemas.output_schema import OutputSchema
from sundog.ir.tables import CollectedRows, ComponentRows, FirstRows, InputRows, MatchingRows, QueryRows
from sundog.ir.templates.template import SAMPLE, Template, spell_path
from sundog.ir.values.canonical import describe_value

MAX_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Tree:
    """A line and what stands below it."""

    line: str
    children: tuple[Tree, ...] = ()


def print_tree(tree: Tree) -> str:
    """Return the tree as text, one line each, with a newline at the end."""
    return "".join(f"{line}\n" for line in _lines(tree, "", ""))


def logical_tree(plan: LogicalPlan) -> Tree:
    """Return the plan as a tree, one section for each part of it that is not empty."""
    sections = [
        Tree("workers", tuple(Tree(_workers(group)) for group in plan.workers)),
        Tree("engines", tuple(Tree(_engine(block)) for block in plan.engines)),
        Tree("inputs", tuple(Tree(_input(source)) for source in plan.inputs)),
        Tree("constants", tuple(Tree(f"{name} = {shorten_value(value)}") for name, value in plan.constants.items())),
        *_tables(plan),
    ]
    return Tree(f"flow {plan.name}", tuple(section for section in sections if section.children))


def _tables(plan: LogicalPlan) -> list[Tree]:
    """Return the sections of a flow's only table, else one section with all tables."""
    if [table.name for table in plan.tables] == [""]:
        return _table_sections(plan.tables[0])
    return [Tree("tables", tuple(Tree(_table(table), tuple(_table_sections(table))) for table in plan.tables))]


def _table_sections(table: Table) -> list[Tree]:
    sections = [
        Tree("nodes", tuple(node_tree(node) for node in table.nodes)),
        Tree("outputs", tuple(Tree(f"{name} = {shorten_value(template)}") for name, template in table.outputs)),
    ]
    return [section for section in sections if section.children]


def node_tree(node: Node) -> Tree:
    """Return one node as a tree: what it is, then its modifiers, what it reads, and its operator's fields."""
    match node:
        case Filter():
            if node.reason is None:
                return Tree(f"{node.name}: filter {shorten_value(node.predicate)}", tuple(_edges(node)))
            otherwise = Tree(f"else {shorten_value(node.reason)}")
            return Tree(f"{node.name}: require {shorten_value(node.predicate)}", (otherwise, *_edges(node)))
        case ValueNode():
            return Tree(f"{node.name}: value {shorten_value(node.template)}", tuple(_modifiers(node)))
        case Alternatives():
            steps = (node_tree(inner) for inner in node.body)
            value = [Tree(f"on error {shorten_value(node.otherwise)}")] if node.on_error == "value" else []
            return Tree(f"{node.name}: one step, or {node.told}", (*_modifiers(node), *steps, *value))
        case Agent():
            stop = [Tree(f"stop when {shorten_value(node.stop_when)}")] if node.stop_when else []
            steps = (node_tree(inner) for inner in node.body)
            return Tree(f"{node.name}: agent, at most {node.max_turns} turns", (*_modifiers(node), *stop, *steps))
        case ToolFlow():
            steps = (node_tree(inner) for inner in node.body)
            outputs = (Tree(f"gives {name} = {shorten_value(template)}") for name, template in node.outputs)
            return Tree(f"{node.name}: the flow {node.file}", (*_modifiers(node), *steps, *outputs))
        case Loop():
            until = [Tree(f"until {shorten_value(node.until)}")] if node.until else []
            body = (node_tree(inner) for inner in node.body)
            return Tree(f"{node.name}: loop, at most {spell_turns(node.max_turns)}", (*_modifiers(node), *until, *body))
        case Step():
            fields = (Tree(f"{name}: {shorten_value(value)}") for name, value in _fields(node.spec))
            return Tree(f"{node.name}: {node.operator}", (*_modifiers(node), *fields))


def spell_turns(max_turns: int | Template) -> str:
    return f"{shorten_value(max_turns) if isinstance(max_turns, Template) else max_turns} turns"


def shorten_value(value: Any) -> str:
    """Return a value on one line of at most MAX_SHOWN_CHARACTERS: templates and text quoted, the rest as JSON."""
    match value:
        case OutputSchema():
            fields = json.loads(value.text).get("properties", {})
            text = f"{{{', '.join(fields)}}}"
        case Template() if value.is_expression:
            text = " ".join(value.source.split())
        case _:
            text = json.dumps(_plain(value), ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 3] + "..."


def _lines(tree: Tree, first: str, rest: str) -> Iterator[str]:
    yield first + tree.line
    for number, child in enumerate(tree.children, start=1):
        is_last = number == len(tree.children)
        yield from _lines(child, rest + ("└── " if is_last else "├── "), rest + ("    " if is_last else "│   "))


def _engine(block: EngineBlock) -> str:
    on = "" if block.workers is None else f" on {block.workers}"
    return f"{block.name}: {block.kind} {block.options['model']}{on}"


def _workers(group: WorkerGroup) -> str:
    price = f", {group.usd_per_hour:g} dollars an hour each" if group.usd_per_hour else ""
    return f"{group.name}: {group.count}, each with room for {group.max_resident}{price}"


def _table(table: Table) -> str:
    first = "" if table.take is None else f", {spell_take(table.take)}"
    match table.source:
        case InputRows(input=name):
            return f"{table.name}: from {name}{first}"
        case QueryRows(sql=sql):
            return f"{table.name}: {_on_one_line(sql)}{first}"
        case CollectedRows(sql=sql, by=by):
            return f"{table.name}: collect by {', '.join(by)} of {_on_one_line(sql)}"
        case ComponentRows(nodes=nodes, edges=edges):
            return f"{table.name}: components of {_on_one_line(nodes)} by {_on_one_line(edges)}"


def spell_take(take: FirstRows | MatchingRows) -> str:
    """Return the rows that a table takes, as in "the first 10 by size desc"."""
    if isinstance(take, MatchingRows):
        return f"where {_on_one_line(' and '.join(take.conditions))}"
    order = ", ".join(f"{column}{' desc' if is_descending else ''}" for column, is_descending in take.order_by)
    return f"the first {take.num_rows:,}{f' by {order}' if order else ''}"


def _on_one_line(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 3] + "..."


def _input(source: InputSource) -> str:
    kind, text = next(
        (kind, text)
        for kind, text in (("path", source.path), ("query", source.query), ("call", source.call))
        if text is not None
    )
    args = f" {shorten_value(source.args)}" if source.args else ""
    key = f", joined by {source.key[0]} = row.{source.key[1]}" if source.key else ""
    columns = f", columns {', '.join(source.columns)}" if source.columns is not None else ""
    return f"{source.name}: {kind} {shorten_value(text)}{args}{key}{columns}"


def _modifiers(node: Step | Loop | ValueNode) -> Iterator[Tree]:
    if node.when is not None:
        yield Tree(f"when {shorten_value(node.when)}")
    if node.for_each is not None and node.for_each.variable != SAMPLE:
        yield Tree(f"for each {node.for_each.variable} in {shorten_value(node.for_each.items)}")
    yield from _edges(node)
    if isinstance(node, Step):
        limits = {
            "timeout_s": node.timeout_s,
            "retries": node.retries,
            "max_retry_wait_s": node.max_retry_wait_s,
            "share": node.share,
        }
        given = ", ".join(f"{name} {json.dumps(value)}" for name, value in limits.items() if value is not None)
        if given:
            yield Tree(given)
        if node.is_gathered:
            yield Tree("gathered: calls that wait together are one request")


def _edges(node: Node) -> Iterator[Tree]:
    if node.after:
        yield Tree(f"after {', '.join(node.after)}")
    own = {"loop", *(inner.name for inner in node.body)} if isinstance(node, Loop) else set()
    reads = sorted(
        {spell_path(path) for template in _own_templates(node) for path in template.paths if path[0] not in own}
    )
    if reads:
        yield Tree(f"reads {', '.join(reads)}")


def _own_templates(node: Node) -> list[Template]:
    """Return those of the node itself: the steps of a loop have lines of their own."""
    if not isinstance(node, Loop):
        return templates_of(node)
    return templates_of((node.max_turns, node.conditions, node.for_each))


def _plain(value: Any) -> Any:
    match value:
        case Template():
            return value.source
        case BaseModel():
            return {name: _plain(item) for name, item in _fields(value)}
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return describe_value(value)


def _fields(spec: BaseModel) -> Iterator[tuple[str, Any]]:
    """Yield the fields that differ from their defaults, in the order of the model."""
    unset = type(spec).model_construct()
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if field.is_required() or value != getattr(unset, name):
            yield field.alias or name, value
