"""push_down_filter: steps that a filter does not need wait for it, so that they do not run for rows that it drops.

In the plan the filter moves up, since what is written after a filter waits for it. A step stays where it is when an
effect above the filter needs it, and when the filter waits for a costlier kind of work than the step's own. No filter
passes an effect, or another filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sundog.ir.graph import Ancestry, nearest
from sundog.ir.logical import Filter, Node, Table
from sundog.optimizer.facts import PlanFacts, WorkOf
from sundog.optimizer.rules.base import Context, TableResult, TableRule


class PushDownFilter(TableRule):
    """Let the steps wait for a filter that does not need them.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes:
    ...       reply: {llm: {engine: local, prompt: "Answer {{ row.mail }}"}}
    ...       is_open: {filter: "{{ row.state == 'open' }}"}
    ...     outputs: {reply: "{{ reply.text }}"}''')
    >>> [node.name for node in rewrite_by(PushDownFilter(), plan).plan.nodes]
    ['is_open', 'reply']
    """

    name = "push_down_filter"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        if not any(isinstance(node, Filter) for node in table.nodes):
            return None
        pushing = _Pushing(table.nodes, context.facts)
        for node in table.nodes:
            pushing.add(node)
        if not pushing.notes:
            return None
        return TableResult(replace(table, nodes=tuple(pushing.nodes)), tuple(pushing.notes))


class _Pushing:
    """The nodes so far, in their new order. Each is looked at once for each filter that may pass it."""

    def __init__(self, nodes: Sequence[Node], facts: PlanFacts) -> None:
        self.nodes: list[Node] = []
        self.notes: list[str] = []
        self._facts = facts
        self._ancestry = Ancestry(nodes, nearest(nodes))
        self._work = WorkOf(nodes, facts, self._ancestry)
        # The nodes so far that no filter moves, and those that might wait for one.
        self._needed = 0
        self._waiting = 0

    def add(self, node: Node) -> None:
        """Take the next node as written; a filter goes before what can wait for it."""
        if isinstance(node, Filter):
            self._push(node)
        else:
            self.nodes.append(node)
            self._waiting |= self._ancestry.bit[node.name]
            if not self._facts.is_movable(node):
                self._needed |= self._ancestry.up_to(node.name)

    def _push(self, chosen: Filter) -> None:
        """Put the filter where the steps that can wait for it come after it."""
        waits_for = self._ancestry.above[chosen.name]
        free = self._waiting & ~self._needed & ~waits_for
        spared = self._spared(free, waits_for) if free else []
        names = {node.name for node in spared}
        self.nodes = [node for node in self.nodes if node.name not in names] if names else self.nodes
        self.nodes += [chosen, *spared]
        for name in names:
            self._ancestry.above[name] |= self._ancestry.up_to(chosen.name)
        if spared:
            self.notes.append(f"{', '.join(node.name for node in spared)} after the filter {chosen.name}")

    def _spared(self, free: int, waits_for: int) -> list[Node]:
        bit, above = self._ancestry.bit, self._ancestry.above
        candidates = [node for node in self.nodes if bit[node.name] & free]
        spared = 0
        for node in candidates:
            # The step is compared with the costliest of what the filter waits for and the step does not.
            if self._facts.work(node) >= self._work.most(waits_for & ~above[node.name]):
                spared |= bit[node.name]
        # A node that waits for a spared step waits for the filter too.
        return [node for node in candidates if (bit[node.name] | above[node.name]) & spared]
