"""push_down_when: a step that only conditional steps read runs only where one of their conditions holds.

It then waits for what the conditions read; so it does that only where this is no costlier kind of work than its own.
Nothing is skipped that an effect, a filter, an output or a step without condition needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sundog.ir.graph import ancestors, dependencies
from sundog.ir.logical import Filter, Loop, Node, Step, Table, ValueNode
from sundog.ir.templates.reads import names_needed, outer_paths, paths_read
from sundog.ir.templates.template import Path, Template
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, Nodes, TableResult, TableRule


class PushDownWhen(TableRule):
    """Give a step the condition of its only readers.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes:
    ...       gist: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}
    ...       reply: {llm: {engine: local, prompt: "Answer {{ gist.text }}"}, when: "{{ row.is_urgent }}"}
    ...     outputs: {reply: "{{ reply.text }}"}''')
    >>> plan.nodes[0].when, rewrite_by(PushDownWhen(), plan).plan.nodes[0].when.source
    (None, '{{ row.is_urgent }}')
    """

    name = "push_down_when"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        outer = outer_paths(table)
        shown = frozenset(path[0] for _, template in table.outputs for path in template.paths)
        nodes, notes = _pushed(table.nodes, shown, outer, context.facts)
        return TableResult(replace(table, nodes=nodes), tuple(notes)) if notes else None


def _pushed(nodes: Nodes, needed: frozenset[str], outer: frozenset[Path], facts: PlanFacts) -> tuple[Nodes, list[str]]:
    """Return the nodes of one scope with conditions put on what only conditional nodes read, and a note for each.

    `needed`: names whose values leave the scope. `outer`: the paths read in the scope around a loop's body.
    """
    notes: list[str] = []
    for index, node in enumerate(nodes):
        if isinstance(node, Loop) and node.is_plain:
            body, more = _pushed(node.body, names_needed(node, outer), frozenset(), facts)
            nodes = (*nodes[:index], replace(node, body=body), *nodes[index + 1 :]) if more else nodes
            notes += more
    scope = _Scope(nodes, facts)
    # Backwards: a condition that has reached a step reaches what only that step reads in the same pass.
    for node in reversed(nodes):
        if isinstance(node, Step | Loop | ValueNode) and node.when is None and node.name not in needed:
            when = scope.condition_of_readers(node)
            if when is not None and scope.may_wait(node, when):
                scope.put(replace(node, when=when))
                notes.append(f"{node.name} runs only when {when}")
    return scope.nodes, notes


class _Scope:
    """Nodes beside each other, with who reads and who waits for whom: looked up for each node, not found anew."""

    def __init__(self, nodes: Nodes, facts: PlanFacts) -> None:
        self._facts = facts
        self._by_name = {node.name: node for node in nodes}
        self._position = {node.name: index for index, node in enumerate(nodes)}.__getitem__
        self._before = dependencies(nodes)
        self._readers: dict[str, dict[str, None]] = {node.name: {} for node in nodes}
        self._waiting: dict[str, dict[str, None]] = {node.name: {} for node in nodes}
        for node in nodes:
            for name in (*node.after, *(path[0] for path in paths_read(node))):
                self._readers.get(name, {})[node.name] = None
            for name in self._before[node.name]:
                self._waiting[name][node.name] = None

    @property
    def nodes(self) -> Nodes:
        return tuple(self._by_name.values())

    def put(self, node: Step | Loop | ValueNode) -> None:
        """Take `node`, which has a condition now, in place of the one of its name."""
        self._by_name[node.name] = node
        assert node.when is not None
        for name in node.when.names & self._before.keys():
            self._readers[name][node.name] = None
            self._waiting[name][node.name] = None
            self._before[node.name] = (*self._before[node.name], name)

    def condition_of_readers(self, node: Node) -> Template | None:
        """Return a condition that holds exactly where a reader of `node` runs; None where a reader always runs, or
        there is none."""
        conditions: list[Template] = []
        for name in sorted(self._readers[node.name], key=self._position):
            other = self._by_name[name]
            if isinstance(other, Filter) or other.when is None or node.name in other.when.names:
                return None
            conditions.append(other.when)
        different = list(dict.fromkeys(conditions))
        if len(different) < 2:
            return different[0] if different else None
        inner = [_inside(condition) for condition in different]
        return None if None in inner else Template(f"{{{{ {' or '.join(f'({text})' for text in inner)} }}}}")

    def may_wait(self, node: Node, when: Template) -> bool:
        """Return whether `node` may wait for what `when` reads."""
        waited = ancestors(node.name, self._before)
        new = _waited_for(when, self._before) - waited
        # A filter between the step and its readers keeps rows from the condition, which might fail on them.
        waited_by_readers = frozenset[str]().union(
            *(ancestors(name, self._before) for name in self._waiting[node.name])
        )
        if any(isinstance(self._by_name[name], Filter) for name in (new | waited_by_readers) - waited):
            return False
        is_movable = self._facts.is_movable
        if node.name in new or not is_movable(node) or not all(is_movable(self._by_name[name]) for name in new):
            return False
        return self._facts.work(node) >= max((self._facts.work(self._by_name[name]) for name in new), default=0)


def _inside(condition: Template) -> str | None:
    """Return the expression between the braces; None for a spelling that trims or comments."""
    text = condition.source.strip()
    plain = text.startswith("{{ ") and text.endswith(" }}") and "{#" not in text
    return text[3:-3] if plain else None


def _waited_for(when: Template, before: Mapping[str, Sequence[str]]) -> frozenset[str]:
    direct = when.names & before.keys()
    return frozenset(direct).union(*(ancestors(name, before) for name in direct))
