"""A thread that drives an engine step by step, and the way of its results to the event loop.

Owns the thread, the requests it serves and the order of hand-over. Never knows what engine it drives: the pipeline is
handed in as a function that loads it. Never decides who runs first.

All that touches the pipeline happens on the thread. The event loop gets the chunks of one step in one call and is then
given a moment before the next step: a pipeline may hold Python's lock for the length of a step.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sundog.engines.base import Chunk, FinishReason, Usage
from sundog.engines.prefix_mirror import PrefixMirror
from sundog.engines.token_text import StopScanner, TokenTail, take_text
from sundog.errors import EngineError, EngineOverloaded, EngineUnavailable

CLOSE_WAIT_S = 10.0
HANDOVER_WAIT_S = 0.02
MAX_DRAIN_STEPS = 3


class Handle(Protocol):
    """One request inside a pipeline."""

    def read(self) -> tuple[list[int], FinishReason | None]:
        """Tokens since the last read, and why it ended if it did; EngineOverloaded when it was dropped for room."""
        ...

    def cancel(self) -> None: ...


class Pipeline(Protocol):
    """What the thread drives; `prefix_cache` mirrors the pipeline's own."""

    prefix_cache: PrefixMirror

    def add(self, prompt: Sequence[int], settings: Any) -> Handle: ...
    def step(self) -> None: ...
    def has_work(self) -> bool: ...
    def decode_batch(self, sequences: Sequence[Sequence[int]]) -> Sequence[str]: ...


@dataclass(slots=True, eq=False)
class Stream:
    """One request on its way; `chunks` belongs to the event loop, all else to the thread."""

    prompt: Sequence[int]
    settings: Any
    scanner: StopScanner
    chunks: asyncio.Queue[Chunk | EngineError] = field(default_factory=asyncio.Queue)
    handle: Handle | None = None
    tail: TokenTail = field(default_factory=TokenTail)
    output: list[int] = field(default_factory=list)
    num_cached_tokens: int = 0


class StepLoop:
    """Load with `await start()`, then `submit` and `abort` from the event loop, at the end `await close()`."""

    def __init__(self, load: Callable[[], Pipeline], name: str) -> None:
        self._load = load
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._wake = threading.Condition()
        self._commands: deque[tuple[str, Stream]] = deque()
        self._is_closing = False
        self._refusal: str | None = "the engine is not started"
        self._running: list[Stream] = []
        self._loop_has_run = threading.Event()

    async def start(self) -> None:
        """Returns when the pipeline is loaded; raises what loading raised."""
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread.start()
        await self._started

    def submit(self, stream: Stream) -> None:
        """The chunks of `stream` will arrive in its queue, at the end the last one or an error."""
        with self._wake:
            if self._refusal is not None:
                raise EngineUnavailable(self._refusal)
            self._commands.append(("add", stream))
            self._wake.notify()

    def abort(self, stream: Stream) -> None:
        """Free what `stream` holds; nothing happens if it has ended."""
        with self._wake:
            self._commands.append(("abort", stream))
            self._wake.notify()

    async def close(self) -> None:
        """End the thread; every request still running fails. A thread that does not end is left behind."""
        with self._wake:
            self._is_closing = True
            self._refusal = "the engine is closed"
            self._wake.notify()
        if self._thread.is_alive():
            await asyncio.wait([self._ended], timeout=CLOSE_WAIT_S)
            if self._ended.done():
                self._thread.join()

    # From here on everything runs on the thread.

    def _run(self) -> None:
        self._load_and_drive()
        # By now the pipeline is freed, which can take a while.
        self._post(_settle, self._ended, None)

    def _load_and_drive(self) -> None:
        try:
            pipeline = self._load()
        except Exception as error:
            self._post(_settle, self._started, error)
            return
        with self._wake:
            self._refusal = "the engine is closed" if self._is_closing else None
        self._post(_settle, self._started, None)
        self._drive(pipeline)

    def _drive(self, pipeline: Pipeline) -> None:
        try:
            while self._take_commands(pipeline):
                if pipeline.has_work():
                    pipeline.step()
                    self._hand_over(self._collect(pipeline))
            self._drain(pipeline)
            self._fail_all("the engine is closed")
        except Exception as error:
            self._fail_all(f"the engine broke down in a step: {error}")

    def _take_commands(self, pipeline: Pipeline) -> bool:
        """Wait for work and apply what was asked for; False at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._is_closing or self._commands or pipeline.has_work())
            commands, self._commands = self._commands, deque()
        for verb, stream in commands:
            if verb == "add":
                self._add(pipeline, stream)
            elif stream in self._running:
                self._end(stream)
        return not self._is_closing

    def _add(self, pipeline: Pipeline, stream: Stream) -> None:
        stream.num_cached_tokens = pipeline.prefix_cache.num_cached_tokens(stream.prompt)
        stream.handle = pipeline.add(stream.prompt, stream.settings)
        self._running.append(stream)

    def _end(self, stream: Stream) -> None:
        assert stream.handle is not None
        stream.handle.cancel()
        self._running.remove(stream)

    def _collect(self, pipeline: Pipeline) -> list[tuple[Stream, Chunk | EngineError]]:
        """What the step gave, as text."""
        ready: list[tuple[Stream, FinishReason | None]] = []
        results: list[tuple[Stream, Chunk | EngineError]] = []
        for stream in list(self._running):
            assert stream.handle is not None
            try:
                tokens, finish_reason = stream.handle.read()
            except EngineOverloaded as error:
                self._running.remove(stream)
                results.append((stream, error))
                continue
            if tokens or finish_reason:
                if not stream.output:
                    pipeline.prefix_cache.add(stream.prompt)
                stream.output += tokens
                stream.tail.pending += tokens
                ready.append((stream, finish_reason))
        tails = [stream.tail for stream, _ in ready]
        texts = take_text(tails, [reason is not None for _, reason in ready], pipeline.decode_batch)
        for (stream, finish_reason), text in zip(ready, texts, strict=True):
            results.append((stream, self._chunk(pipeline, stream, text, finish_reason)))
        return results

    def _chunk(self, pipeline: Pipeline, stream: Stream, text: str, finish_reason: FinishReason | None) -> Chunk:
        text, is_stopped = stream.scanner.feed(text, is_last=finish_reason is not None)
        if is_stopped:
            finish_reason = "stop"
        if finish_reason is None:
            return Chunk(text)
        self._end(stream)
        # The last token of an answer was never fed back, so it is in no block.
        pipeline.prefix_cache.add([*stream.prompt, *stream.output[:-1]])
        return Chunk(text, finish_reason, Usage(len(stream.prompt), len(stream.output), stream.num_cached_tokens))

    def _hand_over(self, results: list[tuple[Stream, Chunk | EngineError]]) -> None:
        if results:
            self._loop_has_run.clear()
            self._post(self._deliver, results)
            self._loop_has_run.wait(HANDOVER_WAIT_S)

    def _deliver(self, results: list[tuple[Stream, Chunk | EngineError]]) -> None:
        """On the event loop: two turns later those who wait have run and may have sent their next requests."""
        for stream, result in results:
            stream.chunks.put_nowait(result)
        self._loop.call_soon(self._loop.call_soon, self._loop_has_run.set)

    def _drain(self, pipeline: Pipeline) -> None:
        """Let the pipeline see the cancellations, so that it frees its blocks."""
        for stream in self._running:
            assert stream.handle is not None
            stream.handle.cancel()
        for _ in range(MAX_DRAIN_STEPS):
            if pipeline.has_work():
                pipeline.step()

    def _fail_all(self, reason: str) -> None:
        with self._wake:
            self._refusal = reason
            waiting = [stream for verb, stream in self._commands if verb == "add"]
            self._commands.clear()
        streams = dict.fromkeys((*self._running, *waiting))
        self._post(self._deliver, [(stream, EngineUnavailable(reason)) for stream in streams])
        self._running.clear()

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            # The event loop is gone, and with it everybody who could wait for this.
            self._is_closing = True


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
