"""Queries over rows of which some failed, so that their steps' columns are not known.

Owns which queries give such a row its place among the others whatever those columns will be, and the edit of the text
that tells which rows these are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from sqlglot import exp

from sundog.ir.sql_types import sql_name
from sundog.queries.clauses import Edit, clauses_of, edited
from sundog.queries.columns import dotted_name
from sundog.queries.parsed import Query, is_relation, parse_query, relation_name
from sundog.queries.select_parts import has_joins, is_grouped, is_one_pass, is_star, output_names, own_nodes, source

FAILED = "__failed"
"""The column with the tables in which rows failed for a row that is made of a missing one, null in others, and the
relation with the numbers of missing rows."""
_OTHERS = ("with_", "distinct", "limit", "offset", "qualify", "windows", "sample", "laterals")


def why_not_marked(query: Query, untouched: Collection[str] | None, by: Sequence[str]) -> str | None:
    """Return why a failed row of the one relation of `query` would not have the place that it has when it is mended, as
    a phrase that goes on after "because"; None where it has. `untouched` are the columns that a failed row has too,
    None for all; `by` the outputs that are equal in a group."""
    select = query.tree
    if not isinstance(select, exp.Select) or any(select.args.get(name) for name in _OTHERS):
        return "it does more than to select, to filter and to order rows"
    first = source(select)
    if not isinstance(first, exp.Table) or not is_relation(first) or has_joins(select) or not is_one_pass(select):
        return "it reads more than the rows of one table"
    if is_grouped(select):
        return "it groups its rows itself"
    named = dict(zip(output_names(select), select.expressions, strict=True))
    small = None if untouched is None else {name.lower() for name in untouched}
    for words, tree in _deciding(select, by):
        for name in _names(tree, {} if tree is named.get(tree.alias_or_name) else named, first.alias_or_name):
            if small is not None and name.lower() not in small:
                return f"{words} '{name}', which a failed row does not have"
    return None


def _deciding(select: exp.Select, by: Sequence[str]) -> Iterator[tuple[str, exp.Expr]]:
    """Yield what decides which rows there are, their order and their groups, with words for it."""
    if where := select.args.get("where"):
        yield "it filters by", where
    if order := select.args.get("order"):
        yield "it orders by", order
    outputs = dict(zip(output_names(select), select.expressions, strict=True))
    for name in by:
        yield "it groups by", outputs.get(name) or exp.column(name)


def _names(tree: exp.Expr, outputs: dict[str | None, exp.Expr], relation: str) -> Iterator[str]:
    """Yield the columns that an expression reads; a place in the select list is told as that."""
    for node in own_nodes(tree):
        if isinstance(node, exp.Ordered) and isinstance(node.this, exp.Literal):
            yield str(node.this)
        if not isinstance(node, exp.Column) or isinstance(node.parent, exp.Dot):
            continue
        words = dotted_name(node)
        name = words[1] if len(words) > 1 and words[0].lower() == relation.lower() else words[0]
        if name in outputs and len(words) == 1 and not is_star(outputs[name]):
            yield from _names(outputs[name], {}, relation)
        else:
            yield name


def with_mark(query: Query, relation: str) -> Query:
    """Return `query` with the column `FAILED` behind its own. Its outermost select reads `relation` by itself."""
    select = query.tree
    assert isinstance(select, exp.Select)
    joined = [source(select), *(join.this for join in select.args.get("joins") or [])]
    alias = next(one.alias_or_name for one in joined if isinstance(one, exp.Table) and relation_name(one) == relation)
    clause = next(one for one in clauses_of(query.tokens) if one.name == "select")
    end = query.tokens[clause.end - 1].end + 1
    mark = f", (select f.failed_in from {FAILED} f where f.id = {sql_name(alias)}.rowid) as {FAILED}"
    return parse_query(edited(query.sql, [Edit(end, end, mark)]))
