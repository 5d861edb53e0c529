"""The conformance suite of engines that give vectors: a test module subclasses it and says how to open its engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math

import pytest

from sundog.engines.base import Engine, GenerateRequest, Message
from sundog.engines.embeddings import EmbeddingEngine, EmbeddingKind, Embeddings, EmbedRequest
from sundog.errors import BadResponse, EngineError, EngineUnavailable, PromptTooLong
from tests.engines.conformance import OpenedEngine, Started

TEXTS = ("the sea", "a ship at sea, far from the harbour", "the sea", "x")


async def embed(engine: Engine, *texts: str, dimensions: int | None = None) -> Embeddings:
    assert isinstance(engine, EmbeddingEngine)
    return await engine.embed(EmbedRequest("request", texts, dimensions))


class EmbeddingConformance(OpenedEngine):
    #: False where vectors have the model's own length only.
    has_other_lengths = True

    def test_the_kind_says_that_it_gives_vectors(self) -> None:
        assert isinstance(self.kind, EmbeddingKind)
        assert self.kind.has_embeddings(self.options())

    def test_each_text_has_a_vector_in_its_place(self, started: Started) -> None:
        together = started.run(embed(started.engine, *TEXTS)).vectors
        alone = [started.run(embed(started.engine, text)).vectors[0] for text in TEXTS]
        assert len({len(vector) for vector in together}) == 1
        assert all(math.isfinite(number) for vector in together for number in vector)
        assert [pytest.approx(vector, abs=1e-5) for vector in alone] == list(together)
        assert together[0] == pytest.approx(together[2], abs=1e-5)
        assert together[0] != pytest.approx(together[1], abs=1e-3)

    def test_vectors_have_the_length_that_was_asked_for_or_there_are_none(self, started: Started) -> None:
        length = len(started.run(embed(started.engine, "the sea")).vectors[0])
        assert len(started.run(embed(started.engine, "the sea", dimensions=length)).vectors[0]) == length
        if self.has_other_lengths:
            assert len(started.run(embed(started.engine, "the sea", dimensions=3)).vectors[0]) == 3
            return
        with pytest.raises(BadResponse, match="3 were asked for") as caught:
            started.run(embed(started.engine, "the sea", dimensions=3))
        assert not caught.value.retryable

    def test_usage_adds_up_in_the_counters(self, started: Started) -> None:
        before = started.engine.stats()
        found = started.run(embed(started.engine, *TEXTS))
        after = started.engine.stats()
        assert found.usage.num_prompt_tokens > 0 == found.usage.num_output_tokens
        assert found.num_tokens is None or sum(found.num_tokens) == found.usage.num_prompt_tokens
        assert after.num_requests - before.num_requests == 1
        assert after.num_prompt_tokens - before.num_prompt_tokens == found.usage.num_prompt_tokens
        assert (after.num_output_tokens, after.num_running) == (before.num_output_tokens, 0)

    def test_tokens_are_counted_before_as_after(self, started: Started) -> None:
        for text in TEXTS:
            request = GenerateRequest("request", (Message("user", text),))
            counted = started.engine.count_prompt_tokens(request)
            used = started.run(embed(started.engine, text)).usage.num_prompt_tokens
            assert counted == used if self.counts_exactly else counted > 0
            assert self.kind.outline(self.options()).count(request.messages) == counted, "also without an engine"

    def test_many_at_once_all_end(self, started: Started) -> None:
        async def ask_all() -> list[Embeddings]:
            return await asyncio.gather(*(embed(started.engine, f"{i} ships", *TEXTS[: i % 4]) for i in range(24)))

        found = started.run(ask_all())
        assert [len(one.vectors) for one in found] == [1 + i % 4 for i in range(24)]
        assert started.engine.stats().num_running == 0

    def test_a_cancelled_request_frees_its_place(self, started: Started) -> None:
        async def cancel() -> None:
            task = asyncio.ensure_future(embed(started.engine, *TEXTS))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        started.run(cancel())
        assert started.engine.stats().num_running == 0
        assert len(started.run(embed(started.engine, "x")).vectors) == 1

    def test_a_text_beyond_the_context_is_refused_and_never_cut(self, started: Started) -> None:
        max_tokens = started.engine.capabilities().max_context_tokens
        if max_tokens is None:
            pytest.skip("this engine has no limit")
        with pytest.raises(PromptTooLong) as caught:
            started.run(embed(started.engine, "x", "word " * (max_tokens + 1)))
        assert not caught.value.retryable
        assert started.engine.stats().num_running == 0

    def test_text_that_is_no_utf8_is_at_worst_an_engine_error(self, started: Started) -> None:
        with contextlib.suppress(EngineError):
            started.run(embed(started.engine, "half a character: \ud83d"))

    def test_without_start_there_is_no_vector_and_close_is_idempotent(self) -> None:
        async def use() -> None:
            engine = self.open()
            with pytest.raises(EngineUnavailable):
                await embed(engine, "x")
            await engine.close()
            await engine.close()
            with pytest.raises(EngineUnavailable):
                await embed(engine, "x")

        asyncio.run(use())

    def test_identity_is_of_the_vectors_only(self) -> None:
        options = self.options()
        other = options.model_copy(update={"max_concurrency": options.max_concurrency + 1, "max_tokens_in_flight": 7})
        assert json.loads(json.dumps(self.kind.identity(options))) == self.kind.identity(other)
