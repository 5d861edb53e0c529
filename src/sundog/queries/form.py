"""The form of a query, for who wants to know how many rows it may give.

Owns the reading of it off the tree. Never counts; that is `cost.tables`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from sundog.ir.query_forms import JoinedForm, QueryForm, SetKind
from sundog.queries.parsed import Query, relation_name
from sundog.queries.select_parts import is_grouped, own_nodes, source

_Parts = Mapping[str, QueryForm]
"""The parts of a query that `with` names, in small letters."""
_ONE_ROW = QueryForm()
_SETS = {"except": SetKind.SOME, "intersect": SetKind.SOME}
_JUDGING = ("SEMI", "ANTI")


def form_of(query: Query) -> QueryForm:
    """Return the form of `query`."""
    return _form(query.tree, {})


def _form(tree: exp.Expr, parts: _Parts) -> QueryForm:
    named = tree.args.get("with_")
    for part in named.expressions if named is not None else ():
        parts = {**parts, part.alias.lower(): _form(part.this, parts)}
    limit = _limit(tree)
    match tree:
        case exp.Select():
            return _select(tree, parts, limit)
        case exp.SetOperation():
            kind = _SETS.get(tree.key, SetKind.DISTINCT if tree.args.get("distinct") else SetKind.ALL)
            branches = (_form(tree.this, parts), _form(tree.expression, parts))
            return QueryForm(branches, kind, limit=limit)
        case exp.Subquery():
            return QueryForm((_form(tree.this, parts),), limit=limit)
    return _ONE_ROW


def _select(select: exp.Select, parts: _Parts, limit: int | None) -> QueryForm:
    first = source(select)
    sources = () if first is None else (_source(first, parts),)
    joins = [_join(join, parts) for join in select.args.get("joins") or []]
    joined = tuple(join for join in joins if join is not None)
    unnested = sum(join is None for join in joins) + len(select.args.get("laterals") or [])
    if sources and sources[0] is None:
        sources, unnested = (), unnested + 1
    has_group = select.args.get("group") is not None
    shown = [node for one in select.expressions for node in own_nodes(one)]
    return QueryForm(
        tuple(one for one in sources if one is not None),
        SetKind.ALL,
        joined,
        unnested + sum(isinstance(node, exp.Explode | exp.Unnest) for node in shown),
        any(select.args.get(name) is not None for name in ("where", "having", "qualify")),
        has_group or select.args.get("distinct") is not None,
        is_grouped(select) and not has_group,
        limit,
    )


def _source(one: exp.Expr, parts: _Parts) -> str | QueryForm | None:
    """Return a relation or a query; None for what makes rows of a value."""
    match one:
        case exp.Table() if isinstance(one.this, exp.Identifier):
            name = relation_name(one)
            return parts.get(name.lower(), name)
        case exp.Subquery():
            return _form(one, parts)
        case exp.Values():
            return QueryForm(tuple(_ONE_ROW for _ in one.expressions))
    return None


def _join(join: exp.Join, parts: _Parts) -> JoinedForm | None:
    """Return a join with rows; None for one with the elements of a list."""
    found = _source(join.this, parts)
    if found is None:
        return None
    is_conditioned = bool(join.args.get("on") or join.args.get("using") or join.method)
    return JoinedForm(found, is_conditioned, join.side in ("LEFT", "FULL"), join.kind in _JUDGING)


def _limit(tree: exp.Expr) -> int | None:
    limit = tree.args.get("limit")
    said = limit.expression if isinstance(limit, exp.Limit) else None
    return int(said.this) if isinstance(said, exp.Literal) and said.is_int else None
