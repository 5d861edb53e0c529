"""The engines on a real vLLM: `openai` and `vllm` on a server, `vllm_local` in an interpreter with vLLM."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import ClassVar
from urllib.request import urlopen

import pytest

from sundog.engines.openai.engine import OpenAIKind
from sundog.engines.openai.options import OpenAIOptions
from sundog.engines.served import ReplicaLoad, Watched
from sundog.engines.vllm.engine import VLLMKind, VLLMOptions
from sundog.errors import PromptTooLong
from tests.engines.conformance import EngineConformance, Started, ask_for
from tests.engines.vllm_server import MAX_MODEL_LEN, MODEL, ROOT, python_with_vllm, running_vllm, why_not

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with running_vllm(tmp_path_factory.mktemp("vllm")) as base_url:
        yield base_url


class OverVLLM(EngineConformance):
    has_room_for_tools = False
    model_sees_pictures = False
    counts_exactly = False
    # A token is a byte here.
    schema_tokens = 400
    base_url: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def serve(cls, vllm_url: str) -> None:
        cls.base_url = vllm_url


class TestChat(OverVLLM):
    kind = OpenAIKind()

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
        started.ask(f"{text} What is it?", max_tokens=8)
        usage = started.ask(f"{text} Who wrote it?", max_tokens=8).usage
        assert usage.num_cached_tokens is not None
        assert len(text) // 32 * 32 <= usage.num_cached_tokens < usage.num_prompt_tokens

    def test_more_output_than_the_context_holds_is_too_long(self, started: Started) -> None:
        with pytest.raises(PromptTooLong):
            started.ask("Say hello.", max_tokens=MAX_MODEL_LEN + 1)

    def test_an_abort_reaches_the_server(self, started: Started) -> None:
        async def abort() -> None:
            generator = started.engine.generate(ask_for("Tell me a story.", max_tokens=400, needs_first_token=True))
            await anext(generator)
            await generator.aclose()

        before = metric(self.base_url, "generation_tokens_total")
        started.run(abort())
        while metric(self.base_url, "num_requests_running"):
            pass
        assert 0 < metric(self.base_url, "generation_tokens_total") - before < 400


class TestVLLM(OverVLLM):
    kind = VLLMKind()

    @classmethod
    def options(cls) -> VLLMOptions:
        return VLLMOptions(model=MODEL, base_url=cls.base_url, has_plugin=True)

    def test_the_probe_tells_the_load(self, started: Started) -> None:
        async def watch() -> tuple[ReplicaLoad, ReplicaLoad]:
            engine = started.engine
            assert isinstance(engine, Watched)
            before = await engine.probe()
            # A model without weights may end any answer at once, before a probe has seen it.
            for number in range(400):
                request = ask_for(f"Tell me story {number // 20}.", max_tokens=400, needs_first_token=True)
                async with aclosing(engine.generate(request)) as chunks:
                    await anext(chunks)
                    loads = [await engine.probe() for _ in range(5)]
                load = max(loads, key=lambda one: one.num_running)
                if load.num_running:
                    break
            return before, load

        before, load = started.run(watch())
        assert load.num_running == 1
        assert load.num_queried_tokens > before.num_queried_tokens > before.num_cached_tokens
        assert 0 < load.kv_usage < 1

    def test_what_it_says_of_the_workflow_is_taken(self, started: Started) -> None:
        about = {"flow": "f", "node": "n", "turn": 1}
        assert started.ask("Say hello.", max_tokens=8, about=about).usage.num_output_tokens > 0


class TestCompletions(OverVLLM):
    kind = OpenAIKind()

    @classmethod
    def options(cls) -> OpenAIOptions:
        return OpenAIOptions(model=MODEL, base_url=cls.base_url, api="completions")


def metric(base_url: str, name: str) -> float:
    lines = urlopen(base_url.removesuffix("/v1") + "/metrics").read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"vllm:{name}{{"))


IN_ITS_ENVIRONMENT = """
import sys
# vLLM's own packages come first; what only the tests need comes from here.
sys.path[:0], sys.path[len(sys.path):] = sys.argv[1:3], sys.argv[3:]
import pytest
sys.exit(pytest.main(["tests/engines/vllm_local_suite.py", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]))
"""


def test_vllm_local_conforms_in_the_environment_of_vllm() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    command = [str(python_with_vllm()), "-c", IN_ITS_ENVIRONMENT, str(ROOT / "src"), str(ROOT), *packages]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
