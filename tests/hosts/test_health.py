"""The host of health, in virtual time: what it tells the core, and when it starts a server again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sundog.engines.served import ReplicaLoad
from sundog.errors import EngineError, EngineTimeout, EngineUnavailable
from sundog.host.attempt import Success
from sundog.host.driver import Driver, GivenUp
from sundog.host.health import Health
from sundog.host.virtual_loop import run_virtually
from sundog.sched.catalog import FCFS
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Event,
    ReplicaAdded,
    ReplicaDown,
    ReplicaLost,
    ReplicaReported,
    ReplicaUp,
    RequestArrived,
    Submit,
)

FINE = ReplicaLoad(num_running=2, num_waiting=1, kv_usage=0.5, num_preemptions=4)
GONE = EngineUnavailable("gone", retryable=True)
SILENT = EngineTimeout("silent", retryable=True)
Answer = ReplicaLoad | EngineError


class FakeServer:
    """Says what it is told to, the last thing for ever. Also its keeper: `is_ours`, and what a restart does."""

    def __init__(self, *answers: Answer, is_ours: bool = False, restarts: tuple[Answer, ...] = ()) -> None:
        self.suspicion = asyncio.Event()
        self.max_down_s = 300.0
        self.num_probes = 0
        self.is_alive = not is_ours
        self.is_ours = is_ours
        self._answers = deque(answers)
        self._restarts = deque(restarts)
        self.restarts_s: list[float] = []

    async def probe(self) -> ReplicaLoad:
        self.num_probes += 1
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, EngineError):
            raise answer
        return answer

    async def restart(self) -> None:
        self.restarts_s.append(asyncio.get_running_loop().time())
        answer = self._restarts.popleft()
        if isinstance(answer, EngineError):
            raise answer
        self._answers = deque([answer])
        self.is_alive = True


class Keeper:
    def __init__(self, servers: dict[str, FakeServer]) -> None:
        self._servers = servers

    def is_ours(self, replica_id: str) -> bool:
        return self._servers[replica_id].is_ours

    def is_alive(self, replica_id: str) -> bool:
        return self._servers[replica_id].is_alive

    async def restart(self, replica_id: str) -> None:
        await self._servers[replica_id].restart()


class Watch:
    """`servers`: the replicas of one pool, by number. `do` runs while they are watched."""

    def __init__(self, *servers: FakeServer) -> None:
        self.servers = {f"engine/{number}": server for number, server in enumerate(servers)}
        self.events: list[Event] = []

    def run(self, do: Callable[[Driver], Coroutine[Any, Any, Any]]) -> Any:
        return run_virtually(self._run(do))

    def for_seconds(self, seconds: float) -> list[Event]:
        """Return what the core was told, but for the replicas' coming."""
        self.run(lambda host: asyncio.sleep(seconds))
        return [event for event in self.events if not isinstance(event, ReplicaAdded)]

    async def _run(self, do: Callable[[Driver], Coroutine[Any, Any, Any]]) -> Any:
        host = Driver(SchedulerCore(FCFS), self.events.append)
        for replica_id in self.servers:
            host.tell(ReplicaAdded(0.0, replica_id, "engine:e", 4))
        engines: Any = self.servers
        health = Health(engines, dict.fromkeys(engines, "engine:e"), Keeper(self.servers), host)
        async with health.watching():
            return await do(host)


def kinds(events: list[Event]) -> list[str]:
    """The names, one for several equal ones in a row."""
    names = [type(event).__name__.removeprefix("Replica") for event in events]
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before]


def test_the_load_is_reported_every_second() -> None:
    assert Watch(FakeServer(FINE)).for_seconds(2.5) == [
        ReplicaReported(1.0, "engine/0", 2, 1, 0.5, 4),
        ReplicaReported(2.0, "engine/0", 2, 1, 0.5, 4),
    ]


def test_a_suspicion_is_followed_at_once() -> None:
    server = FakeServer(GONE)

    async def suspect(host: Driver) -> None:
        server.suspicion.set()
        await asyncio.sleep(0.01)

    watch = Watch(server)
    watch.run(suspect)
    assert watch.events[1:] == [ReplicaDown(0.0, "engine/0")]


def test_an_attached_server_may_come_back_by_itself() -> None:
    events = Watch(FakeServer(FINE, GONE, GONE, FINE)).for_seconds(4.5)
    assert kinds(events) == ["Reported", "Down", "Reported", "Up", "Reported"]


def test_a_silent_server_is_down_only_at_the_third_time() -> None:
    assert kinds(Watch(FakeServer(SILENT, SILENT, FINE)).for_seconds(3.5)) == ["Reported"]
    assert kinds(Watch(FakeServer(SILENT)).for_seconds(2.5)) == []
    assert Watch(FakeServer(SILENT)).for_seconds(3.5) == [ReplicaDown(3.0, "engine/0")]


def test_an_attached_server_that_stays_away_is_lost() -> None:
    events = Watch(FakeServer(GONE)).for_seconds(400)
    assert events == [ReplicaDown(1.0, "engine/0"), ReplicaLost(301.0, "engine/0")]


def test_a_server_of_ours_is_started_again() -> None:
    server = FakeServer(GONE, is_ours=True, restarts=(FINE,))
    events = Watch(server).for_seconds(3.5)
    assert server.restarts_s == [2.0], "a second after it was seen to be dead"
    assert kinds(events) == ["Down", "Reported", "Up", "Reported"]


def test_restarts_come_later_and_later_and_end() -> None:
    server = FakeServer(GONE, is_ours=True, restarts=(GONE,) * 6)
    events = Watch(server).for_seconds(400)
    waits_s = [after - before for before, after in zip([1.0, *server.restarts_s], server.restarts_s, strict=False)]
    assert waits_s == [1, 3, 5, 9, 17], "1, 2, 4, 8 and 16, each but the first after one more look"
    assert kinds(events) == ["Down", "Lost"]


def test_a_server_that_was_up_for_long_has_all_restarts_again() -> None:
    server = FakeServer(FINE, is_ours=True, restarts=(FINE,) * 8)

    async def crash_often(host: Driver) -> None:
        for _ in range(8):
            await asyncio.sleep(400)
            server._answers, server.is_alive = deque([GONE]), False
        await asyncio.sleep(10)

    watch = Watch(server)
    watch.run(crash_often)
    assert len(server.restarts_s) == 8
    assert not any(isinstance(event, ReplicaLost) for event in watch.events)


def test_a_stuck_server_of_ours_is_started_again_and_a_strangers_is_not() -> None:
    ours, strangers = FakeServer(SILENT, is_ours=True, restarts=(FINE,)), FakeServer(SILENT)
    ours.is_alive = True
    Watch(ours, strangers).for_seconds(90)
    assert len(ours.restarts_s) == 1
    assert ours.restarts_s[0] > 60
    assert strangers.restarts_s == []


def test_what_waits_for_the_last_lost_replica_is_given_up_without_blame() -> None:
    servers = FakeServer(GONE), FakeServer(GONE)

    async def ask(host: Driver) -> None:
        await asyncio.sleep(2)
        with pytest.raises(GivenUp, match="lost") as given_up:
            await host.run(RequestArrived(0.0, "r", "engine:e"), never)
        assert str(given_up.value.cause) == "gone"

    async def never(submit: Submit) -> Success[None]:
        raise AssertionError("nobody is there")

    watch = Watch(*servers)
    watch.run(ask)
    assert [type(event) for event in watch.events].count(ReplicaLost) == 2


def test_what_waits_goes_on_when_a_replica_is_back() -> None:
    async def ask(host: Driver) -> str:
        await asyncio.sleep(2)
        return await host.run(RequestArrived(0.0, "r", "engine:e"), answer)

    async def answer(submit: Submit) -> Success[str]:
        return Success(submit.replica_id)

    watch = Watch(FakeServer(*[GONE] * 9, FINE))
    assert watch.run(ask) == "engine/0"
    assert any(isinstance(event, ReplicaUp) for event in watch.events)
