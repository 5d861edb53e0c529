"""A server that is killed again and again while rows with effects and calls of models run.

Owns the kills, the senders that repeat with their keys, and the reckoning at the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.asking import BrokenOff, Heard, KeptConnection, request_bytes
from faults.mix import OWN
from faults.processes import ServedProcess

FLOW = """
name: notes
engines:
  local: {kind: "null", latency_s: 0.02}
inputs:
  rows: {path: rows.jsonl}
nodes:
  text:
    llm: {engine: local, prompt: "Write about {{ row.id }}"}
  note:
    python: {call: "notes:write", args: {id: "{{ row.id }}", text: "{{ text.text }}"}, effect: true}
  after:
    llm: {engine: local, prompt: "So {{ note }} ends"}
outputs: {id: "{{ row.id }}", text: "{{ after.text }}"}
"""
NOTES = """
from pathlib import Path

HERE = Path(__file__).parent


def write(id, text):
    with (HERE / "notes.txt").open("a") as file:
        file.write(f"{id}\\n")
    return id
"""
EFFECT = "note"
RUNS = "/v1/flows/notes/runs"
MAX_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class KillLoad:
    """The kills and the load."""

    seed: int
    num_kills: int
    #: Rows that are sent from one kill to the next, and the longest time from the last of them to the kill.
    num_rows_between: int
    max_delay_s: float
    num_senders: int
    num_chatters: int

    @property
    def num_rows(self) -> int:
        return self.num_rows_between * (self.num_kills + 1)


@dataclass(slots=True)
class _Book:
    """The rows so far. `accepted`: the runs by the numbers of their rows."""

    accepted: dict[int, str] = field(default_factory=dict)
    num_attempts: int = 0
    num_chats: int = 0
    num_chats_failed: int = 0
    has_changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False


async def kills(load: KillLoad, folder: Path) -> dict[str, Any]:
    """Return what became of all rows."""
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "notes.py").write_text(NOTES)
    (folder / "engines.yaml").write_text(f'engines:\n  {OWN}: {{kind: "null", latency_s: 0.02}}\n')
    server, book = ServedProcess(folder, ["flow.yaml", "--engines", "engines.yaml"]), _Book()
    await asyncio.to_thread(server.start)
    try:
        chatters = [asyncio.ensure_future(_chat(server.address, load, one, book)) for one in range(load.num_chatters)]
        left = iter(range(load.num_rows))
        senders = [asyncio.ensure_future(_send(server.address, left, book)) for _ in range(load.num_senders)]
        starts_s = await _kill(server, load, book)
        await asyncio.gather(*senders)
        book.is_over = True
        await asyncio.gather(*chatters)
        ends = await _ends(server, book)
        again = await _sent_again(server, book)
    finally:
        server.kill()
    noted = Counter(int(line) for line in (folder / "notes.txt").read_text().split())
    return {
        "start_s": {"median": sorted(starts_s)[len(starts_s) // 2], "max": max(starts_s)},
        "num_attempts_of_senders": book.num_attempts,
        "num_chats_answered": book.num_chats,
        "num_chats_that_failed_and_were_sent_again": book.num_chats_failed,
        "num_keys_that_gave_another_run_when_sent_again": again,
        **reckoned(ends, noted, load.num_rows),
    }


def reckoned(ends: dict[int, dict[str, Any]], noted: Counter[int], num_rows: int) -> dict[str, Any]:
    """Return the counts of rows by what became of them. `ends`: the rows' documents, `noted`: how often the effect of
    each has happened."""
    failed = {number: end["error"] for number, end in ends.items() if end["state"] == "failed"}
    done = {number for number, end in ends.items() if end["state"] == "done"}
    return {
        "num_rows": num_rows,
        "num_lost": num_rows - len(done) - len(failed),
        "num_done": len(done),
        "num_done_with_a_wrong_output": sum(ends[number]["output"]["id"] != number for number in done),
        "num_done_without_their_effect": len(done - noted.keys()),
        "num_effects_doubled": sum(number > 1 for number in noted.values()),
        "num_failed_for_an_unknown_outcome": sum(error["node"] == EFFECT for error in failed.values()),
        "num_of_these_whose_effect_had_happened": sum(number in noted for number in failed),
        "num_failed_for_another_reason": sum(error["node"] != EFFECT for error in failed.values()),
    }


async def _kill(server: ServedProcess, load: KillLoad, book: _Book) -> list[float]:
    """Kill and start the server so many times; return the seconds of each start."""
    chance, starts_s = random.Random(load.seed), []
    for number in range(1, load.num_kills + 1):
        while len(book.accepted) < number * load.num_rows_between:
            book.has_changed.clear()
            await asyncio.wait_for(book.has_changed.wait(), MAX_WAIT_S)
        await asyncio.sleep(chance.uniform(0, load.max_delay_s))
        server.kill()
        await asyncio.to_thread(server.start)
        starts_s.append(round(server.start_s, 2))
        if number % 10 == 0:
            print(f"{number} kills, {len(book.accepted)} rows accepted", flush=True)
    return starts_s


async def _send(address: str, left: Any, book: _Book) -> None:
    """Send rows, each with its key again until it is accepted."""
    connection = KeptConnection(address)
    for number in left:
        while (heard := await _answer(connection, _row(number))) is None or heard.status == 503:
            book.num_attempts += 1
            await asyncio.sleep(0.02)
        assert heard.status in (200, 202), heard
        book.num_attempts += 1
        book.accepted[number] = heard.json()["id"]
        book.has_changed.set()
    connection.close()


async def _chat(address: str, load: KillLoad, chatter: int, book: _Book) -> None:
    """Ask a model again and again."""
    connection, number = KeptConnection(address), 0
    while not book.is_over:
        messages = [{"role": "user", "content": f"{load.seed} {chatter} {number}"}]
        asked = {"model": OWN, "messages": messages, "max_tokens": 8}
        heard = await _answer(connection, request_bytes("POST", "/v1/chat/completions", asked))
        if heard is not None and heard.status == 200:
            book.num_chats += 1
            number += 1
        else:
            book.num_chats_failed += 1
            await asyncio.sleep(0.02)
    connection.close()


async def _answer(connection: KeptConnection, request: bytes) -> Heard | None:
    """Return an answer, None where the connection breaks."""
    try:
        return await connection.ask(request)
    except (BrokenOff, OSError):
        return None


def _row(number: int) -> bytes:
    headers = {"prefer": "respond-async", "idempotency-key": f"key-{number}"}
    return request_bytes("POST", RUNS, {"row": {"id": number}}, headers)


async def _ends(server: ServedProcess, book: _Book) -> dict[int, dict[str, Any]]:
    """Return the document of each row, once all runs have ended."""
    connection, ends, until_s = KeptConnection(server.address), {}, time.monotonic() + MAX_WAIT_S
    for number, run_id in book.accepted.items():
        while (heard := await connection.ask(request_bytes("GET", f"{RUNS}/{run_id}"))).status == 200:
            run = heard.json()
            if run["status"] == "completed":
                ends[number] = run["row"]
                break
            if time.monotonic() > until_s:
                break
            await asyncio.sleep(0.02)
    connection.close()
    return ends


async def _sent_again(server: ServedProcess, book: _Book) -> int:
    """Send all rows once more, and return how many of them did not find their run."""
    connection = KeptConnection(server.address)
    found = [json.loads((await connection.ask(_row(number))).body)["id"] for number in book.accepted]
    connection.close()
    return sum(one != other for one, other in zip(found, book.accepted.values(), strict=True))
