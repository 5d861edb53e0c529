from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sundog.engines.base import Chunk, Message
from sundog.engines.embedded import models, openvino
from sundog.engines.embedded.openvino import OpenVINOKind
from sundog.engines.embedded.openvino_options import PROPERTIES, OpenVINOOptions
from sundog.engines.embedded.openvino_pipeline import (
    KV_BLOCK_TOKENS,
    PipelineSettings,
    Sampling,
    load_pipeline,
    open_tokenizer,
)
from sundog.engines.embedded.step_loop import PipelineJob
from sundog.errors import BadResponse, ConfigError, EngineUnavailable, PromptTooLong, SundogError
from sundog.secrets import Secrets
from tests.engines.conformance import Answer, EngineConformance, Started, ask_for, collect

MODEL = "smollm2-135m"
ROOT = Path(__file__).parents[2]


def why_not() -> str | None:
    """Why the embedded model cannot run here; None when it can."""
    if importlib.util.find_spec("openvino_genai") is None:
        return 'openvino-genai is not installed: pip install "sundog[local]"'
    try:
        models.resolve_model(MODEL, models.cache_folder())
    except SundogError as error:
        return str(error)
    return None


needs_model = [pytest.mark.local, pytest.mark.skipif(why_not() is not None, reason=why_not() or "it can")]


def options(**fields: Any) -> OpenVINOOptions:
    return OpenVINOOptions(**{"model": MODEL, "max_kv_tokens": 8192, **fields})


class TestOpenVINOConformance(EngineConformance):
    pytestmark = needs_model
    kind = OpenVINOKind()

    @classmethod
    def options(cls) -> OpenVINOOptions:
        return options()

    def test_characters_of_several_tokens_stay_whole(self, started: Started) -> None:
        answer = started.ask("Repeat: 🎉 世界 🎉 世界 🎉", max_tokens=48)
        assert any(ord(character) > 0xFFF for character in answer.text)
        assert "\N{REPLACEMENT CHARACTER}" not in answer.text
        assert "" in [chunk.text for chunk in answer.chunks[:-1]]

    def test_a_long_prompt_is_counted_whole(self, started: Started) -> None:
        """The tokenizer by itself leaves out all but the last 8,192 tokens."""
        with pytest.raises(PromptTooLong, match=r"the prompt has 1380\d\d tokens"):
            started.ask("hello world " * 69_000)
        outline = self.kind.outline(self.options())
        text = (ROOT / "docs" / "guarantees.md").read_text()
        whole, one = (outline.count([Message("user", part)]) for part in (text * 20, text))
        template = outline.count([Message("user", "")])
        assert whole - template == pytest.approx(20 * (one - template), rel=0.001)
        assert outline.max_context_tokens == 8192

    @pytest.mark.parametrize(
        "schema",
        [
            {
                "type": "object",
                "properties": {"answer": {"type": "string"}, "unit": {"enum": ["none", 'a "b"\n', "ü🎉"]}},
            },
            {"type": "array", "items": {"type": "string", "maxLength": 140}, "minItems": 1, "maxItems": 2},
            {"type": "string", "maxLength": 512},
            {"type": "string", "minLength": 3, "maxLength": 900},
            {
                "type": "object",
                "properties": {"n": {"type": "number", "minimum": -3, "maximum": 12}, "\t": {"const": []}},
            },
            {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 7, "maximum": 4321}]},
        ],
    )
    @pytest.mark.parametrize("temperature", [0.0, 2.0])
    def test_constrained_answers_end_in_time_and_have_no_white_space(
        self, started: Started, schema: dict[str, Any], temperature: float
    ) -> None:
        for seed in range(2):
            answer = started.ask(
                "What is the capital of France? Answer as JSON.",
                max_tokens=300,
                json_schema=json.dumps(schema),
                temperature=temperature,
                seed=seed,
            )
            jsonschema.validate(json.loads(answer.text), schema)
            assert answer.chunks[-1].finish_reason == "stop"
            assert not re.search(r"\s", re.sub(r'"([^"\\]|\\.)*"', "", answer.text))

    @pytest.mark.parametrize(
        ("max_tokens", "fields"),
        [
            (60, {"n": {"type": "array", "items": {"type": "number"}}}),
            (200, {"n": {"type": "array", "items": {"type": "integer"}}}),
            (200, {"n": {"type": "array", "items": {"type": "integer", "minimum": 0}}}),
            (200, {"n": {"type": "array", "items": {"type": "number", "minimum": -50}}}),
            (200, {"n": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999_998}}}),
            (200, {"n": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1_234_567}}}),
            (
                30,
                {
                    "x": {"type": "integer"},
                    "y": {"type": "number"},
                    "l": {"type": "array", "items": {"type": "integer"}},
                },
            ),
        ],
    )
    @pytest.mark.parametrize("prompt", ["Write the list [1,000,000].", "Write 007, 1e5 and -1,000.50 as JSON."])
    def test_numbers_are_json_and_fit(
        self, started: Started, max_tokens: int, fields: dict[str, Any], prompt: str
    ) -> None:
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        answer = started.ask(prompt, max_tokens=max_tokens, json_schema=json.dumps(schema))
        jsonschema.validate(json.loads(answer.text), schema)

    def test_a_schema_outside_the_subset_is_refused(self, started: Started) -> None:
        with pytest.raises(BadResponse, match="'pattern'"):
            started.ask("x", json_schema='{"type": "string", "pattern": "a"}')

    def test_a_seed_that_the_pipeline_does_not_take_fails_its_request_alone(self, started: Started) -> None:
        with pytest.raises(BadResponse, match="does not take this request"):
            started.ask("x", max_tokens=2, temperature=1.0, seed=-1)
        assert started.ask("x", max_tokens=2).usage.num_output_tokens > 0

    def test_a_prefix_is_cached_for_those_who_come_later(self, started: Started) -> None:
        text = "A document. " * 60
        assert started.ask(f"{text} What is it?", max_tokens=2).usage.num_cached_tokens == 0
        usage = started.ask(f"{text} Who wrote it?", max_tokens=2).usage
        assert usage.num_prompt_tokens - 40 < (usage.num_cached_tokens or 0) < usage.num_prompt_tokens


@pytest.mark.local
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "it can")
class TestBatchInvariant:
    def test_an_answer_depends_on_its_request_alone(self) -> None:
        started = Started(OpenVINOKind().open(options(precision="batch_invariant"), 0, Secrets({})))
        texts = [f"{'Some words. ' * (4 * i)}Tell me of number {i}." for i in range(4)]
        fields: list[dict[str, Any]] = [{"max_tokens": 24, "temperature": 0.7 * (i % 2), "seed": i} for i in range(4)]

        async def together() -> list[Answer]:
            requests = [ask_for(text, **field) for text, field in zip(texts, fields, strict=True)]
            return await asyncio.gather(*(collect(started.engine, request) for request in requests))

        cold = [started.ask(text, **field).text for text, field in zip(texts, fields, strict=True)]
        warm = [started.ask(text, **field).text for text, field in zip(texts, fields, strict=True)]
        assert cold == warm == [answer.text for answer in started.run(together())]
        started.close()


@pytest.mark.local
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "it can")
def test_more_requests_than_blocks_are_all_answered() -> None:
    """The pipeline by itself gives up all requests that extend what is cached when their blocks run out."""
    started = Started(OpenVINOKind().open(options(max_kv_tokens=1024), 0, Secrets({})))

    async def converse(number: int) -> None:
        text = f"Document {number % 6}. " + "It tells of a number. " * 30
        for turn in range(2):
            answer = await collect(started.engine, ask_for(f"{text}Question {turn}: which one?", max_tokens=30))
            text += answer.text

    async def together() -> None:
        await asyncio.gather(*(converse(number) for number in range(24)))

    started.run(together())
    assert started.engine.stats().num_requests == 48
    started.close()


@pytest.mark.local
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "it can")
def test_the_computed_number_of_cached_tokens_is_what_the_pipeline_skips() -> None:
    path, _ = openvino.find_model(models.resolve_model(MODEL, models.cache_folder()))
    settings = PipelineSettings(path, PROPERTIES["fast"], 8192, max_num_batched_tokens=32, max_num_seqs=4)
    steps, files = load_pipeline(settings)
    tokenizer = open_tokenizer(path, files)
    for number, text in enumerate(("A document. " * 60, "A document. " * 60, "A document. " * 40 + "Another.")):
        prompt = tokenizer.encode(text).input_ids.data[0].tolist()
        steps.add(number, PipelineJob(prompt, Sampling(max_new_tokens=1, temperature=0.0, seed=0, grammar=None), 1))
        num_steps = 1
        while not (results := steps.step()):
            num_steps += 1
        ((_, last),) = results
        assert isinstance(last, Chunk)
        assert last.usage is not None
        num_computed = last.usage.num_prompt_tokens - (last.usage.num_cached_tokens or 0)
        # A step computes one block of the prompt: whole steps tell the cached tokens up to less than a block.
        assert num_steps == -(-num_computed // KV_BLOCK_TOKENS)


@pytest.mark.local
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "it can")
def test_an_interrupt_ends_the_process() -> None:
    program = """
import asyncio, os, signal
from sundog.engines.embedded.openvino import OpenVINOKind
from sundog.engines.embedded.openvino_options import OpenVINOOptions
from sundog.secrets import Secrets
from tests.engines.conformance import ask_for

# A shell has what it starts in the background ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    engine = OpenVINOKind().open(OpenVINOOptions(model="smollm2-135m", max_kv_tokens=1024), 0, Secrets({}))
    await engine.start()
    try:
        async for chunk in engine.generate(ask_for("Count to a thousand.", max_tokens=900)):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        await engine.close()
        print("closed")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "closed"
    assert "KeyboardInterrupt" in done.stderr
    assert "leaked" not in done.stderr


def test_without_the_package_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch, gguf_file: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    with pytest.raises(ConfigError, match="openvino-genai") as caught:
        Started(OpenVINOKind().open(options(model=str(gguf_file)), 0, Secrets({})))
    assert 'pip install "sundog[local]"' in str(caught.value)


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A GGUF file with a context length and nothing else."""
    import struct

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 2)
    architecture = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    length = text("llama.context_length") + struct.pack("<II", 4, 64)
    path = tmp_path / "empty.gguf"
    path.write_bytes(head + architecture + length)
    return path


@pytest.mark.local
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "it can")
def test_weights_that_cannot_be_loaded(gguf_file: Path) -> None:
    with pytest.raises(EngineUnavailable, match="cannot load"):
        Started(OpenVINOKind().open(options(model=str(gguf_file)), 0, Secrets({})))


def test_what_a_folder_must_hold(tmp_path: Path, gguf_file: Path) -> None:
    assert openvino.find_model(gguf_file.parent) == (gguf_file, 64)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"no openvino_model\.xml and no \.gguf") as caught:
        openvino.find_model(folder)
    assert "optimum-cli" in str(caught.value)
    (folder / "openvino_model.xml").write_text("<net/>")
    with pytest.raises(ConfigError, match="context length"):
        openvino.find_model(folder)
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    assert openvino.find_model(folder) == (folder, 512)


def test_identity_follows_weights_and_precision_only() -> None:
    kind = OpenVINOKind()
    assert kind.identity(options()) == kind.identity(options(max_kv_tokens=64, replicas=2, max_num_batched_tokens=32))
    assert kind.identity(options()) != kind.identity(options(precision="batch_invariant"))
    assert kind.num_replicas(options(replicas=2)) == 2


def test_importing_sundog_does_not_import_the_engine() -> None:
    program = "import sys, sundog.engines.embedded.openvino; print({'openvino_genai', 'openvino'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
