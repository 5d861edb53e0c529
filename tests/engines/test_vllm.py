"""The openai engine against a real vLLM server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import httpx
import pytest

from sundog.engines.openai import OpenAIKind, OpenAIOptions
from sundog.errors import PromptTooLong
from tests.engines.conformance import EngineConformance, Started, ask_for
from tests.engines.vllm_server import MAX_MODEL_LEN, MODEL, running_vllm, why_not

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with running_vllm(tmp_path_factory.mktemp("vllm")) as base_url:
        yield base_url


class OverVLLM(EngineConformance):
    kind = OpenAIKind()
    counts_exactly = False
    # A token is a byte here.
    schema_tokens = 400
    base_url: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def serve(cls, vllm_url: str) -> None:
        cls.base_url = vllm_url


class TestChat(OverVLLM):
    @classmethod
    def options(cls) -> OpenAIOptions:
        return OpenAIOptions(model=MODEL, base_url=cls.base_url, has_priority=True)

    def test_the_server_tells_its_context(self, started: Started) -> None:
        assert started.engine.capabilities().max_context_tokens == MAX_MODEL_LEN

    def test_the_server_tells_its_kv_capacity(self, started: Started) -> None:
        max_kv_tokens = started.engine.capabilities().max_kv_tokens
        assert max_kv_tokens is not None
        assert max_kv_tokens > MAX_MODEL_LEN
        assert started.engine.capabilities().shares_cold_prefixes

    def test_a_shared_prefix_is_reported_as_cached(self, started: Started) -> None:
        text = "A document that many ask about. " * 5
        started.ask(f"{text} What is it?", max_tokens=2)
        usage = started.ask(f"{text} Who wrote it?", max_tokens=2).usage
        assert usage.num_cached_tokens is not None
        assert len(text) // 32 * 32 <= usage.num_cached_tokens < usage.num_prompt_tokens

    def test_more_output_than_the_context_holds_is_too_long(self, started: Started) -> None:
        with pytest.raises(PromptTooLong):
            started.ask("Say hello.", max_tokens=MAX_MODEL_LEN + 1)

    def test_an_abort_reaches_the_server(self, started: Started) -> None:
        async def abort() -> None:
            generator = started.engine.generate(ask_for("Tell me a story.", max_tokens=400))
            await anext(generator)
            await generator.aclose()

        before = metric(self.base_url, "generation_tokens_total")
        started.run(abort())
        while metric(self.base_url, "num_requests_running"):
            pass
        assert 0 < metric(self.base_url, "generation_tokens_total") - before < 400


class TestCompletions(OverVLLM):
    @classmethod
    def options(cls) -> OpenAIOptions:
        return OpenAIOptions(model=MODEL, base_url=cls.base_url, api="completions")


def metric(base_url: str, name: str) -> float:
    lines = httpx.get(base_url.removesuffix("/v1") + "/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"vllm:{name}{{"))
