"""Distinct rows: which queries need only these of their source, and the query that gives them.

Owns the text that takes distinct rows of another query. Rows that are equal in DuckDB's eyes may differ in their text
(0.0 and -0.0, 30 days and 1 month); a prompt would show that, so these stay apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from sundog.errors import FlowError
from sundog.ir.sql_types import sql_name
from sundog.queries.functions import unknown_function
from sundog.queries.parsed import Query, parse_query
from sundog.queries.select_parts import is_grouped, is_one_pass, own_nodes, source

_ROWS = "__rows"
_CHOOSING = ("limit", "offset", "sample", "with_", "laterals", "qualify", "windows")


def needs_distinct_rows_only(query: Query) -> bool:
    """Return whether the query gives the same rows where its one source has each of its rows once."""
    select = query.tree
    if not isinstance(select, exp.Select) or not is_one_pass(select) or is_grouped(select):
        return False
    if not isinstance(source(select), exp.Table):
        return False
    distinct = select.args.get("distinct")
    if not isinstance(distinct, exp.Distinct) or distinct.args.get("on") is not None:
        return False
    return not any(select.args.get(name) for name in _CHOOSING) and _sees_one_row(query, select)


def distinct_rows(query: Query, columns: Sequence[str]) -> Query | None:
    """Return the query of the distinct rows of `query`, of these of its columns only; None where which rows there are
    may depend on their order, and where the query is one that this function made."""
    select = query.tree
    if not isinstance(select, exp.Select) or any(isinstance(node, exp.Window) for node in own_nodes(select)):
        return None
    if any(select.args.get(name) for name in (*_CHOOSING, "order")) or _is_made(select):
        return None
    if not is_grouped(select) and not _sees_one_row(query, select):
        return None
    names = [sql_name(name) for name in columns]
    keys = ", ".join([*names, *(f"{name}::varchar" for name in names)])
    try:
        return parse_query(f"select {', '.join(names)} from (\n{query.sql}\n) as {_ROWS} group by {keys}")
    except FlowError:
        return None


def _sees_one_row(query: Query, select: exp.Select) -> bool:
    is_unnesting = any(isinstance(node, exp.Explode) for node in own_nodes(select))
    return not is_unnesting and unknown_function(query, own_nodes(select)) is None


def _is_made(select: exp.Select) -> bool:
    return any(one.alias_or_name == _ROWS for one in select.find_all(exp.Subquery))
