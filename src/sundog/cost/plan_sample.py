"""The calls that sampled rows will make, found by walking the plan with what is known of each row.

Owns what is known when: conditions, lists and prompts that read only the row are certain, the rest comes from the
history. Runs nothing; the meaning of the nodes is that of execution.executor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sundog.cost.estimate import NOTHING, Estimate, share_of, sum_of
from sundog.cost.history import mean_of, mean_result_bytes, output_tokens, selectivity
from sundog.cost.pools import EnginePool, Known
from sundog.cost.prompt_sample import (
    NO_FILLING,
    Filling,
    Measure,
    MeasuredPrompt,
    SampledCall,
    Texts,
    Upstream,
    sample_call,
    signature_of,
)
from sundog.errors import CallError
from sundog.ir.agents import ARGS, AgentExec
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.logical import (
    MAX_RENDERED_TURNS,
    ForEach,
    ValueNode,
)
from sundog.ir.physical import (
    CallExec,
    Exec,
    FilterExec,
    LoopExec,
    Sharing,
    ValueExec,
)
from sundog.ir.templates.environment import SKIPPED
from sundog.ir.templates.render import render_condition, render_json, render_value
from sundog.ir.templates.template import Template
from sundog.ir.templates.whole_numbers import render_whole_number

ONCE = Estimate.exactly(1.0)
# Without `max_tokens` and without history.
UNLIMITED_OUTPUT_TOKENS = 1024
UNKNOWN_ITEMS = Estimate(0.0, 3.0, 10.0)
MOSTLY = Estimate(0.0, 1.0, 1.0)
UNKNOWN_TURNS = 10
# Calls of one tool in one turn of an agent.
UNKNOWN_USES = Estimate(0.0, 0.5, 2.0)
# Calls of a step that fail after all attempts.
UNKNOWN_FAILURES = Estimate(0.0, 0.0, 1.0)
UNKNOWN_TURN = Estimate(0.0, 0.5, 1.0)
MAX_CALLS = 100_000
"""The bound for all rows together. In longer lists and loops so many elements and turns stand for all,
evenly picked."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call that a row may make."""

    node: str
    sampled: SampledCall
    #: The number of times that it is made, as far as that is not certain.
    chance: Estimate
    #: The places, in the list of calls, of those that must have ended.
    before: tuple[int, ...]


@dataclass(slots=True)
class _Scope:
    """One row at one place of the plan."""

    row: int
    known: dict[str, Any]
    unknown: dict[str, Upstream]
    chance: Estimate
    #: The number of elements and turns of a row that are looked at side by side.
    width: int = 1
    begin: tuple[int, ...] = ()
    #: Nodes that the row never ends.
    gone: set[str] = field(default_factory=set)
    #: Chances of the filters that cannot be judged yet.
    passing: dict[str, Estimate] = field(default_factory=dict)
    #: By node, the calls that must have ended before it has.
    ends: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def inner(self, chance: Estimate, begin: tuple[int, ...], num_beside: int) -> _Scope:
        return _Scope(self.row, dict(self.known), dict(self.unknown), chance, self.width * num_beside, begin)

    def can_tell(self, template: Template) -> bool:
        return not template.names & self.unknown.keys()

    def learn(self, name: str, value: Any) -> None:
        self.unknown.pop(name, None)
        self.known[name] = value

    def expect(self, name: str, value: Upstream) -> None:
        self.known.pop(name, None)
        self.unknown[name] = value


@dataclass(frozen=True, slots=True)
class WalkedRows:
    """The sampled rows of one table as they go through its steps."""

    #: Row by row and in the order of the plan.
    calls: tuple[PlannedCall, ...]
    #: For each row, how many of those that it stands for end with an output, if no call fails.
    num_done: tuple[Estimate, ...]


def sample_plan(
    nodes: Sequence[Exec],
    constants: Mapping[str, Any],
    rows: Sequence[tuple[int, Mapping[str, Any] | Upstream]],
    known: Known,
    chance: Estimate = ONCE,
) -> WalkedRows:
    """Return the calls of `rows`, each with its number; a row may be one that other steps have yet to make. `chance`:
    how many rows each of them stands for, as far as that is not certain."""
    walk = _Walk(known, MAX_CALLS // (max(1, len(known.steps)) * max(1, len(rows))))
    num_done = []
    for number, row in rows:
        unknown = {"row": row} if isinstance(row, Upstream) else {}
        scope = _Scope(number, {**constants} if unknown else {**constants, "row": row}, unknown, chance)
        walk.nodes(nodes, scope)
        num_done.append(NOTHING if scope.gone else _product(chance, scope.passing.values()))
    return WalkedRows(tuple(walk.calls), tuple(num_done))


def _product(first: Estimate, others: Iterable[Estimate]) -> Estimate:
    for one in others:
        first = first * one
    return first


class _Walk:
    def __init__(self, known: Known, max_width: int) -> None:
        self.calls: list[PlannedCall] = []
        self._known = known
        self._max_width = max_width
        self._value_tokens: dict[str, Estimate] = {}
        self._measured_by: dict[str, tuple[Measure, Filling]] = {}

    def nodes(self, nodes: Sequence[Exec], scope: _Scope) -> None:
        """Walk one scope of the plan for one row, in topological order. A step that fails, or that waits for one that
        is gone, adds its name to `scope.gone`."""
        for node in nodes:
            if any(name in scope.gone for name in node.before):
                scope.gone.add(node.name)
                continue
            waits = {end for name in node.before for end in scope.ends.get(name, ())}
            scope.ends[node.name] = tuple(sorted(waits)) or scope.begin
            chance = scope.chance
            for name in node.before:
                chance = chance * scope.passing.get(name, ONCE)
            try:
                self._node(node, scope, chance)
            except CallError:
                # This row fails here: what waits for it is not run.
                scope.gone.add(node.name)

    def _node(self, node: Exec, scope: _Scope, chance: Estimate) -> None:
        if isinstance(node, FilterExec):
            self._filter(node, scope)
            return
        body = node.step if isinstance(node, CallExec) else node.loop if isinstance(node, LoopExec) else node.value
        share = ONCE
        if body.when is not None:
            if not scope.can_tell(body.when):
                share = selectivity(self._known.record(node.name))
            elif not render_condition(body.when, scope.known):
                scope.learn(node.name, SKIPPED)
                return
        if isinstance(node, ValueExec):
            self._value(node, scope)
            return
        if body.for_each is None:
            value = self._once(node, scope, chance * share, scope.ends[node.name], "")
        else:
            value = self._each(node, body.for_each, scope, chance * share)
        tokens = None if value.value_tokens is None else value.value_tokens * share
        scope.expect(node.name, replace(value, value_tokens=tokens))

    def _value(self, node: ValueExec, scope: _Scope) -> None:
        """Learn the value where the row tells it; else expect one that is equal for equal rows and values."""
        value = node.value
        templates = [one for one in (value.template, value.for_each and value.for_each.items, value.when) if one]
        read = set().union(*(template.names for template in templates)) & scope.unknown.keys()
        if not read:
            scope.learn(node.name, _known_value(value, scope.known))
            return
        signatures = [scope.unknown[name].signature for name in sorted(read)]
        # What of the row is read beside them may differ, so that no two rows are taken to be equal.
        marks = [template.source for template in templates]
        own = [str(scope.row)] if any(template.names - scope.unknown.keys() for template in templates) else []
        scope.expect(node.name, Upstream(signature_of([*marks, *own, *signatures]), None))

    def _filter(self, node: FilterExec, scope: _Scope) -> None:
        if not scope.can_tell(node.filter.predicate):
            record = self._known.record(node.name)
            is_guess = record is None or not record.num_judged
            # What is required of rows is taken to hold: those of which it does not fail.
            is_required = node.filter.reason is not None and is_guess
            scope.passing[node.name] = MOSTLY if is_required else selectivity(record)
        elif not render_condition(node.filter.predicate, scope.known):
            scope.gone.add(node.name)

    def _each(self, node: CallExec | LoopExec, each: ForEach, scope: _Scope, chance: Estimate) -> Upstream:
        waits = scope.ends[node.name]
        values: list[Upstream] = []
        ends: list[int] = []
        items, factor = self._items(node.name, each, scope)
        for number, item in enumerate(items):
            inner = scope.inner(chance, waits, len(items))
            if isinstance(item, Upstream):
                inner.expect(each.variable, item)
            else:
                inner.learn(each.variable, item)
            values.append(self._once(node, inner, chance * factor, waits, f"[{number}]"))
            ends += inner.ends[node.name]
        scope.ends[node.name] = tuple(sorted(set(ends))) or waits
        told = [value.value_tokens for value in values if value.value_tokens is not None]
        tokens = sum_of(told) * factor if len(told) == len(values) else None
        return Upstream(signature_of(value.signature for value in values), tokens)

    def _items(self, node: str, each: ForEach, scope: _Scope) -> tuple[list[Any], Estimate]:
        """Return the elements, and how many there will be for each of them."""
        if scope.can_tell(each.items):
            value = render_value(each.items, scope.known)
            found = list(value) if isinstance(value, list | tuple) else []
            chosen = found[:: -(-len(found) // self._room(scope)) or 1]
            return chosen, Estimate.exactly(len(found) / len(chosen)) if len(chosen) < len(found) else ONCE
        record = self._known.record(node)
        length = None if record is None else mean_of(record.num_items, 1.0)
        if length is None:
            length = UNKNOWN_USES if each.variable == ARGS else UNKNOWN_ITEMS
        # One stands for less than one too.
        num_items = min(max(round(length.expected), 1 if length.high else 0), self._room(scope))
        sources = [scope.unknown[name].signature for name in sorted(each.items.names & scope.unknown.keys())]
        marks = [each.items.source, str(scope.row), *sources]
        items = [Upstream(signature_of([*marks, str(number)]), None) for number in range(num_items)]
        return items, length * (1 / num_items) if num_items else NOTHING

    def _room(self, scope: _Scope) -> int:
        """Return how many elements or turns may be looked at here."""
        return max(1, self._max_width // scope.width)

    def _once(
        self, node: CallExec | LoopExec, scope: _Scope, chance: Estimate, waits: tuple[int, ...], element: str
    ) -> Upstream:
        """Walk one call, or one loop; afterwards `scope.ends` says what ends it."""
        if isinstance(node, AlternativesExec):
            return self._alternatives(node, scope, chance, waits)
        if isinstance(node, LoopExec):
            return self._loop(node, scope, chance, waits)
        facts, pool = self._known.steps[node.name], self._known.pools[node.pool]
        measure, filling = self._measuring(node)
        call = sample_call(
            scope.row,
            facts.conversation,
            scope.known,
            scope.unknown,
            measure,
            identity=facts.identity,
            filling=filling,
        )
        self.calls.append(PlannedCall(node.name, call, chance, waits))
        scope.ends[node.name] = (len(self.calls) - 1,)
        # The results of a tool for equal arguments are taken to be equal, though it is called for each row.
        is_own = node.sharing is Sharing.NEVER and isinstance(pool, EnginePool)
        signature = signature_of([call.signature, str(len(self.calls))]) if is_own else call.signature
        if not isinstance(pool, EnginePool):
            return Upstream(signature, None, mean_result_bytes(self._known.record(node.name)))
        if node.name not in self._value_tokens:
            self._value_tokens[node.name] = self._mean_value_tokens(node)
        return Upstream(signature, self._value_tokens[node.name])

    def _alternatives(
        self, node: AlternativesExec, scope: _Scope, chance: Estimate, waits: tuple[int, ...]
    ) -> Upstream:
        """Walk a step and what may stand in for it; the value is taken to be the first's."""
        inner = scope.inner(chance, waits, 1)
        self.nodes(node.body[:1], inner)
        first = inner.unknown.get(node.first.name, Upstream("", None))
        if node.alternatives.on_error == "engine":
            record = self._known.record(node.alternatives.counted_as)
            is_seen = record is not None and record.num_judged
            inner.chance = inner.chance * (selectivity(record) if is_seen else UNKNOWN_FAILURES)
        self.nodes(node.body[1:], inner)
        made = {end for body in node.body for end in inner.ends.get(body.name, ())}
        scope.ends[node.name] = tuple(sorted(made)) or waits
        return first

    def _measuring(self, node: CallExec) -> tuple[Measure, Filling]:
        """Return what measures the prompts of a step, and what stands in them for text to come."""
        if node.name not in self._measured_by:
            pool = self._known.pools[node.pool]
            self._measured_by[node.name] = (
                (self._known.measure(node.name, pool), self._known.filling(node.name, pool))
                if isinstance(pool, EnginePool)
                else (_no_tokens, NO_FILLING)
            )
        return self._measured_by[node.name]

    def _mean_value_tokens(self, node: CallExec) -> Estimate:
        record = self._known.record(node.name, node.pool)
        num_told = 1 if record is None else record.output_tokens.count
        limit = self._known.steps[node.name].max_tokens or UNLIMITED_OUTPUT_TOKENS
        return output_tokens(record, num_told, limit)

    def _loop(self, node: LoopExec, scope: _Scope, chance: Estimate, waits: tuple[int, ...]) -> Upstream:
        signature, ends = "", waits
        most = self._max_turns(node, scope)
        max_turns = UNKNOWN_TURNS if most is None else most
        num_turns = min(max_turns, self._room(scope))
        factor = ONCE
        if num_turns < max_turns and not self._ends_by_row(node):
            factor = Estimate.exactly(max_turns / num_turns)
        for turn in range(1, num_turns + 1):
            share = self._share_of_turn(node, turn, is_last_known=most is not None)
            if share == NOTHING:
                break
            inner = scope.inner(chance * share * factor, ends, num_turns)
            if turn == 1:
                history: dict[str, Any] = {body.name: [] for body in node.body}
                inner.learn("loop", {"turn": turn, "last": SKIPPED, "history": history})
            else:
                inner.unknown["loop"] = Upstream(signature_of([signature, str(turn)]), None)
                inner.known["loop"] = {"turn": turn}
            self.nodes(node.body, inner)
            made = {end for body in node.body for end in inner.ends.get(body.name, ())}
            ends = tuple(sorted(made)) or ends
            values = [inner.unknown[body.name].signature for body in node.body if body.name in inner.unknown]
            signature = signature_of([signature, *values])
            until = node.loop.until
            if until is not None and inner.can_tell(until) and render_condition(until, inner.known):
                break
        scope.ends[node.name] = ends
        return Upstream(signature, None)

    def _max_turns(self, node: LoopExec, scope: _Scope) -> int | None:
        """Return the bound of a loop, None where an answer decides it."""
        most = node.loop.max_turns
        if isinstance(most, Template) and not scope.can_tell(most):
            return None
        return render_whole_number(most, scope.known, "max_turns", 1, MAX_RENDERED_TURNS)

    def _ends_by_row(self, node: LoopExec) -> bool:
        """Return whether what ends the loop does not depend on its turns."""
        until = node.loop.until
        return until is not None and not until.names & {"loop", *(body.name for body in node.body)}

    def _share_of_turn(self, node: LoopExec, turn: int, *, is_last_known: bool) -> Estimate:
        """Return the share of loops that get to this turn."""
        is_sure = node.loop.until is None and is_last_known and not isinstance(node, AgentExec)
        if turn == 1 or is_sure:
            return ONCE
        record = self._known.record(node.name)
        if record is None or not record.num_turns.counts:
            return UNKNOWN_TURN
        num_there, num_all = record.num_turns.share_at_least(turn)
        return share_of(num_there, num_all) if num_there else NOTHING


def _known_value(value: ValueNode, known: Mapping[str, Any]) -> Any:
    if value.for_each is None:
        return render_json(value.template, known)
    items = render_value(value.for_each.items, known)
    if not isinstance(items, list | tuple):
        return []
    return [render_json(value.template, {**known, value.for_each.variable: item}) for item in items]


def _no_tokens(texts: Texts) -> MeasuredPrompt:
    return MeasuredPrompt(0)
