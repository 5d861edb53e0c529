"""fold_constants: constants are written into templates, and conditions that only constants decide are decided.

A step whose condition always holds has none; a filter that lets every row pass is gone. What never holds stays, as
`{{ false }}`, and other rules act on it. A template that yields a value, and not text, goes on yielding that value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from sundog.errors import CallError
from sundog.ir.logical import Filter, Loop, Node, Step, Table, ValueNode, templates_of
from sundog.ir.templates.render import render_condition
from sundog.ir.templates.substitute import change_templates, with_literals, with_values
from sundog.ir.templates.template import Template
from sundog.optimizer.rules.base import Context, TableResult, TableRule

C = TypeVar("C", Step, Loop, ValueNode)
FALSE = Template("{{ false }}")


class FoldConstants(TableRule):
    """Write constants into the templates that read them.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     constants: {tone: calm, is_strict: true}
    ...     nodes:
    ...       reply: {llm: {engine: local, prompt: "Be {{ tone }}: {{ row.mail }}"}, when: "{{ is_strict }}"}
    ...     outputs: {reply: "{{ reply.text }}"}''')
    >>> (reply,) = rewrite_by(FoldConstants(), plan).plan.nodes
    >>> reply.spec.prompt.source, reply.when
    ('Be calm: {{ row.mail }}', None)
    """

    name = "fold_constants"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        folding = _Folding(context.plan.constants)
        named = {name for node in table.nodes for name in node.after}
        nodes = tuple(new for node in table.nodes if (new := folding.node(node, named)) is not None)
        outputs = tuple((name, folding.template(template)) for name, template in table.outputs)
        if nodes == table.nodes and outputs == table.outputs:
            return None
        folded = replace(table, nodes=nodes, outputs=outputs)
        return TableResult(folded, (*folding.notes, *_texts(table, folded, context.plan.constants)))


class _Folding:
    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = constants
        self.notes: list[str] = []

    def template(self, template: Template) -> Template:
        """Return the template with constants in it, as far as that is certain."""
        template = with_literals(template, self._constants) or template
        return with_values(template, self._constants) or template

    def node(self, node: Node, named: set[str]) -> Node | None:
        """Return the folded node; None for a filter that lets every row pass and that no `after` names (`named`)."""
        match node:
            case Filter():
                decided = self._decided(node.predicate)
                if decided is True and node.name not in named:
                    self.notes.append(f"{node.name} lets every row pass")
                    return None
                if decided is False and node.predicate != FALSE:
                    self.notes.append(f"{node.name} lets no row pass")
                    return replace(node, predicate=FALSE)
            case Loop():
                names = {name for inner in node.body for name in inner.after}
                body = tuple(new for inner in node.body if (new := self.node(inner, names)) is not None)
                node = self._with_condition(replace(node, body=body))
            case Step():
                node = self._with_condition(node)
            case ValueNode():
                node = self._with_condition(node)
        return change_templates(node, self.template)

    def _with_condition(self, node: C) -> C:
        decided = None if node.when is None else self._decided(node.when)
        if decided is True:
            self.notes.append(f"{node.name} runs always")
            return replace(node, when=None)
        if decided is False and node.when != FALSE:
            self.notes.append(f"{node.name} runs never")
            return replace(node, when=FALSE)
        return node

    def _decided(self, condition: Template) -> bool | None:
        """Return the truth of a condition that reads nothing but constants; None for any other, and for one that
        fails."""
        if not condition.names <= self._constants.keys():
            return None
        try:
            return render_condition(condition, self._constants)
        except CallError:
            return None


def _texts(before: Table, after: Table, constants: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one note for all the constants that are now text."""
    read, left = _names_in(before), _names_in(after)
    gone = [name for name in constants if name in read - left]
    return (f"{', '.join(gone)} written into the templates",) if gone else ()


def _names_in(table: Table) -> set[str]:
    return {name for template in templates_of((table.nodes, table.outputs)) for name in template.names}
