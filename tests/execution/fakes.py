"""A run in small: scripted operators on a real store, host and core."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sundog.engines.base import Usage
from sundog.errors import CallError
from sundog.execution.calls.exchange import CallExchange
from sundog.execution.row_way import RowEnd
from sundog.ir.logical import Filter, ForEach, LogicalPlan, Loop, Node, OperatorSpec, Step, Table, ValueNode
from sundog.ir.physical import PhysicalPlan, Sharing
from sundog.ir.row_ids import RowRef
from sundog.ir.schemas.shape import Anything, Shape
from sundog.ir.tables import InputRows
from sundog.ir.templates.render import Scope, render_value
from sundog.ir.templates.template import Template
from sundog.operators.base import BoundCall, CallContext, Outcome, Traits
from sundog.optimizer.planner import plan_physical
from sundog.sched.catalog import FCFS
from sundog.sched.events import Event, ReplicaAdded
from sundog.store.store import Store
from tests.runtime.part import Part

Behaviour = Callable[[Any], Any]


class FakeSpec(OperatorSpec):
    """`value` is what the step yields; a behaviour may act on it first."""

    value: Template
    sharing: Sharing = Sharing.RUN
    effect: bool = False
    resource: str | None = None
    writes: bool = False


class FakeOperator:
    """Yields its rendered value after its step's behaviour; counts runs by that value."""

    name = "fake"
    Spec: type[OperatorSpec] = FakeSpec

    def __init__(self, base_dir: Path = Path(), behaviours: Mapping[str, Behaviour] | None = None) -> None:
        self.behaviours = behaviours or {}
        self.runs: Counter[str] = Counter()
        self.order: list[str] = []
        self.idempotency_keys: list[str] = []
        self.num_running = 0
        self.max_running = 0

    def check(self, spec: FakeSpec, engines: Mapping[str, Any]) -> None:
        pass

    def traits(self, spec: FakeSpec) -> Traits:
        return Traits(
            sharing=spec.sharing,
            pool="fake",
            is_effect=spec.effect,
            resource=spec.resource,
            writes=spec.writes,
            retries=0 if spec.effect else 2,
        )

    def shape(self, spec: FakeSpec) -> Shape:
        return Anything()

    def bind(self, spec: FakeSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        return BoundCall(render_value(spec.value, scope))

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        try:
            await asyncio.sleep(0)
            self.runs[str(call.payload)] += 1
            self.order.append(str(call.payload))
            self.idempotency_keys.append(context.idempotency_key)
            step = context.request_id.partition("/")[2]
            behaviour = self.behaviours.get(step)
            value = behaviour(call.payload) if behaviour else call.payload
            if asyncio.iscoroutine(value):
                value = await value
            return Outcome(value, Usage(10, 5, 2))
        finally:
            self.num_running -= 1

    async def close(self) -> None:
        pass


def step(name: str, value: str, **more: Any) -> Step:
    """A fake step; step fields and spec fields by name."""
    spec_fields = {key: more.pop(key) for key in list(more) if key in FakeSpec.model_fields}
    for key in ("when",):
        if isinstance(more.get(key), str):
            more[key] = Template(more[key])
    if isinstance(more.get("for_each"), str):
        more["for_each"] = ForEach(Template(more["for_each"]))
    return Step(name, "fake", FakeSpec(value=Template(value), **spec_fields), **more)


def value(name: str, template: str, *, when: str | None = None, for_each: str | None = None) -> ValueNode:
    condition = None if when is None else Template(when)
    return ValueNode(name, Template(template), condition, None if for_each is None else ForEach(Template(for_each)))


def keep(name: str, predicate: str) -> Filter:
    return Filter(name, Template(predicate))


def require(name: str, that: str, otherwise: str) -> Filter:
    return Filter(name, Template(that), reason=Template(otherwise))


def loop(name: str, *body: Node, max_turns: int | str, until: str | None = None) -> Loop:
    most = Template(max_turns) if isinstance(max_turns, str) else max_turns
    return Loop(name, body, most, None if until is None else Template(until))


def plan_of(*nodes: Node, outputs: Mapping[str, str] | None = None) -> LogicalPlan:
    shown = outputs if outputs is not None else {node.name: f"{{{{ {node.name} }}}}" for node in nodes}
    table = Table("", InputRows("rows"), nodes, tuple((name, Template(text)) for name, text in shown.items()))
    return LogicalPlan("test", (), (), {}, (table,), ("",))


def with_nodes(plan: LogicalPlan, nodes: Sequence[Node]) -> LogicalPlan:
    """`plan`, of one table, with other nodes."""
    return plan.with_table(replace(plan.tables[0], nodes=tuple(nodes)))


@dataclass
class World:
    """The things that outlive a process: the state folder, and an operator that counts."""

    state_dir: Path
    operator: FakeOperator = field(default_factory=FakeOperator)
    events: list[Event] = field(default_factory=list)
    max_concurrency: int = 64
    part: Part | None = None
    exchange: CallExchange | None = None

    def physical(self, plan: LogicalPlan) -> PhysicalPlan:
        return plan_physical(plan, {"fake": self.operator})

    def run(self, plan: LogicalPlan, *rows: Mapping[str, Any], **scope: Any) -> list[RowEnd]:
        """All rows at once in one 'process'; their ends in row order."""
        return asyncio.run(self._run(self.physical(plan), rows, scope))

    async def _run(
        self,
        plan: PhysicalPlan,
        rows: tuple[Mapping[str, Any], ...],
        scope: dict[str, Any],
        store: Store | None = None,
    ) -> list[RowEnd]:
        store = store or Store(self.state_dir)
        store.open_writer()
        try:
            scope = {"run_id": "run-1", "is_fresh": False, "repeats_unknown_effects": False, **scope}
            fakes = {"fake": self.operator}
            part = self.part = Part(plan, store, FCFS, self.events.append, fakes, exchange=self.exchange, **scope)
            part.driver.tell(ReplicaAdded(0.0, "fake", "fake", self.max_concurrency))
            ends = (part.executor.run(RowRef("", (index,)), row) for index, row in enumerate(rows))
            return list(await asyncio.gather(*ends))
        finally:
            store.close()


def fails(times: int, **error: Any) -> Behaviour:
    """Fail the first `times` runs, then yield the payload."""
    left = [times]

    def behave(payload: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise CallError("broken", **error)
        return payload

    return behave
