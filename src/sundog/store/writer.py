"""The writer thread: everything that is written becomes one commit per batch, and each writer hears of it.

Owns the order of writes. Never reads results; see store.store.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sundog.errors import StoreError
from sundog.store.schema import connect_store, store_error

MAX_BATCH = 4096
MAX_STATEMENT_ROWS = 1024
"""A power of two. SQLite's driver gives the interpreter away at each statement and waits for it afterwards, 5 ms where
the loop is busy: a statement for each row made the loop wait for its commits."""
PUT_RESULT = "insert into results values {} on conflict (key) do nothing"
GET_RESULT = "select * from results where key = ?"
PUT_CLAIM = "insert or replace into claims values {}"
DROP_CLAIM = "delete from claims where key = ?"
PUT_AWAITED = "insert or replace into awaited values {}"
PUT_ROW = "insert or replace into rows values {}"
PUT_TRANSCRIPTS = "insert or replace into transcripts values {}"
PUT_BUSY = "update runs set busy_s = ? where run_id = ?"
ADD_ASKED = """
insert into asked values (?, ?, ?, ?, ?, ?) on conflict (run_id, table_name, node) do update set
    num_calls = num_calls + excluded.num_calls,
    num_prompt_tokens = min(num_prompt_tokens + excluded.num_prompt_tokens, 1 << 53),
    num_output_tokens = min(num_output_tokens + excluded.num_output_tokens, 1 << 53)
"""
TAKE_BACK_ASKED = """
update asked set
    num_calls = num_calls - ?, num_prompt_tokens = num_prompt_tokens - ?, num_output_tokens = num_output_tokens - ?
where run_id = ? and table_name = ? and node = ?
"""
ADD_EXECUTED = """
insert into executed values (?, ?, ?, ?, ?, ?) on conflict (run_id, node) do update set
    num_calls = num_calls + excluded.num_calls,
    num_prompt_tokens = min(num_prompt_tokens + excluded.num_prompt_tokens, 1 << 53),
    num_cached_tokens = min(num_cached_tokens + excluded.num_cached_tokens, 1 << 53),
    num_output_tokens = min(num_output_tokens + excluded.num_output_tokens, 1 << 53)
"""
MAX_TOTAL = 1 << 53
"""Where sums of tokens stop growing: far beyond any true one, and below what SQLite can hold."""
ResultRow = tuple[bytes, str, str, bytes, int, int, int, float]
"""Key, run, node, value as JSON; prompt, cached and output tokens; seconds that the call took."""


@dataclass(slots=True)
class Asked:
    """The calls and tokens that one finished row asked of one node; they go into its table's totals in the row's own
    commit."""

    node: str
    num_prompt_tokens: int
    num_output_tokens: int


@dataclass(slots=True)
class _Write:
    statements: tuple[tuple[str, tuple[Any, ...]], ...]
    #: Run and table of the row that asked.
    of: tuple[str, str]
    asked: tuple[Asked, ...]
    done: asyncio.Future[ResultRow | None]
    result: ResultRow | None = None
    first: ResultRow | None = None


class Writer:
    """Group commit: `write` and `put` return a future that is set once the commit is on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: SimpleQueue[list[_Write] | None] = SimpleQueue()
        self._pending: list[_Write] = []
        self._error: StoreError | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="sundog-store", daemon=True)
        self._thread.start()

    def write(
        self, *statements: tuple[str, tuple[Any, ...]], of: tuple[str, str] = ("", ""), asked: tuple[Asked, ...] = ()
    ) -> asyncio.Future[None]:
        """Commit all `statements` or none, and what a row of the run and table `of` asked; the future raises StoreError
        when they could not be."""
        done = self._loop.create_future()
        self._add(_Write(statements, of, asked, done))
        return done

    def put(self, result: ResultRow, *statements: tuple[str, tuple[Any, ...]]) -> asyncio.Future[ResultRow | None]:
        """Commit a result, that it was computed, and `statements`. Where another run has put one under its key before,
        that one stays, and the future gives it; None where this one stays."""
        done: asyncio.Future[ResultRow | None] = self._loop.create_future()
        self._add(_Write(statements, ("", ""), (), done, result))
        return done

    def close(self) -> None:
        """Commit what is queued and end the thread."""
        self._hand_over()
        self._queue.put(None)
        self._thread.join()

    def _add(self, write: _Write) -> None:
        """Hand over the writes of one turn of the loop together: a thread that is woken by the first of them takes the
        interpreter from the loop, for a commit of few."""
        if not self._pending:
            self._loop.call_soon(self._hand_over)
        self._pending.append(write)

    def _hand_over(self) -> None:
        pending, self._pending = self._pending, []
        if pending:
            self._queue.put(pending)

    def _work(self) -> None:
        connection = self._connect()
        is_open = True
        while is_open:
            batch: list[_Write] = []
            some = self._queue.get()
            while some is not None:
                batch += some
                if self._queue.empty() or len(batch) >= MAX_BATCH:
                    break
                some = self._queue.get()
            is_open = some is not None
            if batch:
                self._commit(connection, batch)
                self._loop.call_soon_threadsafe(_resolve, batch, self._error)
        if connection is not None:
            connection.close()

    def _connect(self) -> sqlite3.Connection | None:
        try:
            return connect_store(self._path)
        except Exception as error:  # those who write hear of it
            self._error = error if isinstance(error, StoreError) else store_error(self._path, error)
            return None

    def _commit(self, connection: sqlite3.Connection | None, batch: list[_Write]) -> None:
        """Whatever goes wrong ends all writing: a future that is never set would hold the run for ever."""
        if connection is None or self._error is not None:
            return
        try:
            connection.execute("begin immediate")
            _put_results(connection, [write for write in batch if write.result is not None])
            for statement, values in _by_statement(batch):
                _execute(connection, statement, values)
            connection.executemany(ADD_ASKED, _asked_totals(batch))
            connection.executemany(ADD_EXECUTED, _executed_totals(batch))
            connection.execute("commit")
        except Exception as error:  # also what Python's driver cannot bind
            self._error = store_error(self._path, error)
            with suppress(sqlite3.Error):
                connection.execute("rollback")


def _put_results(connection: sqlite3.Connection, writes: list[_Write]) -> None:
    results = [write.result for write in writes if write.result is not None]
    if _execute(connection, PUT_RESULT, results) == len(writes):
        return
    for write, result in zip(writes, results, strict=True):
        (found,) = connection.execute(GET_RESULT, (result[0],))
        if found != result:
            write.first = found


def _execute(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run a statement for all `rows`, many at once where `{}` stands for them. Gives the number of rows written."""
    if "{}" not in statement:
        return connection.executemany(statement, rows).rowcount
    num_written = begin = 0
    while num_left := len(rows) - begin:
        # Powers of two, so that there are few different statements.
        size = min(MAX_STATEMENT_ROWS, 1 << num_left.bit_length() - 1)
        some = rows[begin : begin + size]
        begin += size
        values = list(chain.from_iterable(some))
        num_written += connection.execute(_for_rows(statement, size, len(some[0])), values).rowcount
    return num_written


@cache
def _for_rows(statement: str, num_rows: int, num_columns: int) -> str:
    row = f"({', '.join('?' * num_columns)})"
    return statement.format(", ".join([row] * num_rows))


def _by_statement(batch: list[_Write]) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
    """Return the rows of each statement. Order between statements is free: no two of one batch touch the same row,
    since a claim is awaited before its result is written."""
    values: dict[str, list[tuple[Any, ...]]] = {}
    for write in batch:
        for statement, row in write.statements:
            values.setdefault(statement, []).append(row)
    return values.items()


def asked_totals(asked: Iterable[Asked]) -> list[tuple[str, int, int, int]]:
    """Return (node, calls, prompt tokens, output tokens) for each node of `asked`."""
    totals: dict[str, list[int]] = {}
    for one in asked:
        total = totals.setdefault(one.node, [0, 0, 0])
        for index, number in enumerate((1, one.num_prompt_tokens, one.num_output_tokens)):
            total[index] = min(total[index] + number, MAX_TOTAL)
    return [(node, calls, prompt, output) for node, (calls, prompt, output) in totals.items()]


def _asked_totals(batch: list[_Write]) -> Iterator[tuple[str, str, str, int, int, int]]:
    of_table: dict[tuple[str, str], list[Asked]] = {}
    for write in batch:
        if write.asked:
            of_table.setdefault(write.of, []).extend(write.asked)
    for of, asked in of_table.items():
        yield from ((*of, *total) for total in asked_totals(asked))


def _executed_totals(batch: list[_Write]) -> list[tuple[str, str, int, int, int, int]]:
    totals: dict[tuple[str, str], list[int]] = {}
    for write in batch:
        if write.result is not None:
            _, run_id, node, _, *tokens, _ = write.result
            total = totals.setdefault((run_id, node), [0, 0, 0, 0])
            for index, number in enumerate((1, *tokens)):
                total[index] = min(total[index] + number, MAX_TOTAL)
    return [(*key, calls, prompt, cached, output) for key, (calls, prompt, cached, output) in totals.items()]


def _resolve(batch: list[_Write], error: StoreError | None) -> None:
    for write in batch:
        if write.done.cancelled():
            continue
        if error is None:
            write.done.set_result(write.first)
        else:
            write.done.set_exception(error)
            write.done.exception()
