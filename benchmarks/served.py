"""This benchmark measures what a call of a served engine costs the coordinator, beside the null engine and what one
would use instead.

Every arm makes the same calls, one for each row, to a local server of its own that answers after 0.3 s; the
null engine is the coordinator without a server. Arms take turns, each in a process of its own, which measures its own
processor time from the first call to the last after a warm-up. The figure is the median of the repetitions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from machine import save
from served_endpoint import MODEL, most_in_flight, running_endpoint

DELAY_S = 0.3
TOKENS = (1, 128, 1024)
IN_FLIGHT = (16, 64, 256, 1024)
CALLS_PER_SLOT = 12
# With fewer calls the figure would be of the run's beginning and end.
MIN_CALLS = 600
# Their calls take tens of milliseconds each with many in flight.
SLOW_ARMS, MAX_SLOW_CALLS = ("openai", "langgraph"), 1500
FLOW = """
name: served
engines:
  e: {engine}
inputs:
  rows: {{path: rows.parquet}}
nodes:
  said:
    llm: {{engine: e, prompt: "Read document {{{{ row.id }}}}: {{{{ row.body }}}}", max_tokens: {num_tokens}}}
outputs: {{id: "{{{{ row.id }}}}", text: "{{{{ said.text }}}}"}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--in-flight", type=int, nargs="+", default=IN_FLIGHT)
    parser.add_argument("--memory-rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--arm", nargs=5, metavar=("NAME", "URL", "CALLS", "IN_FLIGHT", "TOKENS"))
    options = parser.parse_args()
    if options.arm:
        name, base_url, *numbers = options.arm
        print(json.dumps(ARMS[name](base_url, *map(int, numbers))))
        return
    with running_endpoint(DELAY_S) as base_url:
        cells = [
            cell
            for num_in_flight in options.in_flight
            for num_tokens in options.tokens
            for cell in measure(base_url, options.arms, num_in_flight, num_tokens, options.repetitions)
        ]
        memory = [
            run_arm("sundog", base_url, num_rows, 1024, 1) | {"num_rows": num_rows} for num_rows in options.memory_rows
        ]
    target = "sundog at most 3 times null's cpu_ms_per_call at 256 and 128; 250 of 256 in flight; 1,000 calls/s"
    save("served", {"target": target, "delay_s": DELAY_S, "cells": cells, "memory": memory})


def measure(base_url: str, arms: list[str], num_in_flight: int, num_tokens: int, repetitions: int) -> Iterator[Any]:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for _ in range(repetitions):
        for name in arms:
            num_calls = max(MIN_CALLS, num_in_flight * CALLS_PER_SLOT)
            if name in SLOW_ARMS:
                num_calls = max(2 * num_in_flight, min(num_calls, MAX_SLOW_CALLS))
            runs[name].append(run_arm(name, base_url, num_calls, num_in_flight, num_tokens))
    for name, found in runs.items():
        figures = {key: round(median(run[key] for run in found), 3) for key in found[0]}
        cell = {"arm": name, "num_in_flight": num_in_flight, "num_output_tokens": num_tokens, **figures}
        print(cell, file=sys.stderr)
        yield cell


def run_arm(name: str, base_url: str, num_calls: int, num_in_flight: int, num_tokens: int) -> dict[str, Any]:
    most_in_flight(base_url)
    command = [sys.executable, __file__, "--arm", name, base_url, *map(str, (num_calls, num_in_flight, num_tokens))]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return {
        "num_calls": num_calls,
        "cpu_ms_per_call": round(found["cpu_s"] / num_calls * 1000, 4),
        "calls_per_s": round(num_calls / found["wall_s"], 1),
        "most_in_flight": most_in_flight(base_url),
        "peak_memory_mb": found["peak_memory_mb"],
    }


def timed(work: Callable[[], object]) -> dict[str, float]:
    begin_s, cpu_s = time.perf_counter(), processor_s()
    work()
    return {
        "wall_s": time.perf_counter() - begin_s,
        "cpu_s": processor_s() - cpu_s,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def prompt(number: int) -> str:
    return f"Read document {number}: body of document {number}"


def sundog_arm(engine: dict[str, Any]) -> Callable[[str, int, int, int], dict[str, float]]:
    def measure_run(base_url: str, num_calls: int, num_in_flight: int, num_tokens: int) -> dict[str, float]:
        import duckdb

        import sundog as sd

        with tempfile.TemporaryDirectory(prefix="sundog-served-") as name:
            folder = Path(name)
            address = {} if engine["kind"] == "null" else {"base_url": base_url, "model": MODEL}
            block = json.dumps({**engine, **address, "max_concurrency": num_in_flight})
            (folder / "flow.yaml").write_text(FLOW.format(engine=block, num_tokens=num_tokens))
            table = "select range as id, 'body of document ' || range as body from range({})"

            def run(state: str, num_rows: int) -> None:
                duckdb.sql(f"copy ({table.format(num_rows)}) to '{folder / 'rows.parquet'}'")
                options: Any = {"state": folder / state, "output": folder / f"{state}.parquet", "progress": False}
                report = sd.run(folder / "flow.yaml", max_rows_in_flight=max(4 * num_in_flight, 1024), **options).report
                assert report.num_done == num_rows, report

            run("warm", 2)
            return timed(lambda: run("measured", num_calls))

    return measure_run


def asyncio_arm(
    opening: Callable[[str, int], Awaitable[Callable[[int], Awaitable[str]]]],
) -> Callable[[str, int, int, int], dict[str, float]]:
    """An arm of so many workers that take the next row."""

    def measure_calls(base_url: str, num_calls: int, num_in_flight: int, num_tokens: int) -> dict[str, float]:
        async def run() -> dict[str, float]:
            ask = await opening(base_url, num_tokens)
            await ask(0)
            numbers = iter(range(num_calls))

            async def work() -> None:
                for number in numbers:
                    assert await ask(number)

            begin_s, cpu_s = time.perf_counter(), processor_s()
            await asyncio.gather(*(work() for _ in range(num_in_flight)))
            ended = {"wall_s": time.perf_counter() - begin_s, "cpu_s": processor_s() - cpu_s}
            return ended | {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}

        return asyncio.run(run())

    return measure_calls


async def bare_client(base_url: str, num_tokens: int) -> Callable[[int], Awaitable[str]]:
    """The transport and the JSON of request and answer, nothing else."""
    from sundog.transport.client import Client, Request

    client = Client()

    async def ask(number: int) -> str:
        message = {"role": "user", "content": prompt(number)}
        body = {"model": MODEL, "stream": False, "messages": [message], "temperature": 0.0, "max_tokens": num_tokens}
        headers = {"Content-Type": "application/json"}
        request = Request("POST", f"{base_url}/chat/completions", headers, json.dumps(body).encode())
        async with client.open(request, silence_s=600) as answer:
            text: str = json.loads(await answer.read(10**8))["choices"][0]["message"]["content"]
            return text

    return ask


async def openai_client(base_url: str, num_tokens: int) -> Callable[[int], Awaitable[str]]:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=base_url, api_key="none", timeout=600)

    async def ask(number: int) -> str:
        message: Any = {"role": "user", "content": prompt(number)}
        found = await client.chat.completions.create(
            model=MODEL, messages=[message], temperature=0.0, max_tokens=num_tokens
        )
        return found.choices[0].message.content or ""

    return ask


def langgraph_arm(base_url: str, num_calls: int, num_in_flight: int, num_tokens: int) -> dict[str, float]:
    """A graph of one node that asks through the `openai` client, as a batch."""
    from typing import TypedDict

    from langgraph.graph import END, START, StateGraph

    class State(TypedDict, total=False):
        number: int
        text: str

    async def run() -> dict[str, float]:
        ask = await openai_client(base_url, num_tokens)

        async def node(state: State) -> State:
            return {"text": await ask(state["number"])}

        graph = StateGraph(State)
        graph.add_node("said", node)
        graph.add_edge(START, "said")
        graph.add_edge("said", END)
        compiled = graph.compile()
        await compiled.ainvoke({"number": 0})
        begin_s, cpu_s = time.perf_counter(), processor_s()
        rows: list[Any] = [{"number": number} for number in range(num_calls)]
        found = await compiled.abatch(rows, config={"max_concurrency": num_in_flight})
        assert len(found) == num_calls
        ended = {"wall_s": time.perf_counter() - begin_s, "cpu_s": processor_s() - cpu_s}
        return ended | {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}

    return asyncio.run(run())


ARMS: dict[str, Callable[[str, int, int, int], dict[str, float]]] = {
    "sundog": sundog_arm({"kind": "openai"}),
    "null": sundog_arm({"kind": "null"}),
    "bare": asyncio_arm(bare_client),
    "openai": asyncio_arm(openai_client),
    "langgraph": langgraph_arm,
}


if __name__ == "__main__":
    main()
