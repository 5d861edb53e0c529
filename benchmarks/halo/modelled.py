"""The modelled engine and its time: batches of a size that this machine cannot run.

Owns an engine whose steps last as a linear model says and that keeps prefixes, and an event loop that does not wait.
In modelled time the engines' steps and the HTTP server's latency pass as modelled, SQL as measured when nothing else
can go on, and the coordinator's own processor time not at all: it is reported beside.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Any, TypeVar, TypeVarTuple

from pydantic import Field

from sundog.engines.base import (
    ENGINES,
    Capabilities,
    Chunk,
    EngineOptions,
    EngineOutline,
    EngineStats,
    GenerateRequest,
    Usage,
)
from sundog.engines.null import CHARACTERS_PER_TOKEN, answer, count_prompt_tokens, count_tokens
from sundog.engines.null_steps import ModelledSteps, StepSeconds
from sundog.engines.prefix_mirror import PrefixMirror
from sundog.secrets import Secrets

BLOCK_TOKENS = 32
# Round numbers of the order of a 30-billion-parameter model on one data-centre GPU; not measured.
STEP_TIME: StepSeconds = (2.5e-2, 1e-4, 1.5e-4, 5e-8, 5e-9)
MAX_STEP_TOKENS = 2048
# A thread's result, or a socket's, may be on its way when the loop has nothing to do.
GRACE_S = 5e-4

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ModelledOptions(EngineOptions):
    """`max_kv_tokens`: room for prefixes."""

    step_time: StepSeconds = STEP_TIME
    max_step_tokens: int = MAX_STEP_TOKENS
    max_kv_tokens: int = Field(ge=BLOCK_TOKENS)


class ModelledEngine:
    def __init__(self, options: ModelledOptions) -> None:
        self._options = options
        self._steps = ModelledSteps(options.step_time, options.max_step_tokens)
        self._prefixes = PrefixMirror(BLOCK_TOKENS, options.max_kv_tokens // BLOCK_TOKENS)
        self._stats = EngineStats()

    async def start(self) -> None:
        """Nothing to load."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        text, reason = answer(self._options.model, request, request.max_tokens)
        prompt = _tokens("".join(f"{message.role}\n{message.content}\n" for message in request.messages))
        usage = Usage(len(prompt), count_tokens(text), self._prefixes.num_cached_tokens(prompt))
        steps = self._steps.generate(usage.num_prompt_tokens, usage.num_output_tokens, usage.num_cached_tokens or 0)
        async with aclosing(steps) as numbers:
            async for number in numbers:
                if number == 0:
                    self._prefixes.add(prompt)
                    yield Chunk("")
        yield Chunk(text, reason, usage)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            max_context_tokens=None,
            max_kv_tokens=self._options.max_kv_tokens,
            has_json_schema=True,
            has_priority=False,
            has_prefix_cache=True,
            max_step_tokens=self._options.max_step_tokens,
        )

    def stats(self) -> EngineStats:
        return self._stats

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        return count_prompt_tokens(request.messages)

    async def close(self) -> None:
        await self._steps.close()


class ModelledKind:
    """`kind: modelled`, in the processes of the benchmark."""

    Options: type[EngineOptions] = ModelledOptions

    def identity(self, options: ModelledOptions) -> Mapping[str, Any]:
        return {"kind": "modelled", "model": options.model}

    def num_replicas(self, options: ModelledOptions) -> int:
        return options.replicas

    def outline(self, options: ModelledOptions) -> EngineOutline:
        return EngineOutline(count_prompt_tokens, 0.0, None, BLOCK_TOKENS, options.max_kv_tokens)

    def open(self, options: ModelledOptions, replica: int, secrets: Secrets) -> ModelledEngine:
        return ModelledEngine(options)


def register() -> None:
    ENGINES.add("modelled", ModelledKind)


def _tokens(text: str) -> list[int]:
    data = text.encode()
    return [int.from_bytes(data[start : start + 4]) for start in range(0, len(data), CHARACTERS_PER_TOKEN)]


class _SkippingSelector(selectors.DefaultSelector):
    """Jumps to the next timer when nothing is ready and no thread works."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.num_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(0):
            return ready
        if timeout is not None and timeout <= 0:
            return []
        if timeout is None or self.num_threads:
            begin_s = time.monotonic()
            ready = super().select(timeout)
            self.now_s += time.monotonic() - begin_s
            return ready
        if ready := super().select(GRACE_S):
            return ready
        self.now_s += timeout
        return []


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop in modelled time."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self._skipping.num_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self._skipping.num_threads -= 1
