"""Runs over servers that come and go: they wait for the first one, leave those that are to go, and lose no row."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.display import describe_wait
from sundog.errors import RunError
from sundog.execution import coming_replicas
from sundog.host.waits import Wait, Waits
from sundog.servers.kubernetes import ClusterAPI
from tests.engines.server import MODEL, Exchange, Server, answer_well, running_server
from tests.servers.fake_kubernetes import FakeKubernetes

NUM_ROWS = 24


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
    monkeypatch.setattr("sundog.servers.kubernetes.FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(coming_replicas, "RETRY_S", 0.05)
    monkeypatch.setattr(coming_replicas, "LOOK_S", 0.02)
    monkeypatch.setattr("sundog.sched.policies.retry.BASE_S", 0.01)
    with FakeKubernetes(tmp_path) as fake:
        monkeypatch.setattr(ClusterAPI, "of_pod", classmethod(lambda cls: fake.api))
        yield fake
        fake.drop_watches()


def flow_of(kind: str = "openai", max_empty_s: float = 60.0, **options: Any) -> sd.Flow:
    flow = sd.Flow("pooled")
    pool = {"kubernetes": "llms/llama", "max_empty_s": max_empty_s}
    engine = flow.engine("e", kind=kind, model=MODEL, pool=pool, max_concurrency=4, **options)
    row = flow.input("rows", rows=[{"id": number} for number in range(NUM_ROWS)])
    flow.output(text=flow.llm("said", engine=engine, prompt=f"Row {row.id}.", max_tokens=8).text)
    return flow


def place(cluster: FakeKubernetes, name: str, server: Server, state: str = "ready") -> None:
    port = int(server.base_url.split(":")[2].removesuffix("/v1"))
    cluster.put(name, ("127.0.0.1", state), ports=[{"port": port}])


def num_asked(server: Server) -> int:
    return sum(one.method == "POST" for one in server.exchanges)


async def until(check: Any) -> None:
    async with asyncio.timeout(20.0):
        while not check():  # noqa: ASYNC110 - what is looked at happens on another thread
            await asyncio.sleep(0.01)


class HeldServer(Server):
    """Its answers come once they may."""

    may_go = False
    num_held = 0

    async def answer(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        if exchange.method == "POST" and not self.may_go:
            self.num_held += 1
            self.script.append(self._held)
        await super().answer(exchange, reader)

    async def _held(self, exchange: Exchange) -> None:
        while not self.may_go:  # noqa: ASYNC110 - it is set on another thread
            await asyncio.sleep(0.01)
        await answer_well(exchange)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldServer]:
    """A server whose answers come once they may."""
    with monkeypatch.context() as patched:
        patched.setattr("tests.engines.server.Server", HeldServer)
        runs = running_server()
        server = runs.__enter__()
    assert isinstance(server, HeldServer)
    try:
        yield server
    finally:
        server.may_go = True
        runs.__exit__(None, None, None)


def test_a_run_waits_for_its_first_server(
    cluster: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Wait, ...]] = []
    monkeypatch.setattr("sundog.runtime.local_work.TICK_S", 0.05)
    by_pool = Waits.by_pool

    def heard(waits: Waits) -> tuple[Wait, ...]:
        told.append(by_pool(waits))
        return told[-1]

    monkeypatch.setattr(Waits, "by_pool", heard)

    async def main() -> int:
        with running_server() as server:
            run = asyncio.ensure_future(flow_of().arun(state=tmp_path / "state"))
            await until(lambda: any(told))
            place(cluster, "s1", server)
            return len(await run)

    assert asyncio.run(main()) == NUM_ROWS
    (wait,) = next(filter(None, told))
    assert wait.num_calls == NUM_ROWS
    words = describe_wait(wait)
    assert words.startswith("24 calls wait for a server of 'e', ")
    assert words.endswith("(Kubernetes service llms/llama, for 60 s at most)")


async def run_while_one_leaves(
    cluster: FakeKubernetes, folder: Path, held: HeldServer, second: Server
) -> asyncio.Future[sd.Result]:
    """A run of which one server has four calls that stand, and is to go; the other has answered all others."""
    place(cluster, "s1", held)
    run = asyncio.ensure_future(flow_of().arun(state=folder / "state"))
    await until(lambda: held.num_held == 4)
    place(cluster, "s2", second)
    await until(lambda: num_asked(second) > 0)
    place(cluster, "s1", held, "ends")
    await until(lambda: num_asked(second) == NUM_ROWS - 4)
    return run


def test_a_server_that_is_to_go_ends_its_calls_and_gets_no_other(
    cluster: FakeKubernetes, tmp_path: Path, held: HeldServer
) -> None:
    async def main() -> None:
        with running_server() as second:
            run = await run_while_one_leaves(cluster, tmp_path, held, second)
            assert not run.done(), "four calls run on"
            held.may_go = True
            assert len(await run) == NUM_ROWS
            assert num_asked(held) + num_asked(second) == NUM_ROWS, "nothing was made twice"

    asyncio.run(main())


def test_what_ran_on_a_server_that_is_gone_runs_elsewhere(
    cluster: FakeKubernetes, tmp_path: Path, held: HeldServer
) -> None:
    async def main() -> None:
        with running_server() as second:
            run = await run_while_one_leaves(cluster, tmp_path, held, second)
            cluster.delete("s1")
            result = await run
            assert result.errors == []
            assert (len(result), num_asked(second)) == (NUM_ROWS, NUM_ROWS)

    asyncio.run(main())


def test_a_server_that_comes_back_is_used_again(cluster: FakeKubernetes, tmp_path: Path, held: HeldServer) -> None:
    async def main() -> None:
        place(cluster, "s1", held)
        run = asyncio.ensure_future(flow_of().arun(state=tmp_path / "state"))
        await until(lambda: held.num_held == 4)
        place(cluster, "s1", held, "unready")
        await asyncio.sleep(0.3)
        held.may_go = True
        await asyncio.sleep(0.2)
        assert not run.done(), "nothing else starts there"
        place(cluster, "s1", held)
        assert len(await run) == NUM_ROWS

    asyncio.run(main())


def test_a_pool_that_stays_empty_ends_the_run_and_the_same_command_goes_on(
    cluster: FakeKubernetes, tmp_path: Path
) -> None:
    async def main() -> None:
        with running_server() as gone:
            base_url = gone.base_url
        cluster.put("s1", ("127.0.0.1", "ready"), ports=[{"port": int(base_url.split(":")[2].removesuffix("/v1"))}])
        with pytest.raises(RunError, match="no replica of the engine 'e' is left") as caught:
            await flow_of(max_empty_s=0.3).arun(state=tmp_path / "state")
        assert "has had no server that answers for 0.3 s; the last one: no server answers at" in str(caught.value)
        with running_server() as server:
            place(cluster, "s2", server)
            assert len(await flow_of(max_empty_s=30.0).arun(state=tmp_path / "state")) == NUM_ROWS

    asyncio.run(main())


def test_a_server_that_dies_is_replaced(
    cluster: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of its end: its health does."""
    monkeypatch.setattr("sundog.host.health.PERIOD_S", 0.1)

    async def main() -> None:
        with ExitStack() as first_runs, running_server() as second:
            with monkeypatch.context() as patched:
                patched.setattr("tests.engines.server.Server", HeldServer)
                first = first_runs.enter_context(running_server())
            assert isinstance(first, HeldServer)
            place(cluster, "s1", first)
            run = asyncio.ensure_future(flow_of("vllm", max_down_s=0.5).arun(state=tmp_path / "state"))
            await until(lambda: first.num_held == 4)
            first_runs.close()
            place(cluster, "s2", second)
            assert len(await run) == NUM_ROWS

    asyncio.run(main())


def test_an_api_that_refuses_ends_the_run_with_what_is_needed(cluster: FakeKubernetes, tmp_path: Path) -> None:
    cluster.refuses = 403
    with pytest.raises(RunError, match=r"no replica of the engine 'e' is left: .* refuses the endpoints"):
        asyncio.run(flow_of().arun(state=tmp_path / "state"))
