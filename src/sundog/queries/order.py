"""The order of a query's rows, and the way from each row back to the rows it was made of.

Owns the text that gives the rows in their defined order: that of the query where it says one, else that of its sources,
else that of all values. Two runs over the same rows give the same order, whatever the threads, the batches and the
side of a join that DuckDB holds in memory. Never writes a query from its tree: words are put into the user's own text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot import Token, TokenType, exp

from sundog.errors import FlowError
from sundog.queries.clauses import Clause, Edit, clauses_of, edited
from sundog.queries.parsed import Query, parse_query
from sundog.queries.row_keys import KeyedSelect, hidden_positions, keys_of, with_outputs
from sundog.queries.select_parts import has_joins, is_grouped, is_one_pass, is_star, own_nodes, selects

_KEY = "__k"


@dataclass(frozen=True, slots=True)
class Keyed:
    """A query's text whose rows come in their defined order."""

    sql: str
    #: How many columns stand behind those of the query. The first of them, behind the number of the branch where there
    #: is one, is the `rowid` of the first source's row.
    num_keys: int
    #: The order is decided by the query's own `order by`, the sources' row numbers, or the values of all columns.
    kind: Literal["query", "source", "values"]
    #: False where the rows would keep their order if outputs were left out.
    reads_values: bool
    #: True for a `union all`: the first key is the number of the branch.
    has_branches: bool = False


def with_keys(query: Query) -> Keyed:
    """Return `query` with its order written out, and with keys where its rows can be led back to those of its sources.
    The relations must be tables whose `rowid` counts their rows in order."""
    tree = query.tree
    clauses = clauses_of(query.tokens)
    if tree.args.get("order") is not None:
        return _ordered(query, clauses)
    parts = _parts(query, clauses)
    keyed = None
    if parts is not None and isinstance(tree, exp.Select) and is_grouped(tree):
        keyed = _grouped(query, clauses, parts[0])
    elif parts is not None:
        keyed = _plain(query, clauses, parts)
    if keyed is not None and _is_readable(keyed.sql):
        return keyed
    return Keyed(f"select * from (\n{query.sql}\n) as __rows order by all", 0, "values", True)


def _is_readable(sql: str) -> bool:
    try:
        parse_query(sql)
    except FlowError:
        return False
    return True


def _parts(query: Query, clauses: Sequence[Clause]) -> list[KeyedSelect] | None:
    """Return the selects of a query that is one, or a `union all` of several; None where their rows have no keys."""
    if any(isinstance(one, exp.SetOperation) and not _is_union_all(one) for one in _operations(query.tree)):
        return None
    branches = list(selects(query.tree))
    if len(branches) == 1:
        part = keys_of(query, branches[0], clauses)
        return None if part is None else [part]
    starts = [index for index, clause in enumerate(clauses) if clause.name == "select"]
    if len(starts) != len(branches):
        return None
    found = []
    for select, start in zip(branches, starts, strict=True):
        end = next((i for i in range(start, len(clauses)) if clauses[i].name in ("set", "limit")), len(clauses))
        part = keys_of(query, select, clauses[start:end])
        if part is None or is_grouped(select) or clauses[start + 1].name != "from":
            return None
        found.append(part)
    return found


def _operations(tree: exp.Expr | None) -> list[exp.Expr]:
    if not isinstance(tree, exp.SetOperation):
        return []
    return [tree, *_operations(tree.this), *_operations(tree.args.get("expression"))]


def _is_union_all(tree: exp.SetOperation) -> bool:
    return isinstance(tree, exp.Union) and not tree.args.get("distinct") and not tree.args.get("by_name")


def _plain(query: Query, clauses: Sequence[Clause], parts: Sequence[KeyedSelect]) -> Keyed | None:
    """Key rows that are made of one row of each source: they come in the order of the sources."""
    has_branches = len(parts) > 1
    num_keys = max(len(part.keys) for part in parts)
    edits: list[Edit] = []
    for number, part in enumerate(parts):
        keys = [*part.keys, *("null" for _ in range(num_keys - len(part.keys)))]
        names = [f"{key} as {_KEY}{index}" for index, key in enumerate(keys)]
        added = with_outputs(query.tokens, part, [f"{number} as {_KEY}b", *names] if has_branches else names)
        if added is None:
            return None
        edits += [*part.edits, *added]
    names = [f"{_KEY}{index}" for index in range(num_keys)]
    if has_branches:
        names.insert(0, f"{_KEY}b")
    # One table's rows come in its order, and its lists are unnested in theirs.
    if len(parts) > 1 or not is_one_pass(parts[0].select):
        edits.append(_behind(query, clauses, f"order by {_ascending(names)}"))
    return Keyed(edited(query.sql, edits), len(names), "source", False, has_branches)


def _ascending(keys: Sequence[str]) -> str:
    """A row without partner comes before those with one."""
    return ", ".join(f"{key} nulls first" for key in keys)


def _grouped(query: Query, clauses: Sequence[Clause], part: KeyedSelect) -> Keyed | None:
    """Order groups by their smallest rows; where several may share one, by their values too."""
    tables = [key for key in part.keys if key.endswith(".rowid")]
    if any(isinstance(node, exp.Explode) for node in own_nodes(part.select)):
        return None
    ties = _group_ties(part.select)
    if ties is None:
        return None
    text = ", ".join([_ascending([f"min({key})" for key in tables]), *ties])
    edit = _behind(query, clauses, f"order by {text}")
    return Keyed(edited(query.sql, [edit]), 0, "source", bool(ties))


def _group_ties(select: exp.Select) -> list[str] | None:
    """Return what tells groups of the same smallest row apart: nothing where each row is in one group only."""
    group = select.args.get("group")
    if group is None:
        return []
    is_simple = not any(group.find(kind) for kind in (exp.Rollup, exp.Cube, exp.GroupingSets))
    if is_simple and not has_joins(select):
        return []
    return _positions(select)


def _positions(select: exp.Select) -> list[str] | None:
    if any(is_star(one) for one in select.expressions):
        return None
    return [str(number) for number in range(1, len(select.expressions) + 1)]


def _ordered(query: Query, clauses: Sequence[Clause]) -> Keyed:
    """Let the sources' rows decide among rows that the query's own order leaves equal, or else the outputs."""
    tree = query.tree
    says_all = any(clause.name == "order" and _says_all(query.tokens, clause) for clause in clauses)
    ties: list[str] | None = None
    edits: list[Edit] = []
    if isinstance(tree, exp.Select) and not says_all:
        part = keys_of(query, tree, clauses)
        hidden = None if part is None else hidden_positions(query.tokens, part)
        if part is not None and hidden is not None and _is_led_back(part):
            ties, edits = [_ascending(part.keys)], [*part.edits, *hidden]
    reads_values = ties is None
    if ties is None and not says_all and isinstance(tree, exp.Select | exp.SetOperation):
        ties = _ties(next(selects(tree)))
    if ties is None:
        return Keyed(query.sql, 0, "query", True)
    last = next(clause for clause in reversed(clauses) if clause.name == "order")
    place = query.tokens[last.end - 1].end + 1
    text = edited(query.sql, [*edits, Edit(place, place, f", {', '.join(ties)}")])
    return Keyed(text, 0, "query", reads_values) if _is_readable(text) else Keyed(query.sql, 0, "query", True)


def _is_led_back(part: KeyedSelect) -> bool:
    """Return whether each row is made of one row of each source, and two rows never of the same."""
    return not is_grouped(part.select) and not any(isinstance(node, exp.Explode) for node in own_nodes(part.select))


def _says_all(words: Sequence[Token], clause: Clause) -> bool:
    return clause.end > clause.first + 1 and words[clause.first + 1].token_type is TokenType.ALL


def _ties(select: exp.Select) -> list[str] | None:
    """Return all outputs by their positions; in a select with a star, whose outputs nobody counts, all columns."""
    positions = _positions(select)
    if positions is None and not is_grouped(select) and select.parent is None:
        return ["columns(*)"]
    return positions


def _behind(query: Query, clauses: Sequence[Clause], text: str) -> Edit:
    """Return the edit that puts an order behind the query, before a limit."""
    limit = next((clause for clause in clauses if clause.name == "limit"), None)
    place = len(query.sql) if limit is None else query.tokens[limit.first].start
    return Edit(place, place, f" {text} ")
