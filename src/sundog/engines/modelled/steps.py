"""A modelled replica on the running loop: requests wait for their tokens as long as its steps last.

Owns the loop's timers. What a step is and how long it lasts is `replica`'s. Computes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from sundog.engines.modelled.block_table import BlockTable
from sundog.engines.modelled.replica import Job, ModelledReplica, StepSeconds
from sundog.errors import EngineUnavailable


class SharedProcessor:
    """A processor that replicas share: while several of them run steps, each gets its part of it."""

    def __init__(self) -> None:
        self._busy: list[ModelledSteps] = []

    def note(self, steps: ModelledSteps, *, is_busy: bool) -> None:
        """A replica has begun to run steps, or runs none any more."""
        if is_busy == (steps in self._busy):
            return
        if is_busy:
            self._busy.append(steps)
        else:
            self._busy.remove(steps)
        for one in list(self._busy):
            one.slow_down(float(len(self._busy)))


class ModelledSteps:
    """This class plays a modelled replica on the event loop. `seconds`, `max_step_tokens` and `table` as of
    `ModelledReplica`. `device`: None where it shares none."""

    def __init__(
        self,
        seconds: StepSeconds,
        max_step_tokens: int,
        table: BlockTable | None = None,
        device: SharedProcessor | None = None,
    ) -> None:
        self.replica = ModelledReplica(seconds, max_step_tokens, table)
        self._device = device
        self._answers: dict[Job, asyncio.Queue[Job | None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def generate(
        self,
        num_prompt_tokens: int,
        num_output_tokens: int,
        prompt_keys: Sequence[int] = (),
        *,
        is_streamed: bool = False,
        has_kv: bool = False,
    ) -> AsyncGenerator[Job, None]:
        """Yield the request when its first output token is there, and when its last one is (once where they are one);
        for each token where it is streamed. The table has room for prompt and answer. `has_kv`: the prompt's KV blocks
        and the first token come from elsewhere. EngineUnavailable, retryable, after `close`."""
        loop = asyncio.get_running_loop()
        job = Job(num_prompt_tokens, num_output_tokens, prompt_keys, is_streamed, has_kv)
        answers = self._answers[job] = asyncio.Queue()
        self.replica.add(job, loop.time())
        self._set_timer(loop)
        try:
            while True:
                told = await answers.get()
                if told is None:
                    raise EngineUnavailable("the modelled engine was closed", retryable=True)
                yield told
                if told.has_ended:
                    return
        finally:
            del self._answers[job]
            if not job.has_ended:
                self.replica.remove(job, loop.time())
                self._set_timer(loop)

    def slow_down(self, slowdown: float) -> None:
        """Let steps take `slowdown` times as long, from the next one on."""
        loop = asyncio.get_running_loop()
        self.replica.slowdown = slowdown
        self.replica.interrupt(loop.time())
        self._set_timer(loop)

    async def close(self) -> None:
        """Stop the steps; whoever waits for a token gets EngineUnavailable."""
        if self._timer is not None:
            self._timer.cancel()
        if self._device is not None:
            self._device.note(self, is_busy=False)
        for answers in self._answers.values():
            answers.put_nowait(None)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due_s = self.replica.due_s
        self._timer = None if due_s is None else loop.call_at(due_s, self._pass_steps, loop, due_s)
        if self._device is not None:
            self._device.note(self, is_busy=due_s is not None)

    def _pass_steps(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        # A real loop's clock is late, and its timers may fire a clock tick early: steps end when the model says so.
        for job in self.replica.pass_steps(max(due_s, loop.time())):
            if (answers := self._answers.get(job)) is not None:
                answers.put_nowait(job)
        self._set_timer(loop)
