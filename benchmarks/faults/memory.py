"""The memory of a server over very many requests, each with a session, a prompt and keys of its own.

Owns the load and what is noted of the server while it goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gateway.delays import Delays
from gateway.upstream import MODEL, Script, listen

from faults.asking import BrokenOff, KeptConnection, request_bytes
from faults.mix import BEHIND, OWN, mixed_request
from faults.processes import ServedProcess

FLOW = """
name: rows
engines:
  local: {kind: "null"}
inputs:
  rows: {path: rows.jsonl}
nodes:
  text:
    llm: {engine: local, prompt: "Write about {{ row.id }}"}
outputs: {id: "{{ row.id }}", text: "{{ text.text }}"}
"""
SETTLED_S = 1.0


@dataclass(frozen=True, slots=True)
class MemoryLoad:
    """The size of a load."""

    seed: int
    num_requests: int
    num_rows: int
    num_in_flight: int
    #: Requests from one note of the server to the next.
    every: int


@dataclass(slots=True)
class _Progress:
    statuses: Counter[int] = field(default_factory=Counter)
    num_broken: int = 0
    num_ended: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, status: int | None) -> None:
        self.num_ended += 1
        if status is None:
            self.num_broken += 1
        else:
            self.statuses[status] += 1
        self.changed.set()


async def memory(load: MemoryLoad, folder: Path) -> dict[str, Any]:
    """Return what a server held as a load went on: of chats first, then of rows."""
    upstream, port = await listen(Script(Delays(0.0, 0.0, 0.0)))
    async with upstream:
        server = _server(folder, f"http://127.0.0.1:{port}/v1")
        await asyncio.to_thread(server.start)
        try:
            chats = await _driven(server, load, load.num_requests, partial(mixed_request, load.seed))
            rows = await _driven(server, load, load.num_rows, partial(_row, load.seed))
        finally:
            server.kill()
    return {"chats": chats, "rows": rows}


def _server(folder: Path, upstream: str) -> ServedProcess:
    engines = f'engines:\n  {OWN}: {{kind: "null", max_concurrency: 64}}\n'
    engines += f"  {BEHIND}: {{kind: openai, model: {MODEL}, base_url: {upstream}, max_concurrency: 64}}\n"
    (folder / "engines.yaml").write_text(engines)
    (folder / "flow.yaml").write_text(FLOW)
    return ServedProcess(folder, ["flow.yaml", "--engines", "engines.yaml"])


def _row(seed: int, number: int) -> bytes:
    headers = {"idempotency-key": f"{seed}-{number}"}
    return request_bytes("POST", "/v1/flows/rows/runs", {"row": {"id": f"{seed} {number}"}}, headers)


async def _driven(
    server: ServedProcess, load: MemoryLoad, num_requests: int, make: Callable[[int], bytes]
) -> dict[str, Any]:
    progress, began_s = _Progress(), time.monotonic()
    notes, requests = [_note(server, progress, began_s)], map(make, range(num_requests))
    askers = [asyncio.ensure_future(_ask(server.address, requests, progress)) for _ in range(load.num_in_flight)]
    asked = asyncio.gather(*askers)
    for at in range(load.every, num_requests, load.every):
        while progress.num_ended < at:
            progress.changed.clear()
            await progress.changed.wait()
        notes.append(_note(server, progress, began_s))
        print(notes[-1], flush=True)
    await asked
    await asyncio.sleep(SETTLED_S)
    notes.append(_note(server, progress, began_s))
    statuses = {str(status): number for status, number in sorted(progress.statuses.items())}
    return {"statuses": statuses, "num_broken_off": progress.num_broken, "notes": notes}


async def _ask(address: str, requests: Iterator[bytes], progress: _Progress) -> None:
    connection = KeptConnection(address)
    for request in requests:
        try:
            progress.heard((await connection.ask(request)).status)
        except (BrokenOff, OSError):
            progress.heard(None)
    connection.close()


def _note(server: ServedProcess, progress: _Progress, began_s: float) -> dict[str, Any]:
    return {
        "num_requests": progress.num_ended,
        "rss_mib": server.rss_mib,
        "num_fds": server.num_fds,
        "seconds": round(time.monotonic() - began_s, 1),
    }
