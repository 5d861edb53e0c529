"""The judgement of what a SQL statement does to the database, from its text, before it runs.

Owns the judgement and its reason. Never connects, never rewrites a statement. Everything it does not know for certain
is a write: too strict costs sharing, too lax repeats an effect. It sees the statement only: what a view calls or a
trigger does stays unseen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Literal

from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from sundog.operators.sql import functions as sql_functions
from sundog.operators.sql.bounded_parse import parse_bounded

# SQLAlchemy's backend names to sqlglot's dialects; statements of any other database count as writes.
DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "duckdb": "duckdb"}

# Without a handler its notes about unknown syntax would be printed over the progress display.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())

# Here no function writes but those of sequences.
_PURE_FUNCTIONS = {"sqlite": "SQLite", "duckdb": "DuckDB"}
_SEQUENCES = ("nextval", "next_value_for")
_WORDS = {"truncatetable": "truncate", "transaction": "begin"}
_CLOCK_WORDS = frozenset({"now", "today", "tomorrow", "yesterday"})
_CLOCK_CASTS = frozenset({"DATE", "TIME", "TIMETZ", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPNTZ", "DATETIME"})


class Reach(IntEnum):
    """The reach of a statement; the larger one wins."""

    READ = 0  # the same result as long as the database is the same
    VOLATILE = 1  # changes nothing, may give another result at each call
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgement of one statement."""

    reach: Reach
    #: A phrase for explain.
    reason: str
    num_statements: int = 1
    #: False for a statement that returns none, None where only the run can tell.
    has_rows: Literal[False] | None = None
    #: The reason why it could not be parsed, None where it could.
    complaint: str | None = None


@lru_cache(maxsize=1024)
def judge(query: str, backend: str) -> Judgement:
    """Judge `query` in the dialect of SQLAlchemy's `backend`; what the flow writes is asked for again and again."""
    return judge_anew(query, backend)


def judge_anew(query: str, backend: str) -> Judgement:
    """Judge `query` and remember nothing, since each row may have another one."""
    dialect = DIALECTS.get(backend)
    if dialect is None:
        return Judgement(Reach.WRITE, f"statements of {backend} are not judged, so it counts as a write")
    if dialect == "mysql" and "/*!" in query.replace("/*M!", "/*!"):
        return Judgement(Reach.WRITE, "a comment that MySQL executes")
    try:
        # The text after the last semicolon may be a comment.
        parsed = parse_bounded(query, dialect)
        statements = [found for found in parsed if found is not None and not isinstance(found, exp.Semicolon)]
    except (SqlglotError, RecursionError) as error:
        reason = "it could not be parsed, so it counts as a write"
        return Judgement(Reach.WRITE, reason, complaint=_complaint(error))
    if len(statements) != 1:
        return Judgement(Reach.WRITE, "not one statement", num_statements=len(statements))
    (root,) = statements
    if not isinstance(root, exp.Query | exp.Values):
        if isinstance(root, exp.Condition | exp.Alias):
            return Judgement(Reach.WRITE, "it is no statement")
        is_silent = isinstance(root, exp.DML | exp.DDL) and root.find(exp.Returning) is None
        return Judgement(Reach.WRITE, f"{_first_word(root)} is no query", has_rows=False if is_silent else None)
    with_parameter = _above_parameters(root)
    reach, reason = max(
        (_judge_node(node, backend, with_parameter) for node in root.walk()), key=lambda found: found[0]
    )
    return Judgement(reach, reason or "a query without volatile functions")


def _first_word(statement: exp.Expr) -> str:
    """Return the word that a statement begins with, whatever sqlglot calls it."""
    if isinstance(statement, exp.Command):
        return statement.name.lower()
    return _WORDS.get(statement.key, statement.key)


def _above_parameters(root: exp.Expr) -> frozenset[int]:
    """Return the ids of all nodes that have a parameter below them. To look below each of them anew would take the
    square of their number."""
    found: set[int] = set()
    for parameter in root.find_all(exp.Placeholder):
        node = parameter.parent
        while node is not None and id(node) not in found:
            found.add(id(node))
            node = node.parent
    return frozenset(found)


def _complaint(error: Exception) -> str:
    """Return what the parser says on its first line, with the place in the statement."""
    if isinstance(error, ParseError) and error.errors:
        first = error.errors[0]
        return f"line {first['line']}, column {first['col']}: {first['description'].rstrip('.')}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).strip().partition("\n")[0]


_PURE = (Reach.READ, "")


def _judge_node(node: exp.Expr, backend: str, with_parameter: frozenset[int]) -> tuple[Reach, str]:
    match node:
        case exp.DML() | exp.DDL() | exp.Command() | exp.Drop() | exp.Alter() | exp.TruncateTable() | exp.Set():
            return Reach.WRITE, f"holds {node.key}"
        case exp.Into():
            return Reach.WRITE, "writes its rows into a table or file"
        case exp.Lock():
            return Reach.WRITE, "locks the rows it reads"
        case exp.CTE() if not isinstance(node.this, exp.Query | exp.Values):
            return Reach.WRITE, f"holds {node.this.key}"
        case exp.TableSample():
            return Reach.VOLATILE, "takes a sample"
        case exp.SessionParameter() | exp.Parameter():
            return Reach.VOLATILE, "reads a variable of the session"
        case exp.Literal() if node.is_string and node.name.strip().lower() in _CLOCK_WORDS:
            return Reach.VOLATILE, f"'{node.name}' may mean the clock"
        case exp.Cast() if id(node) in with_parameter and (clock := _clock_type(node)):
            return Reach.VOLATILE, f"a parameter cast to {clock} may be 'now'"
        case exp.Func():
            return _judge_function(node, backend, with_parameter)
    return _PURE


def _clock_type(cast: exp.Cast) -> str:
    """Return the type of a cast to a date or a time, empty for any other. The types of a database's own making are
    texts and names."""
    name = getattr(cast.to.this, "name", "")
    return name.lower() if name in _CLOCK_CASTS else ""


def _judge_function(node: exp.Func, backend: str, with_parameter: frozenset[int]) -> tuple[Reach, str]:
    is_named = isinstance(node, exp.Anonymous | exp.AnonymousAggFunc)
    name = node.name.lower() if is_named else type(node).__name__
    pure, volatile, clock = (
        (sql_functions.PURE_NAMES, sql_functions.VOLATILE_NAMES, sql_functions.CLOCK_NAMES)
        if is_named
        else (sql_functions.PURE_TYPES, sql_functions.VOLATILE_TYPES, sql_functions.CLOCK_TYPES)
    )
    written = name if is_named else node.sql_name().lower()
    if name in volatile:
        return Reach.VOLATILE, f"{written}() differs at each call"
    # schema.lower(x) is not the built-in lower(x).
    if name in pure and not isinstance(node.parent, exp.Dot):
        if name in clock and (id(node) in with_parameter or not _has_arguments(node)):
            return Reach.VOLATILE, f"{written}() may read the clock"
        return _PURE
    if backend == "duckdb" and name in sql_functions.DUCKDB_NAMES and not isinstance(node.parent, exp.Dot):
        return _PURE
    if written in _SEQUENCES:
        return Reach.WRITE, f"{written}() moves a sequence on"
    if backend in _PURE_FUNCTIONS:
        return Reach.VOLATILE, f"{written}() is not known; {_PURE_FUNCTIONS[backend]} functions cannot write"
    return Reach.WRITE, f"{written}() is not known and might write, so it counts as a write"


def _has_arguments(node: exp.Expr) -> bool:
    return any(True for _ in node.iter_expressions())
