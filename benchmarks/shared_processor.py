"""Several models on one processor: what do the same requests take all at once, and one model after another?

python benchmarks/shared_processor.py openvino '{"model": "smollm2-135m"}'
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from itertools import count
from statistics import median
from typing import Any

import machine

from sundog.engines.base import ENGINES, Engine, GenerateRequest, Message
from sundog.secrets import Secrets

NUM_COPIES = 3
# Requests for each copy, words of a prompt, tokens of an answer.
SHAPES = ((2, 20, 60), (6, 20, 60), (12, 20, 60), (6, 150, 4), (6, 100, 30))
WORDS = ("alpha", "river", "stone", "cloud", "tree")
_numbers = count()


async def answer(engine: Engine, rng: random.Random, num_words: int, num_tokens: int) -> None:
    """One request whose prompt nobody has seen."""
    number = next(_numbers)
    text = " ".join((str(number), *rng.choices(WORDS, k=num_words)))
    request = GenerateRequest(str(number), (Message("user", text),), num_tokens, 0.0)
    async with aclosing(engine.generate(request)) as chunks:
        async for _ in chunks:
            pass


async def ask(engine: Engine, rng: random.Random, shape: tuple[int, int, int]) -> None:
    num_requests, num_words, num_tokens = shape
    await asyncio.gather(*(answer(engine, rng, num_words, num_tokens) for _ in range(num_requests)))


async def compare(engines: Sequence[Engine], shape: tuple[int, int, int], num_repeats: int) -> dict[str, Any]:
    rng = random.Random(0)
    apart_s, at_once_s = [], []
    for _ in range(num_repeats):
        begin_s = time.perf_counter()
        for engine in engines:
            await ask(engine, rng, shape)
        between_s = time.perf_counter()
        await asyncio.gather(*(ask(engine, rng, shape) for engine in engines))
        apart_s.append(between_s - begin_s)
        at_once_s.append(time.perf_counter() - between_s)
    return {
        "shape": dict(zip(("num_requests", "num_words", "num_tokens"), shape, strict=True)),
        "one_after_another_s": [round(one, 2) for one in apart_s],
        "at_once_s": [round(one, 2) for one in at_once_s],
        "ratio": round(median(two / one for one, two in zip(apart_s, at_once_s, strict=True)), 3),
    }


async def measure(kind_name: str, given: dict[str, Any], num_repeats: int) -> list[dict[str, Any]]:
    kind = ENGINES.get(kind_name)()
    options = kind.Options.model_validate(given)
    engines = [kind.open(options, 0, Secrets({})) for _ in range(NUM_COPIES)]
    try:
        await asyncio.gather(*(engine.start() for engine in engines))
        # The first steps of an engine are slower.
        await asyncio.gather(*(ask(engine, random.Random(1), (2, 20, 10)) for engine in engines))
        return [await compare(engines, shape, num_repeats) for shape in SHAPES]
    finally:
        for engine in engines:
            await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("options", type=json.loads, help="the engine block, as JSON")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    shapes = asyncio.run(measure(given.kind, given.options, given.repeats))
    ratio = round(median(one["ratio"] for one in shapes), 3)
    machine.save(
        "shared_processor", {"engine": given.options, "num_copies": NUM_COPIES, "ratio": ratio, "shapes": shapes}
    )


if __name__ == "__main__":
    main()
