"""reorder_filters: of two filters, the one that waits for cheaper work comes first; of equally cheap ones the more
selective, where selectivity has been measured.

The filter that comes first now sees rows that the other would have dropped, so it must be one that cannot fail: it
compares columns and constants for equality. What it needs stands above both, and no effect stands between them. Nothing
passes a `require`, which fails rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jinja2 import nodes as syntax

from sundog.ir.graph import Ancestry, names_read
from sundog.ir.logical import Filter, Node, Table
from sundog.ir.templates.environment import ENVIRONMENT
from sundog.ir.templates.template import Template
from sundog.optimizer.facts import WorkOf
from sundog.optimizer.rules.base import Context, TableResult, TableRule

FilterRank = tuple[int, float]
_TOTAL = (syntax.And, syntax.Or, syntax.Not, syntax.Compare, syntax.Operand, syntax.Const)
_TOTAL_TESTS = frozenset({"none", "string", "number", "boolean", "true", "false", "mapping", "sequence"})


class ReorderFilters(TableRule):
    """Put the cheaper filter first.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes:
    ...       grade: {llm: {engine: local, prompt: "Grade {{ row.mail }}"}}
    ...       is_good: {filter: "{{ grade.text == 'good' }}"}
    ...       is_open: {filter: "{{ row.state == 'open' }}"}
    ...     outputs: {mail: "{{ row.mail }}"}''')
    >>> [node.name for node in rewrite_by(ReorderFilters(), plan).plan.nodes]
    ['grade', 'is_open', 'is_good']
    """

    name = "reorder_filters"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        if sum(isinstance(node, Filter) for node in table.nodes) < 2:
            return None
        order = _Order(table.nodes, frozenset(context.plan.constants), context)
        notes = [note for node in table.nodes if (note := order.add(node))]
        return TableResult(replace(table, nodes=order.nodes()), tuple(notes)) if notes else None


@dataclass(slots=True)
class _Block:
    """A filter and the nodes between it and the next one."""

    filter: Filter
    nodes: list[Node]
    #: The filter and these nodes.
    bits: int
    #: No effect stands between.
    is_passable: bool = True


class _Order:
    """The nodes so far in their new order: filters inserted one after the other, each as far up as it may go."""

    def __init__(self, nodes: Sequence[Node], constants: frozenset[str], context: Context) -> None:
        self._facts, self._selectivity, self._constants = context.facts, context.selectivity, constants
        # The order of waiting without the filters that stand above.
        known = {node.name for node in nodes}
        self._ancestry = Ancestry(
            nodes, {node.name: tuple((names_read(node) | set(node.after)) & known) for node in nodes}
        )
        self._work = WorkOf(nodes, context.facts, self._ancestry)
        self._first: list[Node] = []
        self._blocks: list[_Block] = []

    def nodes(self) -> tuple[Node, ...]:
        return (*self._first, *(node for block in self._blocks for node in (block.filter, *block.nodes)))

    def add(self, node: Node) -> str | None:
        """Return what was done, where the node is a filter that passes others."""
        bit = self._ancestry.bit[node.name]
        if isinstance(node, Filter):
            return self._insert(node, bit)
        if not self._blocks:
            self._first.append(node)
            return None
        last = self._blocks[-1]
        last.nodes.append(node)
        last.bits |= bit
        last.is_passable = last.is_passable and self._facts.is_movable(node)
        return None

    def _insert(self, node: Filter, bit: int) -> str | None:
        place = len(self._blocks)
        if place and node.reason is None and cannot_fail(node.predicate, self._constants):
            rank, waits_for = self._rank(node), self._ancestry.above[node.name]
            while place and self._may_pass(self._blocks[place - 1], rank, waits_for):
                place -= 1
        passed = self._blocks[place].filter.name if place < len(self._blocks) else None
        self._blocks.insert(place, _Block(node, [], bit))
        if passed is None:
            return None
        return f"{node.name} before {passed}"

    def _may_pass(self, block: _Block, rank: FilterRank, waits_for: int) -> bool:
        # A row that fails must not be dropped before it does.
        return (
            block.is_passable
            and block.filter.reason is None
            and not block.bits & waits_for
            and rank < self._rank(block.filter)
        )

    def _rank(self, node: Filter) -> FilterRank:
        work = self._work.most(self._ancestry.above[node.name])
        return work, self._selectivity.get(node.name, 1.0)


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
