"""Point look-ups: which statements may be asked for many keys at once, and how the rows are told apart again.

Owns the proof and the gathered statement's text. Never connects. What is proved, for a statement and a table that pass:
its rows for one key are those of the gathered statement that hold this key, as a set; and where that is at most one
row, as a list too. Everything else is left to the statement itself, key by key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from sqlglot import Token, TokenType, exp, parse_one, tokenize

from sundog.operators.sql.functions import SCALAR_TYPES
from sundog.operators.sql.judge import DIALECTS, Reach, judge

LOOKUP_KEY = "sundog_key"
# These databases' rules for `=` and `in` are known, and a table's own rules for it can be asked for.
_TABLE_CHECKS = {
    # A column with a collation may hold two spellings of one key, and a virtual table has its own idea of `=`.
    "sqlite": "select 1 as is_plain from sqlite_master where type = 'table' and name = :table collate nocase"
    " and sql not like 'create virtual%' and sql not like '%collate%'",
    # Nor may a remote table or a child table decide what is equal, or a type with an equality of its own.
    "postgresql": "select 1 as is_plain from pg_catalog.pg_class r"
    " join pg_catalog.pg_attribute a on a.attrelid = r.oid join pg_catalog.pg_type t on t.oid = a.atttypid"
    " left join pg_catalog.pg_collation c on c.oid = a.attcollation"
    " where r.oid = to_regclass(cast(:table as text)) and a.attname = cast(:column as text)"
    " and r.relkind in ('r', 'm') and not r.relhassubclass"
    " and t.typname in ('int2', 'int4', 'int8', 'text', 'varchar') and coalesce(c.collisdeterministic, true)",
}
_ALLOWED_PARTS = frozenset({"expressions", "from_", "joins", "where", "order"})
# As a number it has no other spelling, and every database holds it exactly.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Lookup:
    """A point look-up that may be gathered."""

    param: str
    #: The statement with a list in place of `param`, its first column the key of each row.
    query: str
    #: The table of the key.
    table: str
    #: The column of the key.
    column: str
    #: A query whose row says that the proof holds for this table.
    table_check: str


@lru_cache(maxsize=1024)
def lookup_of(query: str, backend: str, varying: frozenset[str]) -> Lookup | None:
    """Return how to gather `query`, of whose parameters `varying` differ by row; None where equality is not certain."""
    if backend not in _TABLE_CHECKS or len(varying) != 1 or judge(query, backend).reach is not Reach.READ:
        return None
    (param,) = varying
    root = parse_one(query, read=DIALECTS[backend])
    if not isinstance(root, exp.Select) or query.count(f":{param}") != 1 or not _keeps_rows_apart(root):
        return None
    equality = _equality(root, param)
    table = None if equality is None else _table_of(root, equality.this)
    if equality is None or table is None:
        return None
    gathered = _gathered_text(query, root, equality, DIALECTS[backend])
    if gathered is None:
        return None
    return Lookup(param, gathered, *_names(table, equality.this, backend), _TABLE_CHECKS[backend])


def kind_of(key: Any) -> str | None:
    """Return the kind of a key. Keys of one kind may stand in one list. None for a key whose equality is not that of
    its text: it is asked for alone."""
    if type(key) not in (int, str):
        return None
    if _INTEGER.fullmatch(str(key)):
        return "number" if type(key) is int else "digits"
    return "text" if type(key) is str else None


def split_rows(
    rows: Sequence[dict[str, Any]], keys: Sequence[Any], kind: str
) -> dict[Any, list[dict[str, Any]]] | None:
    """Return the rows of each key, without the key column; None where a row holds what is no key of the list to the
    letter: then some keys may have more than one spelling."""
    spelled = {str(key): key for key in keys}
    found: dict[Any, list[dict[str, Any]]] = {key: [] for key in keys}
    for row in rows:
        value = row[LOOKUP_KEY]
        is_exact = type(value) is str or (type(value) is int and kind != "text")
        if not is_exact or str(value) not in spelled:
            return None
        found[spelled[str(value)]].append({name: item for name, item in row.items() if name != LOOKUP_KEY})
    return found


def _keeps_rows_apart(root: exp.Select) -> bool:
    """Return whether each row of the result comes from rows of the tables alone, whatever other rows there are."""
    parts = {name for name, value in root.args.items() if value}
    if not parts <= _ALLOWED_PARTS or any(found is not root for found in root.find_all(exp.Query)):
        return False
    return all(type(node).__name__ in SCALAR_TYPES for node in root.find_all(exp.Func))


def _equality(root: exp.Select, param: str) -> exp.EQ | None:
    """Return the conjunct `column = :param`."""
    where = root.args.get("where")
    left = [where.this] if where is not None else []
    while left:
        match left.pop():
            case exp.And(this=first, expression=second):
                left += [first, second]
            case exp.Paren(this=inner):
                left.append(inner)
            case exp.EQ(this=exp.Column(), expression=exp.Placeholder(this=name)) as found if name == param:
                return found
    return None


def _table_of(root: exp.Select, column: exp.Column) -> exp.Table | None:
    """Return the table that a column is of, as far as the statement says."""
    joins = root.args.get("joins") or []
    tables = [source.this for source in (root.args.get("from_"), *joins) if source is not None]
    qualifier = column.args.get("table")
    if any(part in column.args and column.args[part] for part in ("db", "catalog")):
        return None
    if qualifier is None:
        return tables[0] if len(tables) == 1 and _is_plain(tables[0]) else None
    named = [table for table in tables if _is_plain(table) and _alias(table) == qualifier]
    return named[0] if len(named) == 1 else None


def _is_plain(table: object) -> bool:
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        return False
    return {name for name, value in table.args.items() if value} <= {"this", "alias"}


def _alias(table: exp.Table) -> exp.Expr:
    alias: exp.Expr = table.args["alias"].this if table.args.get("alias") else table.this
    return alias


def _names(table: exp.Table, column: exp.Column, backend: str) -> tuple[str, str]:
    """Return the names as `table_check` wants them: PostgreSQL folds a name that is not quoted."""
    if backend == "sqlite":
        return table.name, column.name
    return table.this.sql("postgres"), column.name if column.this.quoted else column.name.lower()


def _gathered_text(query: str, root: exp.Select, equality: exp.EQ, dialect: str) -> str | None:
    """Return the query with the key first and `in` for `=`; None unless it parses to just that."""
    param, column = equality.expression.name, equality.this
    tokens = tokenize(query, read=dialect)
    sign = _sign_before(tokens, query.index(f":{param}"))
    if sign is None or tokens[0].token_type is not TokenType.SELECT:
        return None
    start = tokens[0].end + 1
    head, middle, rest = query[:start], query[start : sign.start], query[sign.end + 1 :]
    text = f"{head} {column.sql(dialect)} as {LOOKUP_KEY},{middle.rstrip()} in {rest.lstrip()}"
    wanted = root.copy()
    (old,) = (node for node in wanted.find_all(exp.EQ) if node == equality)
    old.replace(exp.In(this=column.copy(), field=equality.expression.copy()))
    wanted.set("expressions", [exp.alias_(column.copy(), LOOKUP_KEY), *wanted.expressions])
    return text if parse_one(text, read=dialect) == wanted else None


def _sign_before(tokens: Sequence[Token], position: int) -> Token | None:
    """Return the `=` right before the parameter at `position`."""
    for sign, colon in pairwise(tokens):
        if colon.start == position:
            return sign if sign.token_type is TokenType.EQ else None
    return None
