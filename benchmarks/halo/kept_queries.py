"""Rows of queries that an earlier arm asked, for modelled time, in which databases take none.

Owns the file that keeps them, for one database each. Never used where time is measured.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

from sundog.operators.sql.database import Database, Statement
from sundog.operators.sql.rows import SQLRow

MAX_WAIT_S = 60.0


@contextmanager
def kept_queries(path: Path) -> Iterator[None]:
    """Within the block no database of this process is asked the same twice, nor what a process before it asked."""
    execute = Database.execute
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=MAX_WAIT_S, isolation_level=None)) as file:
        file.execute("pragma journal_mode = wal")
        file.execute("pragma synchronous = off")
        file.execute("create table if not exists kept (key blob primary key, found blob) without rowid")

        async def ask_once(self: Database, statement: Statement, *, timeout_s: float) -> list[SQLRow]:
            assert not statement.is_write, "only reads are kept"
            asked = str(statement.text), sorted(statement.params.items()), statement.max_rows, statement.raw_column
            key = blake2b(repr(asked).encode(), digest_size=16).digest()
            kept = file.execute("select found from kept where key = ?", (key,)).fetchone()
            if kept is not None:
                found: list[SQLRow] = pickle.loads(kept[0])
                return found
            found = await execute(self, statement, timeout_s=timeout_s)
            file.execute("insert or ignore into kept values (?, ?)", (key, pickle.dumps(found)))
            return found

        Database.execute = ask_once  # type: ignore[method-assign]  # every arm's queries pass here, and only here
        try:
            yield
        finally:
            Database.execute = execute  # type: ignore[method-assign]  # as above
