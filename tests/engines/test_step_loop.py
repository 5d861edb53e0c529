"""The step thread over a pipeline of bytes: its tokens are the bytes of the prompt, one per step."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from sundog.engines.base import Chunk, FinishReason
from sundog.engines.prefix_mirror import PrefixMirror
from sundog.engines.step_loop import Handle, StepLoop, Stream
from sundog.engines.token_text import StopScanner
from sundog.errors import ConfigError, EngineError, EngineOverloaded, EngineUnavailable


class EchoHandle:
    def __init__(self, tokens: Sequence[int]) -> None:
        self.left = list(tokens)
        self.ready: list[int] = []
        self.is_cancelled = self.is_dropped = False

    def read(self) -> tuple[list[int], FinishReason | None]:
        if self.is_dropped:
            raise EngineOverloaded("no room", retryable=True)
        tokens, self.ready = self.ready, []
        return tokens, None if self.left else "stop"

    def cancel(self) -> None:
        self.is_cancelled, self.left = True, []


class EchoPipeline:
    def __init__(self) -> None:
        self.prefix_cache = PrefixMirror(block_tokens=2, num_blocks=100)
        self.handles: list[EchoHandle] = []
        self.num_steps = 0
        self.on_step: Callable[[], None] = lambda: None

    def add(self, prompt: Sequence[int], settings: Any) -> Handle:
        self.handles.append(EchoHandle(prompt))
        return self.handles[-1]

    def step(self) -> None:
        self.num_steps += 1
        self.on_step()
        for handle in self.handles:
            handle.ready += handle.left[:1]
            del handle.left[:1]

    def has_work(self) -> bool:
        return any(handle.left for handle in self.handles)

    def decode_batch(self, sequences: Sequence[Sequence[int]]) -> Sequence[str]:
        return [bytes(one).decode("utf-8", "replace") for one in sequences]


def stream_of(text: str, *stops: str) -> Stream:
    return Stream(list(text.encode()), None, StopScanner(stops))


async def chunks_of(steps: StepLoop, stream: Stream) -> list[Chunk]:
    steps.submit(stream)
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].finish_reason is None:
        result = await stream.chunks.get()
        if isinstance(result, EngineError):
            raise result
        chunks.append(result)
    return chunks


def run_with(pipeline: EchoPipeline, use: Callable[[StepLoop], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        steps = StepLoop(lambda: pipeline, "echo")
        await steps.start()
        await use(steps)
        await steps.close()

    asyncio.run(asyncio.wait_for(main(), timeout=20))
    assert not [thread for thread in threading.enumerate() if thread.name == "echo"]


def test_chunks_come_step_by_step_with_usage_at_the_end() -> None:
    async def use(steps: StepLoop) -> None:
        chunks = await chunks_of(steps, stream_of("hü"))
        assert [chunk.text for chunk in chunks] == ["h", "", "ü"]
        usage = chunks[-1].usage
        assert usage is not None
        assert (usage.num_prompt_tokens, usage.num_output_tokens, usage.num_cached_tokens) == (3, 3, 0)
        again = (await chunks_of(steps, stream_of("hü")))[-1].usage
        assert again is not None
        assert again.num_cached_tokens == 2

    run_with(EchoPipeline(), use)


def test_a_stop_string_cancels_what_is_left() -> None:
    pipeline = EchoPipeline()

    async def use(steps: StepLoop) -> None:
        chunks = await chunks_of(steps, stream_of("one two three", "tw"))
        assert "".join(chunk.text for chunk in chunks) == "one "
        assert chunks[-1].finish_reason == "stop"
        assert pipeline.handles[0].is_cancelled

    run_with(pipeline, use)
    assert pipeline.num_steps == 6


def test_requests_of_one_turn_share_their_steps() -> None:
    pipeline = EchoPipeline()

    async def use(steps: StepLoop) -> None:
        streams = [stream_of(f"text {i}") for i in range(10)]
        for stream in streams:
            steps.submit(stream)
        for stream in streams:
            while (await stream.chunks.get()).finish_reason is None:  # type: ignore[union-attr] # no errors here
                pass

    run_with(pipeline, use)
    # The thread may take its first step when only the first requests are there.
    assert pipeline.num_steps <= 7


def test_an_abort_is_seen_before_the_next_step() -> None:
    pipeline = EchoPipeline()

    async def use(steps: StepLoop) -> None:
        stream = stream_of("x" * 100_000)
        steps.submit(stream)
        await stream.chunks.get()
        steps.abort(stream)
        steps.abort(stream)
        await chunks_of(steps, stream_of("next"))
        assert pipeline.handles[0].is_cancelled

    run_with(pipeline, use)
    assert pipeline.num_steps < 100


def test_a_broken_step_fails_everything_and_closes_the_door() -> None:
    pipeline = EchoPipeline()

    def explode() -> None:
        raise RuntimeError("bad alloc")

    async def use(steps: StepLoop) -> None:
        pipeline.on_step = explode
        results = await asyncio.gather(
            *(chunks_of(steps, stream_of(text)) for text in ("one", "two")), return_exceptions=True
        )
        assert [str(result) for result in results] == ["the engine broke down in a step: bad alloc"] * 2
        assert [type(result) for result in results] == [EngineUnavailable] * 2
        with pytest.raises(EngineUnavailable, match="broke down"):
            steps.submit(stream_of("three"))

    run_with(pipeline, use)


def test_a_request_dropped_for_room_fails_alone() -> None:
    pipeline = EchoPipeline()

    def drop_the_first() -> None:
        pipeline.handles[0].is_dropped = True

    async def use(steps: StepLoop) -> None:
        pipeline.on_step = drop_the_first
        with pytest.raises(EngineOverloaded):
            await chunks_of(steps, stream_of("one"))
        assert (await chunks_of(steps, stream_of("two")))[-1].finish_reason == "stop"

    run_with(pipeline, use)


def test_close_fails_what_still_runs() -> None:
    pipeline = EchoPipeline()

    async def use(steps: StepLoop) -> None:
        stream = stream_of("x" * 100_000)
        steps.submit(stream)
        await stream.chunks.get()
        await steps.close()
        while not isinstance(result := await stream.chunks.get(), EngineError):
            assert result.finish_reason is None
        assert isinstance(result, EngineUnavailable)
        assert pipeline.handles[0].is_cancelled
        with pytest.raises(EngineUnavailable, match="closed"):
            steps.submit(stream_of("late"))

    run_with(pipeline, use)


def test_what_loading_raises_start_raises() -> None:
    def load() -> EchoPipeline:
        raise ConfigError("no weights")

    async def use() -> None:
        steps = StepLoop(load, "echo")
        with pytest.raises(ConfigError, match="no weights"):
            await steps.start()
        with pytest.raises(EngineUnavailable):
            steps.submit(stream_of("x"))
        await steps.close()

    asyncio.run(use())


def test_a_cancelled_start_leaves_a_thread_that_ends() -> None:
    may_load = threading.Event()

    def load() -> EchoPipeline:
        may_load.wait(20)
        return EchoPipeline()

    async def use() -> None:
        steps = StepLoop(load, "echo")
        start = asyncio.ensure_future(steps.start())
        await asyncio.sleep(0)
        start.cancel()
        await asyncio.wait([start])
        may_load.set()
        await steps.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            steps.submit(stream_of("x"))

    asyncio.run(use())
    assert not [thread for thread in threading.enumerate() if thread.name == "echo"]
