"""Cells over servers that come and go: each server is used, by one cell where there are enough, and none too much."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import sundog as sd
from sundog.cells.handing import CellServers, ServerHands, SetServers
from sundog.cluster.hands import ServerHand
from sundog.config import read_config
from sundog.errors import ConfigError
from sundog.execution import coming_replicas
from sundog.execution.pool_shares import PoolShares
from sundog.ir.physical import PhysicalPlan
from sundog.servers.kubernetes import ClusterAPI
from sundog.servers.replica_watch import ReplicaFound, ReplicaLeaving, ReplicaVanished, ToldReplicas
from sundog.session.session import plan_session
from tests.cells.cluster_runs import Machines
from tests.engines.server import MODEL, Exchange, Server, answer_well, running_server
from tests.servers.fake_kubernetes import FakeKubernetes
from tests.waiting import until

NUM_ROWS, MOST = 160, 6
FLOW = f"""
name: pooled
engines:
  e: {{kind: openai, model: {MODEL}, pool: {{kubernetes: llms/llama}}, max_concurrency: {MOST}}}
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  said: {{llm: {{engine: e, prompt: "Row {{{{ row.id }}}}.", max_tokens: 8}}}}
outputs: {{text: "{{{{ said.text }}}}"}}
"""


class CountedServer(Server):
    """It counts what it answers at once, and takes a moment for each answer."""

    num_now = 0
    num_most = 0

    async def answer(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        if exchange.method == "POST":
            self.script.append(self._counted)
        await super().answer(exchange, reader)

    async def _counted(self, exchange: Exchange) -> None:
        self.num_now += 1
        self.num_most = max(self.num_most, self.num_now)
        try:
            await asyncio.sleep(0.15)
            await answer_well(exchange)
        finally:
            self.num_now -= 1


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
    monkeypatch.setattr("sundog.servers.kubernetes.FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(coming_replicas, "RETRY_S", 0.05)
    monkeypatch.setattr("tests.engines.server.Server", CountedServer)
    with FakeKubernetes(tmp_path) as fake:
        monkeypatch.setattr(ClusterAPI, "of_pod", classmethod(lambda cls: fake.api))
        yield fake
        fake.drop_watches()


def place(cluster: FakeKubernetes, name: str, server: Server, state: str = "ready") -> None:
    port = int(server.base_url.split(":")[2].removesuffix("/v1"))
    cluster.put(name, ("127.0.0.1", state), ports=[{"port": port}])


def num_asked(server: Server) -> int:
    return sum(one.method == "POST" for one in server.exchanges)


def test_cells_use_the_servers_that_there_are(cluster: FakeKubernetes, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW, encoding="utf-8")
    rows = "".join(json.dumps({"id": number}) + "\n" for number in range(NUM_ROWS))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    machines, shared = Machines(tmp_path, 3), list[int]()
    with ExitStack() as running:
        first, *others = (running.enter_context(running_server()) for _ in range(4))
        place(cluster, "s0", first)

        def change(stop: Callable[[], None]) -> None:
            """One server for three cells, then four, then three."""
            until(lambda: num_asked(first) > 6)
            shared.append(first.num_most)  # type: ignore[attr-defined]  # a CountedServer
            for number, server in enumerate(others, 1):
                place(cluster, f"s{number}", server)
            until(lambda: sum(map(num_asked, others)) > 20)
            place(cluster, "s0", first, "ends")

        report, output = machines.run(machines.work, on_begun=change)
        servers = [first, *others]
        assert report.num_done == NUM_ROWS
        assert output.count(b"\n") == NUM_ROWS
        assert sum(map(num_asked, servers)) == NUM_ROWS, "no call was made twice"
        assert 1 <= shared[0] <= MOST, "the cells shared its places"


def plan(max_concurrency: int = 8) -> PhysicalPlan:
    flow = sd.Flow("f")
    pool = {"kubernetes": "llms/llama"}
    engine = flow.engine("e", kind="openai", model="m", pool=pool, max_concurrency=max_concurrency)
    row = flow.input("rows", rows=[{"id": 1}])
    flow.output(text=flow.llm("said", engine=engine, prompt=f"{row.id}").text)
    return plan_session(flow.plan(), flow.base_dir, read_config(None)).plan


class Shared(PoolShares):
    def __init__(self) -> None:
        self.amounts: list[int] = []

    def share(self, name: str, amount: int) -> None:
        assert name == "engine:e"
        self.amounts.append(amount)


def test_a_cell_takes_leaves_and_drops_servers_as_it_is_told() -> None:
    async def main() -> None:
        one = plan()
        servers, pools = CellServers(one), Shared()
        watch = servers.watch_of(one.logical.engines[0]).watch()
        servers.hear(SetServers("x", "e", 2, ServerHand(("a", "b"), 3)), pools)
        servers.hear(SetServers("x", "e", 1, ServerHand(("c",))), pools)
        servers.hear(SetServers("x", "e", 3, ServerHand(("b", "c"))), pools)
        servers.hear(SetServers("x", "e", 4, ServerHand(("c",), gone=("a", "b"))), pools)
        heard = [await anext(watch) for _ in range(6)]
        assert heard[:2] == [ReplicaFound("a"), ReplicaFound("b")]
        assert heard[2:4] == [ReplicaFound("c"), ReplicaLeaving("a")], "the late word says nothing"
        assert heard[4:] == [ReplicaVanished("a"), ReplicaVanished("b")], "b fails at once, and a no longer waits"
        assert pools.amounts == [2, 8, 8]

    asyncio.run(main())


def test_a_driver_tells_cells_of_what_it_hears() -> None:
    told: list[SetServers] = []
    source = ToldReplicas()
    hands = ServerHands(plan(), 2, lambda block: source, told.append)

    async def main() -> None:
        following = asyncio.ensure_future(hands.follow())
        hands.join("x")
        hands.join("y")
        for url in "ab":
            source.tell(ReplicaFound(url))
        await asyncio.sleep(0.01)
        last = {word.cell: word.hand.urls for word in told}
        assert sorted(last.values()) == [("a",), ("b",)]
        hands.gone("x")
        assert (told[-1].cell, told[-1].hand.urls) == ("y", ("a", "b"))
        assert [word.number for word in told] == sorted({word.number for word in told})
        following.cancel()

    asyncio.run(main())


def test_a_server_has_a_place_for_each_cell() -> None:
    with pytest.raises(ConfigError, match="takes 8 requests at once, and 9 cells want one each while there is one"):
        ServerHands(plan(), 9, lambda block: ToldReplicas(), lambda word: None)
