"""The calls that rows will make, as far as they can be told before anything runs.

Owns the walk through the plan with what a row alone decides: conditions, lists and arguments that read no other step.
The meaning of the nodes is that of execution.executor. Runs nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sundog.errors import CallError
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.conversations.written import FROM, PART_ROLES
from sundog.ir.logical import ForEach, Loop, Step, ValueNode, templates_of
from sundog.ir.physical import (
    CallExec,
    Exec,
    FilterExec,
    LoopExec,
    ValueExec,
)
from sundog.ir.templates.environment import SKIPPED
from sundog.ir.templates.render import Scope, render_condition, render_json, render_value
from sundog.ir.templates.template import Path, Reference, Template
from sundog.operators.base import BoundCall, Operator

CALL_CHARACTERS = 500
"""The characters that a call takes beside its prompt, roughly."""


@dataclass(slots=True)
class KnownCalls:
    """The calls of each node that are known before the run: `calls` and `failures` (the first cause) by row, and how
    often `nulls` of the row stand in a prompt. `num_characters` counts all that is kept."""

    #: By row.
    calls: dict[str, dict[int, tuple[BoundCall, ...]]] = field(default_factory=lambda: defaultdict(dict))
    #: By row, the first cause.
    failures: dict[str, dict[int, Exception]] = field(default_factory=lambda: defaultdict(dict))
    #: The number of times that nulls of the row stand in a prompt.
    nulls: dict[str, Counter[Path]] = field(default_factory=lambda: defaultdict(Counter))
    #: Characters of all that is kept.
    num_characters: int = 0


class Walk:
    """Adds the calls of one row after another to `found`. `engines`: identities by name."""

    def __init__(
        self,
        nodes: Sequence[Exec],
        constants: Mapping[str, Any],
        operators: Mapping[str, Operator],
        engines: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.found = KnownCalls()
        self._nodes = nodes
        self._constants = constants
        self._operators = operators
        self._engines = engines
        self._names = frozenset(_names(nodes)) | {"loop"}
        self._reads: dict[str, frozenset[str]] = {}

    def row(self, number: int, row: Mapping[str, Any]) -> None:
        self._walk(self._nodes, number, {**self._constants, "row": row})

    def _walk(self, nodes: Sequence[Exec], number: int, scope: dict[str, Any]) -> None:
        """`scope`: what is known, to which skipped steps are added."""
        gone: set[str] = set()
        doubtful: set[str] = set()
        for node in nodes:
            if not gone.isdisjoint(node.before):
                gone.add(node.name)
                continue
            if not doubtful.isdisjoint(node.before):
                # A filter that reads an answer may drop the row before.
                doubtful.add(node.name)
                continue
            try:
                state = self._node(node, number, scope)
            except Exception as error:  # a row's values may break whatever reads them: this row fails here
                self.found.failures[node.name][number] = error
                state = "gone"
            if state == "gone":
                gone.add(node.name)
            elif state == "doubtful":
                doubtful.add(node.name)

    def _node(self, node: Exec, number: int, scope: dict[str, Any]) -> str:
        """gone: the row never comes past it. doubtful: an answer decides this."""
        if isinstance(node, FilterExec):
            if not self._is_known(node.filter.predicate, scope):
                return "doubtful"
            return "there" if render_condition(node.filter.predicate, scope) else "gone"
        body = _body(node)
        if body.when is not None:
            if not self._is_known(body.when, scope):
                return "there"
            if not render_condition(body.when, scope):
                scope[node.name] = SKIPPED
                return "there"
        if isinstance(node, ValueExec):
            self._learn(node, scope)
        elif body.for_each is None:
            self._once(node, number, [scope])
        elif self._is_known(body.for_each.items, scope):
            self._once(node, number, _scopes(body.for_each, scope))
        return "there"

    def _once(self, node: CallExec | LoopExec, number: int, scopes: Sequence[dict[str, Any]]) -> None:
        if isinstance(node, LoopExec):
            for scope in scopes:
                history: dict[str, Any] = {inner.name: [] for inner in node.body}
                # What stands in is asked by few rows, if any.
                body = node.body[:1] if isinstance(node, AlternativesExec) else node.body
                self._walk(body, number, {**scope, "loop": {"turn": 1, "last": SKIPPED, "history": history}})
            return
        for scope in scopes:
            self._count_nulls(node, scope)
        if not self._spec_is_known(node, scopes):
            return
        operator = self._operators[node.step.operator]
        calls = tuple(operator.bind(node.step.spec, scope, self._engines) for scope in scopes)
        self.found.calls[node.name][number] = calls
        for call in calls:
            self.found.num_characters += CALL_CHARACTERS + sum(len(message.text) for message in call.prompt)

    def _learn(self, node: ValueExec, scope: dict[str, Any]) -> None:
        """Add the value of `node` to `scope`, where it is known."""
        value = node.value
        if value.for_each is None:
            if self._is_known(value.template, scope):
                scope[node.name] = render_json(value.template, scope)
        elif self._is_known(value.for_each.items, scope):
            scopes = _scopes(value.for_each, scope)
            if all(self._is_known(value.template, inner) for inner in scopes):
                scope[node.name] = [render_json(value.template, inner) for inner in scopes]

    def _spec_is_known(self, node: CallExec, scopes: Sequence[Scope]) -> bool:
        if node.name not in self._reads:
            templates = templates_of(node.step.spec)
            self._reads[node.name] = frozenset().union(*(template.names for template in templates))
        # A name that is no step's is there, as `range` is, or will be the row's error when it is bound.
        return all((self._reads[node.name] & self._names) <= scope.keys() for scope in scopes)

    def _is_known(self, template: Template, scope: Scope) -> bool:
        return (template.names & self._names) <= scope.keys()

    def _count_nulls(self, node: CallExec, scope: Scope) -> None:
        traits = self._operators[node.step.operator].traits(node.step.spec)
        for role, template in traits.conversation:
            # A null in the place of a picture is no text but the row's error.
            is_text = role != FROM and PART_ROLES.get(role, ("text", None))[0] == "text"
            for segment in template.segments if is_text else ():
                if isinstance(segment, Reference) and _is_null(segment.path, scope):
                    self.found.nulls[node.name][segment.path] += 1


def _body(node: CallExec | LoopExec | ValueExec) -> Step | Loop | ValueNode:
    match node:
        case CallExec():
            return node.step
        case LoopExec():
            return node.loop
        case ValueExec():
            return node.value


def _names(nodes: Sequence[Exec]) -> Iterator[str]:
    for node in nodes:
        yield node.name
        if isinstance(node, LoopExec):
            yield from _names(node.body)


def _scopes(each: ForEach, scope: dict[str, Any]) -> list[dict[str, Any]]:
    items = render_value(each.items, scope)
    if items is None:
        return []
    if not isinstance(items, list | tuple):
        raise CallError(f"for_each needs a list, got {type(items).__name__}")
    return [{**scope, each.variable: item} for item in items]


def _is_null(path: Path, scope: Scope) -> bool:
    value: Any = scope
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return value is None
