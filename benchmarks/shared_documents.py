"""Three LLM steps over rows of which six share a document: sundog against plain asyncio and thirty careful lines.

python benchmarks/shared_documents.py openvino
python benchmarks/shared_documents.py openai --base-url http://127.0.0.1:8000/v1 --model smol --server-pid 4711

All arms have the same engine, settings, prefix cache and concurrency, and are interleaved, each repetition with a new
engine and a new state folder; a server's prefix cache is emptied between them (vLLM with VLLM_SERVER_DEV_MODE=1). The
time of an arm is without the start of its engine. `achieved` is the work bound over it, by the profile of
`sundog calibrate` or --profile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from least_work import Made, distinct_prefix_minimum
from machine import save

import sundog as sd
from sundog.cost.profile import Profile, least_seconds
from sundog.engines.base import ENGINES, Chunk, Engine, GenerateRequest, Message, Usage
from sundog.engines.embedded.models import cache_folder
from sundog.ir.logical import EngineBlock
from sundog.measured.profiles import load_profile
from sundog.secrets import Secrets

WORDS = (
    *("revenue", "cost", "margin", "segment", "asset", "liability", "equity", "lease", "tax", "dividend", "share"),
    *("option", "goodwill", "inventory", "receivable", "contract", "customer", "supplier", "region", "growth"),
    *("decline", "increase", "decrease", "quarter", "year", "million", "thousand", "percent", "total", "net"),
)
QUESTIONS = ["revenue", "cost", "margin", "tax", "inventory", "equity"]
SYSTEM = "You read financial reports and answer briefly."
FACTS = "{{ row.facts }}{{ row.document }}\n\nList the figures about {{ row.topic }}."
ANSWER = "{{ row.answer }}{{ row.document }}\n\nFigures: {{ facts.text }}\n\nHow did {{ row.topic }} change?"
CHECK = "{{ row.check }}{{ row.document }}\n\nClaim: {{ answer.text }}\n\nIs the claim supported?"
LIMITS = {"facts": 32, "answer": 24, "check": 8}
MAX_CONCURRENCY = 32
BLOCK_TOKENS = 32

Rows = list[dict[str, Any]]
Ask = Callable[[str, str, dict[str, Any]], Awaitable[str]]


@dataclass
class Recorder:
    """This class records what an arm asked its engine for, and how long the engine took to start."""

    start_s: float = 0.0
    asked: list[tuple[tuple[Message, ...], Usage, str]] = field(default_factory=list)


class Recorded:
    """An engine that is listened to. Everything else is the engine's own."""

    def __init__(self, engine: Engine, recorder: Recorder) -> None:
        self._engine = engine
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def start(self) -> None:
        begin_s = time.perf_counter()
        await self._engine.start()
        self._recorder.start_s += time.perf_counter() - begin_s

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        text = ""
        async with aclosing(self._engine.generate(request)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                if chunk.usage is not None:
                    self._recorder.asked.append((request.messages, chunk.usage, text))
                yield chunk


@contextmanager
def listened_to(engine_kind: str) -> Iterator[Recorder]:
    """Record what engines of this kind are asked for in the block."""
    recorder = Recorder()
    kind: Any = ENGINES.get(engine_kind)
    original = kind.open
    kind.open = lambda self, *arguments: Recorded(original(self, *arguments), recorder)
    try:
        yield recorder
    finally:
        kind.open = original


def main() -> None:
    given = read_arguments()
    rows = make_rows(given.rows, words=given.words, shared=given.shared, is_apart=given.apart)
    options = engine_options(given, rows)
    profile = read_profile(given, options)
    arms = {"sundog": sundog_arm, "asyncio": asyncio_arm, "careful": careful_arm}
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(given.repeats):
        for name in given.arms.split(","):
            results[name].append(measure(arms[name], rows, options, given, profile))
            print(name, results[name][-1], flush=True)
    save(
        given.name,
        {
            "num_rows": len(rows),
            "engine": options,
            "seed": 1,
            "num_repeats": given.repeats,
            "profile": None if profile is None else profile.to_json(),
            "arms": {name: summary(runs) for name, runs in results.items()},
        },
    )


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("openvino", "openai"))
    parser.add_argument("--name", default="shared_documents", help="of the result file")
    parser.add_argument("--rows", type=int, default=102)
    parser.add_argument("--words", type=int, default=350, help="mean length of a document")
    parser.add_argument("--shared", type=int, default=6, help="rows with the same document")
    parser.add_argument("--apart", action="store_true", help="every prompt begins with words of its own")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--arms", default="sundog,asyncio,careful")
    parser.add_argument("--cache-share", type=float, help="a KV cache for this share of the prompt tokens (openvino)")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--base-url")
    parser.add_argument("--server-pid", type=int, help="leader of a process group whose CPU time counts")
    parser.add_argument("--profile", type=Path, help="another one than that of `sundog calibrate`")
    return parser.parse_args()


def engine_options(given: argparse.Namespace, rows: Rows) -> dict[str, Any]:
    options = {"kind": given.kind, "model": given.model, "max_concurrency": MAX_CONCURRENCY}
    if given.base_url is not None:
        options["base_url"] = given.base_url
    if given.cache_share is not None:
        # About 1.55 tokens a word, three prompts a row.
        num_prompt_tokens = 3 * 1.55 * sum(len(row["document"].split()) for row in rows)
        options["max_kv_tokens"] = int(given.cache_share * num_prompt_tokens)
    return options


def read_profile(given: argparse.Namespace, options: dict[str, Any]) -> Profile | None:
    if given.profile is not None:
        return Profile.from_json(json.loads(given.profile.read_bytes()))
    block = EngineBlock("local", given.kind, {name: value for name, value in options.items() if name != "kind"})
    return load_profile(cache_folder(), block)


def make_rows(num_rows: int, *, words: int, shared: int, is_apart: bool) -> Rows:
    """`facts`, `answer`, `check`: what the prompts of these steps begin with."""
    chance = random.Random(1)
    spread = round(words * 0.3)
    documents = [
        " ".join(chance.choices(WORDS, k=chance.randint(words - spread, words + spread)))
        for _ in range(-(-num_rows // shared))
    ]
    rows = [
        {"id": i, "document": documents[i // shared], "topic": QUESTIONS[i % len(QUESTIONS)]}
        | {step: f"{step} of row {i}: " if is_apart else "" for step in LIMITS}
        for i in range(num_rows)
    ]
    chance.shuffle(rows)
    return rows


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}


def measure(
    arm: Callable[[Rows, dict[str, Any], Recorder], None],
    rows: Rows,
    options: dict[str, Any],
    given: argparse.Namespace,
    profile: Profile | None,
) -> dict[str, Any]:
    if given.base_url is not None:
        root = given.base_url.removesuffix("/v1")
        httpx.post(f"{root}/reset_prefix_cache", timeout=60).raise_for_status()
    with listened_to(given.kind) as recorder:
        begin_s, begin_cpu_s = time.perf_counter(), cpu_s(given.server_pid)
        arm(rows, options, recorder)
    wall_s = time.perf_counter() - begin_s - recorder.start_s
    result = {"wall_s": wall_s, "cpu_s": cpu_s(given.server_pid) - begin_cpu_s, **tokens(recorder, options)}
    least, work = distinct_prefix_minimum(read_calls(recorder, options), BLOCK_TOKENS)
    result |= {"least_prompt_tokens": least, "computed_over_least": result["computed_prompt_tokens"] / least}
    if profile is not None:
        bound_s = least_seconds(work, profile)
        result |= {"bound_s": bound_s, "achieved": bound_s / wall_s}
    return {key: round(value, 3) for key, value in result.items()}


def cpu_s(server_pid: int | None) -> float:
    """Return the processor time of this process, its children that have ended, and the server with all of its process
    group."""
    total_s = sum(os.times()[:4])
    for path in Path("/proc").glob("[0-9]*/stat") if server_pid is not None else ():
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == server_pid:
                total_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total_s


def tokens(recorder: Recorder, options: dict[str, Any]) -> dict[str, int]:
    usages = [usage for _, usage, _ in recorder.asked]
    num_prompt_tokens = sum(usage.num_prompt_tokens for usage in usages)
    return {
        "num_executed": len(usages),
        "prompt_tokens": num_prompt_tokens,
        "computed_prompt_tokens": num_prompt_tokens - sum(usage.num_cached_tokens or 0 for usage in usages),
        "output_tokens": sum(usage.num_output_tokens for usage in usages),
    }


def read_calls(recorder: Recorder, options: dict[str, Any]) -> list[Made]:
    if options["kind"] == "openai":
        return [Made(ask_for_tokens(messages, options), usage) for messages, usage, _ in recorder.asked]
    engine = open_engine(options)

    async def encode() -> list[Made]:
        await engine.start()
        try:
            return [made(engine, messages, usage, text) for messages, usage, text in recorder.asked]
        finally:
            await engine.close()

    return asyncio.run(encode())


def made(engine: Any, messages: tuple[Message, ...], usage: Usage, text: str) -> Made:
    prompt = engine._encode(messages)
    followed = engine._encode((*messages, Message("assistant", text)))
    return Made(prompt, usage, followed[len(prompt) : len(prompt) + usage.num_output_tokens])


def ask_for_tokens(messages: tuple[Message, ...], options: dict[str, Any]) -> list[int]:
    written = [{"role": message.role, "content": message.content} for message in messages]
    url = f"{options['base_url'].removesuffix('/v1')}/tokenize"
    found: list[int] = httpx.post(url, json={"model": options["model"], "messages": written}, timeout=60).json()[
        "tokens"
    ]
    return found


def sundog_arm(rows: Rows, options: dict[str, Any], recorder: Recorder) -> None:
    with tempfile.TemporaryDirectory(prefix="sundog-bench-") as state:
        flow = sd.Flow("shared_documents")
        flow.engine("local", **options)
        flow.input("rows", rows=rows)
        for name, prompt in {"facts": FACTS, "answer": ANSWER, "check": CHECK}.items():
            flow.llm(name, engine="local", system=SYSTEM, prompt=prompt, max_tokens=LIMITS[name])
        flow.output(id="{{ row.id }}", answer="{{ answer.text }}", check="{{ check.text }}")
        flow.run(state=state)


def asyncio_arm(rows: Rows, options: dict[str, Any], recorder: Recorder) -> None:
    """Run what a careful engineer writes first: a coroutine per row, a semaphore, no more."""

    async def run(engine: Engine) -> None:
        ask = asker(engine)
        await asyncio.gather(*(chain(row, ask) for row in rows))

    asyncio.run(with_engine(options, run))


def careful_arm(rows: Rows, options: dict[str, Any], recorder: Recorder) -> None:
    """Rows sorted by their document, equal calls made once."""

    async def run(engine: Engine) -> None:
        ask = asker(engine)
        known: dict[tuple[str, str], asyncio.Future[str]] = {}

        async def ask_once(step: str, prompt: str, row: dict[str, Any]) -> str:
            if (step, prompt) not in known:
                known[step, prompt] = asyncio.ensure_future(ask(step, prompt, row))
            return await known[step, prompt]

        in_order = sorted(rows, key=lambda row: row["document"])
        await asyncio.gather(*(chain(row, ask_once) for row in in_order))

    asyncio.run(with_engine(options, run))


async def chain(row: dict[str, Any], ask: Ask) -> None:
    document, topic = row["document"], row["topic"]
    facts = await ask("facts", f"{row['facts']}{document}\n\nList the figures about {topic}.", row)
    answer = await ask("answer", f"{row['answer']}{document}\n\nFigures: {facts}\n\nHow did {topic} change?", row)
    await ask("check", f"{row['check']}{document}\n\nClaim: {answer}\n\nIs the claim supported?", row)


def asker(engine: Engine) -> Ask:
    slots = asyncio.Semaphore(MAX_CONCURRENCY)

    async def ask(step: str, prompt: str, row: dict[str, Any]) -> str:
        messages = (Message("system", SYSTEM), Message("user", prompt))
        async with slots:
            request = GenerateRequest(f"{row['id']}/{step}", messages, LIMITS[step])
            async with aclosing(engine.generate(request)) as stream:
                return "".join([chunk.text async for chunk in stream])

    return ask


def open_engine(options: dict[str, Any]) -> Any:
    kind = ENGINES.get(options["kind"])()
    own = {name: value for name, value in options.items() if name != "kind"}
    return kind.open(kind.Options.model_validate(own), 0, Secrets({}))


async def with_engine(options: dict[str, Any], run: Callable[[Engine], Awaitable[None]]) -> None:
    engine = open_engine(options)
    await engine.start()
    try:
        await run(engine)
    finally:
        await engine.close()


if __name__ == "__main__":
    main()
