"""This module checks on the plans before and after a rewrite what every rewrite must keep.

Owns the check. Never mends a plan: what it finds is a bug in a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sundog.errors import FlowError, PlanError
from sundog.ir.graph import nearest, topological_order
from sundog.ir.logical import Filter, LogicalPlan, Loop, Node, Step, Table, ValueNode, templates_of
from sundog.ir.tables import InputRows
from sundog.ir.templates.template import ROW, Path, Template
from sundog.ir.verify_tables import ColumnsRead, check_tables

IsOrdered = Callable[[Step], bool]
"""Says of a step that it changes the outside world, or touches something there that the plan changes."""


def check_rewrite(
    before: LogicalPlan,
    after: LogicalPlan,
    is_effect: IsOrdered,
    is_ordered: IsOrdered,
    columns_read: ColumnsRead,
) -> None:
    """Raise PlanError for the first thing that `after` does not keep of `before`."""
    check_tables(before, after, is_effect, columns_read)
    _check_names(before, after)
    for table in after.tables:
        _check_cycles(table.nodes)
        old = before.table(table.name)
        if more := _columns(_row_paths(table)) - _columns(_row_paths(old)):
            raise PlanError(f"the column '{min(more)}' is read, and was not before")
        _check_effects(old, table, before.constants, is_effect)
    _check_columns(after)
    _check_order(before, after, is_ordered)


def _check_names(before: LogicalPlan, after: LogicalPlan) -> None:
    names = [name for name, _ in _named(after.nodes)]
    if len(names) != len(set(names)):
        raise PlanError("two nodes have one name")
    for name in sorted(set(_unknown_names(after)) - set(_unknown_names(before))):
        raise PlanError(f"'{name}' is read, and no longer there")


def _unknown_names(plan: LogicalPlan) -> Iterator[str]:
    for table in plan.tables:
        scope = {ROW, *plan.constants}
        yield from _unknown_in(table.nodes, scope)
        known = scope | {node.name for node in table.nodes if not isinstance(node, Filter)}
        for _, template in table.outputs:
            yield from template.names - known


def _unknown_in(nodes: Sequence[Node], outer: set[str]) -> Iterator[str]:
    scope = outer | {node.name for node in nodes if not isinstance(node, Filter)}
    beside = {node.name for node in nodes}
    for node in nodes:
        yield from set(node.after) - beside
        inner, modifiers = scope, []
        if not isinstance(node, Filter):
            modifiers = list(templates_of((node.when, node.for_each)))
            inner = scope | ({node.for_each.variable} if node.for_each else set())
        yield from _names(modifiers) - scope
        match node:
            case Step():
                yield from _names(templates_of(node.spec)) - inner
            case Filter():
                yield from _names(templates_of(node)) - scope
            case ValueNode():
                yield from node.template.names - inner
            case Loop():
                yield from _unknown_in(node.body, inner | {"loop"})
                body = {one.name for one in node.body}
                yield from _names(templates_of(node.max_turns)) - inner
                yield from _names(templates_of(node.until)) - inner - body - {"loop"}


def _names(templates: Iterator[Template] | list[Template]) -> set[str]:
    return {name for template in templates for name in template.names}


def _check_cycles(nodes: Sequence[Node]) -> None:
    try:
        topological_order(nodes, nearest(nodes))
    except FlowError as error:
        raise PlanError(error.what) from error
    for node in nodes:
        if isinstance(node, Loop):
            _check_cycles(node.body)


def _check_columns(plan: LogicalPlan) -> None:
    """Check that every column of an input that a table reads row by row is still there."""
    inputs = {source.name: source for source in plan.inputs}
    for table in plan.tables:
        if isinstance(table.source, InputRows):
            paths = _row_paths(table)
            for name in table.reads:
                joined = name in table.joined
                read = _columns_of_joined(paths, name) if joined else _columns(paths) - set(table.joined)
                kept = inputs[name].columns if name in inputs else None
                if kept is not None and (lost := read - set(kept)):
                    raise PlanError(f"the column '{min(lost)}' of {name} is read, and was pruned")


def _columns(paths: set[Path]) -> set[str]:
    """Return the columns read; "" stands for a row read as a whole."""
    return {path[1] if len(path) > 1 else "" for path in paths}


def _columns_of_joined(paths: set[Path], name: str) -> set[str]:
    of_whole_rows = {"" for path in paths if path == (ROW,)}
    return of_whole_rows | {path[2] if len(path) > 2 else "" for path in paths if path[1:2] == (name,)}


def _row_paths(table: Table) -> set[Path]:
    templates = [*templates_of(table.nodes), *(template for _, template in table.outputs)]
    return {path for one in templates for path in one.paths if path[0] == ROW}


def _check_effects(before: Table, after: Table, constants: Mapping[str, Any], is_effect: IsOrdered) -> None:
    old, new = _guards(before.nodes, is_effect), _guards(after.nodes, is_effect)
    if old.keys() != new.keys():
        name = min(old.keys() ^ new.keys())
        raise PlanError(f"the effect '{name}' was {'lost' if name in old else 'made up'}")
    left = {node.name for node in after.nodes}
    decided = {
        node.name
        for node in before.nodes
        if isinstance(node, Filter) and node.name not in left and node.predicate.names <= constants.keys()
    }
    for name, guards in old.items():
        if guards - decided != new[name]:
            raise PlanError(f"the effect '{name}' does not stand below the filters that it stood below")


def _guards(nodes: Sequence[Node], is_effect: IsOrdered) -> dict[str, frozenset[str]]:
    """Return for each effect where it is (its loops) and the filters that must have let the row pass."""
    filters = {node.name for node in nodes if isinstance(node, Filter)}
    passed: dict[str, frozenset[str]] = {}
    before = nearest(nodes)
    for node in topological_order(nodes, before):
        own = {name for name in before[node.name] if name in filters}
        passed[node.name] = frozenset(own).union(*(passed[name] for name in before[node.name] if passed[name]))
    return {
        path: passed[node.name]
        for node in nodes
        for path, step in _named([node])
        if isinstance(step, Step) and is_effect(step)
    }


def _check_order(before: LogicalPlan, after: LogicalPlan, is_ordered: IsOrdered) -> None:
    """Check that steps on changing state keep their written order, which is the order that the planner gives them."""
    old, new = (
        [name for name, step in _named(plan.nodes) if isinstance(step, Step) and is_ordered(step)]
        for plan in (before, after)
    )
    kept = set(new)
    if [name for name in old if name in kept] != new:
        raise PlanError("steps on changing state are not in the order that they were in")


def _named(nodes: Sequence[Node]) -> Iterator[tuple[str, Node]]:
    """Yield every node, those inside loops too, by its name with those of its loops."""
    for node in nodes:
        yield node.name, node
        if isinstance(node, Loop):
            yield from ((f"{node.name}/{name}", inner) for name, inner in _named(node.body))
