"""Connections of a server that has fewer to give than its pool may hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from sundog.operators.sql.connections import CALLS_OF_A_TRY, HeldConnections

WAIT_S = 20.0


class SmallServer:
    """An engine of a server with `room` connections for it. `most`: the most that were lent; `num_refused`: calls that
    it sent away."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.num_lent = self.most = self.num_refused = 0
        self._lock = threading.Lock()

    def connect(self) -> AbstractContextManager[None]:
        with self._lock:
            if self.num_lent >= self.room:
                self.num_refused += 1
                raise OperationalError("", {}, Exception('FATAL:  too many connections for role "u"'))
            self.num_lent += 1
            self.most = max(self.most, self.num_lent)
        return self._lent()

    @contextmanager
    def _lent(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self.num_lent -= 1


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def held_by(server: SmallServer) -> HeldConnections:
    return HeldConnections(cast(Engine, server))


def use(held: HeldConnections) -> None:
    with held.lent(lambda: False):
        threading.Event().wait(0)


def until_waiting(held: HeldConnections, number: int) -> None:
    while held._num_waiting != number:
        threading.Event().wait(0.001)


def test_calls_share_what_the_server_gives(threads: ThreadPoolExecutor) -> None:
    server = SmallServer(3)
    held = held_by(server)
    for call in [threads.submit(use, held) for _ in range(500)]:
        call.result(WAIT_S)
    assert server.most <= 3
    assert (held._num_active, held._num_waiting) == (0, 0)


def test_who_comes_while_others_wait_does_not_ask(threads: ThreadPoolExecutor) -> None:
    server = SmallServer(1)
    held = held_by(server)
    use(held)
    with held.lent(lambda: False):
        calls = []
        for number in range(8):
            calls.append(threads.submit(use, held))
            until_waiting(held, number + 1)
        assert server.num_refused == 1, "the first of them"
    for call in calls:
        call.result(WAIT_S)
    assert server.num_refused == 1, "the connection went from one to the next"


def test_where_nobody_holds_one_the_refusal_is_the_calls() -> None:
    held = held_by(SmallServer(0))
    for _ in range(2):
        with pytest.raises(DBAPIError, match="too many"), held.lent(lambda: False):
            pass


def test_who_waited_in_vain_is_refused_as_well(threads: ThreadPoolExecutor) -> None:
    """The connection that they waited for was the last that the server gave."""
    server = SmallServer(1)
    held = held_by(server)
    with held.lent(lambda: False):
        calls: list[Future[Any]] = [threads.submit(use, held) for _ in range(5)]
        until_waiting(held, 5)
        server.room = 0
    for call in calls:
        assert isinstance(call.exception(WAIT_S), DBAPIError)


def test_who_is_stopped_waits_no_longer(threads: ThreadPoolExecutor) -> None:
    held = held_by(SmallServer(1))
    stopped = threading.Event()

    def wait() -> None:
        with held.lent(stopped.is_set):
            raise AssertionError("there was none")

    with held.lent(lambda: False):
        call, other = threads.submit(wait), threads.submit(use, held)
        until_waiting(held, 2)
        stopped.set()
        held.wake()
        assert isinstance(call.exception(WAIT_S), DBAPIError)
        until_waiting(held, 1)
    other.result(WAIT_S)


def test_a_server_that_has_room_again_is_asked_again(threads: ThreadPoolExecutor) -> None:
    """Although another waits: one call in so many asks."""
    server = SmallServer(1)
    held = held_by(server)
    for _ in range(CALLS_OF_A_TRY):
        use(held)
    with held.lent(lambda: False):
        first = threads.submit(use, held)
        until_waiting(held, 1)
        server.room = 2
        threads.submit(use, held).result(WAIT_S)
        first.result(WAIT_S)
