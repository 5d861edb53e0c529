"""Modelled steps of the null engine: requests share steps that last as long as a linear model says.

Owns the composition of a step: every running request gets one token, prompts fill what is left, first come first
served. With a table of KV blocks a request waits for room, and the last to come makes room for the others. Sleeps for
the time of each step on the running loop, computes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sundog.engines.modelled.null_cache import BlockTable, Held
from sundog.errors import EngineUnavailable

StepSeconds = tuple[float, float, float, float, float]


@dataclass(slots=True, eq=False)
class _Job:
    """One request under way."""

    num_prompt_tokens: int
    prompt_keys: Sequence[int]
    #: Tokens of the prompt, and after a preemption of the answer so far.
    num_prefill_tokens: int
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    held: Held | None = None
    tokens: asyncio.Queue[int | None] = field(default_factory=asyncio.Queue)  # None: the engine was closed

    @property
    def has_prefilled(self) -> bool:
        return self.num_computed_tokens >= self.num_prefill_tokens


class ModelledSteps:
    """`seconds`: of a step, a prefill token, a decoding request, a token of its context, a pair of attention.
    `table`: the KV blocks; None where they are without end and no prefix is kept."""

    def __init__(self, seconds: StepSeconds, max_step_tokens: int, table: BlockTable | None = None) -> None:
        self._seconds = seconds
        self._max_step_tokens = max_step_tokens
        self._table = table
        self._waiting: list[_Job] = []
        self._jobs: list[_Job] = []
        self._driver: asyncio.Task[None] | None = None
        self.num_steps = self.num_preemptions = 0

    async def generate(
        self, num_prompt_tokens: int, num_output_tokens: int, prompt_keys: Sequence[int] = ()
    ) -> AsyncGenerator[int, None]:
        """Yield for each output token, when its step ends, how many tokens of the prompt were cached. The table has
        room for prompt and answer. EngineUnavailable after `close`."""
        job = _Job(num_prompt_tokens, prompt_keys, num_prompt_tokens)
        self._waiting.append(job)
        if self._driver is None:
            self._driver = asyncio.create_task(self._drive())
        try:
            for _ in range(num_output_tokens):
                num_cached_tokens = await job.tokens.get()
                if num_cached_tokens is None:
                    raise EngineUnavailable("the null engine was closed")
                yield num_cached_tokens
        finally:
            self._leave(job)

    async def close(self) -> None:
        """Stop the steps. Whoever still waits for a token gets None."""
        if self._driver is not None:
            self._driver.cancel()
            with suppress(asyncio.CancelledError):
                await self._driver
        for job in (*self._waiting, *self._jobs):
            job.tokens.put_nowait(None)

    async def _drive(self) -> None:
        """Step by step while there are requests. Each gets a turn of the loop first, so that it can come or go."""
        await asyncio.sleep(0)
        while self._waiting or self._jobs:
            self._make_room()
            self._admit()
            decoding = [job for job in self._jobs if job.has_prefilled]
            chunks = self._chunks(self._max_step_tokens - len(decoding))
            await asyncio.sleep(self._duration_s(decoding, chunks))
            self.num_steps += 1
            for job, num_tokens in chunks:
                job.num_computed_tokens += num_tokens
            for job in (*decoding, *(job for job, _ in chunks if job.has_prefilled)):
                job.tokens.put_nowait(job.num_cached_tokens)
                job.num_output_tokens += 1
            for _ in range(3):
                await asyncio.sleep(0)
        self._driver = None

    def _admit(self) -> None:
        while self._waiting:
            job = self._waiting[0]
            if self._table is not None:
                job.held = self._table.take(job.prompt_keys, job.num_prefill_tokens)
                if job.held is None:
                    return
                job.num_computed_tokens = job.held.num_cached_tokens
                job.num_cached_tokens = min(job.num_computed_tokens, job.num_prompt_tokens - 1)
            self._jobs.append(self._waiting.pop(0))

    def _make_room(self) -> None:
        """Make room for the next token of every decoding request, at the cost of those that came last."""
        for job in [job for job in self._jobs if job.has_prefilled]:
            while job.held is not None and self._table is not None and not self._table.extend(job.held):
                self._preempt(self._jobs[-1])

    def _preempt(self, job: _Job) -> None:
        self.num_preemptions += 1
        self._leave(job)
        job.num_prefill_tokens = job.num_prompt_tokens + job.num_output_tokens
        job.num_computed_tokens = 0
        self._waiting.insert(0, job)

    def _leave(self, job: _Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
            return
        self._jobs.remove(job)
        if self._table is not None and job.held is not None:
            self._table.free(job.held)
            job.held = None

    def _chunks(self, room: int) -> list[tuple[_Job, int]]:
        found: list[tuple[_Job, int]] = []
        for job in self._jobs:
            num_tokens = min(room, job.num_prefill_tokens - job.num_computed_tokens)
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
