"""gather_lookups: point look-ups of one statement that wait at the same time are asked for by one query.

Only marks the step. Which statements may be, the operator says (`Traits.lookup`); it proves each answer when it runs.
Not where the flow writes to that database, or says `share: false`: there the moment of each look-up counts.
"""

from __future__ import annotations

from dataclasses import replace

from sundog.ir.logical import Loop, Node, Step, Table
from sundog.ir.physical import Sharing
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, Nodes, TableResult, TableRule


class GatherLookups(TableRule):
    """Mark the point look-ups that may be asked for together.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes:
    ...       buyer:
    ...         sql: {database: "sqlite:///shop.db", query: "select name from buyers where id = :id",
    ...               params: {id: "{{ row.buyer }}"}}
    ...     outputs: {buyer: "{{ buyer[0].name }}"}''')
    >>> plan.nodes[0].is_gathered, rewrite_by(GatherLookups(), plan).plan.nodes[0].is_gathered
    (False, True)
    """

    name = "gather_lookups"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        nodes, notes = _gathered(table.nodes, context.facts)
        return TableResult(replace(table, nodes=nodes), notes) if notes else None


def _gathered(nodes: Nodes, facts: PlanFacts) -> tuple[Nodes, tuple[str, ...]]:
    found: list[Node] = []
    notes: tuple[str, ...] = ()
    for node in nodes:
        match node:
            case Loop():
                body, more = _gathered(node.body, facts)
                found.append(replace(node, body=body) if more else node)
                notes += more
            case Step() if not node.is_gathered and _may_gather(node, facts):
                found.append(replace(node, is_gathered=True))
                notes += (f"{node.name} asks for many :{facts.traits(node).lookup} at once",)
            case _:
                found.append(node)
    return tuple(found), notes


def _may_gather(step: Step, facts: PlanFacts) -> bool:
    return facts.traits(step).lookup is not None and facts.sharing(step) is not Sharing.NEVER
