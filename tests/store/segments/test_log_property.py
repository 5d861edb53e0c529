"""Whatever fails, is killed, lost or replaced: all machines come to the same content, in which every effect has its
claim, every commit is whole and there once, and every log has the results that its runs have seen."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.errors import StoreError
from sundog.store.schema import connect_store
from sundog.store.segments import cache, patience, sending
from sundog.store.segments.cache import CachedState
from sundog.store.segments.frames import unpack_frames
from sundog.store.segments.log import SegmentLog
from sundog.store.segments.opened import OPENED
from sundog.store.segments.sending import HeldLog, Overtaken
from sundog.store.segments.storage import ObjectStorage
from sundog.store.store import Store
from sundog.store.writer import ADD_EXECUTED, PUT_CLAIM, PUT_RESULT

T = TypeVar("T")
Fault = Literal["", "before", "after"]
Act = Literal["open", "take", "commit", "effect", "send", "close", "kill", "lose"]
NUM_MACHINES = 2
LOGS = ("a", "b")
NUM_SHARED = 2
"""Calls that runs of both logs make."""


class ScriptedStorage(ObjectStorage):
    """A storage whose next requests fail as is told, before they are done or after."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.faults: list[Fault] = []

    def create(self, name: str, body: bytes) -> bool:
        return self._tried(lambda: super(ScriptedStorage, self).create(name, body))

    def replace(self, name: str, body: bytes) -> None:
        self._tried(lambda: super(ScriptedStorage, self).replace(name, body))

    def read(self, name: str) -> bytes | None:
        return self._tried(lambda: super(ScriptedStorage, self).read(name))

    def check_creation(self) -> None:
        """Cost no faults here."""

    def _tried(self, ask: Callable[[], T]) -> T:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise StoreError("a fault of the test, nothing was done")
        found = ask()
        if fault == "after":
            raise StoreError("a fault of the test, all was done")
        return found


class IdleThread:
    """A thread that never runs: the test does its work, one step after the other."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        pass


class Process:
    """One process on one machine, which writes to one log at a time."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.storage = ScriptedStorage(url)
        self._lock = os.open(folder / "cache.lock", os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self.state = OPENED[folder] = CachedState(self.storage, folder, self._lock)
        self.store = Store(folder)
        self.sender = connect_store(self.store.path)
        self.log: HeldLog | None = None
        self.name = ""
        #: The marks of what it has committed since it took its log, in their order.
        self.marks: list[bytes] = []

    def end(self) -> None:
        self.store.close()
        self.sender.close()
        os.close(self._lock)


class World:
    """Machines over one folder, and what has to be true of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._url = f"file://{root}/shared"
        self._processes: dict[int, Process] = {}
        self._numbers = count()
        #: The marks of each time that a process had a log, in their order.
        self._holds: list[list[bytes]] = []
        #: Marks that somebody was told to be safe.
        self._safe: set[bytes] = set()

    def act(self, act: Act, machine: int, log: str, faults: list[Fault]) -> None:
        process = self._processes.get(machine)
        if process is None:
            process = self._processes[machine] = Process(self._url, self._root / f"machine-{machine}")
            self._open(machine, process, log)
        process.storage.faults = faults
        with suppress(StoreError):
            getattr(self, f"_{act}")(machine, process, log)
        process.storage.faults = []

    def end(self) -> None:
        """Every machine that is left opens the state again, and then has what a new one has."""
        for machine, process in list(self._processes.items()):
            self._kill(machine, process, "")
        for _ in range(2):
            for machine in range(NUM_MACHINES):
                self.act("open", machine, "", [])
        contents = [content(process.store) for process in self._processes.values()]
        new = Process(self._url, self._root / "new")
        new.state.catch_up()
        expected = content(new.store)
        assert all(one == expected for one in contents)
        marks = {key for key, *_ in expected["claims"]}
        assert marks >= self._safe
        for hold in self._holds:
            has = [mark in marks for mark in hold]
            assert has == sorted(has, reverse=True), "a commit is there, and one before it is not"
        num_by_log = Counter(run_id for _, run_id, _ in expected["claims"])
        assert {run_id: number for run_id, _, number, *_ in expected["executed"]} == num_by_log
        for log in LOGS:
            own = {row[0]: row[3] for row in results_of_log(new, log)}
            process_results = {key: value for key, value, *_ in self._results_after_take(new, log)}
            assert own.items() <= process_results.items()
        new.end()
        for process in self._processes.values():
            process.end()

    def _results_after_take(self, process: Process, log: str) -> list[tuple[Any, ...]]:
        process.state.take(log)
        return process.store.select("select key, value from results", ())

    def _open(self, _: int, process: Process, __: str) -> None:
        process.state.catch_up()

    def _take(self, _: int, process: Process, log: str) -> None:
        if process.log is None:
            process.log, process.name = process.state.take(log), log
            process.store._log = process.log
            process.marks = []
            self._holds.append(process.marks)

    def _commit(self, _: int, process: Process, log: str) -> int:
        """Commit a mark, that a call was executed, and the answer of a call that other runs make too."""
        self._take(_, process, log)
        number = next(self._numbers)
        mark = f"{number:04}".encode()
        process.store.change(
            (PUT_CLAIM, (mark, process.name, "")),
            (ADD_EXECUTED, (process.name, "n", 1, 0, 0, 0)),
            (PUT_RESULT, (bytes([number % NUM_SHARED]), process.name, "n", mark, 0, 0, 0, 0.0)),
        )
        process.marks.append(mark)
        return process.store._last_kept

    def _effect(self, _: int, process: Process, log: str) -> None:
        """Commit a claim; its effect happens once it is safe."""
        number = self._commit(_, process, log)
        mark, held = process.marks[-1], process.log
        assert held is not None
        held.when_sent(number, lambda error: None if error else self._safe.add(mark))
        self._send(_, process, log)

    def _send(self, _: int, process: Process, __: str) -> None:
        if process.log is not None:
            try:
                process.log._send_what_is_due(process.sender)
            except Overtaken as error:
                process.log._fail(error)
                self._release(process)

    def _close(self, machine: int, process: Process, log: str) -> None:
        if process.log is not None:
            process.log._is_closing = True
            self._send(machine, process, log)
            self._safe.update(process.marks if process.log is not None else ())
            self._release(process)

    def _release(self, process: Process) -> None:
        process.store._log = process.log = None
        process.state.release(process.name)

    def _kill(self, machine: int, process: Process, _: str) -> None:
        process.end()
        del self._processes[machine]

    def _lose(self, machine: int, process: Process, _: str) -> None:
        self._kill(machine, process, _)
        shutil.rmtree(self._root / f"machine-{machine}")


def content(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    return {name: sorted(store.select(f"select * from {name}", ())) for name in ("claims", "executed")}


def results_of_log(process: Process, log: str) -> list[tuple[Any, ...]]:
    """The first result of each call that a log has."""
    found: dict[bytes, tuple[Any, ...]] = {}
    segments = SegmentLog(process.storage, log)
    for segment in segments.segments(segments.numbers(0)):
        for statement, rows in unpack_frames(segment.frames):
            if statement is PUT_RESULT:
                for row in rows:
                    found.setdefault(row[0], row)
    return [*found.values()]


@contextmanager
def no_waits() -> Iterator[None]:
    """Threads do nothing by themselves, nothing is tried again, and whoever is asked for a sign of life gives none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "threading", SimpleNamespace(Thread=IdleThread, Condition=threading.Condition))
        patch.setattr(sending, "SEND_EVERY_S", 0.0)
        patch.setattr(patience, "PATIENCE_S", -1.0)
        patch.setattr(cache, "watched_alive", lambda _: set())
        yield


ACTS: tuple[Act, ...] = ("open", "take", "commit", "effect", "send", "close", "kill", "lose")
OFTEN: tuple[Act, ...] = ("commit", "effect", "send")
FAULTS: tuple[tuple[Fault, ...], ...] = (*((),) * 8, ("after",), ("before",), ("", "after"), ("", "before"))
STEPS = st.lists(
    st.tuples(
        st.sampled_from((*ACTS, *ACTS, *OFTEN, *OFTEN, *OFTEN)),
        st.integers(0, NUM_MACHINES - 1),
        st.sampled_from(LOGS),
        st.sampled_from(FAULTS),
    ),
    min_size=15,
    max_size=40,
)


@settings(max_examples=25)
@given(STEPS)
def test_machines_come_to_the_same_content(steps: list[tuple[Act, int, str, tuple[Fault, ...]]]) -> None:
    with no_waits(), TemporaryDirectory() as root:
        world = World(Path(root))
        for act, machine, log, faults in steps:
            world.act(act, machine, log, list(faults))
        world.end()
