"""The store: commits, totals, locks, and what it says when it cannot write."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from sundog.engines.base import Usage
from sundog.errors import StoreError, UserError
from sundog.ir.row_ids import RowRef
from sundog.ir.values.normal_form import encode
from sundog.store.runs import RunList
from sundog.store.schema import connect_store, store_error
from sundog.store.store import Store
from sundog.store.totals import NodeTotals, node_totals
from sundog.store.writer import Asked

USAGE = Usage(num_prompt_tokens=10, num_output_tokens=3, num_cached_tokens=4)


def test_a_set_future_means_that_others_can_read(tmp_path: Path) -> None:
    async def write_then_read_elsewhere() -> None:
        store, other = Store(tmp_path), Store(tmp_path)
        store.open_writer()
        await store.put(b"k", "run", "node", encode({"text": "é"}), USAGE)
        stored = await other.get(b"k")
        assert stored is not None
        assert (stored.value, stored.usage, stored.run_id) == ({"text": "é"}, USAGE, "run")
        assert await other.get(b"nothing") is None
        store.close()
        other.close()

    asyncio.run(write_then_read_elsewhere())


def test_many_look_ups_at_once(tmp_path: Path) -> None:
    async def look_up() -> list[object]:
        store = Store(tmp_path)
        store.open_writer()
        keys = [index.to_bytes(16, "big") for index in range(1000)]
        await asyncio.gather(
            *(store.put(key, "run", "n", encode(index), USAGE) for index, key in enumerate(keys) if index % 2)
        )
        found = await asyncio.gather(*(store.get(key) for key in [*keys, *keys]))
        store.close()
        return [one and one.value for one in found]

    expected = [index if index % 2 else None for index in range(1000)]
    assert asyncio.run(look_up()) == expected * 2


def test_the_results_of_one_turn_are_written_by_few_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []

    def connect_traced(path: Path) -> sqlite3.Connection:
        connection = connect_store(path)
        connection.set_trace_callback(lambda text: statements.append(text.split()[0]))
        return connection

    monkeypatch.setattr("sundog.store.writer.connect_store", connect_traced)
    keys = [index.to_bytes(16, "big") for index in range(600)]

    async def put_twice() -> list[object]:
        store = Store(tmp_path)
        store.open_writer()
        await store.put(keys[300], "other", "n", encode("first"), USAGE)
        statements.clear()
        found = await asyncio.gather(*(store.put(key, "run", "n", encode("later"), USAGE) for key in keys))
        store.close()
        return [one and one.value for one in found]

    # The first result of a key stays, also in the middle of a large statement.
    assert asyncio.run(put_twice()) == [None] * 300 + ["first"] + [None] * 299
    assert statements.count("commit") == 1
    assert statements.count("insert") <= 20


def test_totals_are_of_finished_rows_and_of_this_run(tmp_path: Path) -> None:
    async def fill(store: Store) -> None:
        store.open_writer()
        asked = (Asked("a", 10, 3), Asked("a", 10, 3), Asked("b", 1, 1))
        await asyncio.gather(
            store.put(b"1", "run", "a", b"1", USAGE),
            store.put(b"2", "other", "a", b"1", USAGE),
            store.put_row("run", RowRef("", (0,)), "done", b"{}", asked),
            store.put_row("run", RowRef("t", (7, 1)), "failed", b"{}", asked[:1]),
        )

    store = Store(tmp_path)
    asyncio.run(fill(store))
    assert node_totals(store, "run") == {"a": NodeTotals("a", 3, 30, 9, 1, 10, 4, 3), "b": NodeTotals("b", 1, 1, 1)}
    assert store.count_rows("run") == {("", "done"): 1, ("t", "failed"): 1}
    assert store.finished_rows("run", "t", [(7, 1), (7,), (0,)]) == {(7, 1)}
    assert store.finished_rows("run", "", [(index,) for index in range(2000)]) == {(0,)}
    assert store.tables("run") == ["", "t"]
    store.forget_failed_rows("run")
    assert store.count_rows("run") == {("", "done"): 1}
    assert node_totals(store, "run") == {"a": NodeTotals("a", 2, 20, 6, 1, 10, 4, 3), "b": NodeTotals("b", 1, 1, 1)}
    store.forget_rows("run", "")
    assert node_totals(store, "run") == {"a": NodeTotals("a", 0, 0, 0, 1, 10, 4, 3)}
    store.close()


def test_a_full_disk_is_told_and_loses_nothing_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect_small(path: Path) -> sqlite3.Connection:
        connection = connect_store(path)
        connection.execute("pragma max_page_count=60")
        return connection

    monkeypatch.setattr("sundog.store.writer.connect_store", connect_small)

    async def write_until_full() -> tuple[int, str]:
        store = Store(tmp_path)
        store.open_writer()
        for count in range(1000):
            try:
                await store.put(count.to_bytes(16, "big"), "run", "n", encode("x" * 2000), USAGE)
            except StoreError as error:
                store.close()
                return count, str(error)
        raise AssertionError("never full")

    committed, message = asyncio.run(write_until_full())
    assert "the disk is full" in message
    assert "repeat the command" in message
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    assert connection.execute("select count(*) from results").fetchone() == (committed,)
    connection.close()
    assert committed > 0


async def _failing_writes(state_dir: Path, num_tokens: int) -> list[object]:
    store = Store(state_dir)
    store.open_writer()
    usage = Usage(num_tokens, 3, 4)
    writes = [store.put(key, "run", "n", b"1", usage) for key in (b"1", b"2")]
    told: list[object] = list(await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 30))
    told += await asyncio.wait_for(asyncio.gather(store.release(b"1"), return_exceptions=True), 30)
    store.close()
    return told


def test_whatever_fails_in_the_writer_is_told_to_all_who_wait(tmp_path: Path) -> None:
    first, second, later = asyncio.run(_failing_writes(tmp_path, 10**30))  # no SQLite integer
    assert {type(first), type(second), type(later)} == {StoreError}
    assert "OverflowError" in str(first)


def test_a_writer_that_cannot_open_the_store_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> sqlite3.Connection:
        raise MemoryError("no room")

    monkeypatch.setattr("sundog.store.writer.connect_store", refuse)
    first, second, later = asyncio.run(_failing_writes(tmp_path, 1))
    assert {type(first), type(second), type(later)} == {StoreError}
    assert "MemoryError: no room" in str(first)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EROFS, "Read-only file system", "store.lock"),
        PermissionError(errno.EACCES, "Permission denied"),
        sqlite3.OperationalError("attempt to write a readonly database"),
    ],
)
def test_a_folder_that_cannot_be_written_says_what_to_do(error: Exception) -> None:
    told = store_error(Path("state/store.sqlite"), error)
    assert (told.where, "cannot be written" in told.what) == ("state", True)
    assert told.hint is not None
    assert "--state" in told.hint


def test_a_value_that_is_no_json_any_more_is_told_as_damage(tmp_path: Path) -> None:
    async def look_up() -> None:
        store = Store(tmp_path)
        store.connection.execute("insert into results values (?, 'run', 'n', ?, 1, 1, 1, 0.5)", (b"k", b'{"text": "a'))
        with pytest.raises(StoreError, match="the store is damaged"):
            await asyncio.wait_for(store.get(b"k"), 30)
        store.connection.execute(
            "insert into rows values (null, cast(x'ff' as text), '', x'0100', 'done', x'00', '[]')"
        )
        with pytest.raises(StoreError, match="the store is damaged"):
            list(store._rows("select run_id from rows", ()))
        store.close()

    asyncio.run(look_up())


def test_a_new_store_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            path = tmp_path / f"{number}.sqlite"
            for connection in pool.map(connect_store, [path] * 8):
                connection.close()


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("this is no database " * 100)
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path)


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("pragma user_version=99")
    connection.close()
    with pytest.raises(StoreError, match="form 99"):
        Store(tmp_path)


def _hold_lock(
    state_dir: Path, held: multiprocessing.synchronize.Event, forever: multiprocessing.synchronize.Event
) -> None:
    with RunList(Store(state_dir), state_dir).lock(b"command"):
        held.set()
        forever.wait()


def test_a_command_is_locked_against_other_processes_until_they_die(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, forever = context.Event(), context.Event()
    holder = context.Process(target=_hold_lock, args=(tmp_path, held, forever))
    holder.start()
    assert held.wait(30)
    store = Store(tmp_path)
    runs = RunList(store, tmp_path)
    assert runs.at_work([b"command"])
    with pytest.raises(UserError, match=f"pid {holder.pid}"), runs.lock(b"command"):
        pass
    assert not runs.at_work([b"another command"])
    holder.kill()
    holder.join()
    with runs.lock(b"command"):
        pass
    holder.close()
    store.close()


def test_what_is_committed_is_on_the_disk(tmp_path: Path) -> None:
    with closing(connect_store(tmp_path / "store.sqlite")) as connection:
        assert connection.execute("pragma synchronous").fetchone() == (2,), "full"
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
