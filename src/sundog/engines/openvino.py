"""The embedded engine: openvino-genai's continuous batching over a GGUF file or an OpenVINO folder, in this process.

Owns the options, the pipeline's settings and one request's way through it. Never decides order (sched does) and never
downloads weights (models does). openvino-genai is imported when an engine starts, not before.

`precision`:
- `fast`: single-precision activations and KV blocks, weights multiplied in 8 bits (dynamic quantization). The answer of
  a greedy request can depend on what else was in the batch and in the prefix cache.
- `batch_invariant`: without dynamic quantization. An answer depends on its request alone, at about half the speed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from pydantic import Field

from sundog.engines import gguf, models
from sundog.engines.base import (
    Capabilities,
    Chunk,
    EngineOptions,
    EngineStats,
    FinishReason,
    GenerateRequest,
    Message,
    Usage,
)
from sundog.engines.json_grammar import compact_grammar
from sundog.engines.prefix_mirror import PrefixMirror
from sundog.engines.step_loop import Pipeline, StepLoop, Stream
from sundog.engines.token_text import StopScanner
from sundog.errors import BadResponse, ConfigError, EngineError, EngineOverloaded, EngineUnavailable, PromptTooLong
from sundog.secrets import Secrets

# What the CPU plugin uses; a prefix is shared in whole blocks of it.
BLOCK_TOKENS = 32
NUM_PROMPTS_REMEMBERED = 256

PROPERTIES: Mapping[str, Mapping[str, str]] = {
    "fast": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
    "batch_invariant": {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    },
}


class OpenVINOOptions(EngineOptions):
    """`model`: a name that `sundog model pull` knows, a .gguf file, or a folder with an OpenVINO model.

    `max_kv_tokens`: room for the KV blocks of running requests and shared prefixes, in tokens; memory grows to it as
    it is used (46 KB a token for smollm2-135m). `max_num_batched_tokens`: tokens computed in one step; more is
    faster for long prompts, and lets others wait longer.
    """

    precision: Literal["fast", "batch_invariant"] = "fast"
    max_kv_tokens: int = Field(default=32_768, ge=BLOCK_TOKENS)
    max_num_batched_tokens: int = Field(default=256, ge=BLOCK_TOKENS)


class OpenVINOEngine:
    """`num_cached_tokens` of its usage is computed by `prefix_mirror`: the pipeline does not tell it."""

    def __init__(self, options: OpenVINOOptions, replica: int) -> None:
        self._options = options
        self._path, self._max_context_tokens = find_model(models.resolve(options.model, models.cache_folder()))
        self._max_request_tokens = min(self._max_context_tokens, options.max_kv_tokens)
        self._tokenizer: Any = None
        self._steps = StepLoop(self._load, f"openvino-{replica}")
        self._encode = lru_cache(maxsize=NUM_PROMPTS_REMEMBERED)(self._encode_prompt)
        self._num_requests = self._num_running = 0
        self._num_prompt_tokens = self._num_cached_tokens = self._num_output_tokens = 0

    async def start(self) -> None:
        await self._steps.start()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        prompt = self._encode(request.messages)
        settings = self._settings(request, len(prompt.tokens))
        stream = Stream(prompt.tokens, (prompt.tensor, settings), StopScanner(request.stop))
        self._steps.submit(stream)
        self._num_requests += 1
        self._num_running += 1
        try:
            while True:
                chunk = await stream.chunks.get()
                if isinstance(chunk, EngineError):
                    raise chunk
                if chunk.usage is not None:
                    self._count(chunk.usage)
                yield chunk
                if chunk.finish_reason is not None:
                    return
        finally:
            self._num_running -= 1
            self._steps.abort(stream)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            max_context_tokens=self._max_context_tokens,
            max_kv_tokens=self._options.max_kv_tokens,
            has_json_schema=True,
            has_priority=False,
            has_prefix_cache=True,
            max_step_tokens=self._options.max_num_batched_tokens,
        )

    def stats(self) -> EngineStats:
        return EngineStats(
            num_requests=self._num_requests,
            num_running=self._num_running,
            num_prompt_tokens=self._num_prompt_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_output_tokens=self._num_output_tokens,
        )

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        try:
            return len(self._encode(request.messages).tokens)
        except BadResponse:
            # `generate` will say what is wrong with this prompt; no tokens of it will be computed.
            return 0

    async def close(self) -> None:
        await self._steps.close()

    def _count(self, usage: Usage) -> None:
        self._num_prompt_tokens += usage.num_prompt_tokens
        self._num_cached_tokens += usage.num_cached_tokens or 0
        self._num_output_tokens += usage.num_output_tokens

    def _encode_prompt(self, messages: tuple[Message, ...]) -> Prompt:
        if self._tokenizer is None:
            raise EngineUnavailable("the engine is not started")
        history = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(history, True)
        except RuntimeError as error:
            raise BadResponse(
                f"the model's chat template does not take this prompt: {_last_line(error)}",
                hint="look at its roles, and for characters that are no UTF-8",
            ) from error
        tensor = self._tokenizer.encode(text, add_special_tokens=False).input_ids
        return Prompt(tensor.data[0].tolist(), tensor)

    def _settings(self, request: GenerateRequest, num_prompt_tokens: int) -> Any:
        """The pipeline's own settings for one request; PromptTooLong, or BadResponse for a schema it cannot do."""
        room = self._max_request_tokens - num_prompt_tokens
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {num_prompt_tokens} tokens, and the engine takes {self._max_request_tokens - 1}",
                hint="shorten the prompt, e.g. {{ text[:4000] }}, or raise max_kv_tokens if that is what limits it",
            )
        settings = self._new_settings()
        settings.max_new_tokens = min(room, request.max_tokens or room)
        if request.temperature > 0:
            settings.do_sample = True
            settings.temperature = request.temperature
            # Without a seed each request draws its own numbers, and the same ones when it is repeated.
            settings.rng_seed = crc32(request.request_id.encode()) if request.seed is None else request.seed
        if request.json_schema is not None:
            settings.structured_output_config = self._structured(
                grammar=compact_grammar(request.json_schema, request.max_tokens)
            )
        return settings

    def _load(self) -> Pipeline:
        """On the engine's thread: read the weights, 3 to 8 s for a small model."""
        openvino_genai = import_openvino_genai()
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 0
        scheduler.num_kv_blocks = -(-self._options.max_kv_tokens // BLOCK_TOKENS)
        scheduler.max_num_batched_tokens = self._options.max_num_batched_tokens
        scheduler.max_num_seqs = self._options.max_concurrency
        scheduler.enable_prefix_caching = True
        try:
            pipeline = openvino_genai.ContinuousBatchingPipeline(
                str(self._path), scheduler, "CPU", dict(PROPERTIES[self._options.precision]), {}
            )
        except Exception as error:  # the library raises whatever its C++ parts throw
            raise EngineUnavailable(
                f"openvino-genai cannot load {self._path}: {_last_line(error)}",
                hint="it reads GGUF files of llama, qwen2 and qwen3 models, and folders exported by optimum-intel",
            ) from error
        tokenizer = pipeline.get_tokenizer()
        if not tokenizer.chat_template:
            raise ConfigError(f"the model {self._path} has no chat template", hint="use an instruction-tuned model")
        defaults = pipeline.get_config()

        def new_settings() -> Any:
            return openvino_genai.GenerationConfig(
                eos_token_id=defaults.eos_token_id, stop_token_ids=defaults.stop_token_ids
            )

        self._tokenizer, self._new_settings = tokenizer, new_settings
        self._structured = openvino_genai.StructuredOutputConfig
        return _Pipeline(pipeline, PrefixMirror(BLOCK_TOKENS, scheduler.num_kv_blocks))


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: list[int]
    tensor: Any


class _Pipeline:
    """openvino-genai's pipeline as step_loop drives it."""

    def __init__(self, pipeline: Any, prefix_cache: PrefixMirror) -> None:
        self.prefix_cache = prefix_cache
        self._pipeline = pipeline
        self._tokenizer = pipeline.get_tokenizer()
        self._ids = count()

    def add(self, prompt: Sequence[int], settings: tuple[Any, Any]) -> _Handle:
        return _Handle(self._pipeline.add_request(next(self._ids), *settings))

    def step(self) -> None:
        self._pipeline.step()

    def has_work(self) -> bool:
        return bool(self._pipeline.has_non_finished_requests())

    def decode_batch(self, sequences: Sequence[Sequence[int]]) -> Sequence[str]:
        texts: list[str] = self._tokenizer.decode(sequences)
        return texts


class _Handle:
    FINISH_REASONS: Mapping[str, FinishReason] = {"STOP": "stop", "LENGTH": "length"}

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def read(self) -> tuple[list[int], FinishReason | None]:
        tokens: list[int] = []
        finish_reason: FinishReason | None = None
        while self._handle.can_read():
            for output in self._handle.read().values():
                tokens += output.generated_ids
                finish_reason = self.FINISH_REASONS.get(output.finish_reason.name)
        if self._handle.get_status().name == "IGNORED":
            raise EngineOverloaded("the KV blocks ran out", retryable=True, hint="raise max_kv_tokens")
        return tokens, finish_reason

    def cancel(self) -> None:
        self._handle.cancel()


class OpenVINOKind:
    """`kind: openvino`."""

    Options = OpenVINOOptions

    def identity(self, options: OpenVINOOptions) -> Mapping[str, Any]:
        return {"kind": "openvino", "weights": models.weights_identity(options.model), "precision": options.precision}

    def num_replicas(self, options: OpenVINOOptions) -> int:
        return options.replicas

    def open(self, options: OpenVINOOptions, replica: int, secrets: Secrets) -> OpenVINOEngine:
        return OpenVINOEngine(options, replica)


def import_openvino_genai() -> Any:
    try:
        return import_module("openvino_genai")
    except ImportError as error:
        raise ConfigError(
            f"the embedded engine needs openvino-genai: {error}", hint='pip install "sundog[local]"'
        ) from error


def _last_line(error: Exception) -> str:
    """The sentence in a C++ exception; the lines before it are places in its source."""
    return str(error).strip().splitlines()[-1]


def find_model(path: Path) -> tuple[Path, int]:
    """What the pipeline is to open, and its context length in tokens; ConfigError for a folder it cannot read."""
    if path.is_file():
        return path, gguf.context_tokens(path)
    if (path / "openvino_model.xml").is_file():
        try:
            return path, int(json.loads((path / "config.json").read_bytes())["max_position_embeddings"])
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"no context length in {path / 'config.json'}: {error}", hint="export it again"
            ) from error
    found = sorted(path.glob("*.gguf"))
    if len(found) == 1:
        return found[0], gguf.context_tokens(found[0])
    raise ConfigError(
        f"the folder {path} holds no openvino_model.xml and {len(found) or 'no'} .gguf files",
        hint=f"name one .gguf file, or convert: optimum-cli export openvino --model {path} <new folder>",
    )
