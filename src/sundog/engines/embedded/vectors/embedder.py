"""The engine of an embedding model: openvino in a process of its own, the tokenizer here.

Owns a request's way through it. It gives vectors and never answers; order is decided by sched.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from sundog.engines.base import Capabilities, Chunk, EngineOutline, EngineStats, GenerateRequest, Message, Usage
from sundog.engines.counters import Counters
from sundog.engines.embedded.engine_process import EngineProcess
from sundog.engines.embedded.openvino_options import PROPERTIES, OpenVINOOptions
from sundog.engines.embedded.openvino_pipeline import last_line, open_tokenizer
from sundog.engines.embedded.vectors.model_folder import ModelFolder, read_model_folder
from sundog.engines.embedded.vectors.text_tokens import TextTokens
from sundog.engines.embedded.vectors.vector_loop import VectorJob, Vectors, VectorSettings, load_vectors
from sundog.engines.embeddings import Embeddings, EmbedRequest
from sundog.errors import BadResponse, EngineError, EngineUnavailable


class OpenVINOEmbedder:
    """A replica that gives the vectors of an embedding model."""

    def __init__(self, options: OpenVINOOptions, path: Path) -> None:
        self._folder = read_model_folder(path, options.pooling, options.normalize)
        self._tokens: TextTokens | None = None
        self._dimensions: int | None = None
        settings = VectorSettings(
            self._folder,
            {name: value for name, value in PROPERTIES[options.precision].items() if name != "KV_CACHE_PRECISION"},
            options.max_num_batched_tokens,
            is_alone=options.precision == "batch_invariant",
        )
        self._process: EngineProcess[VectorJob, Vectors] = EngineProcess(load_vectors, settings)
        self._capabilities = Capabilities(
            max_context_tokens=self._folder.max_context_tokens,
            max_kv_tokens=None,
            has_json_schema=False,
            has_priority=False,
            has_prefix_cache=False,
            max_step_tokens=options.max_num_batched_tokens,
            counts_exactly=True,
        )
        self._counters = Counters()

    async def start(self) -> None:
        try:
            await self._process.spawn()
            # Here, while the process loads.
            self._tokens = await asyncio.to_thread(open_tokens, self._folder)
            self._dimensions = await self._process.start()
        except BaseException:
            await self._process.close()
            raise

    async def embed(self, request: EmbedRequest) -> Embeddings:
        if self._tokens is None:
            raise EngineUnavailable("the engine is not started")
        self._check_dimensions(request.dimensions)
        texts = [self._tokens.encode(text) for text in request.texts]
        with self._counters:
            stream = await self._process.submit(VectorJob(texts))
            try:
                vectors = await stream.results.get()
            finally:
                stream.abort()
            if isinstance(vectors, EngineError):
                raise vectors
            if not all(math.isfinite(number) for vector in vectors for number in vector):
                raise BadResponse("the model gave a vector that holds a number without end, or NaN")
            num_tokens = tuple(map(len, texts))
            usage = Usage(sum(num_tokens), 0, 0)
            self._counters.add(usage)
            return Embeddings(vectors, usage, num_tokens)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        raise BadResponse(f"the model {self._folder.model_file.parent} gives vectors, and no answers")
        yield  # it is a generator all the same

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def stats(self) -> EngineStats:
        return self._counters.stats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        return 0 if self._tokens is None else _count(self._tokens, request.messages)

    async def close(self) -> None:
        await self._process.close()

    def _check_dimensions(self, asked: int | None) -> None:
        if asked is not None and asked != self._dimensions:
            raise BadResponse(
                f"the vectors of this model have {self._dimensions or 'another number of'} numbers, and {asked:,}"
                " were asked for",
                hint="leave out dimensions, or write the model's own",
            )


def outline_of(options: OpenVINOOptions, path: Path) -> EngineOutline:
    """Return what can be told of an embedder before it starts."""
    folder = read_model_folder(path, options.pooling, options.normalize)
    tokens = open_tokens(folder)
    return EngineOutline(
        lambda messages: _count(tokens, messages),
        0.0,
        encode=None,
        block_tokens=None,
        max_kv_tokens=None,
        max_context_tokens=tokens.max_tokens,
    )


def open_tokens(folder: ModelFolder) -> TextTokens:
    """Return the tokenizer of a model; EngineUnavailable where it cannot be loaded."""
    try:
        tokenizer = open_tokenizer(folder.tokenizer_folder, {})
    except RuntimeError as error:
        raise EngineUnavailable(
            f"openvino-genai cannot load the tokenizer in {folder.tokenizer_folder}: {last_line(error)}",
            hint="export it again",
        ) from error
    return TextTokens(tokenizer, folder.max_context_tokens, is_lower_case=folder.is_lower_case)


def _count(tokens: TextTokens, messages: Sequence[Message]) -> int:
    try:
        return sum(tokens.count(message.text) for message in messages)
    except BadResponse:
        # `embed` will say what is wrong with this text; no tokens of it will be computed.
        return 0
