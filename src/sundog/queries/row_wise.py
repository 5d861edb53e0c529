"""Row-wise queries: those whose rows are each made of one row of a stream, so that they can flow as that does.

Owns the list of what a row-wise query may say, and the phrase for what it says beside that. The law is q(A + B) =
q(A) + q(B) for every way to divide the stream. What is not on the list waits, which is always right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlglot import exp

from sundog.queries.functions import unknown_function
from sundog.queries.order import with_keys
from sundog.queries.parsed import Query, relation_name
from sundog.queries.select_parts import in_window, is_aggregate, is_grouped, own_nodes, selects, source

_CLAUSES = {
    "with_": "it has parts of its own (with)",
    "distinct": "it takes distinct rows",
    "order": "it orders its rows",
    "limit": "it limits its rows",
    "offset": "it limits its rows",
    "qualify": "it has a window",
    "windows": "it has a window",
    "sample": "it takes a sample",
    "laterals": "it has a lateral join",
    "into": "it writes",
    "locks": "it locks",
}
_SETS = {
    "union": "it unites two sets without doubles",
    "except": "it takes one set out of another",
    "intersect": "it takes what two sets share",
}
_JOINS = {"": "inner", "LEFT": "left"}


def why_not_row_wise(query: Query, stream: str, finished: Collection[str]) -> str | None:
    """Return why the rows of `query` cannot flow as those of the relation `stream` come, as a phrase that goes on after
    "because"; None where they can. `finished` are the relations all of whose rows are there before."""
    for operation in query.tree.find_all(exp.SetOperation):
        if not isinstance(operation, exp.Union) or operation.args.get("distinct"):
            return _SETS.get(operation.key, "it is a set operation")
        if operation.args.get("by_name"):
            return "its branches are united by name"
        found = _first_clause(operation)
        if found:
            return found
    for select in selects(query.tree):
        for phrase in _objections(query, select, stream, finished):
            return phrase
    if with_keys(query).num_keys == 0:
        return "its rows cannot be led back to rows of their source"
    return None


def _first_clause(tree: exp.Expr) -> str | None:
    return next((phrase for name, phrase in _CLAUSES.items() if tree.args.get(name)), None)


def _objections(query: Query, select: exp.Select, stream: str, finished: Collection[str]) -> Iterator[str]:
    """Return what the select says that is not row by row, the most telling first."""
    if is_grouped(select):
        yield "it groups its rows"
    clause = _first_clause(select)
    if clause:
        yield clause
    for node in own_nodes(select):
        if isinstance(node, exp.Query) and node is not select:
            yield "it has a query inside"
        elif isinstance(node, exp.Window) or in_window(node):
            yield "it has a window"
        elif is_aggregate(node):
            yield "it groups its rows"
        elif isinstance(node, exp.Column) and node.name.lower() == "rowid":
            # In a part of the rows it is another number. Only queries that the program made may say it.
            yield "it numbers the rows of a source"
        elif isinstance(node, exp.Columns):
            yield "its columns are chosen by a pattern"
    yield from _of_sources(select, stream, finished)
    name = unknown_function(query, own_nodes(select))
    if name:
        yield f"{name}() is not known to look at one row alone"


def _of_sources(select: exp.Select, stream: str, finished: Collection[str]) -> Iterator[str]:
    first = source(select)
    if not isinstance(first, exp.Table) or not isinstance(first.this, exp.Identifier):
        yield f"'{stream}' does not stand first behind its from"
        return
    if relation_name(first) != stream:
        yield f"'{stream}' does not stand first behind its from"
    yield from _of_table(first)
    for join in select.args.get("joins") or []:
        side = _JOINS.get(join.side)
        if side is None or join.kind not in ("", "INNER", "CROSS", "OUTER") or join.method:
            words = " ".join(word.lower() for word in (join.method, join.side, join.kind) if word)
            yield f"it has a join of the kind '{words}'"
        if isinstance(join.this, exp.Unnest):
            continue
        if not isinstance(join.this, exp.Table) or not isinstance(join.this.this, exp.Identifier):
            yield "it joins with what is no table"
            continue
        name = relation_name(join.this)
        if name == stream:
            yield f"it reads '{stream}' twice"
        elif name not in finished:
            yield f"it joins with '{name}', whose rows are not all there"
        yield from _of_table(join.this)


def _of_table(table: exp.Table) -> Iterator[str]:
    if table.args.get("sample"):
        yield "it takes a sample"
    if table.args.get("pivots"):
        yield "it turns columns into rows"
    if table.args.get("joins") or table.args.get("when"):
        yield "it joins with what is no table"
