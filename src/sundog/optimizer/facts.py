"""The facts that the operators tell of a plan's steps, and what follows from them: effects, shared state, how far
results reach.

Owns these facts; the rules and the planner read them. Never changes a plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from sundog.errors import FlowError
from sundog.ir.graph import Ancestry
from sundog.ir.logical import Filter, LogicalPlan, Node, Step, steps_of
from sundog.ir.physical import Sharing
from sundog.operators.base import Operator, Traits


class WorkClass(IntEnum):
    """The most that a node costs, by kind: what is known before anything is measured."""

    NONE = 0
    TOOL = 1
    ENGINE = 2


class PlanFacts:
    """This class tells what a plan's steps do, as their operators say. `operators` holds an instance for each operator
    name in the plan."""

    def __init__(self, plan: LogicalPlan, operators: Mapping[str, Operator]) -> None:
        self._operators = operators
        touched = [self.traits(step) for step in steps_of(plan.nodes)]
        self._written = {traits.resource for traits in touched if traits.writes and traits.resource}

    def traits(self, step: Step) -> Traits:
        return self._operators[step.operator].traits(step.spec)

    def is_effect(self, step: Step) -> bool:
        traits = self.traits(step)
        return traits.is_effect or traits.writes

    def is_ordered(self, step: Step) -> bool:
        """Return whether a step is an effect, or works on something outside that the plan changes, so that what it
        gives depends on when it runs."""
        return self.is_effect(step) or self.traits(step).resource in self._written

    def is_movable(self, node: Node) -> bool:
        """Return whether a node may run at another time, or not at all where nobody needs it."""
        return not isinstance(node, Filter) and not any(self.is_ordered(step) for step in steps_of([node]))

    def work(self, node: Node) -> WorkClass:
        return max(
            (WorkClass.ENGINE if self.traits(step).engine else WorkClass.TOOL for step in steps_of([node])),
            default=WorkClass.NONE,
        )

    def sharing(self, step: Step) -> Sharing:
        """Return how far one call's result may reach; FlowError for an effect that the flow wants shared."""
        traits = self.traits(step)
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


class WorkOf:
    """The costliest work in a set of nodes that is given as bits."""

    def __init__(self, nodes: Sequence[Node], facts: PlanFacts, ancestry: Ancestry) -> None:
        self._of_kind = [
            (kind, ancestry.bits(node.name for node in nodes if facts.work(node) is kind))
            for kind in sorted(WorkClass, reverse=True)
        ]

    def most(self, bits: int) -> WorkClass:
        return next((kind for kind, nodes in self._of_kind if bits & nodes), WorkClass.NONE)
