"""A run over a server: how its answers are asked for, and how many requests are in flight."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import sundog as sd
from tests.engines.server import MODEL, Behaviour, Exchange, Server, answer_well, running_server

DOCUMENT = "The same long document that every row asks something about. " * 8
WAIT_S = 20.0


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


def list_of_models(**more: str) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.send(200, json.dumps({"data": [{"id": MODEL, **more}]}))

    return behave


def run(server: Server, folder: Path, beginning: str, num_rows: int, max_concurrency: int) -> int:
    flow = sd.Flow("served")
    engine = flow.engine("e", kind="openai", model=MODEL, base_url=server.base_url, max_concurrency=max_concurrency)
    row = flow.input("rows", rows=[{"id": number} for number in range(num_rows)])
    said = flow.llm("said", engine=engine, prompt=f"{beginning}Row {row.id}.")
    flow.output(text=said.text)
    return len(flow.run(state=folder / "state", progress=False))


def streams(server: Server) -> list[bool]:
    return [one.body["stream"] for one in server.exchanges if one.method == "POST"]


async def answer_metrics(exchange: Exchange) -> None:
    await exchange.send(404, "")


@pytest.mark.parametrize(("owner", "num_streams"), [("somebody", 1), ("vllm", 0)])
def test_only_a_prefix_for_which_others_wait_is_streamed(
    server: Server, tmp_path: Path, owner: str, num_streams: int
) -> None:
    asked_at_start = [list_of_models(owned_by=owner), *([answer_metrics] if owner == "vllm" else [])]
    # The checks before the first call ask what is served, and then the run does.
    server.script.extend(asked_at_start * 2)
    num_rows = run(server, tmp_path, DOCUMENT, 12, 8)
    assert num_rows == len(streams(server)) == 12
    assert sum(streams(server)) == num_streams


def test_as_many_requests_are_in_flight_as_may_be(server: Server, tmp_path: Path) -> None:
    """The server answers none before so many are there."""
    num_in_flight, all_there = 0, asyncio.Event()

    async def wait_for_all(exchange: Exchange) -> None:
        nonlocal num_in_flight
        num_in_flight += 1
        if num_in_flight == 256:
            all_there.set()
        async with asyncio.timeout(WAIT_S):
            await all_there.wait()
        await answer_well(exchange)

    server.script.extend([list_of_models()] * 2)
    server.script.extend([wait_for_all] * 256)
    assert run(server, tmp_path, "", 300, 256) == 300
