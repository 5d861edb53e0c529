"""Removals from a query: conditions that may stand at a source instead, and outputs that nobody reads.

Owns the new text, which is the user's own without the words that go. Each is parsed again and compared with the tree
that it must have; where they differ, nothing is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import Token, TokenType, exp

from sundog.errors import FlowError
from sundog.queries.clauses import Clause, Edit, clauses_of, edited, outer_words
from sundog.queries.columns import ColumnScope, Schema
from sundog.queries.conditions import condition_spans, conjuncts
from sundog.queries.order import with_keys
from sundog.queries.parsed import Query, parse_query, relation_name, relations
from sundog.queries.select_parts import is_aggregate, is_grouped, output_names, own_nodes

# Conditions of these alone do not fail, where the types of what they compare are equal.
_SAFE = (
    exp.And, exp.Or, exp.Not, exp.Paren, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ,
    exp.NullSafeNEQ, exp.Is, exp.In, exp.Between, exp.Boolean, exp.Null, exp.Literal, exp.Neg, exp.Placeholder,
    exp.Column, exp.Identifier,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SplitWhere:
    """A query without the conditions that read one source only, and these: `select * from RELATION as ALIAS where
    CONDITION and ...` gives the rows of the source that the query would look at."""

    query: Query
    alias: str
    conditions: tuple[str, ...]
    #: The columns that each of them reads; their types must be equal to those of what they are compared with.
    columns: tuple[frozenset[str], ...]


def split_where(query: Query, relation: str, schema: Schema, among: frozenset[str] | None = None) -> SplitWhere | None:
    """Return `query` without those conditions of its `where` that read the columns of `relation` only and cannot fail;
    None where there is none, where the relation is read twice, or where its rows may be missing by an outer join.
    `among`: the columns that they may read, in small letters, None for all."""
    select = query.tree
    if not isinstance(select, exp.Select) or select.args.get("where") is None or select.args.get("with_"):
        return None
    scope = ColumnScope(select, schema)
    sources = [one for one in scope.sources or () if one.relation == relation and not one.may_be_missing]
    if len(sources) != 1 or sum(1 for table in relations(select) if relation_name(table) == relation) != 1:
        return None
    clause = next((one for one in clauses_of(query.tokens) if one.name == "where"), None)
    conditions = list(conjuncts(select.args["where"].this))
    spans = [] if clause is None else condition_spans(query.tokens, clause)
    if clause is None or len(spans) != len(conditions):
        return None
    moved = [_reads_only(scope, one, sources[0].alias) for one in conditions]
    if among is not None:
        moved = [one if one is not None and {name.lower() for name in one} <= among else None for one in moved]
    texts = [query.sql[query.tokens[first].start : query.tokens[end - 1].end + 1] for first, end in spans]
    kept = [text for text, columns in zip(texts, moved, strict=True) if columns is None]
    left = [one for one, columns in zip(conditions, moved, strict=True) if columns is None]
    place = Edit(query.tokens[clause.first].start, query.tokens[clause.end - 1].end + 1, "")
    text = f"where {' and '.join(kept)}" if kept else ""
    rest = _proved(edited(query.sql, [Edit(place.start, place.end, text)]).rstrip())
    if len(left) == len(conditions) or rest is None or not _differs_in_where(rest.tree, select, left):
        return None
    gone = tuple(text for text, columns in zip(texts, moved, strict=True) if columns is not None)
    return SplitWhere(rest, sources[0].alias, gone, tuple(one for one in moved if one is not None))


def _reads_only(scope: ColumnScope, condition: exp.Expr, alias: str) -> frozenset[str] | None:
    """Return the columns of the source that a condition reads; None where it reads others, none, or may fail."""
    found: set[str] = set()
    outputs = {one.alias.lower() for one in scope.select.expressions if isinstance(one, exp.Alias)}
    for node in condition.walk():
        if not isinstance(node, _SAFE):
            return None
        if isinstance(node, exp.Column):
            resolved = scope.resolve(node)
            is_other = resolved is None or resolved[0].alias != alias or not resolved[2]
            if resolved is None or is_other or (not node.table and node.name.lower() in outputs):
                return None
            found.add(resolved[1])
    return frozenset(found) or None


def _differs_in_where(rest: exp.Query, select: exp.Select, left: Sequence[exp.Expr]) -> bool:
    """Return whether `rest` is `select` with only the conditions `left`."""
    where = rest.args.get("where")
    found = list(conjuncts(where.this)) if where is not None else []
    return found == list(left) and _without(rest, "where") == _without(select, "where")


def _without(tree: exp.Expr, part: str) -> exp.Expr:
    copy = tree.copy()
    copy.set(part, None)
    return copy


def _proved(sql: str) -> Query | None:
    try:
        return parse_query(sql)
    except FlowError:
        return None


def without_columns(query: Query, unread: frozenset[str]) -> Query | None:
    """Return `query` without those of the outputs `unread` that can go: its rows and their order stay. None where none
    can."""
    select = query.tree
    if not isinstance(select, exp.Select) or select.args.get("distinct") or with_keys(query).reads_values:
        return None
    clause = next((one for one in clauses_of(query.tokens) if one.name == "select"), None)
    items = [] if clause is None else _items(query.tokens, clause)
    if len(items) != len(select.expressions) or _counts_outputs(select):
        return None
    small = {name.lower() for name in unread}
    names = output_names(select)
    gone = [name is not None and name.lower() in small and _can_go(select, at) for at, name in enumerate(names)]
    if is_grouped(select) and select.args.get("group") is None:
        _keep_one_aggregate(select, gone)
    if not any(gone) or all(gone):
        gone = [*gone[:-1], False] if any(gone) else gone
    if not any(gone):
        return None
    kept = [item for item, is_gone in zip(items, gone, strict=True) if not is_gone]
    texts = [query.sql[query.tokens[first].start : query.tokens[end - 1].end + 1] for first, end in kept]
    edit = Edit(query.tokens[items[0][0]].start, query.tokens[items[-1][1] - 1].end + 1, ", ".join(texts))
    found = _proved(edited(query.sql, [edit]))
    expected = select.copy()
    expected.set("expressions", [one for one, is_gone in zip(expected.expressions, gone, strict=True) if not is_gone])
    return found if found is not None and found.tree == expected else None


def _items(words: Sequence[Token], clause: Clause) -> list[tuple[int, int]]:
    """Return the words of each output of a select."""
    commas = [clause.first + n for n in outer_words(words[clause.first : clause.end])]
    commas = [number for number in commas if words[number].token_type is TokenType.COMMA]
    begins = [clause.first + 1, *(number + 1 for number in commas)]
    spans = list(zip(begins, [*commas, clause.end], strict=True))
    return [span for span in spans if span[0] < span[1]]


def _counts_outputs(select: exp.Select) -> bool:
    """Return whether something means outputs by their number, or all of them."""
    group, order = select.args.get("group"), select.args.get("order")
    keys = [*(group.expressions if group is not None else ()), *(order.expressions if order is not None else ())]
    meant = [one.this if isinstance(one, exp.Ordered) else one for one in keys]
    if group is not None and group.args.get("all"):
        return True
    return any(isinstance(one, exp.Literal) or one.name.lower() == "all" for one in meant)


def _can_go(select: exp.Select, at: int) -> bool:
    """Return whether an output makes no rows, is no key of groups, and is read nowhere else in the query."""
    one = select.expressions[at]
    own = set(map(id, one.walk()))
    if any(isinstance(node, exp.Explode) for node in own_nodes(one)):
        return False
    if is_grouped(select) and not any(is_aggregate(node) for node in own_nodes(one)):
        return False
    name = (output_names(select)[at] or "").lower()
    others = (node for node in select.find_all(exp.Column, exp.Identifier) if id(node) not in own)
    if not isinstance(one, exp.Alias):
        behind = [select.args.get("order"), select.args.get("qualify"), select.args.get("having")]
        others = (node for part in behind if part is not None for node in part.find_all(exp.Column))
        return all(node.name.lower() != name or node.args.get("table") is not None for node in others)
    return all(node.name.lower() != name or _has_source(node) for node in others)


def _has_source(node: exp.Expr) -> bool:
    column = node if isinstance(node, exp.Column) else node.parent
    return isinstance(column, exp.Column) and bool(column.table)


def _keep_one_aggregate(select: exp.Select, gone: list[bool]) -> None:
    """Let the last aggregate stay where one row comes out because of it, as there are no groups."""
    makes = [any(is_aggregate(node) for node in own_nodes(one)) for one in select.expressions]
    if not any(is_made and not is_gone for is_made, is_gone in zip(makes, gone, strict=True)):
        gone[max(at for at, is_made in enumerate(makes) if is_made)] = False
