"""merge_subplans: equal steps under different names are one step, and a step of a loop that no turn changes is
computed once, before the loop.

Only steps whose equal calls may share a result: a Python function of the user's may give something new each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Set
from dataclasses import replace

from sundog.ir.graph import dependencies, topological_order
from sundog.ir.logical import LogicalPlan, Loop, Node, Step, templates_of
from sundog.ir.physical import Sharing
from sundog.ir.reads import LOOP, names_passed_on, outer_paths, paths_read
from sundog.ir.substitute import change_templates, rename
from sundog.ir.template import Path, Template
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Change, Context

Nodes = tuple[Node, ...]


class CannotRename(Exception):
    """A template does not take the other name for certain. Never leaves this module."""


class MergeSubplans:
    name = "merge_subplans"

    def apply(self, plan: LogicalPlan, context: Context) -> Change | None:
        notes: list[str] = []
        while (found := _merge_once(plan, context.facts)) or (found := _hoist(plan, context.facts)):
            plan, more = found
            notes += more
        return Change(plan, tuple(notes)) if notes else None


def _merge_once(plan: LogicalPlan, facts: PlanFacts) -> tuple[LogicalPlan, list[str]] | None:
    """All steps merged that are equal now; that may make others equal."""
    scope = _Scope(plan.nodes, plan.outputs)
    notes = scope.merge(facts, frozenset())
    if notes:
        return replace(plan, nodes=scope.nodes, outputs=scope.templates), notes
    outer = outer_paths(plan)
    for index, node in enumerate(plan.nodes):
        if isinstance(node, Loop) and (merged := _merge_in_loop(node, outer, facts)):
            loop, notes = merged
            return replace(plan, nodes=(*plan.nodes[:index], loop, *plan.nodes[index + 1 :])), notes
    return None


def _merge_in_loop(loop: Loop, outer: frozenset[Path], facts: PlanFacts) -> tuple[Loop, list[str]] | None:
    """Equal steps of a body, where the second's value stays inside the turn."""
    scope = _Scope(loop.body, (("until", loop.until),) if loop.until is not None else ())
    notes = scope.merge(facts, names_passed_on(loop, outer))
    if not notes:
        return None
    until = scope.templates[0][1] if loop.until is not None else None
    return replace(loop, body=scope.nodes, until=until), notes


class _Scope:
    """Nodes beside each other and the other templates that read them, with an index of who reads whom: a merge changes
    its readers only."""

    def __init__(self, nodes: Nodes, templates: tuple[tuple[str, Template], ...]) -> None:
        self._nodes: dict[str, Node] = {node.name: node for node in nodes}
        self._templates = dict(templates)
        self._readers: dict[str, set[str]] = defaultdict(set)
        self._readers_outside: dict[str, set[str]] = defaultdict(set)
        for node in nodes:
            for name in _names_in(node):
                self._readers[name].add(node.name)
        for name, template in templates:
            for read in template.names:
                self._readers_outside[read].add(name)

    @property
    def nodes(self) -> Nodes:
        return tuple(self._nodes.values())

    @property
    def templates(self) -> tuple[tuple[str, Template], ...]:
        return tuple(self._templates.items())

    def merge(self, facts: PlanFacts, kept: Set[str]) -> list[str]:
        """Merge what is equal, the later into the earlier, but nothing of `kept`; a note for each. What reads merged
        steps comes after them and may be equal by then, so that one pass does it, however long the chains are."""
        notes: list[str] = []
        known: dict[Hashable, list[str]] = defaultdict(list)
        for node in topological_order(self.nodes, dependencies(self.nodes)):
            step = self._nodes[node.name]
            if isinstance(step, Step) and facts.sharing(step) is not Sharing.NEVER:
                firsts = known[_likeness(step)]
                merges = (name for name in firsts if step.name not in kept and self._merged(name, step.name))
                first = next(merges, None)
                if first is None:
                    firsts.append(step.name)
                else:
                    notes.append(f"{step.name} is {first}: one step for both")
        return notes

    def _merged(self, new: str, old: str) -> bool:
        """Whether both are one step now: not where they differ, or where a reader does not take the other name."""
        if replace(self._nodes[new], name="") != replace(self._nodes[old], name=""):
            return False
        try:
            nodes = {name: _reading(self._nodes[name], old, new) for name in self._readers[old]}
            templates = {name: _renamed(self._templates[name], old, new) for name in self._readers_outside[old]}
        except CannotRename:
            return False
        for name in _names_in(self._nodes.pop(old)):
            self._readers[name].discard(old)
        self._nodes |= nodes
        self._templates |= templates
        for readers in (self._readers, self._readers_outside):
            readers[new] |= readers.pop(old, set())
        return True


def _likeness(step: Step) -> Hashable:
    """Equal for equal steps, and for few others."""
    return (step.operator, *(template.source for template in templates_of(step)))


def _names_in(node: Node) -> set[str]:
    """Every name in a node's templates, and those that it waits for."""
    return {name for template in templates_of(node) for name in template.names} | set(node.after)


def _reading(node: Node, old: str, new: str) -> Node:
    """`node` with the other name in its templates and in `after`."""
    changed = change_templates(node, lambda template: _renamed(template, old, new))
    return replace(changed, after=tuple(dict.fromkeys(new if name == old else name for name in changed.after)))


def _renamed(template: Template, old: str, new: str) -> Template:
    found = rename(template, old, new)
    if found is None:
        raise CannotRename
    return found


def _hoist(plan: LogicalPlan, facts: PlanFacts) -> tuple[LogicalPlan, list[str]] | None:
    """All steps before their loops that need not be in them."""
    outer = outer_paths(plan)
    nodes: list[Node] = []
    notes: list[str] = []
    for node in plan.nodes:
        if isinstance(node, Loop) and node.when is None and node.for_each is None:
            while steps := _invariants(node, outer, facts):
                nodes += (replace(step, after=node.after) for step in steps)
                notes += (f"{step.name} is computed once, before the loop {node.name}" for step in steps)
                gone = {step.name for step in steps}
                node = replace(node, body=tuple(inner for inner in node.body if inner.name not in gone))
        nodes.append(node)
    return (replace(plan, nodes=tuple(nodes)), notes) if notes else None


def _invariants(loop: Loop, outer: frozenset[Path], facts: PlanFacts) -> list[Step]:
    """The steps that each turn would compute anew to the same, and that nobody reads through the loop; but for one that
    is all of the loop."""
    own = {LOOP, *(node.name for node in loop.body)}
    held = {name for node in loop.body for name in node.after} | names_passed_on(loop, outer)
    found = [
        step
        for step in loop.body
        if isinstance(step, Step)
        and not step.after
        and step.name not in held
        and facts.sharing(step) is not Sharing.NEVER
        and own.isdisjoint(path[0] for path in paths_read(step))
    ]
    return found if len(found) < len(loop.body) else found[:-1]
