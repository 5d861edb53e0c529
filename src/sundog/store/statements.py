"""Statements that change the store, each with a name, since a log of changes names them.

Owns the set of names. A name keeps its meaning: whoever changes what a statement does changes `STORE_VERSION` too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from sqlite3 import Connection
from typing import Any

MAX_STATEMENT_ROWS = 1024
"""A power of two. SQLite's driver gives the interpreter away at each statement and waits for it afterwards, 5 ms where
the loop is busy: a statement for each row made the loop wait for its commits."""
RowValues = tuple[Any, ...]
"""What a statement is told of one row: text, bytes, numbers and None."""
_KNOWN: dict[str, StoreStatement] = {}


@dataclass(frozen=True, slots=True)
class StoreStatement:
    """A change of the store. `sql`: with `{}` in it where it takes the values of many rows at once."""

    name: str
    sql: str
    #: Whoever asks for it goes on only once it lies in the log, where the store has one.
    awaits_log: bool = False

    def __post_init__(self) -> None:
        assert self.name not in _KNOWN, f"two statements are called {self.name}"
        _KNOWN[self.name] = self

    def execute(self, connection: Connection, rows: Sequence[RowValues]) -> int:
        """Run it for all `rows`, many at once where that can be. Gives the number of rows written."""
        if "{}" not in self.sql:
            return connection.executemany(self.sql, rows).rowcount
        num_written = begin = 0
        while num_left := len(rows) - begin:
            # Powers of two, so that there are few different texts.
            size = min(MAX_STATEMENT_ROWS, 1 << num_left.bit_length() - 1)
            some = rows[begin : begin + size]
            begin += size
            values = list(chain.from_iterable(some))
            num_written += connection.execute(_for_rows(self.sql, size, len(some[0])), values).rowcount
        return num_written


Change = tuple[StoreStatement, Sequence[RowValues]]
"""A statement and the rows for which it is run."""


def find_statement(name: str) -> StoreStatement | None:
    """Return the statement of a name; None where this sundog has none."""
    return _KNOWN.get(name)


def by_statement(writes: Iterable[tuple[StoreStatement, RowValues]]) -> dict[StoreStatement, list[RowValues]]:
    """Return the rows of each statement, in their order."""
    found: dict[StoreStatement, list[RowValues]] = {}
    for statement, values in writes:
        found.setdefault(statement, []).append(values)
    return found


@cache
def _for_rows(sql: str, num_rows: int, num_columns: int) -> str:
    row = f"({', '.join('?' * num_columns)})"
    return sql.format(", ".join([row] * num_rows))
