"""push_down_filter: steps that a filter does not need wait for it, so that they do not run for rows that it drops.

In the plan the filter moves up, since what is written after a filter waits for it. A step stays where it is when an
effect above the filter needs it, and when the filter waits for a costlier kind of work than the step's own. No filter
passes an effect, or another filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sundog.ir.graph import ancestors, dependencies
from sundog.ir.logical import Filter, LogicalPlan, Node
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Change, Context

Nodes = tuple[Node, ...]


class PushDownFilter:
    name = "push_down_filter"

    def apply(self, plan: LogicalPlan, context: Context) -> Change | None:
        nodes, notes = plan.nodes, []
        for node in plan.nodes:
            if isinstance(node, Filter) and (spared := _spared(node, nodes, context.facts)):
                nodes = _moved_up(node, nodes, spared)
                names = ", ".join(other.name for other in nodes if other.name in spared)
                notes.append(f"{names} after the filter {node.name}")
        return Change(replace(plan, nodes=nodes), tuple(notes)) if notes else None


def _spared(chosen: Filter, nodes: Nodes, facts: PlanFacts) -> frozenset[str]:
    """The steps above the filter that can wait for it."""
    above = nodes[: nodes.index(chosen)]
    before = dependencies(nodes)
    needed = {chosen.name} | ancestors(chosen.name, before)
    for node in above:
        if not isinstance(node, Filter) and not facts.is_movable(node):
            needed |= {node.name} | ancestors(node.name, before)
    free = [node for node in above if node.name not in needed and not isinstance(node, Filter)]
    waits_for = ancestors(chosen.name, before)
    spared = {node.name for node in free if facts.work(node) >= _work(waits_for, node, nodes, before, facts)}
    # Who waits for a spared step waits for the filter too.
    return frozenset(node.name for node in free if node.name in spared or ancestors(node.name, before) & spared)


def _work(
    waits_for: frozenset[str], node: Node, nodes: Sequence[Node], before: Mapping[str, Sequence[str]], facts: PlanFacts
) -> int:
    """Return the cost of the costliest node that the filter waits for and `node` does not."""
    new = waits_for - ancestors(node.name, before)
    return max((facts.work(other) for other in nodes if other.name in new), default=0)


def _moved_up(chosen: Filter, nodes: Nodes, spared: frozenset[str]) -> Nodes:
    index = nodes.index(chosen)
    above, below = nodes[:index], nodes[index + 1 :]
    kept = [node for node in above if node.name not in spared]
    return (*kept, chosen, *(node for node in above if node.name in spared), *below)
