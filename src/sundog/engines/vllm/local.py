"""vLLM inside this process, for batches on one machine without a server.

Owns the engine of vLLM and the translation of requests and answers. The only engine that imports vllm, when it is
started or its tokens are counted: the environment that runs sundog must have it. Never schedules or retries.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sundog.engines.base import (
    Capabilities,
    Chunk,
    EngineOptions,
    EngineOutline,
    EngineStats,
    FinishReason,
    GenerateRequest,
    Message,
    Usage,
)
from sundog.engines.counters import Counters
from sundog.engines.openai.engine import SERVER_BLOCK_TOKENS
from sundog.engines.structured.tool_form import plain_messages
from sundog.engines.tool_use import ToolForm
from sundog.engines.vllm.command import Device, ServerArgument, argument_name, replicas_with_room, server_environment
from sundog.engines.vllm.engine import ENVELOPE_ARGUMENT, MAX_NUM_SEQS, answering, context_argument, serves_plugin
from sundog.errors import BadResponse, ConfigError, EngineUnavailable, PromptTooLong
from sundog.secrets import Secrets

FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
Encode = Callable[[Sequence[Message]], list[int]]


class VLLMLocalOptions(EngineOptions):
    """The options of `kind: vllm_local`."""

    replicas: Literal[1] = 1
    max_concurrency: int = Field(default=MAX_NUM_SEQS, ge=1)
    #: vLLM's engine options by name.
    arguments: dict[str, ServerArgument] = Field(default_factory=dict)
    #: The kind of processor that it runs on.
    device: Device = "gpu"
    #: Variables set before vLLM is loaded; they stay set.
    environment: dict[str, str] = Field(default_factory=dict)

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, written: dict[str, ServerArgument]) -> dict[str, ServerArgument]:
        named = {argument_name(key): value for key, value in written.items()}
        if "model" in named:
            raise ValueError("'model' is no argument: write it as the block's 'model'")
        return named

    @model_validator(mode="after")
    def _tool_form(self) -> Self:
        return self.only_constrained()

    def max_replicas(self) -> int | None:
        return replicas_with_room(self.device, self.arguments, self.environment)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The engine of vLLM and what is known of it once it is there."""

    engine: Any
    max_context_tokens: int
    max_kv_tokens: int
    max_step_tokens: int
    has_prefix_cache: bool


class VLLMLocalEngine:
    """This engine is vLLM inside this process. `capabilities` are only known once it has started; closing frees the
    device."""

    def __init__(self, options: VLLMLocalOptions, secrets: Secrets) -> None:
        self._options = options
        self._secrets = secrets
        self._has_plugin = serves_plugin(options.arguments)
        self._encode: Encode | None = None
        self._loaded: _Loaded | None = None
        self._known: _Loaded | None = None
        self._counters = Counters()

    async def start(self) -> None:
        """Load the weights; takes seconds to minutes, off the event loop."""
        options = self._options
        written = {key: self._secrets.reveal(value) for key, value in options.environment.items()}
        os.environ.update(server_environment(options.device, 0, 1, options.arguments, written))
        self._encode = await asyncio.to_thread(_encoder, options.model)
        self._known = self._loaded = await asyncio.to_thread(_load, options, self._secrets)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        if self._loaded is None or self._encode is None:
            raise EngineUnavailable("the engine is not started, or closed")
        with self._counters:
            prompt = _prompt(self._encode, request)
            _check_length(prompt, request, self._loaded.max_context_tokens)
            async with aclosing(_answer(self._loaded.engine, prompt, request)) as chunks:
                async for chunk in chunks:
                    if chunk.usage is not None:
                        self._counters.add(chunk.usage)
                    yield chunk

    def capabilities(self) -> Capabilities:
        known = self._known
        assert known is not None, "asked before the engine was started"
        return Capabilities(
            max_context_tokens=known.max_context_tokens,
            max_kv_tokens=known.max_kv_tokens,
            has_json_schema=True,
            has_priority=True,
            has_prefix_cache=known.has_prefix_cache,
            max_step_tokens=known.max_step_tokens,
            shares_cold_prefixes=True,
            reads_about=self._has_plugin,
            counts_exactly=True,
        )

    def stats(self) -> EngineStats:
        return self._counters.stats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        assert self._encode is not None, "asked before the engine was started"
        return len(self._encode(request.messages))

    async def close(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await asyncio.to_thread(loaded.engine.shutdown)


class VLLMLocalKind:
    """This class makes the engines of `kind: vllm_local`."""

    Options = VLLMLocalOptions

    def identity(self, options: VLLMLocalOptions) -> Mapping[str, Any]:
        return {"kind": "vllm_local", "model": options.model, "arguments": answering(options.arguments)}

    def num_replicas(self, options: VLLMLocalOptions) -> int:
        return options.replicas

    def loads_model_here(self, options: VLLMLocalOptions) -> bool:
        return True

    def outline(self, options: VLLMLocalOptions) -> EngineOutline:
        encode = _encoder(options.model)
        size = options.arguments.get("block_size", SERVER_BLOCK_TOKENS)
        block_tokens = size if isinstance(size, int) else SERVER_BLOCK_TOKENS
        has_cache = options.arguments.get("enable_prefix_caching") is not False
        return EngineOutline(
            lambda messages: len(encode(messages)),
            0.0,
            encode,
            block_tokens if has_cache else None,
            None,
            context_argument(options.arguments),
        )

    def tool_form(self, options: VLLMLocalOptions) -> ToolForm:
        return "constrained"

    def open(self, options: VLLMLocalOptions, replica: int, secrets: Secrets) -> VLLMLocalEngine:
        return VLLMLocalEngine(options, secrets)


@cache
def _encoder(model: str) -> Encode:
    """Return the chat template and tokenizer of a model; ConfigError when there is none or vLLM is not here."""
    try:
        from vllm.tokenizers import get_tokenizer
    except ImportError as error:
        raise ConfigError(
            f"vLLM cannot be imported: {error}",
            hint="run sundog in an environment with vLLM (pip install sundog[vllm]), or use `kind: vllm`",
        ) from error
    try:
        tokenizer = get_tokenizer(model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the tokenizer of '{model}' cannot be loaded: {error}", hint="check model") from error

    def encode(messages: Sequence[Message]) -> list[int]:
        turns = [{"role": message.role, "content": message.content} for message in plain_messages(messages)]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return tokens

    return encode


def _load(options: VLLMLocalOptions, secrets: Secrets) -> _Loaded:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = secrets.reveal_all(dict(options.arguments))
    known = {"max_num_seqs": options.max_concurrency, "scheduling_policy": "priority", "disable_log_stats": True}
    try:
        with _without_main():
            engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=options.model, **{**known, **arguments}))
    except TypeError as error:
        raise ConfigError(f"vLLM does not take these arguments: {error}", hint="check `arguments`") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineUnavailable(f"vLLM cannot load '{options.model}': {error}", hint="see what it printed") from error
    config = engine.vllm_config
    return _Loaded(
        engine,
        config.model_config.max_model_len,
        (config.cache_config.num_gpu_blocks or 0) * config.cache_config.block_size,
        config.scheduler_config.max_num_batched_tokens,
        bool(config.cache_config.enable_prefix_caching),
    )


@contextmanager
def _without_main() -> Iterator[None]:
    """vLLM's core is a process that multiprocessing starts, and that would run the user's script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _prompt(encode: Encode, request: GenerateRequest) -> list[int]:
    try:
        return encode(request.messages)
    except (TypeError, UnicodeError) as error:
        raise BadResponse(f"the prompt cannot be written as UTF-8: {error}", hint="clean the row") from error


def _check_length(prompt: Sequence[int], request: GenerateRequest, max_context_tokens: int) -> None:
    num_tokens = len(prompt) + (request.max_tokens or 1)
    if num_tokens > max_context_tokens:
        raise PromptTooLong(
            f"{len(prompt)} prompt tokens and {request.max_tokens or 1} of the answer are more than the context of "
            f"{max_context_tokens}",
            hint="shorten the prompt or lower max_tokens",
        )


async def _answer(engine: Any, prompt: list[int], request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of an answer. What vLLM refuses is BadResponse; its end is EngineUnavailable."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    num_output_tokens, num_cached_tokens = 0, 0
    stream = engine.generate(
        {"prompt_token_ids": prompt}, _sampling(request), request.request_id, priority=request.priority
    )
    try:
        async with aclosing(stream) as outputs:
            async for output in outputs:
                (piece,) = output.outputs
                num_output_tokens += len(piece.token_ids)
                num_cached_tokens = max(num_cached_tokens, output.num_cached_tokens or 0)
                if not output.finished:
                    yield Chunk(piece.text)
                    continue
                reason = FINISH_REASONS.get(piece.finish_reason)
                if reason is None:
                    raise BadResponse(f"the answer ended for the reason '{piece.finish_reason}'", retryable=True)
                yield Chunk(piece.text, reason, Usage(len(prompt), num_output_tokens, num_cached_tokens))
    except (EngineDeadError, EngineGenerateError) as error:
        hint = "see what vLLM printed; a server that is started again by itself is `kind: vllm`"
        raise EngineUnavailable(f"vLLM has failed: {error}", hint=hint, retryable=True) from error
    except ValueError as error:
        raise BadResponse(f"vLLM refuses the request: {error}") from error


def _sampling(request: GenerateRequest) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    schema = request.json_schema
    return SamplingParams(
        temperature=1.0 if request.temperature is None else request.temperature,
        max_tokens=request.max_tokens,
        seed=request.seed,
        stop=list(request.stop),
        structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        output_kind=RequestOutputKind.DELTA,
        extra_args={ENVELOPE_ARGUMENT: dict(request.about)} if request.about else None,
    )
