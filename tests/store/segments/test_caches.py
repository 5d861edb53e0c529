"""Caches: what they do where the logs are not those that they know, and what several of them see of one another."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from shutil import rmtree
from sqlite3 import Connection

import pytest

from sundog.engines.base import Usage
from sundog.errors import StoreError
from sundog.ir.values.normal_form import encode
from sundog.store.segments import cache, sending
from sundog.store.segments.positions import read_position
from sundog.store.segments.sending import HeldLog
from sundog.store.segments.storage import ObjectStorage
from sundog.store.store import Store
from tests.store.segments.storages import Machine

USAGE = Usage(num_prompt_tokens=10, num_output_tokens=3, num_cached_tokens=4)
COMMAND = b"command"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared"


def begin(machine: Machine, command: bytes = COMMAND, effects: bytes = b"") -> str:
    return machine.runs.start(command, b"identity", "flow", "", 1, is_fresh=False, effects=effects).run_id


def begun(machine: Machine, command: bytes = COMMAND) -> str:
    with machine.runs.lock(command):
        return begin(machine, command)


def run_ids(machine: Machine) -> set[str]:
    return {record.run_id for record in machine.runs.all()}


def unsent(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> str:
    """Begin a run of which the log hears nothing, as where the process is killed."""
    with monkeypatch.context() as patch:
        patch.setattr(HeldLog, "_send_what_is_due", lambda log, _: log._is_closing)
        return begun(machine)


@pytest.mark.parametrize("goes_on_elsewhere", [False, True])
def test_a_state_that_was_deleted_is_empty(url: str, tmp_path: Path, *, goes_on_elsewhere: bool) -> None:
    """Its cache is of no use then: what it knows is in no log, and what it would write had none before it."""
    one = Machine(url, tmp_path / "one")
    begun(one)
    rmtree(tmp_path / "shared")
    other = Machine(url, tmp_path / "other")
    expected = {begun(other), begun(other)} if goes_on_elsewhere else set()
    one.state.catch_up()
    assert run_ids(one) == expected
    expected.add(begun(one))
    assert run_ids(Machine(url, tmp_path / "third")) == expected


def test_an_open_store_sees_its_cache_made_anew(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Machine(url, tmp_path / name) for name in ("one", "other"))
    begun(one)
    never_happened = unsent(one, monkeypatch)
    other.state.catch_up()
    begun(other)
    one.state.catch_up()  # the store of `one` is open meanwhile
    assert never_happened not in run_ids(one)
    begun(one)
    other.state.catch_up()
    assert run_ids(one) == run_ids(other)
    assert len(run_ids(one)) == 3


def test_what_was_left_is_not_sent_behind_another_process(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where this process takes the log again without having looked at the state."""
    one, other = (Machine(url, tmp_path / name) for name in ("one", "other"))
    begun(one)
    never_happened = unsent(one, monkeypatch)
    other.state.catch_up()
    begun(other)
    with pytest.raises(StoreError, match="another process has taken over this run"), one.runs.lock(COMMAND):
        pass
    other.state.catch_up()
    assert never_happened not in run_ids(other)


def test_a_forked_process_has_a_cache_of_its_own(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_STATES", {})
    folder = cache.open_state(url, tmp_path / "caches")
    assert cache.open_state(url, tmp_path / "caches") == folder
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert cache.open_state(url, tmp_path / "caches") != folder


def test_who_asks_late_is_told_what_was_sent(url: str, tmp_path: Path) -> None:
    one = Machine(url, tmp_path / "one")
    told = threading.Event()
    with one.runs.lock(COMMAND):
        begin(one)
        log = one.store._log
        assert isinstance(log, HeldLog)
        while one.store.select("select 1 from outbox", ()):
            time.sleep(0.01)
        log.when_sent(1, lambda _: told.set())
        assert told.wait(5)


def test_a_loop_that_was_left_fails_no_log(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Machine(url, tmp_path / "one")
    is_open = threading.Event()
    send_unsent = sending.send_unsent

    def stands(log: object, connection: Connection, position: object) -> object:
        is_open.wait()
        return send_unsent(log, connection, position)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(sending, "send_unsent", stands)

    async def claim() -> None:
        one.store.open_writer()
        one.store.claim(b"effect", "run", "request")
        await asyncio.sleep(0)
        one.store.close_writer()

    with one.runs.lock(COMMAND):
        asyncio.run(claim())
        is_open.set()
    other = Machine(url, tmp_path / "other")
    assert other.store.is_claimed(b"effect")


def test_killed_runs_are_watched_all_at_once(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Machine(url, tmp_path / name) for name in ("one", "other"))
    commands = [bytes([number]) for number in range(20)]
    with monkeypatch.context() as patch:
        patch.setattr(HeldLog, "close", lambda _: None)
        for command in commands:
            begun(one, command)
    time.sleep(0.1)  # their threads send still, and say that they live
    other.state.catch_up()
    assert other.runs.at_work(commands) == {*commands}
    monkeypatch.setattr(ObjectStorage, "replace", lambda *_: time.sleep(60))  # from now on they stand
    time.sleep(0.1)
    begin_s = time.monotonic()
    assert other.runs.at_work(commands) == set()
    assert time.monotonic() - begin_s < 4


def test_logs_are_listed_at_once(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Machine(url, tmp_path / "one")
    for number in range(8):
        begun(one, bytes([number]))
    all_there = threading.Barrier(8, timeout=5)
    names: Callable[[ObjectStorage, str, str], Iterator[str]] = ObjectStorage.names

    def names_together(storage: ObjectStorage, folder: str, after: str = "") -> Iterator[str]:
        all_there.wait()
        return names(storage, folder, after)

    monkeypatch.setattr(ObjectStorage, "names", names_together)
    assert len(run_ids(Machine(url, tmp_path / "other"))) == 8


def test_of_two_machines_that_begin_the_same_effects_one_finds_the_other(url: str, tmp_path: Path) -> None:
    one, other = (Machine(url, tmp_path / name) for name in ("one", "other"))
    with one.runs.lock(b"a"), other.runs.lock(b"b"):
        mine, theirs = begin(one, b"a", b"effects"), begin(other, b"b", b"effects")
        one.runs.meet_others()
        other.runs.meet_others()
        assert other.runs.at_work_with_effects(b"effects", theirs, is_new=True) == mine


def test_a_storage_whose_request_was_tried_twice_is_not_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ObjectStorage.create
    monkeypatch.setattr(ObjectStorage, "create", lambda *told: create(*told) and create(*told))
    ObjectStorage(url).check_creation()


def test_failures_of_the_cache_are_told_as_those_of_a_store(url: str, tmp_path: Path) -> None:
    one = Machine(url, tmp_path / "one")
    one.store.connection.execute("drop table state_id")
    one.store.connection.execute("create view state_id as select 1")
    with pytest.raises(StoreError, match="the store failed"):
        one.state.catch_up()
    nowhere = tmp_path / "file"
    nowhere.touch()
    with pytest.raises(StoreError, match="no cache of the state can be made"):
        cache.open_cache(ObjectStorage(url), nowhere / "caches")


def test_results_that_are_restored_cast_doubt_on_other_logs_only_where_they_differ(url: str, tmp_path: Path) -> None:
    async def answer(store: Store, value: str) -> None:
        store.open_writer()
        await store.put(b"call", value, "n", encode(value), USAGE)

    def put_in(machine: Machine, command: bytes) -> None:
        with machine.runs.lock(command):
            asyncio.run(answer(machine.store, command.decode()))

    one, other = (Machine(url, tmp_path / name) for name in ("one", "other"))
    put_in(one, b"a")
    put_in(other, b"b")
    third = Machine(url, tmp_path / "third")

    def doubted() -> set[str]:
        with closing(Store(third.state.folder)) as store:
            logs = (command.hex() for command in (b"a", b"b", b"c"))
            return {log for log in logs if read_position(store.connection, log).has_lost}

    put_in(third, b"c")
    assert doubted() == {b"b".hex()}
    put_in(third, b"b")
    assert doubted() == {b"a".hex(), b"c".hex()}
    put_in(third, b"c")
    assert doubted() == {b"a".hex()}
