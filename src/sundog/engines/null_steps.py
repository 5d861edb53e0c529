"""Modelled steps of the null engine: requests share steps that last as long as a linear model says.

Owns the composition of a step: every running request gets one token, prompts fill what is left, first come first
served. Sleeps for the time of each step on the running loop, computes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field

from sundog.errors import EngineUnavailable

StepSeconds = tuple[float, float, float, float, float]


@dataclass(slots=True, eq=False)
class _Job:
    num_prompt_tokens: int
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    tokens: asyncio.Queue[int | None] = field(default_factory=asyncio.Queue)  # None: the engine was closed

    @property
    def has_prefilled(self) -> bool:
        return self.num_computed_tokens >= self.num_prompt_tokens


class ModelledSteps:
    """`seconds`: of a step, a prefill token, a decoding request, a token of its context, a pair of attention."""

    def __init__(self, seconds: StepSeconds, max_step_tokens: int) -> None:
        self._seconds = seconds
        self._max_step_tokens = max_step_tokens
        self._jobs: list[_Job] = []
        self._driver: asyncio.Task[None] | None = None

    async def generate(
        self, num_prompt_tokens: int, num_output_tokens: int, num_cached_tokens: int = 0
    ) -> AsyncGenerator[int, None]:
        """The numbers of the output tokens, from 0, each when its step ends; EngineUnavailable after `close`.
        `num_cached_tokens` of the prompt need no computing; not all of them."""
        job = _Job(num_prompt_tokens, num_cached_tokens)
        self._jobs.append(job)
        if self._driver is None:
            self._driver = asyncio.create_task(self._drive())
        try:
            for _ in range(num_output_tokens):
                number = await job.tokens.get()
                if number is None:
                    raise EngineUnavailable("the null engine was closed")
                yield number
        finally:
            self._jobs.remove(job)

    async def close(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
            with suppress(asyncio.CancelledError):
                await self._driver
        for job in self._jobs:
            job.tokens.put_nowait(None)

    async def _drive(self) -> None:
        """Step by step while there are requests. Each gets a turn of the loop first, so that it can come or go."""
        await asyncio.sleep(0)
        while self._jobs:
            decoding = [job for job in self._jobs if job.has_prefilled]
            chunks = self._chunks(self._max_step_tokens - len(decoding))
            await asyncio.sleep(self._duration_s(decoding, chunks))
            for job, num_tokens in chunks:
                job.num_computed_tokens += num_tokens
            for job in (*decoding, *(job for job, _ in chunks if job.has_prefilled)):
                job.tokens.put_nowait(job.num_output_tokens)
                job.num_output_tokens += 1
            for _ in range(3):
                await asyncio.sleep(0)
        self._driver = None

    def _chunks(self, room: int) -> list[tuple[_Job, int]]:
        found: list[tuple[_Job, int]] = []
        for job in self._jobs:
            num_tokens = min(room, job.num_prompt_tokens - job.num_computed_tokens)
            if num_tokens > 0:
                found.append((job, num_tokens))
                room -= num_tokens
        return found

    def _duration_s(self, decoding: list[_Job], chunks: list[tuple[_Job, int]]) -> float:
        step_s, prefill_s, decode_s, context_s, pair_s = self._seconds
        context = sum(job.num_prompt_tokens + job.num_output_tokens for job in decoding)
        pairs = sum(num_tokens * job.num_computed_tokens + num_tokens**2 / 2 for job, num_tokens in chunks)
        num_prefill_tokens = sum(num_tokens for _, num_tokens in chunks)
        work_s = prefill_s * num_prefill_tokens + decode_s * len(decoding) + context_s * context + pair_s * pairs
        return step_s + work_s
