"""merge_subplans: equal steps under different names are one step, and a step of a loop that no turn changes is
computed once, before the loop.

Only steps whose equal calls may share a result: a Python function of the user's may give something new each time.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from sundog.ir.logical import LogicalPlan, Loop, Node, Step
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
        while (found := _merge_once(plan, context.facts)) or (found := _hoist_once(plan, context.facts)):
            plan, note = found
            notes.append(note)
        return Change(plan, tuple(notes)) if notes else None


def _merge_once(plan: LogicalPlan, facts: PlanFacts) -> tuple[LogicalPlan, str] | None:
    for first, second in combinations(plan.nodes, 2):
        if _are_equal(first, second, facts):
            try:
                nodes = _merged(plan.nodes, first.name, second.name)
                outputs = tuple((name, _renamed(text, second.name, first.name)) for name, text in plan.outputs)
            except CannotRename:
                continue
            return replace(plan, nodes=nodes, outputs=outputs), f"{second.name} is {first.name}: one step for both"
    outer = outer_paths(plan)
    for index, node in enumerate(plan.nodes):
        if isinstance(node, Loop) and (merged := _merge_in_loop(node, outer, facts)):
            loop, note = merged
            return replace(plan, nodes=(*plan.nodes[:index], loop, *plan.nodes[index + 1 :])), note
    return None


def _merge_in_loop(loop: Loop, outer: frozenset[Path], facts: PlanFacts) -> tuple[Loop, str] | None:
    """Two equal steps of a body, of which the second's value stays inside the turn."""
    passed_on = names_passed_on(loop, outer)
    for first, second in combinations(loop.body, 2):
        if second.name not in passed_on and _are_equal(first, second, facts):
            try:
                body = _merged(loop.body, first.name, second.name)
                until = None if loop.until is None else _renamed(loop.until, second.name, first.name)
            except CannotRename:
                continue
            return replace(loop, body=body, until=until), f"{second.name} is {first.name}: one step for both"
    return None


def _are_equal(first: Node, second: Node, facts: PlanFacts) -> bool:
    return (
        isinstance(first, Step)
        and isinstance(second, Step)
        and replace(first, name="") == replace(second, name="")
        and facts.sharing(first) is not Sharing.NEVER
    )


def _merged(nodes: Nodes, kept: str, gone: str) -> Nodes:
    def change(template: Template) -> Template:
        return _renamed(template, gone, kept)

    left = [change_templates(node, change) for node in nodes if node.name != gone]
    return tuple(replace(node, after=_renamed_after(node.after, kept, gone)) for node in left)


def _renamed_after(after: tuple[str, ...], kept: str, gone: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kept if name == gone else name for name in after))


def _renamed(template: Template, old: str, new: str) -> Template:
    found = rename(template, old, new)
    if found is None:
        raise CannotRename
    return found


def _hoist_once(plan: LogicalPlan, facts: PlanFacts) -> tuple[LogicalPlan, str] | None:
    outer = outer_paths(plan)
    for index, loop in enumerate(plan.nodes):
        if isinstance(loop, Loop) and loop.when is None and loop.for_each is None:
            for step in loop.body:
                if _is_invariant(step, loop, outer, facts):
                    assert isinstance(step, Step)
                    body = tuple(node for node in loop.body if node is not step)
                    nodes = (replace(step, after=loop.after), replace(loop, body=body))
                    note = f"{step.name} is computed once, before the loop {loop.name}"
                    return replace(plan, nodes=(*plan.nodes[:index], *nodes, *plan.nodes[index + 1 :])), note
    return None


def _is_invariant(step: Node, loop: Loop, outer: frozenset[Path], facts: PlanFacts) -> bool:
    """Whether each turn would compute the same, and nobody reads the step through the loop."""
    names = {node.name for node in loop.body}
    if not isinstance(step, Step) or len(names) == 1 or step.after or facts.sharing(step) is Sharing.NEVER:
        return False
    if any(step.name in node.after for node in loop.body):
        return False
    read = {path[0] for path in paths_read(step)}
    return not read & (names | {LOOP}) and step.name not in names_passed_on(loop, outer)
