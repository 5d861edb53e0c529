"""Servers that a run starts for its cells: as many as what is left needs, by what the cells tell of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import sundog as sd
from sundog.cells.cluster_work import ClusterOptions, cluster_work
from sundog.cells.run_scaling import EngineUse, RunScaling, ServersTold
from sundog.config import read_config
from sundog.deployment import pool_server
from sundog.execution.coming_replicas import watch_of_source
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import PhysicalPlan
from sundog.runtime.figures.progress import Progress
from sundog.secrets import Secrets
from sundog.servers.records import free_port
from sundog.servers.replica_watch import ReplicaFound, ReplicaNews, ReplicaVanished, ToldReplicas
from sundog.session.session import plan_session
from tests.cells.cluster_runs import Machines
from tests.cells.test_scaling import FakeStarter
from tests.engines.fake_vllm import flow_text

NUM_ROWS = 40


def plan(least: int, most: int) -> PhysicalPlan:
    flow = sd.Flow("f")
    pool = {"ray": {"min": least, "max": most}}
    engine = flow.engine("e", kind="vllm", model="m", pool=pool, max_concurrency=10)
    row = flow.input("rows", rows=[{"id": 1}])
    flow.output(text=flow.llm("said", engine=engine, prompt=f"{row.id}").text)
    return plan_session(flow.plan(), flow.base_dir, read_config(None)).plan


class Running:
    """A scaling whose news are read, and the rows of its run."""

    def __init__(self, least: int, most: int, finish_in_s: float | None) -> None:
        self.starter = FakeStarter()
        of_run = plan(least, most)
        self.scaling = RunScaling(of_run, watch_of_source, lambda block: self.starter, finish_in_s)
        self.progress = Progress(num_rows=10_000)
        self.news: list[ReplicaNews] = []
        self._watch = self.scaling.watch_of(of_run.logical.engines[0]).watch()
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for news in self._watch:
            self.news.append(news)

    def told(self, cell: str, num_ended: int, calls_s: float, **num_calls: int) -> None:
        self.scaling.hear(cell, ServersTold((EngineUse("e", tuple(num_calls.items()), num_ended, calls_s),)))

    async def at(self, time_s: float, num_done: int) -> list[str]:
        """The servers that there are after a look at a time."""
        self.progress.num_done = num_done
        self.scaling.due(time_s, self.progress, 0)
        for _ in range(60):
            await asyncio.sleep(0)
        return self.starter.running


def test_there_are_the_fewest_servers_until_calls_are_measured_and_then_enough_for_the_finish() -> None:
    async def main() -> None:
        world = Running(1, 8, 1000.0)
        assert await world.at(0.5, 0) == ["u1"]
        world.told("x", 60, 300.0, u1=6)
        world.told("y", 40, 200.0, u1=4)
        # 9,900 calls of 5 s in 10 places each, and 900 s.
        assert len(await world.at(100.0, 100)) == 6
        world.scaling.gone("y")
        assert len(await world.at(100.5, 100)) == 6, "what it has done counts on"
        world.told("x", 9960, 40_000.0, u1=3, u2=2)
        await world.at(900.0, 9995)
        assert world.starter.running == ["u1", "u2"], "those without a call have ended"
        world.told("x", 10_000, 40_000.0, u1=0, u2=0)
        assert await world.at(901.0, 10_000) == []
        world.reading.cancel()

    asyncio.run(main())


def test_without_a_wished_finish_there_are_as_many_as_calls_can_fill() -> None:
    async def main() -> None:
        world = Running(2, 8, None)
        assert len(await world.at(0.5, 0)) == 8
        world.told("x", 9960, 5000.0, u1=10, u2=10, u3=10, u4=10)
        assert await world.at(100.0, 9960) == ["u1", "u2", "u3", "u4"]
        world.reading.cancel()

    asyncio.run(main())


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class Processes(ToldReplicas):
    """It starts servers as processes of this machine."""

    def __init__(self, block: EngineBlock) -> None:
        super().__init__()
        self._block = block
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        #: The ones that it has started.
        self.urls: list[str] = []

    def want(self, num_engines: int) -> None:
        while len(self.running) < num_engines:
            command = pool_server(self._block, "127.0.0.1", free_port(), Secrets({}))
            self.running[command.base_url] = subprocess.Popen(command.argv, env=dict(command.environment))
            self.urls.append(command.base_url)
            self.tell(ReplicaFound(command.base_url))

    def end(self, base_url: str) -> None:
        kill(self.running.pop(base_url))
        self.tell(ReplicaVanished(base_url))

    async def watch(self) -> AsyncGenerator[ReplicaNews, None]:
        """It also tells of those that have ended by themselves."""
        getting = asyncio.ensure_future(anext(told := super().watch()))
        while True:
            await asyncio.wait([getting], timeout=0.05)
            if getting.done():
                yield getting.result()
                getting = asyncio.ensure_future(anext(told))
            for url in [url for url, process in self.running.items() if process.poll() is not None]:
                self.end(url)


@pytest.mark.parametrize("dies", [False, True])
def test_cells_have_the_servers_that_the_driver_starts(
    tmp_path: Path, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = {"ray": {"min": 1, "max": 2, "gpus": 0}}
    (tmp_path / "flow.yaml").write_text(flow_text(tmp_path, max_concurrency=4, pool=pool), encoding="utf-8")
    rows = "".join(json.dumps({"id": number}) + "\n" for number in range(NUM_ROWS))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    if dies:
        (tmp_path / "dies").touch()
    machines, starters = Machines(tmp_path, 2), list[Processes]()
    last: dict[str, EngineUse] = {}
    hear = RunScaling.hear

    def keep(scaling: RunScaling, cell: str, told: ServersTold) -> None:
        (last[cell],) = told.uses
        hear(scaling, cell, told)

    monkeypatch.setattr(RunScaling, "hear", keep)

    def starter_of(block: EngineBlock) -> Processes:
        starters.append(Processes(block))
        return starters[-1]

    try:
        work = cluster_work(
            machines.starter, ClusterOptions(2, tmp_path, {}, finish_in_s=3600.0), starter_of=starter_of
        )
        report, output = machines.run(work)
    finally:
        for process in starters[0].running.values():
            kill(process)
    assert report.num_done == NUM_ROWS
    assert output == b"".join(b'{"id":%d,"said":"ROW %d"}\n' % (number, number) for number in range(NUM_ROWS))
    assert len(starters[0].urls) == 1 + dies
    assert sum(use.num_ended for use in last.values()) == NUM_ROWS, "cells tell what they have done"
    assert all(use.calls_s > 0.0 for use in last.values() if use.num_ended)
    told = {url: number for use in last.values() for url, number in use.num_calls}
    assert told == {starters[0].urls[-1]: 0}, "and that nothing runs any more"
