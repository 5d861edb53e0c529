"""The embedded engine: openvino-genai's continuous batching over a GGUF file or an OpenVINO folder.

Owns the prompt's tokens and one request's way through the engine. The pipeline runs in a process of its
own (engine_process); only the tokenizer is here. Never decides order (sched does) and never downloads weights (models
does). openvino-genai is imported when an engine starts, not before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

from sundog.engines.base import (
    Capabilities,
    Chunk,
    EngineOutline,
    EngineStats,
    GenerateRequest,
    Message,
)
from sundog.engines.counters import Counters
from sundog.engines.embedded import gguf, models
from sundog.engines.embedded.engine_process import EngineProcess
from sundog.engines.embedded.openvino_options import PROPERTIES, OpenVINOOptions
from sundog.engines.embedded.openvino_pipeline import (
    KV_BLOCK_TOKENS,
    PipelineSettings,
    Sampling,
    import_openvino,
    load_pipeline,
    load_tokenizer,
    open_tokenizer,
)
from sundog.engines.embedded.openvino_tokens import encode_prompt
from sundog.engines.embedded.step_loop import PipelineJob
from sundog.engines.embedded.vectors.embedder import OpenVINOEmbedder, outline_of
from sundog.engines.embedded.vectors.model_folder import gives_vectors
from sundog.engines.structured.json_grammar import compact_grammar
from sundog.engines.structured.json_schema import read_schema
from sundog.engines.tool_use import ToolForm
from sundog.errors import BadResponse, ConfigError, EngineError, EngineUnavailable, PromptTooLong
from sundog.secrets import Secrets

NUM_PROMPTS_REMEMBERED = 256


class OpenVINOEngine:
    """This engine is openvino-genai in a process of its own. `num_cached_tokens` of its usage is computed by
    `prefix_mirror`: the pipeline does not tell it."""

    def __init__(self, options: OpenVINOOptions) -> None:
        self._options = options
        self._path, max_context_tokens = find_model(models.resolve_model(options.model, models.cache_folder()))
        self._max_request_tokens = min(max_context_tokens, options.max_kv_tokens)
        self._capabilities = Capabilities(
            max_context_tokens=max_context_tokens,
            max_kv_tokens=options.max_kv_tokens,
            has_json_schema=True,
            has_priority=False,
            has_prefix_cache=True,
            max_step_tokens=options.max_num_batched_tokens,
            counts_exactly=True,
        )
        self._tokenizer: Any = None
        self._process = EngineProcess(load_pipeline, self._pipeline_settings())
        self._encode = lru_cache(maxsize=NUM_PROMPTS_REMEMBERED)(self._encode_prompt)
        self._counters = Counters()

    async def start(self) -> None:
        try:
            await self._process.spawn()
            # Here, while the process loads.
            await asyncio.to_thread(import_openvino, "openvino_genai")
            self._tokenizer = open_tokenizer(self._path, await self._process.start())
        except BaseException:
            await self._process.close()
            raise

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        prompt = self._encode(request.messages)
        sampling = self._sampling(request, len(prompt))
        stream = await self._process.submit(PipelineJob(prompt, sampling, sampling.max_new_tokens, request.stop))
        with self._counters:
            try:
                while True:
                    chunk = await stream.results.get()
                    if isinstance(chunk, EngineError):
                        raise chunk
                    if chunk.usage is not None:
                        self._counters.add(chunk.usage)
                    yield chunk
                    if chunk.finish_reason is not None:
                        return
            finally:
                stream.abort()

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def stats(self) -> EngineStats:
        return self._counters.stats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        try:
            return len(self._encode(request.messages))
        except BadResponse:
            # `generate` will say what is wrong with this prompt; no tokens of it will be computed.
            return 0

    async def close(self) -> None:
        await self._process.close()

    def _encode_prompt(self, messages: tuple[Message, ...]) -> list[int]:
        if self._tokenizer is None:
            raise EngineUnavailable("the engine is not started")
        return encode_prompt(self._tokenizer, messages)

    def _sampling(self, request: GenerateRequest, num_prompt_tokens: int) -> Sampling:
        """Return the sampling of a request. PromptTooLong, or BadResponse for a schema that it cannot do."""
        room = self._max_request_tokens - num_prompt_tokens
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {num_prompt_tokens} tokens, and the engine takes {self._max_request_tokens - 1}",
                hint="shorten the prompt, e.g. {{ text[:4000] }}, or raise max_kv_tokens if that is what limits it",
            )
        return Sampling(
            max_new_tokens=min(room, request.max_tokens or room),
            temperature=request.temperature or 0.0,
            # Without a seed each request draws its own numbers, and the same ones when it is repeated.
            seed=crc32(request.request_id.encode()) if request.seed is None else request.seed,
            grammar=None if request.json_schema is None else compact_grammar(request.json_schema, request.max_tokens),
        )

    def _pipeline_settings(self) -> PipelineSettings:
        return PipelineSettings(
            path=self._path,
            properties=PROPERTIES[self._options.precision],
            max_kv_tokens=self._options.max_kv_tokens,
            max_num_batched_tokens=self._options.max_num_batched_tokens,
            max_num_seqs=self._options.max_concurrency,
        )


class OpenVINOKind:
    """This class makes the engines of `kind: openvino`."""

    Options = OpenVINOOptions

    def identity(self, options: OpenVINOOptions) -> Mapping[str, Any]:
        of_vectors = {"pooling": options.pooling, "normalize": options.normalize}
        return {
            "kind": "openvino",
            "weights": models.weights_identity(options.model),
            "precision": options.precision,
            **{name: value for name, value in of_vectors.items() if value is not None},
        }

    def num_replicas(self, options: OpenVINOOptions) -> int:
        return options.replicas

    def loads_model_here(self, options: OpenVINOOptions) -> bool:
        return True

    def outline(self, options: OpenVINOOptions) -> EngineOutline:
        folder = _vectors_folder(options)
        if folder is not None:
            return outline_of(options, folder)
        path, max_context_tokens = find_model(models.resolve_model(options.model, models.cache_folder()))
        tokenizer, _ = load_tokenizer(path)

        def encode(messages: Sequence[Message]) -> list[int]:
            try:
                return encode_prompt(tokenizer, messages)
            except BadResponse:
                # `generate` will say what is wrong with this prompt; no tokens of it will be computed.
                return []

        return EngineOutline(
            lambda messages: len(encode(messages)),
            0.0,
            encode,
            KV_BLOCK_TOKENS,
            options.max_kv_tokens,
            min(max_context_tokens, options.max_kv_tokens),
        )

    def check_schema(self, schema_text: str) -> None:
        read_schema(schema_text)

    def tool_form(self, options: OpenVINOOptions) -> ToolForm:
        return "constrained"

    def has_embeddings(self, options: OpenVINOOptions) -> bool:
        return _vectors_folder(options) is not None

    def has_answers(self, options: OpenVINOOptions) -> bool:
        return _vectors_folder(options) is None

    def open(self, options: OpenVINOOptions, replica: int, secrets: Secrets) -> OpenVINOEngine | OpenVINOEmbedder:
        folder = _vectors_folder(options)
        return OpenVINOEngine(options) if folder is None else OpenVINOEmbedder(options, folder)


def _vectors_folder(options: OpenVINOOptions) -> Path | None:
    """Return the folder of a model that gives vectors, None for all others."""
    path = Path(options.model).expanduser()
    if options.model not in models.CATALOG and gives_vectors(path):
        return path
    for name in ("pooling", "normalize"):
        if getattr(options, name) is not None:
            raise ConfigError(f"'{name}' is for models that give vectors, and {options.model} answers")
    return None


def find_model(path: Path) -> tuple[Path, int]:
    """Return what the pipeline is to open, and its context length in tokens; ConfigError for a folder it cannot
    read."""
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
