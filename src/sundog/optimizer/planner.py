"""Logical plan to physical plan: what may be shared, what waits for what, which pool serves each step.

Owns these decisions. Never rewrites steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sundog.errors import FlowError
from sundog.ir.graph import dependencies, topological_order
from sundog.ir.logical import Filter, LogicalPlan, Loop, Node, Step, steps_of
from sundog.ir.physical import CallExec, Exec, FilterExec, LoopExec, PhysicalPlan, Sharing
from sundog.operators.base import Operator, Traits

MAX_ROWS_IN_FLIGHT = 2048


def plan_physical(
    plan: LogicalPlan,
    operators: Mapping[str, Operator],
    *,
    policy: str = "prefix_grouped",
    max_rows_in_flight: int = MAX_ROWS_IN_FLIGHT,
) -> PhysicalPlan:
    """`operators` holds an instance for each operator name in the plan. FlowError for what cannot be planned."""
    planner = _Planner(operators, plan)
    return PhysicalPlan(plan, planner.place(plan.nodes), policy, max_rows_in_flight)


class _Planner:
    def __init__(self, operators: Mapping[str, Operator], plan: LogicalPlan) -> None:
        self._operators = operators
        touched = [self._traits(step) for step in steps_of(plan.nodes)]
        self._written = {traits.resource for traits in touched if traits.writes and traits.resource}

    def place(self, nodes: Sequence[Node]) -> tuple[Exec, ...]:
        before = dependencies(nodes, self._resource_order(nodes))
        return tuple(self._exec(node, before[node.name]) for node in topological_order(nodes, before))

    def _traits(self, step: Step) -> Traits:
        return self._operators[step.operator].traits(step.spec)

    def _resource_order(self, nodes: Sequence[Node]) -> list[tuple[str, str]]:
        """Pairs of steps that touch one resource, of which at least one writes, as written."""
        touches: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        pairs: list[tuple[str, str]] = []
        for node in nodes:
            for resource, writes in self._touched(node).items():
                pairs += [(name, node.name) for name, wrote in touches[resource] if wrote or writes]
                touches[resource].append((node.name, writes))
        return pairs

    def _touched(self, node: Node) -> dict[str, bool]:
        """Resources of a node (a loop's are its body's), and whether it writes them."""
        found: dict[str, bool] = {}
        for step in steps_of([node]):
            traits = self._traits(step)
            if traits.resource is not None:
                found[traits.resource] = found.get(traits.resource, False) or traits.writes
        return found

    def _exec(self, node: Node, before: tuple[str, ...]) -> Exec:
        match node:
            case Step():
                return self._call(node, before)
            case Loop():
                return LoopExec(node, self.place(node.body), before)
            case Filter():
                return FilterExec(node, before)

    def _call(self, step: Step, before: tuple[str, ...]) -> CallExec:
        traits = self._traits(step)
        retries = traits.retries if step.retries is None else step.retries
        return CallExec(
            step=step,
            pool=traits.pool,
            sharing=self._sharing(step, traits),
            is_effect=traits.is_effect,
            timeout_s=traits.timeout_s if step.timeout_s is None else step.timeout_s,
            max_attempts=1 + retries,
            before=before,
        )

    def _sharing(self, step: Step, traits: Traits) -> Sharing:
        if step.share and traits.is_effect:
            raise FlowError(
                f"step '{step.name}' changes the outside world and cannot be shared",
                where=step.location,
                hint="take `share: true` away: an effect happens once for each row",
            )
        if step.share is False or traits.resource in self._written:
            return Sharing.NEVER
        if step.share and traits.sharing is Sharing.NEVER:
            return Sharing.ALWAYS if traits.engine else Sharing.RUN
        return traits.sharing
