"""Movements through a query: which filters, limits and columns may leave the place where they stand.

Owns the rules of sets: what commutes with joins, groups, distinct rows, windows and limits. Each function answers None
where it may not, or where that is not certain. Whether a filter can fail, costs a call or has an effect is for its rule
to ask; this room sees the query only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from sundog.queries.columns import ColumnOrigin, ColumnScope, Schema, bare_origin, dotted_name, origin_in
from sundog.queries.functions import unknown_function
from sundog.queries.parsed import Query, relation_name, relations
from sundog.queries.select_parts import is_one_pass, output_names, own_nodes

_BOUNDS = ("limit", "offset", "sample", "with_", "laterals")


@dataclass(frozen=True, slots=True)
class PulledFilter:
    """A source that a filter over outputs, or a choice of rows by them, may stand at instead: each output that it reads
    is a column of it."""

    relation: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PulledLimit:
    """The rows of a source that a query with a limit takes: the first of them, by columns and then in their order."""

    relation: str
    num_rows: int
    #: Each column with whether it descends; nulls come last.
    order_by: tuple[tuple[str, bool], ...]


def pull_filter(query: Query, output_columns: frozenset[str], schema: Schema) -> tuple[PulledFilter, ...] | None:
    """Return where a filter that reads `output_columns` of the query's rows may stand instead: at one source, or for a
    `union all` at that of each branch. It must be moved to all of them."""
    branches = _branches(query.tree)
    if branches is None or not output_columns or _is_bounded(query.tree):
        return None
    names = output_names(branches[0])
    found: dict[str, PulledFilter] = {}
    num_moved = 0
    for select in branches:
        wanted: dict[str, str | int] = {name: name for name in output_columns}
        if len(branches) > 1:
            small = _small(names)
            if None in small or len(small) != len(select.expressions):
                return None
            wanted = {name: small.index(name.lower()) for name in output_columns if name.lower() in small}
        pulled = _pulled(select, wanted, schema)
        if pulled is None or len(wanted) != len(output_columns):
            return None
        if found.setdefault(pulled.relation, pulled) != pulled:
            return None
        num_moved += 1
    num_read = sum(1 for table in relations(query.tree) if relation_name(table) in found)
    return tuple(found.values()) if num_read == num_moved else None


def pull_conditions(query: Query, output_columns: frozenset[str], schema: Schema) -> PulledFilter | None:
    """Return the one source that conditions in SQL over `output_columns` may be asked of instead. In a `union` a column
    may have another type than in its branches, and the conditions mean something else."""
    pulled = pull_filter(query, output_columns, schema) if isinstance(query.tree, exp.Select) else None
    return None if pulled is None else pulled[0]


def _branches(tree: exp.Expr | None) -> list[exp.Select] | None:
    """Return the selects of a query that is one, or a `union all` of several without brackets."""
    if isinstance(tree, exp.Select):
        return [tree]
    if isinstance(tree, exp.Union) and not tree.args.get("distinct") and not tree.args.get("by_name"):
        left, right = _branches(tree.this), _branches(tree.args.get("expression"))
        return None if left is None or right is None else left + right
    return None


def _is_bounded(tree: exp.Expr) -> bool:
    return any(tree.args.get(name) for name in _BOUNDS)


def _pulled(select: exp.Select, wanted: Mapping[str, str | int], schema: Schema) -> PulledFilter | None:
    scope = ColumnScope(select, schema)
    if _is_bounded(select) or scope.sources is None:
        return None
    origins: dict[str, ColumnOrigin] = {}
    for name, at in wanted.items():
        one = origin_in(select, at, schema) if isinstance(at, str) else bare_origin(scope, select.expressions[at])
        if one is None or one.may_be_missing:
            return None
        origins[name] = one
    read = {one.relation for one in origins.values()}
    if len(read) != 1 or not set(origins.values()) <= _kept_whole(scope, select, set(origins.values())):
        return None
    return PulledFilter(next(iter(read)), {name: one.column for name, one in origins.items()})


def _kept_whole(scope: ColumnScope, select: exp.Select, origins: set[ColumnOrigin]) -> set[ColumnOrigin]:
    """Return those of `origins` whose equal values the select keeps together: a filter that reads only these takes or
    leaves whole groups, windows and sets of equal rows."""
    kept = set(origins)
    group = select.args.get("group")
    # A bare output is a key of the groups, or DuckDB refuses it; with several sets of groups it may be null.
    if group is not None and any(group.find(kind) for kind in (exp.Rollup, exp.Cube, exp.GroupingSets)):
        return set()
    distinct = select.args.get("distinct")
    if isinstance(distinct, exp.Distinct) and distinct.args.get("on") is not None:
        on = distinct.args["on"]
        kept &= _origins(scope, on.expressions if isinstance(on, exp.Tuple) else [on])
    if select.args.get("windows"):
        return set()
    for node in own_nodes(select):
        if isinstance(node, exp.Window):
            kept &= _origins(scope, node.args.get("partition_by") or [])
    return kept


def _origins(scope: ColumnScope, expressions: list[exp.Expr]) -> set[ColumnOrigin]:
    found = (bare_origin(scope, one) for one in expressions)
    return {one for one in found if one is not None}


def _small(names: Sequence[str | None]) -> list[str | None]:
    return [name.lower() if name is not None else None for name in names]


def _output_meant(select: exp.Select, one: exp.Expr) -> exp.Expr:
    """Return the output that a position means, or the expression itself."""
    outputs: list[exp.Expr] = select.expressions
    if isinstance(one, exp.Literal) and one.name.isdecimal() and 0 < int(one.name) <= len(outputs):
        return outputs[int(one.name) - 1]
    return one


def pull_limit(query: Query, schema: Schema) -> PulledLimit | None:
    """Return the rows of its source that a query takes whose every row is made of one row of that, with a limit; its
    order, where it says one, must be by columns of the source. The query keeps its limit."""
    select = query.tree
    if not isinstance(select, exp.Select) or not is_one_pass(select) or not _is_one_to_one(query, select):
        return None
    scope = ColumnScope(select, schema)
    limit = select.args.get("limit")
    if scope.sources is None or not isinstance(limit, exp.Limit) or limit.args.get("limit_options"):
        return None
    count = limit.expression
    relation = scope.sources[0].relation
    if not isinstance(count, exp.Literal) or count.is_string or not count.name.isdecimal() or relation is None:
        return None
    order = select.args.get("order")
    order_by = []
    for one in order.expressions if order is not None else ():
        key = _order_key(scope, select, one)
        if key is None:
            return None
        order_by.append(key)
    return PulledLimit(relation, int(count.name), tuple(order_by))


def pull_first(query: Query, output_columns: Sequence[str], schema: Schema) -> PulledFilter | None:
    """Return the source of which a query makes one row of each row, in their order, with the columns of it that
    `output_columns`, maybe none, are."""
    select = query.tree
    if not isinstance(select, exp.Select) or not is_one_pass(select) or not _is_one_to_one(query, select):
        return None
    scope = ColumnScope(select, schema)
    relation = scope.sources[0].relation if scope.sources else None
    found = {name: origin_in(select, name, schema) for name in output_columns}
    if relation is None or select.args.get("order") or select.args.get("limit"):
        return None
    columns = {name: one.column for name, one in found.items() if one is not None}
    return PulledFilter(relation, columns) if len(columns) == len(found) else None


def _is_one_to_one(query: Query, select: exp.Select) -> bool:
    others = ("where", "group", "having", "distinct", "qualify", "windows", "offset", "sample", "with_", "laterals")
    unnested = (node for node in own_nodes(select) if isinstance(node, exp.Explode))
    return (
        not any(select.args.get(name) for name in others)
        and next(unnested, None) is None
        and unknown_function(query, own_nodes(select)) is None
    )


def _order_key(scope: ColumnScope, select: exp.Select, one: exp.Expr) -> tuple[str, bool] | None:
    """Return the column of an `order by`, where an output's name goes before a column's."""
    if not isinstance(one, exp.Ordered) or one.args.get("nulls_first") or one.args.get("with_fill"):
        return None
    meant = _output_meant(select, one.this)
    names, path = _small(output_names(select)), dotted_name(meant)
    if [word.lower() for word in path] == ["all"]:
        return None
    if len(path) == 1 and names.count(path[0].lower()) == 1:
        meant = select.expressions[names.index(path[0].lower())]
    found = bare_origin(scope, meant)
    return None if found is None else (found.column, bool(one.args.get("desc")))
