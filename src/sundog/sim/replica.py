"""One replica of a simulation: it answers calls in modelled time.

Owns how long a call takes there. Never decides which calls come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from sundog.engines.modelled.block_table import BlockTable
from sundog.engines.modelled.steps import ModelledSteps, SharedProcessor
from sundog.errors import EngineUnavailable, PromptTooLong
from sundog.host.replicas import UNKNOWN_CACHE_BLOCKS
from sundog.sim.workload import ModelledEngine, SimulatedCall

UNKNOWN_BLOCK_TOKENS = 16
"""KV blocks of an engine that tells none have so many tokens."""


class SimulatedReplica:
    """One replica that is up."""

    def __init__(self, pool: str, engine: ModelledEngine, device: SharedProcessor | None = None) -> None:
        self.pool = pool
        self.engine = engine
        self.steps: ModelledSteps | None = None
        if engine.seconds is not None:
            self.steps = ModelledSteps(engine.seconds, engine.max_step_tokens, _table(engine), device)
        self.num_running = 0
        self._ending: set[asyncio.Future[None]] = set()

    @property
    def kv_usage(self) -> float | None:
        """The share of its KV blocks that running requests hold; None where its cache has no bound."""
        table = None if self.steps is None else self.steps.replica.table
        if table is None or self.engine.max_kv_tokens is None:
            return None
        return 1.0 - table.num_available / table.num_blocks

    @property
    def num_prefill_tokens(self) -> int:
        """The tokens of prompts that were let in and are still to be computed."""
        jobs = () if self.steps is None else self.steps.replica.jobs
        return sum(max(0, job.num_to_prefill - job.num_computed_tokens) for job in jobs)

    async def answer(self, call: SimulatedCall, on_first_token: Callable[[], None]) -> int:
        """Take as long as the call takes; the prompt's tokens that were cached. EngineUnavailable, retryable, when the
        replica is lost meanwhile; PromptTooLong where it never has room for the call."""
        self.num_running += 1
        try:
            if self.steps is None or call.call_s is not None:
                left_s = call.call_s or 0.0
                if call.first_token_s is not None:
                    await self.sleep(call.first_token_s)
                    on_first_token()
                    left_s -= call.first_token_s
                await self.sleep(left_s)
                return 0
            return await self._generate(self.steps, call, on_first_token, has_kv=False)
        finally:
            self.num_running -= 1

    async def decode(self, call: SimulatedCall, move_s: Callable[[int], float], on_moved: Callable[[], None]) -> None:
        """Take as long as the rest of a call takes whose prompt and first token were computed elsewhere. `move_s`: the
        seconds until the KV blocks of so many tokens are here, which `on_moved` is told. Errors as of `answer`."""
        assert self.steps is not None, "only steps have phases"
        self.num_running += 1
        try:
            table = self.steps.replica.table
            num_here = 0 if table is None else table.num_known(call.prefix_key) * table.block_tokens
            await self.sleep(move_s(max(0, call.num_prompt_tokens - num_here)))
            on_moved()
            await self._generate(self.steps, call, lambda: None, has_kv=True)
        finally:
            self.num_running -= 1

    def until_told(self) -> asyncio.Future[None]:
        """Return a future for somebody to end; it ends with EngineUnavailable when the replica is lost before."""
        future = asyncio.get_running_loop().create_future()
        self._ending.add(future)
        future.add_done_callback(self._ending.discard)
        return future

    async def _generate(
        self, steps: ModelledSteps, call: SimulatedCall, on_first_token: Callable[[], None], *, has_kv: bool
    ) -> int:
        counts = call.num_prompt_tokens, call.num_output_tokens
        table = steps.replica.table
        if table is not None and sum(counts) > table.num_blocks * table.block_tokens:
            raise PromptTooLong(f"prompt and answer have {sum(counts)} tokens, more than the replica holds")
        num_cached_tokens = 0
        async with aclosing(steps.generate(*counts, call.prefix_key, has_kv=has_kv)) as told:
            async for job in told:
                num_cached_tokens = job.num_cached_tokens
                if job.num_done == 1:
                    on_first_token()
        return num_cached_tokens

    async def lose(self) -> None:
        """Fail all that runs here."""
        if self.steps is not None:
            await self.steps.close()
        for future in self._ending:
            if not future.done():
                future.set_exception(replica_lost())

    async def sleep(self, seconds: float) -> None:
        """Wait; EngineUnavailable when the replica is lost meanwhile."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._ending.add(future)
        timer = loop.call_later(seconds, _wake, future)
        try:
            await future
        finally:
            timer.cancel()
            self._ending.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def replica_lost() -> EngineUnavailable:
    """Return the failure of what runs on a replica that is lost."""
    return EngineUnavailable("the replica is lost", retryable=True)


def _table(engine: ModelledEngine) -> BlockTable | None:
    if engine.block_tokens is None and engine.max_kv_tokens is None:
        return None
    block_tokens = engine.block_tokens or UNKNOWN_BLOCK_TOKENS
    num_blocks = UNKNOWN_CACHE_BLOCKS if engine.max_kv_tokens is None else engine.max_kv_tokens // block_tokens
    return BlockTable(num_blocks, block_tokens)
