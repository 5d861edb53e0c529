"""Relations under other names: a query that reads one in the place of another, and two queries that say the same but
for names.

Owns the text with other names in it, which is the user's own but for these words, and is parsed again and compared.
Whether two relations have the same rows is for others to know.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from sundog.errors import FlowError
from sundog.ir.sql_types import sql_name
from sundog.queries.clauses import Edit, edited
from sundog.queries.columns import Schema
from sundog.queries.parsed import Query, parse_query, relation_name, relations
from sundog.queries.select_parts import is_star


def with_relations(query: Query, names: Mapping[str, str]) -> Query | None:
    """Return `query` reading, for each relation that is a key of `names`, the one that is its value; where it gave the
    relation no name of its own, it still calls it by the old one. None where that cannot be done for certain."""
    edits = []
    for table in relations(query.tree):
        if relation_name(table) in names:
            place = table.this.meta
            kept = "" if table.alias else f" as {sql_name(table.name)}"
            edits.append(Edit(place["start"], place["end"] + 1, sql_name(names[relation_name(table)]) + kept))
    try:
        found = parse_query(edited(query.sql, edits))
    except FlowError:
        return None
    before, after = list(relations(query.tree)), list(relations(found.tree))
    wanted = [(names.get(relation_name(one), relation_name(one)), one.alias_or_name) for one in before]
    is_read = wanted == [(relation_name(one), one.alias_or_name) for one in after]
    return found if is_read and _without_names(found.tree) == _without_names(query.tree) else None


def _without_names(tree: exp.Expr) -> exp.Expr:
    copy = tree.copy()
    for table in list(relations(copy)):
        table.set("this", exp.to_identifier("_"))
        table.set("alias", None)
    return copy


def says_the_same(query: Query, other: Query, schema: Schema) -> bool:
    """Return whether `query` gives what `other` gives where the relations that it reads, in the order of the text, have
    the rows and the columns of those that `other` reads. False where that is not certain."""
    if len(query.reads) != len(other.reads):
        return False
    names = {old: new for old, new in zip(query.reads, other.reads, strict=True) if old != new}
    renamed = _renamed(query.tree, names, schema)
    return renamed is not None and _plain(renamed) == _plain(other.tree)


def _renamed(tree: exp.Expr, names: Mapping[str, str], schema: Schema) -> exp.Expr | None:
    """Return `tree` with other names of relations, also before their columns; None where one of the names, old or new,
    may stand for something else."""
    known = {old.lower(): old for old in names}
    taken = {new.lower() for new in names.values()}
    given = {one.alias.lower() for one in tree.walk() if one.args.get("alias")}
    if len(known) < len(names) or known.keys() & taken or given & (known.keys() | taken):
        return None
    copy = tree.copy()
    for node in list(copy.walk()):
        if isinstance(node, exp.Table) and relation_name(node) in names:
            node.set("this", exp.to_identifier(names[relation_name(node)]))
        elif isinstance(node, exp.Column) and node.table.lower() in known:
            old = known[node.table.lower()]
            # A part of a column may be meant, whose name is that of the relation.
            if not is_star(node) and node.name.lower() not in map(str.lower, schema.get(old, ())):
                return None
            node.set("table", exp.to_identifier(names[old]))
    return copy


def _plain(tree: exp.Expr) -> exp.Expr:
    """Return `tree` without the quotes of names."""
    copy = tree.copy()
    for one in copy.find_all(exp.Identifier):
        one.set("quoted", False)
    return copy
