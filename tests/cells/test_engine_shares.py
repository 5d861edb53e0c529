"""The plans of cells: their parts make the engines and limits of the whole plan, and decide answers as it does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sundog as sd
from sundog.cells.engine_shares import cell_plan, shared_limits
from sundog.config import read_config
from sundog.deployment import engine_limits, identities, opened
from sundog.errors import ConfigError
from sundog.execution.pools import RunPools
from sundog.ir.physical import PhysicalPlan
from sundog.runtime.run_options import RunOptions
from sundog.sched.events import ReplicaLimited
from sundog.secrets import Secrets
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers
from sundog.session.session import Session, plan_session

URLS = [f"http://gpu{number}/v1" for number in range(7)]


def session_of(engine: dict[str, Any], limits: dict[str, int] | None = None, state: Path | None = None) -> Session:
    flow = sd.Flow("f")
    row = flow.input("rows", rows=[{"id": number} for number in range(6)])
    seen = flow.http("look", url="http://x/", params={"q": row.id})
    counted = flow.python("count", call="json:dumps", args={"obj": row.id})
    said = flow.llm("said", engine=flow.engine("e", **engine), prompt=f"{row.id} {seen.text} {counted}")
    flow.output(text=said.text)
    for address, limit in (limits or {}).items():
        flow.limit(address, max_concurrency=limit)
    return plan_session(flow.plan(), flow.base_dir, read_config(state))


def parts(session: Session, num_cells: int) -> list[PhysicalPlan]:
    return [cell_plan(session.plan, session.flow.operators, place, num_cells) for place in range(num_cells)]


def addresses(plan: PhysicalPlan) -> tuple[str, ...]:
    (block,) = plan.logical.engines
    _, options = opened(block)
    return tuple(options.base_urls)  # type: ignore[attr-defined]  # options of servers


@given(st.integers(1, 7), st.sampled_from(["openai", "vllm"]))
def test_each_address_belongs_to_one_cell_where_there_are_enough(num_cells: int, kind: str) -> None:
    session = session_of({"kind": kind, "model": "m", "base_url": URLS})
    found = parts(session, num_cells)
    assert sorted(url for part in found for url in addresses(part)) == URLS
    sizes = [len(addresses(part)) for part in found]
    assert max(sizes) - min(sizes) <= 1
    assert all(number == size for part, size in zip(found, sizes, strict=True) for _, number, _ in engine_limits(part))
    assert all("engine:e" not in part.shares for part in found)


@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 9), st.integers(1, 40))
def test_the_parts_of_limits_never_pass_them(num_cells: int, limit: int, replicas: int, calls: int) -> None:
    session = session_of({"kind": "null", "replicas": replicas, "max_concurrency": calls}, {"http://x": limit})
    whole = sum(number * options.max_concurrency for _, number, options in engine_limits(session.plan))
    if replicas < num_cells and calls < num_cells:
        with pytest.raises(ConfigError, match=f"takes {calls} requests at once, and {num_cells} cells"):
            parts(session, num_cells)
        return
    found = parts(session, num_cells)
    assert sum(part.shares["http:http://x"] for part in found) == limit
    num_calls = 0
    for part in found:
        ((pool, number, options),) = engine_limits(part)
        num_calls += number * part.shares.get(pool, options.max_concurrency)
        assert part.shares.get(pool, 1) >= 1
    assert num_calls == whole


def test_a_limit_of_the_process_is_each_cells_own_unless_the_flow_says_one() -> None:
    engine = {"kind": "null", "replicas": 4}
    session = session_of(engine)
    assert shared_limits(session.plan, session.flow.operators, 2) == {"http:http://x": 32}
    session = session_of(engine, {"python": 3})
    assert [part.shares["python"] for part in parts(session, 2)] == [2, 1]


def test_engines_on_workers_are_refused() -> None:
    session = session_of({"kind": "null"})
    (block,) = session.plan.logical.engines
    logical = replace(session.plan.logical, engines=(replace(block, workers="gpu"),))
    with pytest.raises(ConfigError, match="loaded on workers, which are places of one machine"):
        cell_plan(replace(session.plan, logical=logical), session.flow.operators, 0, 2)


def test_a_cells_part_is_the_same_run_with_the_same_calls(tmp_path: Path) -> None:
    def one(output: str) -> sd.Flow:
        flow = sd.Flow("f")
        row = flow.input("rows", rows=[{"id": number} for number in range(6)])
        engine = flow.engine("e", kind="null", replicas=1, max_concurrency=8)
        flow.output(**{output: flow.llm("said", engine=engine, prompt=f"Row {row.id}.").text})
        return flow

    def run(flow: sd.Flow) -> tuple[str, int]:
        whole = plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))
        part = cell_plan(whole.plan, whole.flow.operators, 1, 3)
        assert identities(part) == identities(whole.plan)
        cell = Session(replace(whole.flow, plan=part), whole.rows, flow.base_dir, read_config(tmp_path))
        with cell.open_run(RunOptions(tmp_path)) as opened_run:
            report = asyncio.run(opened_run.execute())
        return opened_run.record.run_id, sum(node.num_executed for node in report.nodes)

    first = one("text").run(state=tmp_path).report
    assert run(one("text"))[0] == first.run_id, "the cell works on the run of the whole plan"
    run_id, num_executed = run(one("other"))
    assert (run_id == first.run_id, num_executed) == (False, 0), "its calls have the keys of the whole plan's"


def test_replicas_begin_with_their_share_and_get_others(tmp_path: Path) -> None:
    engine = {"kind": "null", "replicas": 2, "max_concurrency": 8, "max_tokens_in_flight": 100}
    session = session_of(engine, {"http://x": 8})
    part, *_ = parts(session, 4)
    secrets = Secrets({})
    pools = RunPools(part, dict(session.flow.operators), secrets, RunServers(Servers(tmp_path, secrets)))

    async def main() -> None:
        await pools.start()
        try:
            found = {one.replica_id: (one.max_concurrency, one.max_tokens_in_flight) for one in pools.replicas(0.0)}
            del found["python"]
            assert found == {"e/0": (2, 25), "e/1": (2, 25), "http:http://x": (2, None)}
            limited = [ReplicaLimited(1.0, name, 5, 63) for name in ("e/0", "e/1")]
            assert list(pools.share(1.0, "engine:e", 5)) == limited
            assert list(pools.share(2.0, "http:http://x", 0)) == [ReplicaLimited(2.0, "http:http://x", 0)]
            again = {one.replica_id: one.max_concurrency for one in pools.replicas(3.0)}
            assert (again["e/0"], again["http:http://x"]) == (5, 0), "what comes later has the new share"
        finally:
            await pools.close()

    asyncio.run(main())
