"""Clients that vanish: in the middle of a body, while they wait, in the middle of a stream.

Owns how they leave, and what is looked at of the server while they come and after they have gone.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.delays import Delays
from gateway.upstream import MODEL, Script, listen

from faults.asking import Heard, KeptConnection, request_bytes
from faults.mix import BEHIND, OWN
from faults.processes import ServedProcess

FLOW = """
name: rows
engines:
  own: {kind: "null", latency_s: 0.05, max_concurrency: 4, output_tokens: 200, step_time: [0.001, 0.0, 0.001, 0.0, 0.0]}
inputs:
  rows: {path: rows.jsonl}
nodes:
  text:
    llm: {engine: own, prompt: "Write about {{ row.id }}", max_tokens: 20}
outputs: {id: "{{ row.id }}", text: "{{ text.text }}"}
"""
NUM_PLACES = 4
FIGURES = ("model_calls_in_flight", "num_requests_running", "num_requests_waiting", "flow_rows_in_flight")
QUIET_WITHIN_S = 60.0
ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class VanishLoad:
    """The clients. `max_stay_s`: the longest time for which one stays once it has asked."""

    seed: int
    num_clients: int
    num_at_once: int
    max_stay_s: float
    #: Clients from one note of the server to the next.
    every: int


async def vanishing(load: VanishLoad, folder: Path) -> dict[str, Any]:
    """Return what was left in the server of clients that have gone."""
    upstream, port = await listen(Script(Delays(0.1, 0.02, 0.01)))
    async with upstream:
        engines = f"engines:\n  {BEHIND}: {{kind: openai, model: {MODEL}, base_url: http://127.0.0.1:{port}/v1"
        (folder / "engines.yaml").write_text(f"{engines}, max_concurrency: {NUM_PLACES}}}\n")
        (folder / "flow.yaml").write_text(FLOW)
        server = ServedProcess(folder, ["flow.yaml", "--engines", "engines.yaml"])
        await asyncio.to_thread(server.start)
        try:
            return await _visited(server, load)
        finally:
            server.kill()


async def _visited(server: ServedProcess, load: VanishLoad) -> dict[str, Any]:
    left, kinds, notes = iter(range(load.num_clients)), Counter[str](), []
    await _all_places_answer(server.address)
    notes.append(_note(server, 0))

    async def come_and_go() -> None:
        for number in left:
            kinds[await _vanish(server.address, load, number)] += 1
            if kinds.total() % load.every == 0:
                notes.append(_note(server, kinds.total()))
                print(notes[-1], flush=True)

    await asyncio.gather(*(come_and_go() for _ in range(load.num_at_once)))
    in_flight = await _until_quiet(server.address)
    notes.append(_note(server, load.num_clients))
    return {
        "clients": dict(sorted(kinds.items())),
        "in_flight_in_the_end": in_flight,
        "num_answered_at_once_in_the_end": await _all_places_answer(server.address),
        "notes": notes,
    }


async def _vanish(address: str, load: VanishLoad, number: int) -> str:
    """Ask for something, and leave before it is there; return how."""
    chance, where = random.Random(f"{load.seed} {number}"), urlsplit(address)
    kind, sent = _asked(chance, number)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    if kind == "in the body":
        sent = sent[: chance.randrange(sent.index(b"\r\n\r\n") + 4, len(sent))]
    writer.write(sent)
    if "stream" in kind:
        await reader.read(1)
    await asyncio.sleep(chance.uniform(0, load.max_stay_s))
    if chance.random() < 0.5:
        writer.transport.abort()
    else:
        writer.close()
    return kind


def _asked(chance: random.Random, number: int) -> tuple[str, bytes]:
    """Return how a client leaves, and its request."""
    kind = chance.choice(("in the body", "waiting", "in a stream", "waiting for rows", "in a stream of rows"))
    is_streamed = "stream" in kind
    if "rows" in kind:
        body = {"rows": [{"id": f"{number} {one}"} for one in range(2)], "stream": is_streamed}
        return kind, request_bytes("POST", "/v1/flows/rows/runs", body)
    messages = [{"role": "user", "content": f"{number} " + "and so on " * 200}]
    asked = {"model": chance.choice((OWN, BEHIND)), "messages": messages, "stream": is_streamed}
    asked["temperature"] = chance.choice((0, 1))
    return kind, request_bytes("POST", "/v1/chat/completions", asked)


async def _until_quiet(address: str) -> dict[str, float]:
    """Return what the server says is in flight, once that is nothing, or after a while."""
    connection, loop = KeptConnection(address), asyncio.get_running_loop()
    until_s = loop.time() + QUIET_WITHIN_S
    while True:
        page = (await connection.ask(request_bytes("GET", "/metrics"))).body.decode()
        told = {name: sum(map(float, re.findall(rf"^sundog:{name}(?:{{.*}})? (\S+)$", page, re.M))) for name in FIGURES}
        if not any(told.values()) or loop.time() > until_s:
            connection.close()
            return told
        await asyncio.sleep(0.2)


async def _all_places_answer(address: str) -> int:
    """Return how many of the engines' places answer, all asked at once."""
    asked = [(model, place) for model in (OWN, BEHIND) for place in range(NUM_PLACES)]

    async def ask(model: str, place: int) -> Heard:
        connection = KeptConnection(address)
        messages = [{"role": "user", "content": f"place {place}"}]
        body = {"model": model, "messages": messages, "temperature": 1, "max_tokens": 8}
        try:
            return await connection.ask(request_bytes("POST", "/v1/chat/completions", body))
        finally:
            connection.close()

    found = asyncio.gather(*(ask(*one) for one in asked))
    return sum(heard.status == 200 for heard in await asyncio.wait_for(found, ANSWER_WITHIN_S))


def _note(server: ServedProcess, number: int) -> dict[str, Any]:
    return {"num_clients": number, "rss_mib": server.rss_mib, "num_fds": server.num_fds}
