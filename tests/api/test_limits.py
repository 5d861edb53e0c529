"""Limits of hosts and databases, as users set them: kept by the run, known to the promise, no part of a run."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.deployment import tool_limits
from sundog.explanation.explanation import Explanation
from sundog.host.virtual_loop import run_virtually
from sundog.operators.sql import database
from sundog.operators.sql.rows import SQLRow
from sundog.session.session import plan_session
from tests.engines.server import Exchange, Server, running_server

WAIT_S = 20.0
NAP_S = 1.5


class Crowd:
    """Calls that wait for each other, as many as there should be at once. `most`: the most that there were."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._number = self.most = 0
        self._lock = threading.Lock()
        self._all_there = threading.Event()

    def enter(self) -> None:
        with self._lock:
            self._number += 1
            self.most = max(self.most, self._number)
            if self._number == self._size:
                self._all_there.set()

    def wait(self) -> None:
        assert self._all_there.wait(WAIT_S), f"{self._number} of {self._size} calls came"

    def leave(self) -> None:
        with self._lock:
            self._number -= 1


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


def asking(origin: str, state: Path, limit: int | None, *, num_rows: int, **step: str) -> sd.Result:
    """Run a flow that asks for one page a row, in two steps."""
    flow = sd.Flow("asking")
    if limit is not None:
        flow.limit(origin, max_concurrency=limit)
    row = flow.input("rows", rows=[{"id": number} for number in range(num_rows)])
    first = flow.http("first", url=f"{origin}/first/{row.id}", **step)
    second = flow.http("second", url=f"{origin}/second/{row.id}", **step)
    flow.output(first=first.status, second=second.status)
    return flow.run(state=state, progress=False)


@pytest.mark.parametrize(("limit", "size"), [(3, 3), (40, 40), (None, 32)])
def test_a_host_gets_as_many_calls_at_once_as_its_limit_says(
    server: Server, tmp_path: Path, limit: int | None, size: int
) -> None:
    """Both steps together: the server answers none before so many are there, and never sees more."""
    crowd = Crowd(size)

    async def answer(exchange: Exchange) -> None:
        crowd.enter()
        await asyncio.to_thread(crowd.wait)
        crowd.leave()
        await exchange.send(200, "{}")

    server.script.extend([answer] * 80)
    origin = f"http://{urlsplit(server.base_url).netloc}"
    result = asking(origin, tmp_path, limit, num_rows=40)
    assert [(row["first"], row["second"]) for row in result] == [(200, 200)] * 40
    assert crowd.most == size


@pytest.mark.parametrize("limit", [1, 20])
def test_a_database_gets_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """With more than the default of a file, its connections are as many."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table item (id integer)")
    crowd, run = Crowd(limit), database.StatementAttempt.run

    def counted(attempt: database.StatementAttempt) -> list[SQLRow]:
        with attempt.connections.lent(lambda: False):
            crowd.enter()
            crowd.wait()
            crowd.leave()
        return run(attempt)

    monkeypatch.setattr(database.StatementAttempt, "run", counted)
    flow = sd.Flow("looking", base_dir=tmp_path)
    flow.limit("sqlite:///shop.db", max_concurrency=limit)
    row = flow.input("rows", rows=[{"id": number} for number in range(30)])
    query = "select count(*) as n from item where id > :id"
    found = flow.sql("found", database="sqlite:///shop.db", query=query, params={"id": row.id})
    flow.output(n=found[0].n)
    assert [row["n"] for row in flow.run(state=tmp_path / "state", progress=False)] == [0] * 30
    assert crowd.most == limit


def test_another_limit_is_the_same_run_and_repeats_no_effect(server: Server, tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(500 if "second/1" in exchange.path and not mended else 200, "{}")

    mended = False
    server.script.extend([answer] * 40)
    origin = f"http://{urlsplit(server.base_url).netloc}"
    results = []
    for limit in (None, 2, 5):
        results.append(asking(origin, tmp_path, limit, num_rows=4, method="POST"))
        mended = True
    assert len({result.report.run_id for result in results}) == 1
    assert len(server.exchanges) == 8, "each effect once, the one of unknown outcome too"


def napping(limit: int | None, num_rows: int = 60) -> sd.Flow:
    flow = sd.Flow("napping")
    if limit is not None:
        flow.limit("python", max_concurrency=limit)
    flow.input("rows", rows=[{"a": number} for number in range(num_rows)])
    waited = flow.python("wait", "tests.sim.tools:nap", args={"seconds": NAP_S})
    flow.output(waited=waited)
    return flow


@pytest.mark.parametrize(("limit", "num_waves"), [(5, 12), (None, 8), (20, 3), (200, 1)])
def test_the_promise_and_the_run_have_one_number(tmp_path: Path, limit: int | None, num_waves: int) -> None:
    run_virtually(napping(None, 4).arun(state=tmp_path), waits_for_threads=True)
    flow = napping(limit)
    session = plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))
    document = Explanation(session).document()
    assert document.makespan_s is not None
    assert document.makespan_s.expected == pytest.approx(num_waves * NAP_S, rel=0.06)
    report = run_virtually(flow.arun(state=tmp_path, fresh=True), waits_for_threads=True).report
    assert report.rows_s == pytest.approx(num_waves * NAP_S, rel=0.01)
    (pool,) = document.pools
    assert {pool.name: pool.max_concurrency} == tool_limits(session.plan, session.flow.operators)
    assert pool.is_limited == (limit is not None)


def test_explain_says_where_a_number_comes_from() -> None:
    assert "python: 1 replica of at most 3 calls in flight, as limits says" in napping(3).explain()
    assert "python: 1 replica of at most 8 calls in flight\n" in napping(None).explain()


@pytest.mark.parametrize(("limit", "is_told"), [(5, True), (200, False)])
def test_explain_names_the_tool_that_decides(tmp_path: Path, limit: int, *, is_told: bool) -> None:
    run_virtually(napping(None, 4).arun(state=tmp_path), waits_for_threads=True)
    flow = napping(limit)
    told = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))).document().missing
    assert any("decides the makespan" in one for one in told) == is_told
    assert any("python decides the makespan: its calls take 18 s with 5 at once" in one for one in told) == is_told
