"""Engine servers that are killed and come back under load, behind a gateway and behind a flow.

Owns these servers, the load of both doors, and what clients see of the kills.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from gateway.processes import BENCHMARKS, free_port, wait_until_it_answers
from gateway.upstream import MODEL

from faults.asking import BrokenOff, Heard, KeptConnection, request_bytes
from faults.processes import ServedProcess

FLOW = """
name: rows
engines:
  behind: {{kind: {kind}, model: {model}, base_url: [{urls}], max_concurrency: 64, timeout_s: 20}}
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  text:
    llm: {{engine: behind, prompt: "Write about {{{{ row.id }}}}"}}
  again:
    llm: {{engine: behind, prompt: "{{{{ row.id }}}}: {{{{ text.text }}}}"}}
outputs: {{id: "{{{{ row.id }}}}", text: "{{{{ again.text }}}}"}}
"""
KINDS = ("vllm", "openai")
"""Servers of the first kind are watched; those of the second are known by their answers alone."""
ENGINE = "behind"
TEXT = "word " * 64
BACK_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """The kills and the load. Times are in seconds."""

    seed: int
    num_replicas: int
    num_kills: int
    max_up_s: float
    max_down_s: float
    num_chatters: int
    num_readers: int
    num_senders: int


class Replica:
    """A server of the OpenAI protocol in a process, at the same port each time."""

    def __init__(self) -> None:
        self.port = free_port()
        self.num_asked = 0
        self._process = self._started()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def kill(self) -> None:
        """End it as a crash does."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def start(self) -> None:
        """Start it again."""
        self._process = self._started()

    def asked(self) -> int:
        """Return how many answers it was asked for since its start."""
        with urlopen(f"http://127.0.0.1:{self.port}/asked", timeout=10) as answer:
            return int(answer.read())

    def _started(self) -> subprocess.Popen[str]:
        script = ["--whole-s", "0.05", "--first-s", "0.02", "--gap-s", "0.005", "--port", str(self.port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.upstream", *script],
            env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_until_it_answers(f"{self.url}/models", process)
        return process


class _Seen:
    """This class counts what clients see. `rows`: the document of each row, by its number."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.rows: dict[int, dict[str, Any]] = {}
        self.is_over = False

    async def again(self, ask: Callable[[int], Awaitable[str]]) -> None:
        """Ask with 0, 1, 2 and so on until it is over, and count what is told."""
        number = 0
        while not self.is_over:
            self.counts[await ask(number)] += 1
            number += 1


async def replicas(load: ReplicaLoad, kind: str, folder: Path) -> dict[str, Any]:
    """Return what clients saw of servers behind an engine of a kind."""
    found = [Replica() for _ in range(load.num_replicas)]
    urls = ", ".join(one.url for one in found)
    (folder / "flow.yaml").write_text(FLOW.format(kind=kind, model=MODEL, urls=urls))
    server, seen = ServedProcess(folder, ["flow.yaml"]), _Seen()
    await asyncio.to_thread(server.start)
    try:
        work = [seen.again(one) for one in _load(server.address, load, seen)]
        asking = asyncio.gather(*map(asyncio.ensure_future, work))
        back_s = await _kill(load, found)
        seen.is_over = True
        await asking
    finally:
        server.kill()
        for one in found:
            one.kill()
    states = Counter(row["state"] for row in seen.rows.values())
    wrong = sum(row["state"] == "done" and row["output"]["text"] != TEXT for row in seen.rows.values())
    return {
        "seen": dict(sorted(seen.counts.items())),
        "rows": {"num_accepted": len(seen.rows), **states, "num_with_a_wrong_output": wrong},
        "seconds_until_a_replica_is_asked_again": {"median": sorted(back_s)[len(back_s) // 2], "max": max(back_s)},
    }


def _load(address: str, load: ReplicaLoad, seen: _Seen) -> list[Callable[[int], Awaitable[str]]]:
    asks: list[Callable[[int], Awaitable[str]]] = []
    asks += [_Chatter(address, f"whole {one}").whole for one in range(load.num_chatters)]
    asks += [_Chatter(address, f"stream {one}").stream for one in range(load.num_readers)]
    return [*asks, *(_Sender(address, seen, one, load.num_senders).row for one in range(load.num_senders))]


class _Chatter:
    def __init__(self, address: str, name: str) -> None:
        self._connection = KeptConnection(address)
        self._name = name

    async def whole(self, number: int) -> str:
        heard = await _answered(self._connection, self._request(number, is_streamed=False))
        if heard is not None and heard.status == 200:
            is_right = heard.json()["choices"][0]["message"]["content"] == TEXT
            return "whole answers" if is_right else "whole answers that are wrong"
        return f"whole answers failed with {None if heard is None else heard.status}"

    async def stream(self, number: int) -> str:
        heard = await _answered(self._connection, self._request(number, is_streamed=True))
        if heard is None:
            return "streams broken off without an error"
        if heard.status != 200:
            return f"streams that never began, with {heard.status}"
        if b'"error"' in heard.body:
            return "streams that ended with an error"
        is_whole = heard.body.count(b'"word "') == 64 and heard.body.rstrip().endswith(b"[DONE]")
        return "streams" if is_whole else "streams cut short without an error"

    def _request(self, number: int, *, is_streamed: bool) -> bytes:
        messages = [{"role": "user", "content": f"{self._name} {number}"}]
        asked = {"model": ENGINE, "messages": messages, "stream": is_streamed}
        return request_bytes("POST", "/v1/chat/completions", asked)


class _Sender:
    def __init__(self, address: str, seen: _Seen, place: int, num_senders: int) -> None:
        self._connection = KeptConnection(address)
        self._seen = seen
        self._place = place
        self._num_senders = num_senders

    async def row(self, number: int) -> str:
        id = number * self._num_senders + self._place
        heard = await _answered(self._connection, request_bytes("POST", "/v1/flows/rows/runs", {"row": {"id": id}}))
        if heard is None or heard.status != 200:
            return f"rows not answered: {None if heard is None else heard.status}"
        self._seen.rows[id] = heard.json()["row"]
        return f"rows {heard.json()['row']['state']}"


async def _answered(connection: KeptConnection, request: bytes) -> Heard | None:
    try:
        return await connection.ask(request)
    except (BrokenOff, OSError):
        return None


async def _kill(load: ReplicaLoad, found: list[Replica]) -> list[float]:
    """Kill one after another at random, and start each again; return how long each took to be asked again."""
    chance, back_s = random.Random(load.seed), []
    for number in range(1, load.num_kills + 1):
        await asyncio.sleep(chance.uniform(0, load.max_up_s))
        one = chance.choice(found)
        one.kill()
        await asyncio.sleep(chance.uniform(0, load.max_down_s))
        await asyncio.to_thread(one.start)
        began_s = time.monotonic()
        while await asyncio.to_thread(one.asked) == 0:
            if time.monotonic() - began_s > BACK_WITHIN_S:
                raise RuntimeError(f"replica {found.index(one)} is not asked any more")
            await asyncio.sleep(0.05)
        back_s.append(round(time.monotonic() - began_s, 2))
        if number % 10 == 0:
            print(f"{number} replicas killed", flush=True)
    return back_s
