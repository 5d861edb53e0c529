"""Measures an engine's step time from the outside: rounds of requests through `Engine.generate`, timed by their chunks.

Owns the rounds and their driving. Never fits (cost.step_time) and never reads a clock but the event loop's.

A round has background requests, which decode for its whole length and so mark the steps, and prompts that are sent in
one after another while they do. Nothing is measured while the background itself is being prefilled.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import count
from statistics import median

from sundog.cost.chunk_times import StreamTimes, read_steps
from sundog.cost.profile import StepLimits
from sundog.cost.step_time import MeasuredStep
from sundog.engines.base import Engine, GenerateRequest, Message, Usage
from sundog.errors import RunError

MAX_OVERRUN = 1.5
# A share of the usual time of a step: where all steps of a round are faster, its chunks were kept on their way.
BURST_SHARE = 0.1
DECODE_STEPS = 12
TAIL_STEPS = 4
INJECTED_TOKENS = 3
MAX_DECODING = 64
ASSUMED_CONTEXT_TOKENS = 2048
MIN_PROMPT_TOKENS = 60
WARM_UP_WORDS = 100
WORDS = (
    "apple river stone winter garden silver music letter window summer forest candle paper mountain yellow bridge"
    " ocean market shadow dinner button island cotton rocket planet ladder basket meadow pencil thunder copper"
)
# A model that ends its answer early marks no steps.
TASK = "Tell a very long story with all of these words, and begin it with"


@dataclass(frozen=True, slots=True)
class Round:
    """Requests decode in the background for some steps, and meanwhile prompts come."""

    #: Requests that decode.
    background: int
    #: Prompt tokens of each of them.
    context_tokens: int
    #: Tokens of each prompt that comes meanwhile.
    prompts: tuple[int, ...] = ()
    is_held_out: bool = False
    #: Tokens that the background requests have in common.
    shared_tokens: int = 0


# In an order that gives something of everything early.
ROUNDS = (
    Round(1, 16, (32, 128, 512, 1000)),
    Round(2, 16, (48, 200, 600), is_held_out=True),
    Round(32, 16),
    Round(4, 16, (64, 250, 700)),
    Round(4, 700),
    Round(8, 16, (90, 350), is_held_out=True),
    Round(1, 16),
    Round(16, 16, (32, 120, 400)),
    Round(8, 350),
    Round(32, 16, shared_tokens=450),
    Round(4, 300, (100, 300)),
    Round(24, 16, (80, 150), is_held_out=True),
    *(Round(batch, 16) for batch in (2, 4, 8, 16, 64)),
    Round(1, 1000),
    Round(6, 200, (150,), is_held_out=True),
    Round(32, 16, (64, 250)),
    Round(12, 16, shared_tokens=700),
    Round(24, 16, (120, 200), shared_tokens=300),
)


@dataclass(frozen=True, slots=True)
class MeasuredRounds:
    """The steps that all rounds took."""

    #: The steps to fit.
    fit: tuple[MeasuredStep, ...]
    #: Mixed steps of rounds that are not in `fit`.
    held_out: tuple[MeasuredStep, ...]
    limits: StepLimits


async def measure(
    engine: Engine,
    max_concurrency: int,
    *,
    budget_s: float,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> MeasuredRounds:
    """Run all rounds once, and again while they fit into `budget_s`; on a slow engine not all of them. `engine` is
    started and otherwise idle. RunError when its chunks do not show its steps; EngineError as it comes."""
    loop = asyncio.get_running_loop()
    driver = _Driver(engine)
    await driver.warm_up()
    rounds = [one for one in ROUNDS if _fits(one, engine, max_concurrency)]
    seen: list[tuple[Round, list[MeasuredStep]]] = []
    begin_s = loop.time()
    for number in count():
        one = rounds[number % len(rounds)]
        seen.append((one, await driver.run(one)))
        on_round(number + 1, len(rounds))
        spent_s = loop.time() - begin_s
        is_end_of_pass = (number + 1) % len(rounds) == 0
        pass_s = spent_s * len(rounds) / (number + 1)
        if spent_s > MAX_OVERRUN * budget_s or (is_end_of_pass and spent_s + pass_s > budget_s):
            break
    fastest_s = BURST_SHARE * median([median(step.elapsed_s for step in steps) for _, steps in seen if steps] or [0.0])
    believed = [(one, step) for one, steps in seen for step in steps if step.elapsed_s > fastest_s]
    fit = [step for one, step in believed if not one.is_held_out]
    held_out = [step for one, step in believed if one.is_held_out and step.work.is_mixed]
    if not (any(step.work.is_mixed for step in fit) and held_out):
        raise RunError(
            "the steps of this engine cannot be seen from the outside",
            hint="it must stream its answers token by token and answer nobody else meanwhile",
        )
    return MeasuredRounds(tuple(fit), tuple(held_out), _limits(engine, max_concurrency, fit))


def _fits(one: Round, engine: Engine, max_concurrency: int) -> bool:
    can = engine.capabilities()
    num_each = max(one.context_tokens, MIN_PROMPT_TOKENS) + _background_tokens(one, can.max_step_tokens)
    longest = max(one.shared_tokens + num_each, *one.prompts, 0) + MIN_PROMPT_TOKENS
    num_held = one.shared_tokens + one.background * num_each + max(one.prompts, default=0)
    return (
        one.background + bool(one.prompts) <= min(max_concurrency, MAX_DECODING)
        and longest < (can.max_context_tokens or ASSUMED_CONTEXT_TOKENS)
        and num_held < (can.max_kv_tokens or float("inf"))
    )


def _background_tokens(one: Round, max_step_tokens: int | None) -> int:
    """Return enough tokens to mark every step of the round."""
    room = None if max_step_tokens is None else max(1, max_step_tokens - one.background)
    in_prefill = sum(1 if room is None else -(-max(tokens, MIN_PROMPT_TOKENS) // room) for tokens in one.prompts)
    return DECODE_STEPS + in_prefill + len(one.prompts) * (INJECTED_TOKENS + 1) + TAIL_STEPS


def _limits(engine: Engine, max_concurrency: int, steps: Sequence[MeasuredStep]) -> StepLimits:
    """Return the engine's limits; where it does not tell its largest step, the largest that was seen."""
    seen = max(int(step.work.num_prefill_tokens + step.work.num_decode_tokens) for step in steps)
    return StepLimits(engine.capabilities().max_step_tokens or seen, max_concurrency)


class _Driver:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._max_step_tokens = engine.capabilities().max_step_tokens
        self._tokens_per_word, self._overhead_tokens = 1.0, 0.0
        # Not seeded: a server's prefix cache must not know the prompts of an earlier calibration.
        self._random = random.Random()
        self._numbers = count()

    async def warm_up(self) -> None:
        """Learn also how many tokens a prompt has by its words."""
        short, long = [await self._stream(self._request(num_words, 2)) for num_words in (1, 1 + WARM_UP_WORDS)]
        self._tokens_per_word = (long.num_prompt_tokens - short.num_prompt_tokens) / WARM_UP_WORDS
        self._overhead_tokens = short.num_prompt_tokens - self._tokens_per_word

    async def run(self, one: Round) -> list[MeasuredStep]:
        """Send the requests of one round to the engine: first what they share, then those in the background, then the
        measured ones in turn. Return the steps that these took."""
        num_output = _background_tokens(one, self._max_step_tokens)
        prompts = [self._request(num_tokens, INJECTED_TOKENS) for num_tokens in one.prompts]
        shared = " ".join(self._words(one.shared_tokens / self._tokens_per_word))
        if shared:
            # Only what has been computed is shared.
            await self._stream(self._request(one.context_tokens, 1, shared))
        requests = [self._request(one.context_tokens, num_output, shared) for _ in range(one.background)]
        marking = [(request, asyncio.Event()) for request in requests]
        background = [asyncio.create_task(self._stream(request, begun)) for request, begun in marking]
        try:
            for _, begun in marking:
                await begun.wait()
            streams = [await self._stream(request) for request in prompts]
            streams += [replace(await task, is_background=True) for task in background]
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        return read_steps(streams, self._max_step_tokens)

    def _words(self, number: float) -> list[str]:
        return self._random.choices(WORDS.split(), k=round(number))

    def _request(self, num_prompt_tokens: int, max_tokens: int, shared: str = "") -> GenerateRequest:
        """`shared`: text before the prompt, without which it has so many tokens."""
        words = self._words(max(1.0, (num_prompt_tokens - self._overhead_tokens) / self._tokens_per_word))
        message = Message("user", f"{shared} {' '.join(words)}\n{TASK} {words[0]}")
        request = GenerateRequest(f"calibrate/{next(self._numbers)}", (message,), max_tokens, needs_first_token=True)
        # An engine with a tokenizer remembers the tokens: no step shall wait for them.
        self._engine.count_prompt_tokens(request)
        return request

    async def _stream(self, request: GenerateRequest, begun: asyncio.Event | None = None) -> StreamTimes:
        """Send one request and read it to its end; `begun` is set with its first chunk or its failure."""
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        times: list[float] = []
        usage: Usage | None = None
        try:
            async with aclosing(self._engine.generate(request)) as chunks:
                async for chunk in chunks:
                    times.append(loop.time())
                    usage = chunk.usage
                    if begun is not None:
                        begun.set()
        finally:
            if begun is not None:
                begun.set()
        assert usage is not None, "the last chunk of an engine has the usage"
        return StreamTimes(
            sent_s, tuple(times), usage.num_prompt_tokens, usage.num_cached_tokens or 0, usage.num_output_tokens, False
        )
