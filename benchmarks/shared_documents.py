"""Three LLM steps over rows of which six share a document, on the embedded engine: sundog against plain asyncio.

Both arms have the same engine, settings, prefix cache and concurrency. They are interleaved, each repetition with a new
engine and a new state folder.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from machine import save

import sundog as sd
from sundog.engines.base import ENGINES, Engine, GenerateRequest, Message, Usage
from sundog.secrets import Secrets

WORDS = (
    *("revenue", "cost", "margin", "segment", "asset", "liability", "equity", "lease", "tax", "dividend", "share"),
    *("option", "goodwill", "inventory", "receivable", "contract", "customer", "supplier", "region", "growth"),
    *("decline", "increase", "decrease", "quarter", "year", "million", "thousand", "percent", "total", "net"),
)
QUESTIONS = ["revenue", "cost", "margin", "tax", "inventory", "equity"]
SYSTEM = "You read financial reports and answer briefly."
FACTS = "{{ row.document }}\n\nList the figures about {{ row.topic }}."
ANSWER = "{{ row.document }}\n\nFigures: {{ facts.text }}\n\nHow did {{ row.topic }} change?"
CHECK = "{{ row.document }}\n\nClaim: {{ answer.text }}\n\nIs the claim supported?"
LIMITS = {"facts": 32, "answer": 24, "check": 8}

Rows = list[dict[str, Any]]
Asked = list[tuple[tuple[Message, ...], Usage]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=102)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small-cache", action="store_true", help="a KV cache for a tenth of the prompt tokens")
    arguments = parser.parse_args()
    rows = make_rows(arguments.rows)
    options = {"model": "smollm2-135m", "max_concurrency": 32}
    if arguments.small_cache:
        options["max_kv_tokens"] = 3 * sum(num_words(row["document"]) for row in rows) * 2 // 10
    arms: dict[str, Callable[[Rows, dict[str, Any]], dict[str, Any]]] = {"sundog": sundog_arm, "asyncio": asyncio_arm}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for _ in range(arguments.repeats):
        for name, arm in arms.items():
            results[name].append(arm(rows, options))
    save(
        "shared_documents_small_cache" if arguments.small_cache else "shared_documents",
        {
            "num_rows": len(rows),
            "engine": options,
            "seed": 1,
            "arms": {name: summary(runs) for name, runs in results.items()},
        },
    )


def make_rows(num_rows: int) -> Rows:
    chance = random.Random(1)
    documents = [" ".join(chance.choices(WORDS, k=chance.randint(250, 450))) for _ in range(-(-num_rows // 6))]
    rows = [{"id": i, "document": documents[i // 6], "topic": QUESTIONS[i % 6]} for i in range(num_rows)]
    chance.shuffle(rows)
    return rows


def num_words(text: str) -> int:
    return len(text.split())


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}


def sundog_arm(rows: Rows, options: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sundog-bench-") as state:
        flow = sd.Flow("shared_documents")
        flow.engine("local", kind="openvino", **options)
        flow.input("rows", rows=rows)
        for name, prompt in {"facts": FACTS, "answer": ANSWER, "check": CHECK}.items():
            flow.llm(name, engine="local", system=SYSTEM, prompt=prompt, max_tokens=LIMITS[name])
        flow.output(id="{{ row.id }}", answer="{{ answer.text }}", check="{{ check.text }}")
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        report = flow.run(state=state).report
        return {
            "wall_s": time.perf_counter() - begin_s,
            "cpu_s": time.process_time() - begin_cpu_s,
            "num_executed": report.num_executed,
            "prompt_tokens": report.num_prompt_tokens,
            "computed_prompt_tokens": report.num_computed_prompt_tokens,
            "output_tokens": report.num_output_tokens,
        }


def asyncio_arm(rows: Rows, options: dict[str, Any]) -> dict[str, Any]:
    kind = ENGINES.get("openvino")()
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    asked = asyncio.run(plain_asyncio(kind.open(kind.Options.model_validate(options), 0, Secrets({})), rows, 32))
    prompt = sum(usage.num_prompt_tokens for _, usage in asked)
    return {
        "wall_s": time.perf_counter() - begin_s,
        "cpu_s": time.process_time() - begin_cpu_s,
        "num_executed": len(asked),
        "prompt_tokens": prompt,
        "computed_prompt_tokens": prompt - sum(usage.num_cached_tokens or 0 for _, usage in asked),
        "output_tokens": sum(usage.num_output_tokens for _, usage in asked),
    }


async def plain_asyncio(engine: Engine, rows: Rows, max_concurrency: int) -> Asked:
    """What a careful engineer writes first: a coroutine per row, a semaphore, no more."""
    asked: Asked = []
    slots = asyncio.Semaphore(max_concurrency)

    async def ask(step: str, prompt: str, row: dict[str, Any]) -> str:
        messages = (Message("system", SYSTEM), Message("user", prompt))
        async with slots:
            text, usage = await collect(engine, GenerateRequest(f"{row['id']}/{step}", messages, LIMITS[step]))
        asked.append((messages, usage))
        return text

    async def run(row: dict[str, Any]) -> None:
        document, topic = row["document"], row["topic"]
        facts = await ask("facts", f"{document}\n\nList the figures about {topic}.", row)
        answer = await ask("answer", f"{document}\n\nFigures: {facts}\n\nHow did {topic} change?", row)
        await ask("check", f"{document}\n\nClaim: {answer}\n\nIs the claim supported?", row)

    await engine.start()
    try:
        await asyncio.gather(*(run(row) for row in rows))
    finally:
        await engine.close()
    return asked


async def collect(engine: Engine, request: GenerateRequest) -> tuple[str, Usage]:
    pieces: list[str] = []
    async with aclosing(engine.generate(request)) as stream:
        async for chunk in stream:
            pieces.append(chunk.text)
    assert chunk.usage is not None
    return "".join(pieces), chunk.usage


if __name__ == "__main__":
    main()
