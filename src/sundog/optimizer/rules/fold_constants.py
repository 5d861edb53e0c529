"""fold_constants: constants are written into templates, and conditions that only constants decide are decided.

A step whose condition always holds has none; a filter that lets every row pass is gone. What never holds stays, as
`{{ false }}`, and other rules act on it. A template that yields a value, and not text, goes on yielding that value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sundog.errors import CallError
from sundog.ir.logical import Filter, LogicalPlan, Loop, Node, Step, templates_of
from sundog.ir.templates.render import render_condition
from sundog.ir.templates.substitute import change_templates, with_literals, with_values
from sundog.ir.templates.template import Template
from sundog.optimizer.rules.base import Context, RuleResult

FALSE = Template("{{ false }}")


class FoldConstants:
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

    def apply(self, plan: LogicalPlan, context: Context) -> RuleResult | None:
        folding = _Folding(plan.constants)
        named = {name for node in plan.nodes for name in node.after}
        nodes = tuple(new for node in plan.nodes if (new := folding.node(node, named)) is not None)
        outputs = tuple((name, folding.template(template)) for name, template in plan.outputs)
        if nodes == plan.nodes and outputs == plan.outputs:
            return None
        return RuleResult(replace(plan, nodes=nodes, outputs=outputs), (*folding.notes, *_texts(plan, nodes, outputs)))


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
        return change_templates(node, self.template)

    def _with_condition(self, node: Step | Loop) -> Step | Loop:
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


def _texts(plan: LogicalPlan, nodes: tuple[Node, ...], outputs: tuple[tuple[str, Template], ...]) -> tuple[str, ...]:
    """Return one note for all the constants that are now text."""
    read = {name for template in templates_of((plan.nodes, plan.outputs)) for name in template.names}
    left = {name for template in templates_of((nodes, outputs)) for name in template.names}
    gone = [name for name in plan.constants if name in read - left]
    return (f"{', '.join(gone)} written into the templates",) if gone else ()
