"""Logical plan to physical plan: what may be shared, what waits for what, which pool serves each step.

Owns these decisions. Never rewrites steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

from sundog.ir.agents import Agent, AgentExec, ToolFlow, ToolFlowExec
from sundog.ir.alternatives import Alternatives, AlternativesExec
from sundog.ir.graph import dependencies, table_order, topological_order
from sundog.ir.logical import (
    Filter,
    LogicalPlan,
    Loop,
    Node,
    Step,
    ValueNode,
    steps_of,
)
from sundog.ir.physical import (
    MAX_RETRY_WAIT_S,
    CallExec,
    Exec,
    FilterExec,
    LoopExec,
    PhysicalPlan,
    Sharing,
    TableExec,
    ValueExec,
)
from sundog.operators.base import Operator
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.placement.objective import objective_named

DEFAULT_ROWS_IN_FLIGHT = 2048


@dataclass(frozen=True, slots=True)
class PlannerOptions:
    """The options of a plan beyond what the flow says."""

    #: Name of the policy set that orders its calls.
    policy: str = "prefix_grouped"
    #: Rows worked on at once, at least 1.
    max_rows_in_flight: int = DEFAULT_ROWS_IN_FLIGHT
    #: The quantity that a placement on workers makes small; None takes the flow's.
    objective: str | None = None
    #: Name of the solver that places steps on workers.
    solver: str = "auto"
    #: False executes every call, also equal ones.
    merges_calls: bool = True
    #: True runs a row's steps one after the other, as written where they do not wait for later ones.
    is_serial: bool = False


DEFAULTS = PlannerOptions()


def plan_physical(
    plan: LogicalPlan,
    operators: Mapping[str, Operator],
    options: PlannerOptions = DEFAULTS,
    *,
    written: LogicalPlan | None = None,
) -> PhysicalPlan:
    """Return the physical plan of `plan`. `operators` holds an instance for each operator name in the plan. `written`:
    the plan before rewrites, by which the run is known; None for `plan`.

    FlowError for what cannot be planned, ConfigError for an unknown objective or solver.
    """
    if options.solver != "auto":
        from sundog.optimizer.placement.choose import solver_named  # the solvers, which few plans need

        solver_named(options.solver)
    planner = _Planner(operators, plan, merges_calls=options.merges_calls, is_serial=options.is_serial)
    return PhysicalPlan(
        plan,
        planner.tables(plan),
        options.policy,
        options.max_rows_in_flight,
        written or plan,
        objective_named(options.objective or plan.objective).value,
        options.solver,
    )


class _Planner:
    def __init__(
        self, operators: Mapping[str, Operator], plan: LogicalPlan, *, merges_calls: bool, is_serial: bool
    ) -> None:
        self._facts = PlanFacts(plan, operators)
        self._engines = {block.name: block for block in plan.engines}
        self._merges_calls = merges_calls
        self._is_serial = is_serial

    def tables(self, plan: LogicalPlan) -> tuple[TableExec, ...]:
        """Return the tables of a plan as they are executed, each after those that it reads or waits for."""
        tables = table_order(plan.tables)
        if len(tables) == 1:
            return (TableExec(tables[0], self.order(tables[0].nodes)),)
        from sundog.optimizer.ordered_tables import ordered_tables  # what reads queries, which few flows have

        touched = {table.name: self._touched(table.nodes) for table in tables}
        return ordered_tables(plan, touched, self.order, streams=not self._is_serial)

    def order(self, nodes: Sequence[Node]) -> tuple[Exec, ...]:
        """Return the nodes of one scope as they are executed: in topological order, each with the nodes that it waits
        for."""
        before = dependencies(nodes, self._resource_order(nodes))
        ordered = tuple(self._exec(node, before[node.name]) for node in topological_order(nodes, before))
        if self._is_serial:
            ordered = _one_after_the_other(ordered)
        return _with_successors(ordered)

    def _resource_order(self, nodes: Sequence[Node]) -> list[tuple[str, str]]:
        """Return pairs of steps that touch one resource, of which at least one writes, as written."""
        touches: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        pairs: list[tuple[str, str]] = []
        for node in nodes:
            for resource, writes in self._touched([node]).items():
                pairs += [(name, node.name) for name, wrote in touches[resource] if wrote or writes]
                touches[resource].append((node.name, writes))
        return pairs

    def _touched(self, nodes: Sequence[Node]) -> dict[str, bool]:
        """Return the resources of nodes (a loop's are its body's), and whether they write them."""
        found: dict[str, bool] = {}
        for step in steps_of(nodes):
            traits = self._facts.traits(step)
            if traits.resource is not None:
                found[traits.resource] = found.get(traits.resource, False) or traits.writes
        return found

    def _exec(self, node: Node, before: tuple[str, ...]) -> Exec:
        match node:
            case Step():
                return self._call(node, before)
            case Agent():
                return AgentExec(node, _with_next_turn(self.order(node.body)), before)
            case ToolFlow():
                return ToolFlowExec(node, self.order(node.body), before)
            case Alternatives():
                return AlternativesExec(node, self.order(node.body), before)
            case Loop():
                return LoopExec(node, self.order(node.body), before)
            case Filter():
                return FilterExec(node, before)
            case ValueNode():
                return ValueExec(node, before)

    def _call(self, step: Step, before: tuple[str, ...]) -> CallExec:
        traits = self._facts.traits(step)
        retries = traits.retries if step.retries is None else step.retries
        sharing = self._facts.sharing(step)
        return CallExec(
            step=step,
            pool=traits.pool,
            sharing=sharing if self._merges_calls else Sharing.NEVER,
            is_effect=traits.is_effect,
            timeout_s=traits.timeout_s if step.timeout_s is None else step.timeout_s,
            max_attempts=1 + retries,
            before=before,
            max_retry_wait_s=self._max_retry_wait_s(step, traits.engine),
        )

    def _max_retry_wait_s(self, step: Step, engine: str | None) -> float:
        """Return the step's own, else its engine's, else the default."""
        if step.max_retry_wait_s is not None:
            return step.max_retry_wait_s
        block = self._engines.get(engine or "")
        of_engine = None if block is None else block.options.get("max_retry_wait_s")
        return MAX_RETRY_WAIT_S if of_engine is None else float(of_engine)


def _with_next_turn(body: tuple[Exec, ...]) -> tuple[Exec, ...]:
    """Return an agent's steps with a turn that is followed by the next, whose prompt begins with this one's."""
    turn = body[0]
    assert isinstance(turn, CallExec)
    return (replace(turn, has_successor=True), *body[1:])


def _one_after_the_other(nodes: tuple[Exec, ...]) -> tuple[Exec, ...]:
    chained = [
        node if first.name in node.before else replace(node, before=(*node.before, first.name))
        for first, node in pairwise(nodes)
    ]
    return (*nodes[:1], *chained)


def _with_successors(nodes: tuple[Exec, ...]) -> tuple[Exec, ...]:
    """Return `nodes`, in topological order, each with its `has_successor`."""
    ended = _with_ancestors(nodes)
    bits = {node.name: 1 << index for index, node in enumerate(nodes)}
    by_name = {node.name: node for node in nodes}
    followed: set[str] = set()
    # Values take no time: who waits for one waits for what it waits for.
    before: dict[str, tuple[str, ...]] = {}
    for other in nodes:
        seen = (before[name] if isinstance(by_name[name], ValueExec) else (name,) for name in other.before)
        before[other.name] = tuple(dict.fromkeys(chain.from_iterable(seen)))
        if isinstance(other, CallExec) and other.step.when is None:
            waits_for = sum(bits[name] for name in before[other.name])
            followed |= {
                name
                for name in before[other.name]
                if isinstance(node := by_name[name], CallExec)
                and node.pool == other.pool
                and node.step.for_each is None
                and not waits_for & ~ended[name]
            }
    return tuple(
        replace(node, has_successor=True) if isinstance(node, CallExec) and node.name in followed else node
        for node in nodes
    )


def _with_ancestors(nodes: Sequence[Exec]) -> dict[str, int]:
    """Return for each node itself and all that has ended when it has, as the bits of one number: a set of names for
    each of thousands of nodes is too much."""
    ended: dict[str, int] = {}
    for index, node in enumerate(nodes):
        bits = 1 << index
        for name in node.before:
            bits |= ended[name]
        ended[node.name] = bits
    return ended
