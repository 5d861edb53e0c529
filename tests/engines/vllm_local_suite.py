"""The conformance of the vllm_local engine. Runs in the environment of vLLM: test_vllm.py starts it there."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from sundog.engines.vllm.local import VLLMLocalKind, VLLMLocalOptions
from sundog.errors import PromptTooLong
from tests.engines.conformance import EngineConformance, Started
from tests.engines.vllm_server import MAX_MODEL_LEN, write_model


class TestVLLMLocal(EngineConformance):
    has_room_for_tools = False
    kind = VLLMLocalKind()
    # A token is a byte here.
    schema_tokens = 400
    model: ClassVar[Path]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def made_up(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.model = tmp_path_factory.mktemp("vllm") / "tiny"
        write_model(cls.model)

    @classmethod
    def options(cls) -> VLLMLocalOptions:
        return VLLMLocalOptions(
            model=str(cls.model),
            device="cpu",
            arguments={
                "load_format": "dummy",
                "dtype": "float32",
                "max_model_len": MAX_MODEL_LEN,
                "block_size": 32,
                "enforce_eager": True,
                # Noise would fill an answer with the white space that JSON allows.
                "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            },
            # Two threads of so small a model spend their time waiting for each other.
            environment={"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"},
        )

    def test_it_tells_its_sizes(self, started: Started) -> None:
        can = started.engine.capabilities()
        assert can.max_context_tokens == MAX_MODEL_LEN
        assert can.max_kv_tokens is not None
        assert can.max_kv_tokens > MAX_MODEL_LEN
        assert can.max_kv_tokens % 32 == 0

    def test_a_shared_prefix_is_reported_as_cached(self, started: Started) -> None:
        text = "A document that many ask about. " * 5
        started.ask(f"{text} What is it?", max_tokens=2)
        usage = started.ask(f"{text} Who wrote it?", max_tokens=2).usage
        assert usage.num_cached_tokens is not None
        assert len(text) // 32 * 32 <= usage.num_cached_tokens < usage.num_prompt_tokens

    def test_more_output_than_the_context_holds_is_too_long(self, started: Started) -> None:
        with pytest.raises(PromptTooLong):
            started.ask("Say hello.", max_tokens=MAX_MODEL_LEN + 1)
