"""Drives a pipeline step by step and gives what came out as text.

Owns the requests inside the pipeline, those that wait for room in its KV cache, their text and the mirror of its prefix
cache. Never knows which engine it drives or who asked, and never decides who runs first: they go in as they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sundog.engines.base import Chunk, FinishReason, Usage
from sundog.engines.embedded.kv_room import KVRoom
from sundog.engines.embedded.prefix_mirror import PrefixMirror
from sundog.engines.embedded.token_text import TokenTail, take_text
from sundog.engines.stop_texts import StopScanner
from sundog.errors import EngineError, EngineOverloaded


class Handle(Protocol):
    """One request inside a pipeline."""

    def read(self) -> tuple[list[int], FinishReason | None]:
        """Return the tokens since the last read, and why it ended if it did; EngineOverloaded when it was dropped for
        room."""
        ...

    def cancel(self) -> None: ...


class Pipeline(Protocol):
    """The contract of what the loop drives."""

    #: A mirror of the pipeline's own.
    prefix_cache: PrefixMirror

    def add(self, prompt: Sequence[int], settings: Any) -> Handle:
        """Take a request in and return its handle; EngineError where the pipeline does not take it."""
        ...

    def step(self) -> None: ...
    def has_work(self) -> bool: ...
    def decode_batch(self, sequences: Sequence[Sequence[int]]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class PipelineJob:
    """A request as the pipeline takes it: tokens of the prompt, the pipeline's own settings, the most tokens that they
    allow the answer, stop strings."""

    prompt: Sequence[int]
    settings: Any
    max_output_tokens: int
    stop: tuple[str, ...] = ()


# The outcomes for the job of a number: the last one of a job has a finish reason or is an error.
JobResult = tuple[int, Chunk | EngineError]


@dataclass(slots=True, eq=False)
class _Running:
    number: int
    prompt: Sequence[int]
    scanner: StopScanner
    handle: Handle
    num_cached_tokens: int
    num_seen_tokens: int | None
    tail: TokenTail = field(default_factory=TokenTail)
    output: list[int] = field(default_factory=list)


class StepLoop:
    """Jobs are known by numbers that their sender chooses."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._room = KVRoom(pipeline.prefix_cache.num_blocks)
        self._waiting: deque[tuple[int, PipelineJob, Sequence[int]]] = deque()
        self._running: dict[int, _Running] = {}

    def add(self, number: int, job: PipelineJob) -> None:
        self._waiting.append((number, job, list(self._pipeline.prefix_cache.keys(job.prompt))))

    def abort(self, number: int) -> None:
        """Free what the job holds; nothing happens if it has ended."""
        running = self._running.pop(number, None)
        if running is not None:
            self._room.leave(number)
            running.handle.cancel()
        else:
            self._waiting = deque(one for one in self._waiting if one[0] != number)

    def has_work(self) -> bool:
        return bool(self._waiting) or self._pipeline.has_work()

    def step(self) -> list[JobResult]:
        """Do one step of the pipeline, if it has work, and return all that came out."""
        refused = self._take_in()
        if self._pipeline.has_work():
            self._pipeline.step()
        return [*refused, *self._collect()]

    def _take_in(self) -> list[JobResult]:
        """Return those that wait, while there is room for their answers at full length; the errors of those that the
        pipeline does not take."""
        cache = self._pipeline.prefix_cache
        refused: list[JobResult] = []
        while self._waiting:
            number, job, keys = self._waiting[0]
            num_blocks = -(-(len(job.prompt) + job.max_output_tokens) // cache.block_tokens)
            if not self._room.take(number, keys, num_blocks):
                break
            self._waiting.popleft()
            try:
                cached = cache.num_cached_tokens(job.prompt), cache.see(job.prompt)
                handle = self._pipeline.add(job.prompt, job.settings)
            except EngineError as error:
                self._room.leave(number)
                refused.append((number, error))
            else:
                self._running[number] = _Running(number, job.prompt, StopScanner(job.stop), handle, *cached)
        return refused

    def _collect(self) -> list[JobResult]:
        ready: list[tuple[_Running, FinishReason | None]] = []
        results: list[JobResult] = []
        for running in list(self._running.values()):
            try:
                tokens, finish_reason = running.handle.read()
            except EngineOverloaded as error:
                self.abort(running.number)
                results.append((running.number, error))
                continue
            if tokens or finish_reason:
                if not running.output:
                    self._pipeline.prefix_cache.add(running.prompt)
                    self._room.compute(running.number)
                running.output += tokens
                running.tail.pending += tokens
                ready.append((running, finish_reason))
        tails = [running.tail for running, _ in ready]
        texts = take_text(tails, [reason is not None for _, reason in ready], self._pipeline.decode_batch)
        for (running, finish_reason), text in zip(ready, texts, strict=True):
            results.append((running.number, self._chunk(running, text, finish_reason)))
        return results

    def _chunk(self, running: _Running, text: str, finish_reason: FinishReason | None) -> Chunk:
        text, is_stopped = running.scanner.feed(text, is_last=finish_reason is not None)
        if is_stopped:
            finish_reason = "stop"
        if finish_reason is None:
            return Chunk(text)
        self.abort(running.number)
        # The last token of an answer was never fed back, so it is in no block.
        self._pipeline.prefix_cache.add([*running.prompt, *running.output[:-1]])
        lengths = len(running.prompt), len(running.output)
        return Chunk(text, finish_reason, Usage(*lengths, running.num_cached_tokens, running.num_seen_tokens))
