"""The policies on a modelled engine in virtual time: three LLM steps, rows that share documents, a KV cache that is
large or small. Nothing depends on the machine's load.

From the end of a call to the arrival of the row's next one: COMMIT_S, as measured for the store's group commit.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from machine import save

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.modelled.null import NullEngine, NullKind
from sundog.host.attempt import Success
from sundog.host.driver import Driver
from sundog.host.prefix_key import PREFIX_BLOCK_TOKENS, prefix_key
from sundog.host.virtual_loop import run_virtually
from sundog.sched.catalog import FCFS, PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import ReplicaAdded, RequestArrived, Submit
from sundog.sched.policy import PolicySet
from sundog.secrets import Secrets

COMMIT_S = 0.004
# The figures are those of the embedded model on two cores.
STEP_TIME = (0.009, 0.00064, 0.00067, 4e-6, 3.5e-7)
OUTPUT_TOKENS = (32, 24, 8)
SYSTEM = "You read financial reports and answer briefly. "
Engines = Sequence[NullEngine]
Ask = Callable[[str, int, int], Awaitable[str]]
Arm = Callable[[Engines], Awaitable[None]]


def make_rows(num_rows: int, shared: int) -> list[tuple[str, str]]:
    """(document, question); the documents have 1,400 to 2,600 characters."""
    chance = random.Random(1)
    documents = ["".join(chance.choices("abcdefgh ", k=chance.randint(1400, 2600))) for _ in range(num_rows // shared)]
    rows = [(documents[i // shared], f"question {i}: " + "why " * 12) for i in range(shared * len(documents))]
    chance.shuffle(rows)
    return rows


async def chain(row: int, document: str, question: str, ask: Ask) -> None:
    found = ""
    for depth in range(len(OUTPUT_TOKENS)):
        found = await ask(f"{document}\n{found} {question} step {depth}", row, depth)
        await asyncio.sleep(COMMIT_S)


async def plain(engines: Engines, rows: list[tuple[str, str]], limit: int) -> None:
    slots = asyncio.Semaphore(limit * len(engines))

    async def ask(prompt: str, row: int, depth: int) -> str:
        async with slots:
            return await generate(engines[row % len(engines)], f"{row}/{depth}", prompt, depth)

    await asyncio.gather(*(chain(i, *row, ask) for i, row in enumerate(rows)))


async def scheduled(engines: Engines, rows: list[tuple[str, str]], limit: int, policies: PolicySet) -> None:
    host = Driver(SchedulerCore(policies), lambda event: None)
    max_kv_tokens = engines[0].capabilities().max_kv_tokens
    assert max_kv_tokens is not None
    for number in range(len(engines)):
        host.tell(ReplicaAdded(0.0, f"a/{number}", "a", limit, max_kv_tokens, max_kv_tokens // PREFIX_BLOCK_TOKENS))
    waiting_rows = asyncio.Semaphore(2048)

    async def ask(prompt: str, row: int, depth: int) -> str:
        request_id = f"{row}/{depth}"
        messages = (Message("system", SYSTEM), Message("user", prompt))
        num_tokens = engines[0].count_prompt_tokens(GenerateRequest(request_id, messages))
        key = prefix_key(messages) if policies.needs_prefixes else ()
        arrived = RequestArrived(
            0.0,
            request_id,
            "a",
            row,
            depth,
            num_tokens,
            OUTPUT_TOKENS[depth],
            key,
            has_successor=depth + 1 < len(OUTPUT_TOKENS),
            workflow_id=str(row),
        )

        async def attempt(submit: Submit) -> Success[str]:
            engine = engines[int(submit.replica_id.removeprefix("a/"))]
            text = await generate(engine, request_id, prompt, depth, lambda: host.prefill_ended(request_id))
            return Success(text)

        return await host.run(arrived, attempt)

    async def run(index: int, row: tuple[str, str]) -> None:
        async with waiting_rows:
            await chain(index, *row, ask)

    await asyncio.gather(*(run(i, row) for i, row in enumerate(rows)))


async def generate(
    engine: NullEngine, request_id: str, prompt: str, depth: int, on_first: Callable[[], None] = lambda: None
) -> str:
    messages = (Message("system", SYSTEM), Message("user", prompt))
    pieces: list[str] = []
    async with aclosing(engine.generate(GenerateRequest(request_id, messages, OUTPUT_TOKENS[depth]))) as chunks:
        async for chunk in chunks:
            if not pieces:
                on_first()
            pieces.append(chunk.text)
    return "".join(pieces)


def measure(run: Arm, limit: int, num_replicas: int, max_kv_tokens: int) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        options = NullKind.Options(
            model="null", max_concurrency=limit, step_time=STEP_TIME, max_kv_tokens=max_kv_tokens, output_tokens=64
        )
        engines = [NullKind().open(options, number, Secrets({})) for number in range(num_replicas)]
        for engine in engines:
            await engine.start()
        await run(engines)
        elapsed_s = asyncio.get_running_loop().time()
        for engine in engines:
            await engine.close()
        stats = [engine.stats() for engine in engines]
        return {
            "makespan_s": round(elapsed_s, 2),
            "computed_prompt_tokens": sum(one.num_prompt_tokens - one.num_cached_tokens for one in stats),
            "num_steps": sum(engine.num_steps for engine in engines),
        }

    return run_virtually(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--limit", type=int, default=32, help="requests in flight, for each replica")
    parser.add_argument("--replicas", type=int, default=1)
    given = parser.parse_args()
    rows = make_rows(given.rows, 6)
    num_prompt_tokens = sum(len(OUTPUT_TOKENS) * (len(document) + 140) // 4 for document, _ in rows)
    result: dict[str, Any] = {}
    by_document = sorted(rows)
    arms: dict[str, Arm] = {
        "asyncio": lambda engines: plain(engines, rows, given.limit),
        "asyncio, sorted": lambda engines: plain(engines, by_document, given.limit),
        "fcfs": lambda engines: scheduled(engines, rows, given.limit, FCFS),
        "prefix_grouped": lambda engines: scheduled(engines, rows, given.limit, PREFIX_GROUPED),
    }
    for share in (1.0, 0.1, 0.05):
        for name, arm in arms.items():
            measured = measure(arm, given.limit, given.replicas, int(share * num_prompt_tokens / given.replicas))
            result[f"{name}, cache {share}"] = measured
            print(share, name, measured, flush=True)
    name = f"prefix_order_{given.replicas}_replicas"
    save(name, {"num_rows": len(rows), "num_replicas": given.replicas, "arms": result})


if __name__ == "__main__":
    main()
