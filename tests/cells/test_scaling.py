"""Engines that a run starts and ends: enough for the wished finish, fewer at its tail, and none that is taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from sundog.cells.scaling import EngineScaling, PlannedCalls, WorkLeft, work_estimated
from sundog.cluster.scale import ScaleBounds, WorkEstimated
from sundog.servers.replica_watch import ReplicaFound, ReplicaLeaving, ReplicaNews, ReplicaVanished, ToldReplicas

PLANNED = PlannedCalls(calls_per_row=3.0, call_s=2.0)


@pytest.mark.parametrize(
    ("left", "engine_seconds", "num_calls"),
    [
        (WorkLeft(0, 100, 0, 0.0), 60.0, 300),
        (WorkLeft(1, 99, 19, 190.0), 59.4, 297),
        (WorkLeft(10, 90, 20, 80.0), 72.0, 180),
        (WorkLeft(0, 100, 40, 200.0), 150.0, 300),
        (WorkLeft(100, 0, 300, 600.0), 0.0, 0),
        (WorkLeft(1000, 1, 100, 100.0), 0.01, 1),
    ],
)
def test_what_is_left_is_what_was_planned_until_it_is_measured(
    left: WorkLeft, engine_seconds: float, num_calls: int
) -> None:
    found = work_estimated(7.0, left, PLANNED, 10)
    assert found.time_s == 7.0
    assert found.engine_seconds == pytest.approx(engine_seconds)
    assert found.num_calls == num_calls


class FakeStarter(ToldReplicas):
    """It has as many servers as it is asked for, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[str] = []
        self.leaving: set[str] = set()
        self.wishes: list[int] = []
        self.ended: list[str] = []
        self.num_started = 0

    def want(self, num_engines: int) -> None:
        self.wishes.append(num_engines)
        while len(self.running) - len(self.leaving) < num_engines:
            self.num_started += 1
            self.running.append(f"u{self.num_started}")
            self.tell(ReplicaFound(self.running[-1]))

    def end(self, base_url: str) -> None:
        assert base_url not in self.ended, "it is ended once"
        self.ended.append(base_url)
        self.running.remove(base_url)
        self.leaving.discard(base_url)
        self.tell(ReplicaVanished(base_url))

    def notice(self, base_url: str) -> None:
        self.leaving.add(base_url)
        self.tell(ReplicaLeaving(base_url))


class Scaled:
    """A scaling whose news are read as they come."""

    def __init__(self, bounds: ScaleBounds) -> None:
        self.starter = FakeStarter()
        self.now_s = 0.0
        self.scaling = EngineScaling(self.starter, bounds)
        self.news: list[ReplicaNews] = []
        self._watch: AsyncGenerator[ReplicaNews, None] = self.scaling.watch()
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for news in self._watch:
            self.news.append(news)

    async def left(self, engine_seconds: float, num_calls: int) -> None:
        self.scaling.estimated(WorkEstimated(self.now_s, engine_seconds, num_calls))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)


def test_engines_come_for_the_wished_finish_and_go_at_the_tail() -> None:
    async def main() -> None:
        world = Scaled(ScaleBounds(0, 8, 100.0, 10))
        await world.left(400.0, 1000)
        assert world.starter.running == ["u1", "u2", "u3", "u4"]
        assert world.news == [ReplicaFound(url) for url in world.starter.running]
        world.now_s = 50.0
        await world.left(300.0, 800)
        assert len(world.starter.running) == 6, "it is late"
        world.scaling.used(dict.fromkeys(world.starter.running, 5))
        world.now_s = 90.0
        await world.left(10.0, 15)
        assert len(world.starter.running) == 6, "none with calls is taken away"
        world.scaling.used({"u5": 0, "u6": 0, "u1": 3})
        await world.settle()
        assert world.starter.ended == ["u5", "u6"]
        assert world.news[-4:] == [
            ReplicaLeaving("u5"),
            ReplicaLeaving("u6"),
            ReplicaVanished("u5"),
            ReplicaVanished("u6"),
        ]
        world.scaling.used(dict.fromkeys(world.starter.running, 0))
        await world.left(0.0, 0)
        assert world.starter.running == [], "nothing is left to do"
        world.reading.cancel()

    asyncio.run(main())


def test_an_engine_whose_machine_will_go_is_drained_and_replaced() -> None:
    async def main() -> None:
        world = Scaled(ScaleBounds(0, 8, 100.0, 10))
        await world.left(200.0, 1000)
        world.scaling.used({"u1": 4, "u2": 4})
        world.starter.notice("u1")
        await world.settle()
        assert ReplicaLeaving("u1") in world.news
        assert world.starter.running == ["u1", "u2", "u3"], "another one comes at once"
        assert world.starter.ended == [], "four calls run there"
        world.scaling.used({"u1": 0})
        await world.settle()
        assert world.starter.ended == ["u1"]
        world.starter.notice("u2")
        await world.settle()
        world.starter.running.remove("u2")
        world.starter.leaving.discard("u2")
        world.starter.tell(ReplicaVanished("u2"))
        await world.settle()
        assert world.starter.ended == ["u1"], "what is gone by itself is not ended"
        assert len(world.starter.running) == 2
        world.reading.cancel()

    asyncio.run(main())
