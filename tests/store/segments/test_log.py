"""The segment log: what is committed is there for others, in its order, once; two processes never write to one log."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from sundog.engines.base import Usage
from sundog.errors import StoreError, UserError
from sundog.ir.row_ids import RowRef
from sundog.ir.values.normal_form import encode
from sundog.store.runs import RunList
from sundog.store.segments import patience, sending
from sundog.store.segments.cache import CachedState
from sundog.store.segments.sending import HeldLog
from sundog.store.segments.storage import ObjectStorage
from sundog.store.store import RowState, Store
from sundog.store.writer import Asked
from tests.store.segments.storages import FaultyStorage, opened

USAGE = Usage(num_prompt_tokens=10, num_output_tokens=3, num_cached_tokens=4)
COMMAND = b"command"
COMPARED = ("results", "claims", "executed", "asked", "runs", "awaited", "answered", "run_files")


def held(state: CachedState) -> tuple[Store, RunList]:
    store = Store(state.folder)
    return store, RunList(store, state.folder)


def content(state: CachedState) -> dict[str, list[tuple[Any, ...]]]:
    with closing(Store(state.folder)) as store:
        found = {name: sorted(store.select(f"select * from {name}", ())) for name in COMPARED}
        rows = "select run_id, table_name, row_id, state, body, asked from rows order by seq"
        return {**found, "rows": store.select(rows, ())}


async def some_work(store: Store, runs: RunList, num_rows: int = 50) -> str:
    """Rows with a call each, the claims of their effects, and what is said before and after."""
    run_id = runs.start(COMMAND, b"identity", "flow", "out.csv", num_rows, is_fresh=False).run_id
    store.open_writer()
    for number in range(num_rows):
        key = number.to_bytes(4, "big")
        await store.claim(key, run_id, f"request-{number}")
        is_settled = bool(number % 3)
        await store.put(key, run_id, "send", encode({"sent": number}), USAGE, call_s=0.5, settles_claim=is_settled)
        state: RowState = "failed" if number % 10 == 7 else "done"
        await store.put_row(run_id, RowRef("", (number,)), state, encode(number), (Asked("send", 10, 3),))
    store.close_writer()
    store.forget_failed_rows(run_id)
    runs.end(run_id, "finished", 1.5)
    return run_id


def test_another_machine_has_what_was_committed(url: str, tmp_path: Path) -> None:
    one = opened(ObjectStorage(url), tmp_path / "one")
    store, runs = held(one)
    with closing(store), runs.lock(COMMAND):
        run_id = asyncio.run(some_work(store, runs))
    other = opened(ObjectStorage(url), tmp_path / "other")
    assert content(other) == content(one)
    assert len(content(other)["rows"]) == 45
    store, runs = held(other)
    with closing(store), runs.lock(COMMAND):
        runs.go_on(run_id)
    one.catch_up()
    assert content(other) == content(one)
    assert runs.folder(run_id).parent.parent == other.folder


@pytest.mark.parametrize("seed", range(8))
def test_faults_of_the_storage_lose_and_double_nothing(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MAX_WAIT_S", 0.002)
    url = f"file://{tmp_path}/shared"
    one = opened(ObjectStorage(url), tmp_path / "one")
    storage = one._storage = FaultyStorage(url, seed)
    store, runs = held(one)
    with closing(store):
        while True:
            try:
                with runs.lock(COMMAND):
                    asyncio.run(some_work(store, runs, 20))
                break
            except StoreError:  # to take a log is not tried twice
                continue
    assert storage.num_faults > 5
    assert content(opened(ObjectStorage(url), tmp_path / "other")) == content(one)


def test_a_log_is_written_by_one_process(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    one, other = (opened(ObjectStorage(url), tmp_path / name) for name in ("one", "other"))
    store, runs = held(one)
    others, other_runs = held(other)
    with closing(store), closing(others), runs.lock(COMMAND):
        other.catch_up()
        assert other_runs.at_work([COMMAND])
        assert not other_runs.at_work([b"another command"])
        with pytest.raises(UserError, match="another process is working on this run"), other_runs.lock(COMMAND):
            pass


def test_whoever_was_thought_dead_makes_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still is replaced; when it goes on, its next claim fails and what it had committed since
    its last segment never happened, also in its own cache."""
    url = f"file://{tmp_path}/shared"
    one, other = (opened(ObjectStorage(url), tmp_path / name) for name in ("one", "other"))
    store, runs = held(one)

    async def go_on() -> None:
        store.open_writer()
        await store.put(b"pure", "run", "n", encode(1), USAGE)
        with pytest.raises(StoreError, match="another process has taken over this run"):
            await store.claim(b"effect", "run", "request")

    def stand_still_meanwhile() -> None:
        log, stands, goes_on = store._log, threading.Event(), threading.Event()
        assert isinstance(log, HeldLog)
        send_what_is_due = log._send_what_is_due

        def stand_still(connection: Connection) -> bool:
            stands.set()
            goes_on.wait()
            return send_what_is_due(connection)

        monkeypatch.setattr(log, "_send_what_is_due", stand_still)
        stands.wait()
        others, other_runs = held(other)
        with closing(others), other_runs.lock(COMMAND):
            goes_on.set()

    with closing(store):
        lock = runs.lock(COMMAND)
        lock.__enter__()
        stand_still_meanwhile()
        asyncio.run(go_on())
        with pytest.raises(StoreError, match="taken over"):
            lock.__exit__(None, None, None)
    assert [result for result in content(one)["results"] if result[0] == b"pure"]
    one.catch_up()
    assert content(one) == content(other)


def test_a_killed_process_sends_what_it_had_committed_when_its_cache_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/shared"
    one = opened(ObjectStorage(url), tmp_path / "one")
    store, runs = held(one)

    async def committed() -> None:
        store.open_writer()
        await store.put(b"pure", "run", "n", encode(1), USAGE)
        store.close_writer()

    with monkeypatch.context() as patch:
        patch.setattr(sending.HeldLog, "_send_what_is_due", lambda log, _: log._is_closing)  # nothing is sent
        with closing(store), runs.lock(COMMAND):
            asyncio.run(committed())
    assert not content(opened(ObjectStorage(url), tmp_path / "before"))["results"]
    one.catch_up()
    assert content(opened(ObjectStorage(url), tmp_path / "after")) == content(one)
    assert content(one)["results"]


def test_the_results_that_a_run_has_seen_stay_its_own(tmp_path: Path) -> None:
    """Two runs answer one call each otherwise at once; wherever one of them goes on, it sees its own answer."""
    url = f"file://{tmp_path}/shared"
    states = [opened(ObjectStorage(url), tmp_path / name) for name in ("one", "other")]

    async def answer(store: Store, value: str) -> None:
        store.open_writer()
        await store.put(b"call", value, "n", encode(value), USAGE)

    for state, command in zip(states, (b"a", b"b"), strict=True):
        store, runs = held(state)
        with closing(store), runs.lock(command):
            asyncio.run(answer(store, command.decode()))
    for command in (b"a", b"b", b"a"):
        elsewhere = opened(ObjectStorage(url), tmp_path / f"elsewhere-{command.decode()}")
        store, runs = held(elsewhere)
        with closing(store), runs.lock(command):
            assert [row[1] for row in content(elsewhere)["results"]] == [command.decode()]


def test_storage_that_creates_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(self: ObjectStorage, name: str, body: bytes) -> bool:
        self.replace(name, body)
        return True

    monkeypatch.setattr(ObjectStorage, "create", always)
    state = opened(ObjectStorage(f"file://{tmp_path}/shared"), tmp_path / "one")
    store, runs = held(state)
    with closing(store), pytest.raises(StoreError, match="makes an object a second time"), runs.lock(COMMAND):
        pass


def test_a_damaged_log_is_told(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    one = opened(ObjectStorage(url), tmp_path / "one")
    store, runs = held(one)
    with closing(store), runs.lock(COMMAND):
        asyncio.run(some_work(store, runs))
    folder = tmp_path / "shared" / "log" / COMMAND.hex()
    first, *_, last = sorted(folder.iterdir())
    last.write_bytes(b"no segment")
    with pytest.raises(StoreError, match="this object is no segment"):
        opened(ObjectStorage(url), tmp_path / "other")
    first.unlink()
    with pytest.raises(StoreError, match="a segment before number"):
        opened(ObjectStorage(url), tmp_path / "other")


def test_what_cannot_be_at_a_url_is_refused(tmp_path: Path) -> None:
    state = opened(ObjectStorage(f"file://{tmp_path}/shared"), tmp_path / "one")
    with closing(Store(state.folder)) as store, pytest.raises(StoreError, match="cannot change a state that lies at"):
        RunList(store, state.folder).allow_repeats("run")
