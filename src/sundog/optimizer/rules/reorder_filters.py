"""reorder_filters: of two filters, the one that waits for cheaper work comes first; of equally cheap ones the more
selective, where selectivity has been measured.

The filter that comes first now sees rows that the other would have dropped, so it must be one that cannot fail: it
compares columns and constants for equality. What it needs stands above both, and no effect stands between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from jinja2 import nodes as syntax

from sundog.ir.environment import ENVIRONMENT
from sundog.ir.graph import ancestors, dependencies
from sundog.ir.logical import Filter, LogicalPlan, Node
from sundog.ir.template import Template
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Change, Context

Nodes = tuple[Node, ...]
Rank = tuple[int, float]
_TOTAL = (syntax.And, syntax.Or, syntax.Not, syntax.Compare, syntax.Operand, syntax.Const)
_TOTAL_TESTS = frozenset({"none", "string", "number", "boolean", "true", "false", "mapping", "sequence"})


class ReorderFilters:
    name = "reorder_filters"

    def apply(self, plan: LogicalPlan, context: Context) -> Change | None:
        nodes, notes = plan.nodes, []
        while swap := _next_swap(nodes, frozenset(plan.constants), context):
            first, second = swap
            rest = [node for node in nodes if node is not second]
            index = rest.index(first)
            nodes = (*rest[:index], second, *rest[index:])
            notes.append(f"{second.name} before {first.name}")
        return Change(replace(plan, nodes=nodes), tuple(notes)) if notes else None


def _next_swap(nodes: Nodes, constants: frozenset[str], context: Context) -> tuple[Filter, Filter] | None:
    before = _without_filters(nodes)
    filters = [node for node in nodes if isinstance(node, Filter)]
    for first, second in pairwise(filters):
        if (
            _rank(second, nodes, before, context) < _rank(first, nodes, before, context)
            and cannot_fail(second.predicate, constants)
            and _can_pass(first, second, nodes, before, context.facts)
        ):
            return first, second
    return None


def _rank(node: Filter, nodes: Nodes, before: Mapping[str, Sequence[str]], context: Context) -> Rank:
    waited = ancestors(node.name, before)
    work = max((context.facts.work(other) for other in nodes if other.name in waited), default=0)
    return work, context.selectivity.get(node.name, 1.0)


def _can_pass(
    first: Filter, second: Filter, nodes: Nodes, before: Mapping[str, Sequence[str]], facts: PlanFacts
) -> bool:
    begin, end = nodes.index(first), nodes.index(second)
    if any(not facts.is_movable(node) for node in nodes[begin + 1 : end]):
        return False
    return ancestors(second.name, before) <= {node.name for node in nodes[:begin]}


def _without_filters(nodes: Nodes) -> dict[str, tuple[str, ...]]:
    """Return who waits for whom, but for the filters that stand above."""
    written = {node.name: node for node in nodes}
    filters = {name for name, node in written.items() if isinstance(node, Filter)}
    return {
        name: tuple(other for other in waited if other not in filters or other in written[name].after)
        for name, waited in dependencies(nodes).items()
    }


def cannot_fail(predicate: Template, constants: frozenset[str]) -> bool:
    """Return whether a condition has a truth value for every row: columns and constants, compared for equality."""
    (output,) = ENVIRONMENT.parse(predicate.source).body
    assert isinstance(output, syntax.Output)
    return all(_is_total(node, constants) for node in output.nodes)


def _is_total(node: syntax.Node, constants: frozenset[str]) -> bool:
    match node:
        case syntax.Name(name=name):
            return name in constants
        case syntax.Getattr(node=syntax.Name(name="row")):
            return True
        case syntax.Operand(op=op) if op not in ("eq", "ne"):
            return False
        case syntax.Test(node=inner, name=name, args=[], kwargs=[]):
            return name in _TOTAL_TESTS and _is_total(inner, constants)
        case _ if isinstance(node, _TOTAL):
            return all(_is_total(child, constants) for child in node.iter_child_nodes())
    return False
