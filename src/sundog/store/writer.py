"""The writer thread: everything that is written becomes one commit per batch, and each writer hears of it.

Owns the order of writes. Never reads results; see store.store.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from sundog.errors import StoreError
from sundog.store.schema import connect_store, store_error
from sundog.store.statements import Change, RowValues, StoreStatement, by_statement

MAX_BATCH = 4096
PUT_RESULT = StoreStatement("put_result", "insert into results values {} on conflict (key) do nothing")
GET_RESULT = "select * from results where key = ?"
PUT_CLAIM = StoreStatement("put_claim", "insert or replace into claims values {}", awaits_log=True)
DROP_CLAIM = StoreStatement("drop_claim", "delete from claims where key = ?")
PUT_AWAITED = StoreStatement("put_awaited", "insert or replace into awaited values {}")
PUT_ROW = StoreStatement("put_row", "insert or replace into rows values {}")
PUT_TRANSCRIPTS = StoreStatement("put_transcripts", "insert or replace into transcripts values {}")
PUT_BUSY = StoreStatement("put_busy", "update runs set busy_s = ? where run_id = ?")
ADD_ASKED = StoreStatement(
    "add_asked",
    """
insert into asked values (?, ?, ?, ?, ?, ?) on conflict (run_id, table_name, node) do update set
    num_calls = num_calls + excluded.num_calls,
    num_prompt_tokens = min(num_prompt_tokens + excluded.num_prompt_tokens, 1 << 53),
    num_output_tokens = min(num_output_tokens + excluded.num_output_tokens, 1 << 53)
""",
)
TAKE_BACK_ASKED = StoreStatement(
    "take_back_asked",
    """
update asked set
    num_calls = num_calls - ?, num_prompt_tokens = num_prompt_tokens - ?, num_output_tokens = num_output_tokens - ?
where run_id = ? and table_name = ? and node = ?
""",
)
ADD_EXECUTED = StoreStatement(
    "add_executed",
    """
insert into executed values (?, ?, ?, ?, ?, ?) on conflict (run_id, node) do update set
    num_calls = num_calls + excluded.num_calls,
    num_prompt_tokens = min(num_prompt_tokens + excluded.num_prompt_tokens, 1 << 53),
    num_cached_tokens = min(num_cached_tokens + excluded.num_cached_tokens, 1 << 53),
    num_output_tokens = min(num_output_tokens + excluded.num_output_tokens, 1 << 53)
""",
)
DROP_AWAITED = StoreStatement("drop_awaited", "delete from awaited where run_id = ? and key = ?")
PUT_ANSWERED = StoreStatement("put_answered", "insert into answered values {} on conflict (key) do nothing")
DROP_TABLE = tuple(
    StoreStatement(f"drop_table_{kind}", f"delete from {kind} where run_id = ? and table_name = ?")
    for kind in ("rows", "asked", "transcripts")
)
DROP_SAID_IN_FAILED = StoreStatement(
    "drop_said_in_failed",
    "delete from transcripts where run_id = ? and (table_name, row_id) in"
    " (select table_name, row_id from rows where run_id = ? and state = 'failed')",
)
DROP_FAILED = StoreStatement("drop_failed", "delete from rows where run_id = ? and state in ('failed', 'not_run')")
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
    statements: tuple[tuple[StoreStatement, RowValues], ...]
    #: Run and table of the row that asked.
    of: tuple[str, str]
    asked: tuple[Asked, ...]
    done: asyncio.Future[ResultRow | None]
    result: ResultRow | None = None
    first: ResultRow | None = None
    awaits_log: bool = False


class ChangeLog(Protocol):
    """Something that takes what is committed, in its order, to where it outlives this machine."""

    def keep(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> int:
        """Take changes inside the transaction that makes them; gives their number."""
        ...

    def when_sent(self, number: int, tell: Callable[[StoreError | None], None]) -> None:
        """Have `tell` called, from any thread, once the changes of that number and all before are safe, or cannot
        be."""
        ...

    def wait_for_room(self) -> None:
        """Return once not too much waits to be sent, or nothing can be."""
        ...


class Writer:
    """Group commit: `write` and `put` return a future that is set once the commit is on the disk."""

    def __init__(self, path: Path, log: ChangeLog | None = None) -> None:
        """`log`: takes each commit too; None where the store is all there is."""
        self._path = path
        self._log = log
        self._queue: SimpleQueue[list[_Write] | None] = SimpleQueue()
        self._pending: list[_Write] = []
        self._error: StoreError | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="sundog-store", daemon=True)
        self._thread.start()

    def write(
        self,
        *statements: tuple[StoreStatement, RowValues],
        of: tuple[str, str] = ("", ""),
        asked: tuple[Asked, ...] = (),
        awaits_log: bool = False,
    ) -> asyncio.Future[None]:
        """Commit all `statements` or none, and what a row of the run and table `of` asked; the future raises StoreError
        when they could not be. `awaits_log`: it is set once they lie in the log, with all that was written before."""
        done = self._loop.create_future()
        self._add(_Write(statements, of, asked, done, awaits_log=awaits_log))
        return done

    def put(
        self, result: ResultRow, *statements: tuple[StoreStatement, RowValues], awaits_log: bool = False
    ) -> asyncio.Future[ResultRow | None]:
        """Commit a result, that it was computed, and `statements`. Where another run has put one under its key before,
        that one stays, and the future gives it; None where this one stays."""
        done: asyncio.Future[ResultRow | None] = self._loop.create_future()
        self._add(_Write(statements, ("", ""), (), done, result, awaits_log=awaits_log))
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
                self._end(batch, self._commit(connection, batch))
        if connection is not None:
            connection.close()

    def _connect(self) -> sqlite3.Connection | None:
        try:
            return connect_store(self._path)
        except Exception as error:  # those who write hear of it
            self._error = error if isinstance(error, StoreError) else store_error(self._path, error)
            return None

    def _commit(self, connection: sqlite3.Connection | None, batch: list[_Write]) -> int:
        """Whatever goes wrong ends all writing: a future that is never set would hold the run for ever. Gives the
        number of the batch in the log."""
        if connection is None or self._error is not None:
            return 0
        number = 0
        try:
            connection.execute("begin immediate")
            _put_results(connection, [write for write in batch if write.result is not None])
            changes = [(statement, rows) for statement, rows in _changes(batch) if rows]
            for statement, rows in changes:
                statement.execute(connection, rows)
            if self._log is not None:
                number = self._log.keep(connection, [(PUT_RESULT, _first_results(batch)), *changes])
            connection.execute("commit")
        except Exception as error:  # also what Python's driver cannot bind
            self._error = error if isinstance(error, StoreError) else store_error(self._path, error)
            with suppress(sqlite3.Error):
                connection.execute("rollback")
        return number

    def _end(self, batch: list[_Write], number: int) -> None:
        """Tell those who wrote, some of them once it is in the log: effects that are claimed begin then."""
        if self._log is None or self._error is not None:
            self._tell(batch, self._error)
            return
        waiting: list[_Write] = []
        safe: list[_Write] = []
        for write in batch:
            is_waiting = write.awaits_log or any(statement.awaits_log for statement, _ in write.statements)
            (waiting if is_waiting else safe).append(write)
        self._tell(safe, None)
        if waiting:
            self._log.when_sent(number, lambda error: self._tell_if_any(waiting, error))
        self._log.wait_for_room()

    def _tell_if_any(self, batch: list[_Write], error: StoreError | None) -> None:
        """Tell those who wait for the log, unless their loop has been left meanwhile: the log outlives this thread."""
        try:
            self._tell(batch, error)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _tell(self, batch: list[_Write], error: StoreError | None) -> None:
        self._loop.call_soon_threadsafe(_resolve, batch, error)


def _put_results(connection: sqlite3.Connection, writes: list[_Write]) -> None:
    results = [write.result for write in writes if write.result is not None]
    if PUT_RESULT.execute(connection, results) == len(writes):
        return
    for write, result in zip(writes, results, strict=True):
        (found,) = connection.execute(GET_RESULT, (result[0],))
        if found != result:
            write.first = found


def _changes(batch: list[_Write]) -> Iterator[Change]:
    """Yield what a batch changes beside its results. Order between statements is free: no two of one batch touch the
    same row, since a claim is awaited before its result is written."""
    yield from by_statement(one for write in batch for one in write.statements).items()
    yield ADD_ASKED, list(_asked_totals(batch))
    yield ADD_EXECUTED, _executed_totals(batch)


def _first_results(batch: list[_Write]) -> list[RowValues]:
    """Return the results that stay. In a store made anew of the log the others would be the first ones."""
    return [write.result for write in batch if write.result is not None and write.first is None]


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
