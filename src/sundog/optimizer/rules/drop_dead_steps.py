"""drop_dead_steps: a step that nobody reads, and that is no effect, is not run.

Named in `after` counts as read: the flow asks for its end. In a loop, a step lives as long as its value leaves the
turn. A step that is gone can no longer fail its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sundog.ir.logical import Filter, Loop, Node, Step, Table, ValueNode, steps_of
from sundog.ir.templates.reads import names_needed, paths_read
from sundog.ir.templates.template import Path
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, Nodes, TableResult, TableRule


class DropDeadSteps(TableRule):
    """Leave out the steps that nobody reads.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes:
    ...       gist: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}
    ...       reply: {llm: {engine: local, prompt: "Answer {{ row.mail }}"}}
    ...     outputs: {reply: "{{ reply.text }}"}''')
    >>> [node.name for node in rewrite_by(DropDeadSteps(), plan).plan.nodes]
    ['reply']
    """

    name = "drop_dead_steps"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        paths = frozenset[Path]().union(*(template.paths for _, template in table.outputs))
        nodes = _living(table.nodes, paths, frozenset(), context.facts)
        notes = tuple(f"{name} is not run: nobody reads it" for name in _lost(table.nodes, nodes))
        return TableResult(replace(table, nodes=nodes), notes) if notes else None


def _living(nodes: Nodes, outer: frozenset[Path], needed: frozenset[str], facts: PlanFacts) -> Nodes:
    """Return `nodes` without the dead ones. `outer`: paths read from outside their scope; `needed`: names that live
    anyhow."""
    by_name = {node.name: node for node in nodes}
    read_by = {node.name: paths_read(node) for node in nodes}
    alive: set[str] = set()
    left = [node.name for node in nodes if node.name in needed or _must_run(node, facts)]
    left += (path[0] for path in outer)
    while left:
        name = left.pop()
        if name in by_name and name not in alive:
            alive.add(name)
            left += (path[0] for path in read_by[name])
            left += by_name[name].after
    kept = tuple(node for node in nodes if node.name in alive)
    read = outer.union(*(read_by[node.name] for node in kept))
    return tuple(_with_living_body(node, read, facts) if isinstance(node, Loop) else node for node in kept)


def _must_run(node: Node, facts: PlanFacts) -> bool:
    return isinstance(node, Filter) or any(facts.is_effect(step) for step in steps_of([node]))


def _with_living_body(loop: Loop, read: frozenset[Path], facts: PlanFacts) -> Loop:
    body = _living(loop.body, frozenset(), names_needed(loop, read), facts)
    return loop if len(body) == 0 or body == loop.body else replace(loop, body=body)


def _lost(before: Nodes, after: Nodes) -> Iterator[str]:
    left = {node.name: node for node in after}
    for node in before:
        match node, left.get(node.name):
            case _, None:
                yield node.name
            case Loop(), Loop() as other:
                yield from _lost(node.body, other.body)
            case Step() | Filter() | ValueNode(), _:
                pass
