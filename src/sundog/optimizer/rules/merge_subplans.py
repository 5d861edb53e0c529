"""merge_subplans: equal steps under different names are one step, and a step of a loop that no turn changes is
computed once, before the loop.

Only steps whose equal calls may share a result: a Python function of the user's may give something new each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Set
from dataclasses import replace
from typing import TypeGuard

from sundog.ir.graph import nearest, topological_order
from sundog.ir.logical import (
    Loop,
    Node,
    Step,
    Table,
    ValueNode,
    templates_of,
)
from sundog.ir.physical import Sharing
from sundog.ir.templates.reads import names_passed_on, outer_paths, paths_read
from sundog.ir.templates.substitute import change_templates, rename
from sundog.ir.templates.template import LOOP, Path, Template
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, Nodes, TableResult, TableRule


class CannotRename(Exception):
    """Raised where a template does not take other names for certain in place of `names`; caught by the rule,
    which keeps these steps apart."""

    def __init__(self, names: Set[str]) -> None:
        super().__init__(names)
        self.names = names


class MergeSubplans(TableRule):
    """Make one step of several equal ones.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes:
    ...       one: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}
    ...       same: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}
    ...     outputs: {first: "{{ one.text }}", second: "{{ same.text }}"}''')
    >>> merged = rewrite_by(MergeSubplans(), plan).plan
    >>> [node.name for node in merged.nodes], [template.source for _, template in merged.tables[0].outputs]
    (['one'], ['{{ one.text }}', '{{ one.text }}'])
    """

    name = "merge_subplans"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        notes: list[str] = []
        while (found := _merge_once(table, context.facts)) or (found := _hoist(table, context.facts)):
            table, more = found
            notes += more
        return TableResult(table, tuple(notes)) if notes else None


def _merge_once(table: Table, facts: PlanFacts) -> tuple[Table, list[str]] | None:
    """Return the table with equal steps merged, or with those of the first loop that has some."""
    outputs = dict(table.outputs)
    nodes, outputs, notes = _merged(table.nodes, outputs, facts, frozenset())
    if notes:
        return replace(table, nodes=nodes, outputs=tuple(outputs.items())), notes
    outer = outer_paths(table)
    for index, node in enumerate(table.nodes):
        if _is_plain_loop(node) and (merged := _merge_in_loop(node, outer, facts)):
            loop, notes = merged
            return replace(table, nodes=(*table.nodes[:index], loop, *table.nodes[index + 1 :])), notes
    return None


def _is_plain_loop(node: Node) -> TypeGuard[Loop]:
    """Return whether a node is a loop whose steps run in each turn; which of an agent's do, its model decides."""
    return isinstance(node, Loop) and node.is_plain


def _merge_in_loop(loop: Loop, outer: frozenset[Path], facts: PlanFacts) -> tuple[Loop, list[str]] | None:
    """Return the loop with equal steps merged where the second's value stays inside the turn."""
    until = {} if loop.until is None else {"until": loop.until}
    body, until, notes = _merged(loop.body, until, facts, names_passed_on(loop, outer))
    return (replace(loop, body=body, until=until.get("until")), notes) if notes else None


def _merged(
    nodes: Nodes, beside: dict[str, Template], facts: PlanFacts, kept: Set[str]
) -> tuple[Nodes, dict[str, Template], list[str]]:
    """Return equal nodes merged, the later into the earlier, but nothing of `kept`, nor what a reader does not let go;
    the other templates that read them, `beside`, with the names that remain; and a note for each."""
    while True:
        try:
            return _try_merge(nodes, beside, facts, kept)
        except CannotRename as error:
            kept = kept | error.names


def _try_merge(
    nodes: Nodes, beside: dict[str, Template], facts: PlanFacts, kept: Set[str]
) -> tuple[Nodes, dict[str, Template], list[str]]:
    """Merge in one pass, however long the chains are: what reads merged steps comes after them, and may be equal by
    then."""
    names: dict[str, str] = {}
    known: dict[Hashable, list[Step | ValueNode]] = defaultdict(list)
    left: dict[str, Node] = {}
    for written in topological_order(nodes, nearest(nodes)):
        node = reading(written, names)
        if may_be_one(node, facts):
            firsts = known[_likeness(node)]
            first = None if node.name in kept else next((one for one in firsts if _are_equal(one, node)), None)
            if first is not None:
                names[node.name] = first.name
                continue
            firsts.append(node)
        left[node.name] = node
    notes = [f"{old} is {new}: one step for both" for old, new in names.items()]
    found = tuple(left[node.name] for node in nodes if node.name in left)
    return found, {key: renamed(template, names) for key, template in beside.items()}, notes


def may_be_one(node: Node, facts: PlanFacts) -> TypeGuard[Step | ValueNode]:
    """Return whether an equal node gives the same."""
    return isinstance(node, ValueNode) or (isinstance(node, Step) and facts.sharing(node) is not Sharing.NEVER)


def _likeness(node: Step | ValueNode) -> Hashable:
    """Return a key that is equal for equal nodes, and for few others."""
    operator = node.operator if isinstance(node, Step) else ""
    return (operator, *(template.source for template in templates_of(node)))


def _are_equal(first: Step | ValueNode, second: Step | ValueNode) -> bool:
    return replace(first, name="") == replace(second, name="")


def reading(node: Node, names: Mapping[str, str]) -> Node:
    """Return `node` with other names in its templates and in `after`. CannotRename where it does not take them."""
    if names.keys().isdisjoint(name for template in templates_of(node) for name in template.names):
        changed = node
    else:
        changed = change_templates(node, lambda template: renamed(template, names))
    if names.keys().isdisjoint(node.after):
        return changed
    return replace(changed, after=tuple(dict.fromkeys(names.get(name, name) for name in node.after)))


def renamed(template: Template, names: Mapping[str, str]) -> Template:
    """Return `template` reading the values of `names` in the place of their keys. CannotRename as of `reading`."""
    wanted = {old: names[old] for old in template.names if old in names}
    found = rename(template, wanted)
    if found is None:
        alone = {old for old, new in wanted.items() if rename(template, {old: new}) is None}
        raise CannotRename(alone or wanted.keys())
    return found


def _hoist(table: Table, facts: PlanFacts) -> tuple[Table, list[str]] | None:
    """Return all steps before their loops that need not be in them."""
    outer = outer_paths(table)
    nodes: list[Node] = []
    notes: list[str] = []
    for node in table.nodes:
        if _is_plain_loop(node) and node.when is None and node.for_each is None:
            while steps := _invariants(node, outer, facts):
                nodes += (replace(step, after=node.after) for step in steps)
                notes += (f"{step.name} is computed once, before the loop {node.name}" for step in steps)
                gone = {step.name for step in steps}
                node = replace(node, body=tuple(inner for inner in node.body if inner.name not in gone))
        nodes.append(node)
    return (replace(table, nodes=tuple(nodes)), notes) if notes else None


def _invariants(loop: Loop, outer: frozenset[Path], facts: PlanFacts) -> list[Step | ValueNode]:
    """Return the steps that each turn would compute anew to the same, and that nobody reads through the loop; but for
    one that is all of the loop."""
    own = {LOOP, *(node.name for node in loop.body)}
    held = {name for node in loop.body for name in node.after} | names_passed_on(loop, outer)
    found = [
        step
        for step in loop.body
        if may_be_one(step, facts)
        and not step.after
        and step.name not in held
        and own.isdisjoint(path[0] for path in paths_read(step))
    ]
    return found if len(found) < len(loop.body) else found[:-1]
