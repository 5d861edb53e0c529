"""The store: what calls have answered, what effects are claimed, which rows are done, which runs there are.

Owns reading and the meaning of the tables. Writes go through the writer thread; a write is over when its future is.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from sundog.engines.base import Usage
from sundog.errors import StoreError
from sundog.ir.conversations.transcript import RowTranscripts, pack_transcripts
from sundog.ir.row_ids import RowId, RowRef, decode_row_id, encode_row_id
from sundog.ir.values.normal_form import decode
from sundog.private_files import make_private_folder
from sundog.store import writer as sql
from sundog.store.schema import STORE_FILE, connect_store, damaged, store_error
from sundog.store.segments.opened import state_cache
from sundog.store.statements import Change, RowValues, StoreStatement
from sundog.store.writer import Asked, ChangeLog, Writer

RowState = Literal["done", "failed", "dropped", "not_run"]
"""The end of a row; not_run: rows that it is made of failed."""
MISSING: tuple[RowState, ...] = ("failed", "not_run")
"""The states of rows without an output that they would have, had no call failed."""
NO_USAGE = Usage(0, 0, 0)
LOOK_UP_SIZES = (256, 16, 1)
MAX_ROW_IDS = 512
"""Rows that one query looks for; SQLite takes 999 values in every build."""
GET_RESULTS = {size: f"select * from results where key in ({', '.join('?' * size)})" for size in LOOK_UP_SIZES}


@dataclass(slots=True)
class Stored:
    """A committed result."""

    value: Any
    usage: Usage
    #: The run that computed it.
    run_id: str
    #: Seconds that the call took then.
    call_s: float


@dataclass(frozen=True, slots=True)
class Awaited:
    """A question that a person has not answered."""

    key: bytes
    row: RowRef
    #: The call's place in its row.
    path: str
    node: str
    question: str


class Store:
    """One process's view of the state folder's database. Used on one event loop."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / STORE_FILE
        self.cache = state_cache(state_dir)
        try:
            make_private_folder(state_dir)
        except OSError as error:
            raise StoreError(
                f"the state folder cannot be made: {error.strerror}",
                where=str(state_dir),
                hint="choose another --state",
            ) from error
        self.connection = connect_store(self.path)
        self._writer: Writer | None = None
        self._log: ChangeLog | None = None
        #: The number of the last change outside the writer thread.
        self._last_kept = 0
        self._wanted: dict[bytes, asyncio.Future[Stored | None]] = {}

    def open_writer(self) -> None:
        self._check_log()
        self._writer = Writer(self.path, self._log)

    def close_writer(self) -> None:
        """Commit what is queued; writes are over."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @contextmanager
    def writing_to(self, log: str) -> Iterator[None]:
        """Be the one process that writes to a log, where the state lies at a URL: only inside may it be changed. All
        changes are safe there in the end. UserError where another process writes to it."""
        if self.cache is None:
            yield
            return
        if self._log is not None:
            raise self._unchangeable()
        held = self._log = self.cache.take(log)
        try:
            yield
        finally:
            self.close_writer()
            self._log = None
            try:
                held.close()
            finally:
                self.cache.release(log)

    def close(self) -> None:
        self.close_writer()
        self.connection.close()

    def get(self, key: bytes) -> asyncio.Future[Stored | None]:
        """Return the committed result of a key. Look-ups of one turn of the loop become one query: alone, each costs
        SQLite's locks (measured: 80 us against 5 us)."""
        if not self._wanted:
            asyncio.get_running_loop().call_soon(self._look_up)
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = asyncio.get_running_loop().create_future()
        return wanted

    def _look_up(self) -> None:
        wanted, self._wanted = self._wanted, {}
        try:
            found = self._results(list(wanted))
        except Exception as error:
            for future in wanted.values():
                if not future.done():
                    future.set_exception(error)
            return
        for key, future in wanted.items():
            if not future.done():
                future.set_result(found.get(key))

    def _results(self, keys: list[bytes]) -> dict[bytes, Stored]:
        return {row[0]: self._stored(row) for row in self.result_rows(keys)}

    def result_rows(self, keys: list[bytes]) -> list[sql.ResultRow]:
        """Return the committed results of keys, in no order; with a log they need not lie there yet."""
        found: list[Any] = []
        while keys:
            size = next(size for size in LOOK_UP_SIZES if size <= len(keys))
            some, keys = keys[:size], keys[size:]
            found += self._rows(GET_RESULTS[size], tuple(some))
        return found

    def _stored(self, row: sql.ResultRow) -> Stored:
        _, run_id, _, value, num_prompt, num_cached, num_output, call_s = row
        return Stored(self.decoded(value), Usage(num_prompt, num_output, num_cached), run_id, call_s)

    def decoded(self, body: bytes) -> Any:
        """Return the value of a body of the store; StoreError where the file no longer holds what was written."""
        try:
            return decode(body)
        except ValueError as error:
            raise damaged(self.path, error) from error

    def put(
        self,
        key: bytes,
        run_id: str,
        node: str,
        body: bytes,
        usage: Usage,
        *,
        call_s: float = 0.0,
        settles_claim: bool = False,
    ) -> Awaitable[Stored | None]:
        """Commit a result, encoded, and settle the claim on the same key in the same commit. Where one has been
        committed before, that one stays and is what this gives; None where this one stays."""
        tokens = (usage.num_prompt_tokens, usage.num_cached_tokens or 0, usage.num_output_tokens)
        settled = [(sql.DROP_CLAIM, (key,))] if settles_claim else []
        return self._first(self._open_writer().put((key, run_id, node, body, *tokens, call_s), *settled))

    async def _first(self, put: Awaitable[sql.ResultRow | None]) -> Stored | None:
        row = await put
        return None if row is None else self._stored(row)

    def put_logged(self, result: sql.ResultRow) -> asyncio.Future[sql.ResultRow | None]:
        """Commit a result as `put` does; the future is set once it lies in the log, where the store has one."""
        return self._open_writer().put(result, awaits_log=True)

    def is_claimed(self, key: bytes) -> bool:
        return self._fetch("select 1 from claims where key = ?", (key,)) is not None

    def claim(self, key: bytes, run_id: str, request_id: str) -> asyncio.Future[None]:
        """Say that an effect is about to start; it may start once the future is set."""
        return self.write((sql.PUT_CLAIM, (key, run_id, request_id)))

    def release(self, key: bytes) -> asyncio.Future[None]:
        """Say that a claimed effect is known not to have happened."""
        return self.write((sql.DROP_CLAIM, (key,)))

    def put_awaited(
        self, key: bytes, run_id: str, row: RowRef, path: str, node: str, question: str
    ) -> asyncio.Future[None]:
        """Keep the question of a call that a person answers."""
        values = (run_id, key, row.table, encode_row_id(row.row_id), path, node, question)
        return self.write((sql.PUT_AWAITED, values))

    def awaited(self, run_id: str) -> list[Awaited]:
        """Return the questions of a run that have no answer, by row: one that rows share is there for each of them."""
        query = (
            "select key, table_name, row_id, path, node, question from awaited"
            " where run_id = ? order by table_name, row_id, path"
        )
        return [
            Awaited(key, RowRef(table, decode_row_id(row_id)), path, node, question)
            for key, table, row_id, path, node, question in self._rows(query, (run_id,))
        ]

    def answer(self, run_id: str, awaited: Awaited, body: bytes, answered_by: str) -> None:
        """Commit an answer, encoded, as the result of the calls that wait for it, and who gave it."""
        result = (awaited.key, run_id, awaited.node, body, 0, 0, 0, 0.0)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.change(
            (sql.PUT_RESULT, result),
            (sql.DROP_AWAITED, (run_id, awaited.key)),
            (sql.PUT_ANSWERED, (awaited.key, answered_by, at)),
        )

    def put_row(
        self,
        run_id: str,
        row: RowRef,
        state: RowState,
        body: bytes,
        asked: tuple[Asked, ...],
        said: RowTranscripts | None = None,
    ) -> asyncio.Future[None]:
        """Commit a row's end, what it asked of each node, and what was said in it."""
        # A failed row may be forgotten, and then what it asked is.
        kept = json.dumps(sql.asked_totals(asked)) if state == "failed" and asked else "[]"
        values = (None, run_id, row.table, encode_row_id(row.row_id), state, body, kept)
        transcripts = [] if said is None else [_kept_transcripts(run_id, row, said)]
        return self.write((sql.PUT_ROW, values), *transcripts, of=(run_id, row.table), asked=asked)

    def put_transcripts(self, run_id: str, row: RowRef, said: RowTranscripts) -> asyncio.Future[None]:
        """Keep what was said in a row that has not ended."""
        return self.write(_kept_transcripts(run_id, row, said))

    def put_busy(self, run_id: str, busy_s: float) -> asyncio.Future[None]:
        """Keep how long processes have worked on a run, for the case that this one is killed."""
        return self.write((sql.PUT_BUSY, (busy_s, run_id)))

    def finished_rows(self, run_id: str, table: str, row_ids: Iterable[RowId]) -> set[RowId]:
        """Return those of `row_ids` that have ended in any way."""
        wanted, found = [encode_row_id(row_id) for row_id in row_ids], set[RowId]()
        while wanted:
            some, wanted = wanted[:MAX_ROW_IDS], wanted[MAX_ROW_IDS:]
            listed = ", ".join("?" * len(some))
            query = f"select row_id from rows where run_id = ? and table_name = ? and row_id in ({listed})"
            found.update(decode_row_id(row_id) for (row_id,) in self._rows(query, (run_id, table, *some)))
        return found

    def rows(self, run_id: str, table: str, state: RowState) -> Iterator[tuple[RowId, bytes]]:
        """Yield the rows of a table that have one state, in their order, streamed."""
        query = "select row_id, body from rows where run_id = ? and table_name = ? and state = ? order by row_id"
        for row_id, body in self._rows(query, (run_id, table, state)):
            yield decode_row_id(row_id), body

    def done_since(self, run_id: str, table: str, seq: int, limit: int) -> list[tuple[int, RowId, bytes]]:
        """Return at most `limit` rows of a table that are done, as they were committed, from behind the commit `seq`
        on: its number, the row's id and its body."""
        # With the unique index SQLite would sort the whole table each time.
        query = (
            "select seq, row_id, body from rows not indexed"
            " where seq > ? and run_id = ? and table_name = ? and state = 'done' order by seq limit ?"
        )
        found = self._rows(query, (seq, run_id, table, limit))
        return [(number, decode_row_id(row_id), body) for number, row_id, body in found]

    def first_seq(self, run_id: str) -> int:
        """Return a number below that of every commit of a row of the run."""
        row = self._fetch("select min(seq) from rows where run_id = ?", (run_id,))
        return 0 if row is None or row[0] is None else int(row[0]) - 1

    def count_rows(self, run_id: str) -> dict[tuple[str, RowState], int]:
        """Return how many rows have ended, by table and state."""
        query = "select table_name, state, count(*) from rows where run_id = ? group by table_name, state"
        return {(table, state): number for table, state, number in self._rows(query, (run_id,))}

    def count_missing(self, run_id: str) -> Counter[str]:
        """Return how many rows of each table have failed, or were not run for one that has."""
        counted = Counter[str]()
        for (table, state), number in self.count_rows(run_id).items():
            if state in MISSING:
                counted[table] += number
        return counted

    def count_states(self, run_id: str) -> Counter[RowState]:
        """Return how many rows of all tables have ended, by state."""
        counted = Counter[RowState]()
        for (_, state), number in self.count_rows(run_id).items():
            counted[state] += number
        return counted

    def tables(self, run_id: str) -> list[str]:
        """Return the tables of which a row has ended, by name."""
        return sorted({table for table, _ in self.count_rows(run_id)})

    def forget_rows(self, run_id: str, table: str) -> None:
        """Let all rows of a table be computed again; the results of their calls are kept."""
        self.change(*((statement, (run_id, table)) for statement in sql.DROP_TABLE))

    def forget_failed_rows(self, run_id: str) -> None:
        """Let the failed rows of a run, and those made of them, be tried again: they will ask anew for what they
        asked."""
        query = "select table_name, asked from rows where run_id = ? and state = 'failed' and asked <> '[]'"
        taken_back = [
            (sql.TAKE_BACK_ASKED, (*numbers, run_id, table, node))
            for table, asked in self.select(query, (run_id,))
            for node, *numbers in json.loads(asked)
        ]
        self.change(*taken_back, (sql.DROP_SAID_IN_FAILED, (run_id, run_id)), (sql.DROP_FAILED, (run_id,)))

    def change(self, *writes: tuple[StoreStatement, RowValues]) -> None:
        """Commit small changes outside the writer thread, all or none, for what happens before and after a run's
        calls."""
        self._check_log()
        try:
            self.connection.execute("begin immediate")
            changes: list[Change] = []
            for statement, values in writes:
                num_written = statement.execute(self.connection, [values])
                if num_written or statement is not sql.PUT_RESULT:  # as in the writer's log, results that lost are not
                    changes.append((statement, [values]))
            if self._log is not None:
                self._last_kept = self._log.keep(self.connection, changes)
            self.connection.execute("commit")
        except BaseException as error:
            self.connection.rollback()
            if isinstance(error, sqlite3.Error | ValueError):
                raise store_error(self.path, error) from error
            raise

    def meet_others(self) -> None:
        """Return once others see what `change` has committed here, with what they have committed. StoreError where the
        storage of a state at a URL does not answer."""
        if self.cache is not None and self._log is not None:
            told: SimpleQueue[StoreError | None] = SimpleQueue()
            self._log.when_sent(self._last_kept, told.put)
            if (error := told.get()) is not None:
                raise error
            self.cache.catch_up()

    def select(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of a query; StoreError where the file is damaged."""
        return list(self._rows(query, values))

    def write(self, *statements: tuple[StoreStatement, RowValues], **more: Any) -> asyncio.Future[None]:
        """Commit all `statements` or none, through the writer thread; see Writer.write."""
        return self._open_writer().write(*statements, **more)

    def _check_log(self) -> None:
        if self.cache is not None and self._log is None:
            raise self._unchangeable()

    def _unchangeable(self) -> StoreError:
        where = None if self.cache is None else self.cache.url
        hint = "choose a folder for --state"
        return StoreError("this command cannot change a state that lies at a URL", where=where, hint=hint)

    def _open_writer(self) -> Writer:
        assert self._writer is not None, "open_writer first"
        return self._writer

    def _fetch(self, query: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return next(iter(self._rows(query, values)), None)

    def _rows(self, query: str, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        try:
            rows = iter(self.connection.execute(query, values))
        except (sqlite3.Error, ValueError) as error:
            raise store_error(self.path, error) from error
        while (row := self._next(rows)) is not None:
            yield row

    def _next(self, rows: Iterator[tuple[Any, ...]]) -> tuple[Any, ...] | None:
        try:
            return next(rows, None)
        except (sqlite3.Error, ValueError) as error:  # UnicodeDecodeError: text of a damaged file
            raise store_error(self.path, error) from error


def _kept_transcripts(run_id: str, row: RowRef, said: RowTranscripts) -> tuple[StoreStatement, RowValues]:
    return sql.PUT_TRANSCRIPTS, (run_id, row.table, encode_row_id(row.row_id), said.ended, pack_transcripts(said))
