"""push_down_when: a step that only conditional steps read runs only where one of their conditions holds.

It then waits for what the conditions read; so it does that only where this is no costlier kind of work than its own.
Nothing is skipped that an effect, a filter, an output or a step without condition needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sundog.ir.graph import ancestors, dependencies
from sundog.ir.logical import Filter, LogicalPlan, Loop, Node, Step
from sundog.ir.reads import names_needed, outer_paths, paths_read
from sundog.ir.template import Path, Template
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Change, Context

Nodes = tuple[Node, ...]


class PushDownWhen:
    name = "push_down_when"

    def apply(self, plan: LogicalPlan, context: Context) -> Change | None:
        outer = outer_paths(plan)
        shown = frozenset(path[0] for _, template in plan.outputs for path in template.paths)
        nodes, notes = _pushed(plan.nodes, shown, outer, context.facts)
        return Change(replace(plan, nodes=nodes), tuple(notes)) if notes else None


def _pushed(nodes: Nodes, needed: frozenset[str], outer: frozenset[Path], facts: PlanFacts) -> tuple[Nodes, list[str]]:
    """`needed`: names whose values leave the scope. `outer`: the paths read in the scope around a loop's body."""
    notes: list[str] = []
    for index, node in enumerate(nodes):
        if isinstance(node, Loop):
            body, more = _pushed(node.body, names_needed(node, outer), frozenset(), facts)
            nodes = (*nodes[:index], replace(node, body=body), *nodes[index + 1 :]) if more else nodes
            notes += more
    # Backwards: a condition that has reached a step reaches what only that step reads in the same pass.
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        if isinstance(node, Step | Loop) and node.when is None and node.name not in needed:
            when = _condition_of_readers(node, nodes)
            if when is not None and _may_wait(node, when, nodes, facts):
                nodes = (*nodes[:index], replace(node, when=when), *nodes[index + 1 :])
                notes.append(f"{node.name} runs only when {when}")
    return nodes, notes


def _condition_of_readers(node: Node, nodes: Sequence[Node]) -> Template | None:
    """One that holds exactly where a reader of `node` runs; None where a reader always runs, or there is none."""
    conditions: list[Template] = []
    for other in nodes:
        if node.name in other.after or any(path[0] == node.name for path in paths_read(other)):
            if isinstance(other, Filter) or other.when is None or node.name in other.when.names:
                return None
            conditions.append(other.when)
    different = list(dict.fromkeys(conditions))
    if len(different) < 2:
        return different[0] if different else None
    inner = [_inside(condition) for condition in different]
    return None if None in inner else Template(f"{{{{ {' or '.join(f'({text})' for text in inner)} }}}}")


def _inside(condition: Template) -> str | None:
    """The expression between the braces; None for a spelling that trims or comments."""
    text = condition.source.strip()
    plain = text.startswith("{{ ") and text.endswith(" }}") and "{#" not in text
    return text[3:-3] if plain else None


def _may_wait(node: Node, when: Template, nodes: Sequence[Node], facts: PlanFacts) -> bool:
    before = dependencies(nodes)
    by_name = {other.name: other for other in nodes}
    waited = ancestors(node.name, before)
    new = _waited_for(when, before) - waited
    # A filter between the step and its readers keeps rows from the condition, which might fail on them.
    readers = [other for other in nodes if node.name in before[other.name]]
    waited_by_readers = frozenset[str]().union(*(ancestors(other.name, before) for other in readers))
    if any(isinstance(by_name[name], Filter) for name in (new | waited_by_readers) - waited):
        return False
    if node.name in new or not facts.is_movable(node) or not all(facts.is_movable(by_name[name]) for name in new):
        return False
    return facts.work(node) >= max((facts.work(by_name[name]) for name in new), default=0)


def _waited_for(when: Template, before: Mapping[str, Sequence[str]]) -> frozenset[str]:
    direct = when.names & before.keys()
    return frozenset(direct).union(*(ancestors(name, before) for name in direct))
