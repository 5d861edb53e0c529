"""The parts of one select: its own nodes, its outputs, whether it makes one row out of many.

Owns questions about one select that several modules of this room ask. Never looks into the queries inside it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

# Names of columns that begin so are made by this program, as are those of the tables of expansions.
RESERVED = "__"


def own_nodes(tree: exp.Expr) -> Iterator[exp.Expr]:
    """Return `tree` and what is below it, without the queries that stand inside."""
    yield from tree.walk(bfs=False, prune=lambda node: node is not tree and isinstance(node, exp.Query))


def selects(tree: exp.Query) -> Iterator[exp.Select]:
    """Return the selects of which a query is made up: itself, or the branches of a set operation, in order."""
    if isinstance(tree, exp.Select):
        yield tree
    elif isinstance(tree, exp.Subquery | exp.SetOperation):
        for inner in (tree.this, tree.args.get("expression")):
            if isinstance(inner, exp.Query):
                yield from selects(inner)


def is_aggregate(node: exp.Expr) -> bool:
    """Return whether `node` is an aggregate that is no window."""
    return isinstance(node, exp.AggFunc) and not in_window(node)


def in_window(node: exp.Expr) -> bool:
    above = node.parent
    while isinstance(above, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
        above = above.parent
    return isinstance(above, exp.Window)


def is_grouped(select: exp.Select) -> bool:
    """Return whether the select makes one row out of many."""
    if select.args.get("group") is not None or select.args.get("having") is not None:
        return True
    return any(is_aggregate(node) for one in select.expressions for node in own_nodes(one))


def is_one_pass(select: exp.Select) -> bool:
    """Return whether the select passes over the rows of one source without a join, a window or a query inside, all of
    which may mix the order of the rows."""
    given = (select, source(select))
    mixing = (one for one in own_nodes(select) if isinstance(one, exp.Window | exp.Query))
    return not has_joins(select) and all(any(one is other for other in given) for one in mixing)


def has_joins(select: exp.Select) -> bool:
    return bool(select.args.get("joins") or select.args.get("laterals"))


def source(select: exp.Select) -> exp.Expr | None:
    """Return what stands first behind `from`, None for a select without."""
    behind = select.args.get("from_")
    return behind.this if isinstance(behind, exp.From) else None


def output_names(select: exp.Select) -> list[str | None]:
    """Return the names of the outputs as written; None for a star and for an expression without a name."""
    return [_output_name(one) for one in select.expressions]


def _output_name(one: exp.Expr) -> str | None:
    if isinstance(one, exp.Alias):
        return one.alias
    if isinstance(one, exp.Column) and not isinstance(one.this, exp.Star):
        return one.name
    if isinstance(one, exp.Dot) and isinstance(one.expression, exp.Identifier):
        return one.expression.name
    return None


def is_star(one: exp.Expr) -> bool:
    """Return whether an output stands for several columns."""
    if isinstance(one, exp.Column):
        return isinstance(one.this, exp.Star)
    return isinstance(one, exp.Star) or one.find(exp.Columns) is not None
