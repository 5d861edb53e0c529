"""This module checks what templates read: every name and path is known, and no step waits for itself.

Owns scopes and the check of references in them. Never changes a plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any

from sundog.errors import CallError, FlowError, Location, suggest
from sundog.flow.complaints import Complaints
from sundog.flow.nodes import FILTERS
from sundog.flow.positions import DataPath, Positions
from sundog.flow.steps.node_draft import NodeDraft, ToolDraft
from sundog.ir.agents import ARGS, Agent, ToolFlow
from sundog.ir.alternatives import Alternatives
from sundog.ir.graph import dependencies, topological_order
from sundog.ir.logical import Filter, ForEach, Loop, Node, Step, ValueNode, templates_of
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape, find_path_mistake
from sundog.ir.tables import InputRows, TableSource
from sundog.ir.templates.render import render_value
from sundog.ir.templates.substitute import rename
from sundog.ir.templates.template import ITEM, LOOP, ROW, Path, Reference, Template
from sundog.ir.values.normal_form import normal_form

Shapes = Mapping[str, Shape]
ANY_ROW = Anything()


class ReferenceCheck:
    """This class checks what the templates of one table read. What is wrong goes to `complaints`."""

    def __init__(
        self,
        positions: Positions,
        complaints: Complaints,
        source: TableSource,
        row: Shape = ANY_ROW,
        elsewhere: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`row`: the shape of the table's rows. `elsewhere`: hints for names that are known in other tables only."""
        self._positions = positions
        self._complaints = complaints
        self._row = row
        self._constants: Shapes = {}
        #: The names of tools.
        self._checked: set[str] = set()
        joined = source.joined if isinstance(source, InputRows) else ()
        self._hints = {**elsewhere, **dict.fromkeys(source.reads, "columns are read as row.<column>")}
        self._hints |= {name: f"its columns are read as row.{name}.<column>" for name in joined}
        self._hints |= {
            ITEM: "'item' is known only in the operator of a node with for_each",
            LOOP: "'loop' is known only inside a loop",
        }

    def check(
        self,
        drafts: Sequence[NodeDraft],
        constants: Mapping[str, Any],
        outputs: Sequence[tuple[str, Template]],
        place: DataPath = ("outputs",),
    ) -> None:
        """Check every template of a table, scope by scope: nodes see the row, constants and steps of their scope,
        outputs, which stand at `place`, see the steps of the outermost."""
        for name, value in _inner_names(drafts):
            self._hints.setdefault(name, f"it is a step inside a loop: read {value}")
        self._constants = {name: _shape_of(value) for name, value in constants.items()}
        scope = {ROW: self._row, **{name: _shape_of(value) for name, value in constants.items()}}
        self._check_nodes(drafts, scope)
        scope |= _values(drafts)
        for name, template in outputs:
            self._check_template(template, (*place, name), scope)

    def _check_nodes(self, drafts: Sequence[NodeDraft], outer: Shapes) -> None:
        """Check the nodes of one scope: the flow's own, or the body of one loop."""
        self._hints |= {draft.name: f"a {draft.operator} has no value" for draft in drafts if draft.operator in FILTERS}
        scope = {**outer, **_values(drafts)}
        beside = {draft.name for draft in drafts}
        for draft in drafts:
            match draft.node:
                case Step() as step:
                    inner = self._check_modifiers(step, draft.path, scope)
                    for template in templates_of(step.spec):
                        place = _place_of(template.source, draft.block, (*draft.path, draft.operator))
                        self._check_template(template, place, inner)
                case Alternatives() as node:
                    self._check_alternatives(node, draft, self._check_modifiers(node, draft.path, scope))
                case Agent() as agent:
                    self._check_agent(agent, draft, self._check_modifiers(agent, draft.path, scope))
                case Loop() as loop:
                    self._check_loop(loop, draft, self._check_modifiers(loop, draft.path, scope))
                case Filter(reason=None) as node:
                    self._check_template(node.predicate, (*draft.path, "filter"), scope)
                case Filter(reason=Template() as reason) as node:
                    self._check_template(node.predicate, (*draft.path, "require", "that"), scope)
                    self._check_template(reason, (*draft.path, "require", "else"), scope)
                case ValueNode() as value:
                    inner = self._check_modifiers(value, draft.path, scope)
                    self._check_template(value.template, (*draft.path, "value"), inner)
            self._check_after(draft, beside)
        self._check_order(drafts)

    def _check_modifiers(self, node: Step | Loop | ValueNode, path: DataPath, scope: Shapes) -> Shapes:
        """Return the scope inside `node`."""
        if node.when is not None:
            if node.for_each is not None and node.for_each.variable in node.when.names:
                self._complaints.add(
                    f"'when' cannot read '{node.for_each.variable}': it is decided once, before for_each",
                    self._positions.value((*path, "when")),
                    "choose the elements in for_each itself, with selectattr or select",
                )
            else:
                self._check_template(node.when, (*path, "when"), scope)
        if node.for_each is None:
            return scope
        self._check_template(node.for_each.items, (*path, "for_each"), scope)
        return {**scope, node.for_each.variable: _item_shape(node.for_each, scope)}

    def _check_loop(self, loop: Loop, draft: NodeDraft, scope: Shapes) -> None:
        last = Record(tuple((inner.name, inner.shape) for inner in draft.body))
        history = Record(tuple((inner.name, ListOf(inner.shape)) for inner in draft.body))
        if isinstance(loop.max_turns, Template):
            self._check_template(loop.max_turns, (*draft.path, "loop", "max_turns"), scope)
        within = {**scope, LOOP: Record.of(turn=Scalar(), last=last, history=history)}
        self._check_nodes(draft.body, within)
        if loop.until is not None:
            self._check_template(loop.until, (*draft.path, "loop", "until"), {**within, **_values(draft.body)})

    def _check_alternatives(self, node: Alternatives, draft: NodeDraft, scope: Shapes) -> None:
        """Check a step that another may stand in for, and what says when: that reads the first one's answer."""
        for template in templates_of(node.first.spec):
            self._check_template(
                template, _place_of(template.source, draft.block, (*draft.path, draft.operator)), scope
            )
        for template in templates_of(node.otherwise):
            self._check_template(template, (*draft.path, "on_error", "value"), scope)
        if node.second is not None and node.second.when is not None:
            shape = scope[node.name]
            first = shape.item if node.for_each is not None and isinstance(shape, ListOf) else shape
            # In the words of the flow, which knows no name of the first step.
            written = rename(node.second.when, {node.first.name: node.name}) or node.second.when
            within = {**scope, node.first.name: first, node.name: first}
            self._check_template(written, (*draft.path, "escalate_when"), within)

    def _check_agent(self, agent: Agent, draft: NodeDraft, scope: Shapes) -> None:
        """Check an agent and its tools."""
        block = (*draft.path, "agent")
        for template in templates_of(agent.turn.spec):
            self._check_template(template, _place_of(template.source, draft.block, block), scope)
        if agent.stop_when is not None:
            said: Shapes = {"turns": Scalar("int"), "text": Scalar("str"), "messages": ListOf(Anything())}
            self._check_template(agent.stop_when, (*block, "stop_when"), {**scope, **said})
        for tool in draft.tools:
            if tool.name not in self._checked:
                self._checked.add(tool.name)
                self._check_tool(tool)

    def _check_tool(self, tool: ToolDraft) -> None:
        """Check a tool: it sees the row, constants and its arguments. The steps of a flow see these as their row."""
        within = {ROW: self._row, **self._constants, ARGS: tool.args}
        match tool.node:
            case Step() as step:
                for template in templates_of(step.spec):
                    self._check_template(template, (*tool.draft.path, step.operator), within)
            case Agent() as agent:
                self._check_agent(agent, tool.draft, within)
            case ToolFlow():
                self._check_nodes(tool.draft.given, within)
                inside = {**within, **_values(tool.draft.given), ROW: tool.args}
                del inside[ARGS]
                self._check_nodes(tool.draft.body, inside)
                for name, template in tool.draft.outputs:
                    self._check_template(
                        template, (*tool.draft.path, "flow", "outputs", name), {**inside, **_values(tool.draft.body)}
                    )

    def _check_template(self, template: Template, place: DataPath, scope: Shapes) -> None:
        if not template.paths:
            self._check_constant(template, place)
        for path in sorted(template.paths):
            name = path[0]
            if name not in scope:
                mistake = f"unknown name '{name}'", self._hints.get(name) or suggest(name, scope)
            elif (found := find_path_mistake(scope[name], path[1:], name)) is None:
                continue
            else:
                mistake = found
            self._complaints.add(mistake[0], self._positions.match(place, _pattern(path)), mistake[1])

    def _check_constant(self, template: Template, place: DataPath) -> None:
        """A template that reads nothing gives every row the same: what cannot be is known before the first one."""
        try:
            normal_form(render_value(template, {}))
        except CallError as error:
            self._complaints.add(error.what, self._positions.value(place), error.hint)
        except ValueError as error:
            self._complaints.add(f"this template gives no JSON value: {error}", self._positions.value(place))

    def _check_after(self, draft: NodeDraft, known: Set[str]) -> None:
        if draft.node is None:
            return
        for index, name in enumerate(draft.node.after):
            if name not in known:
                where = self._positions.value((*draft.path, "after", index))
                hint = suggest(name, known - {draft.name})
                self._complaints.add(f"'after' names '{name}', which is no node beside this one", where, hint)

    def _check_order(self, drafts: Sequence[NodeDraft]) -> None:
        nodes = [draft.node for draft in drafts if draft.node is not None]
        if self._reads_below_filter(drafts, nodes):
            return
        try:
            topological_order(nodes, dependencies(nodes))
        except FlowError as error:
            if not isinstance(error.where, Location):
                raise
            self._complaints.add(error.what, error.where, error.hint)

    def _reads_below_filter(self, drafts: Sequence[NodeDraft], nodes: Sequence[Node]) -> bool:
        """Return whether a filter waits for a step below it, and complain: this circle deserves its own words."""
        found = False
        paths = {draft.name: draft.path for draft in drafts}
        position = {node.name: index for index, node in enumerate(nodes)}
        for index, node in enumerate(nodes):
            if not isinstance(node, Filter):
                continue
            kind = "filter" if node.reason is None else "requirement"
            read = {name for template in templates_of(node) for name in template.names} | set(node.after)
            for name in sorted(one for one in read if position.get(one, -1) > index):
                found = True
                self._complaints.add(
                    f"the {kind} '{node.name}' waits for '{name}', which is written below it",
                    self._positions.key(paths[node.name]),
                    f"steps below it wait for it: write '{node.name}' below '{name}'",
                )
        return found


def _inner_names(drafts: Sequence[NodeDraft], outer: str = "") -> Iterator[tuple[str, str]]:
    for draft in drafts:
        for inner in draft.body:
            yield inner.name, f"{outer}{draft.name}.{inner.name}"
        yield from _inner_names(draft.body, f"{outer}{draft.name}.")


def _values(drafts: Sequence[NodeDraft]) -> dict[str, Shape]:
    return {draft.name: draft.shape for draft in drafts if draft.operator not in FILTERS and draft.name != ROW}


def _shape_of(value: Any) -> Shape:
    match value:
        case dict():
            return Record(tuple((key, _shape_of(item)) for key, item in value.items()))
        case list():
            return ListOf(Anything())
    return Scalar()


def _item_shape(each: ForEach, scope: Shapes) -> Shape:
    """Return the shape of one element, where the list is a plain path to a list whose shape is known."""
    if not each.items.is_expression:
        return Anything()
    (segment,) = each.items.segments
    if not isinstance(segment, Reference):
        return Anything()
    shape: Shape = scope.get(segment.path[0], Anything())
    for key in segment.path[1:]:
        shape = dict(shape.fields).get(key, Anything()) if isinstance(shape, Record) else Anything()
    return shape.item if isinstance(shape, ListOf) else Anything()


def _place_of(source: str, data: Any, path: DataPath) -> DataPath:
    """Return where the text `source` stands in `data`, which stands at `path`; `path` itself where it is not to be
    found."""
    items: Iterator[tuple[str | int, Any]] = iter(())
    match data:
        case dict():
            items = iter(data.items())
        case list() | tuple():
            items = iter(enumerate(data))
    for key, item in items:
        if item == source:
            return (*path, key)
        found = _place_of(source, item, (*path, key))
        if found != (*path, key):
            return found
    return path


def _pattern(path: Path) -> re.Pattern[str]:
    steps = (rf"\s*(?:\.\s*{re.escape(key)}\b|\[\s*['\"]?{re.escape(key)}['\"]?\s*\])" for key in path[1:])
    return re.compile(rf"\b{re.escape(path[0])}\b{''.join(steps)}")
