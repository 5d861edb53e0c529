"""The null engine: answers made from a hash of the request, at no cost; the engine of tests and benchmarks.

Owns deterministic answers and their token counts. Never looks at the meaning of a prompt.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Self

from pydantic import Field, model_validator

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
from sundog.engines.embeddings import Embeddings, EmbedRequest
from sundog.engines.message_parts import PartKind
from sundog.engines.modelled.block_table import BlockTable, block_keys
from sundog.engines.modelled.replica import StepSeconds
from sundog.engines.modelled.steps import ModelledSteps
from sundog.engines.modelled.vectors import hashed_vector
from sundog.engines.structured.json_schema import (
    AnswerSchema,
    AnyOfSchema,
    ArraySchema,
    LiteralSchema,
    NumberSchema,
    ObjectSchema,
    StringSchema,
    read_schema,
)
from sundog.engines.tool_use import ToolForm
from sundog.errors import EngineUnavailable, PromptTooLong
from sundog.secrets import Secrets
from sundog.tokens import CHARACTERS_PER_TOKEN

MODELLED_BLOCK_TOKENS = 32


class NullOptions(EngineOptions):
    """The options of `kind: "null"`."""

    model: str = "null"
    #: Seconds that starting takes.
    load_s: float = Field(default=0.0, ge=0.0)
    #: Seconds that every answer takes.
    latency_s: float = Field(default=0.0, ge=0.0)
    #: In place of `latency_s`, answers come token by token in shared steps that last as long as these five coefficients
    #: say (a step, a prefill token, a decoding request, a token of its context, a pair of attention, in seconds).
    step_time: tuple[float, float, float, float, float] | None = None
    #: Tokens of one such step.
    max_step_tokens: int = Field(default=256, ge=1)
    #: With `step_time`, requests also hold their KV blocks, and prefixes are kept while there is room.
    max_kv_tokens: int | None = Field(default=None, ge=MODELLED_BLOCK_TOKENS)
    #: The length of answers without a schema.
    output_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _cache_has_steps(self) -> Self:
        if self.max_kv_tokens is not None and self.step_time is None:
            raise ValueError("max_kv_tokens needs step_time: without steps nothing is held")
        return self.only_constrained()


class NullEngine:
    """This engine makes up its answers from the request alone, as `answer` does. With a step-time model it takes as
    long for them as an engine with these coefficients would; without one it answers at once."""

    def __init__(self, options: NullOptions) -> None:
        self._options = options
        self._steps = modelled_steps(options)
        self._is_open = False
        self._counters = Counters()
        self._capabilities = _capabilities(options)

    async def start(self) -> None:
        if self._options.load_s:
            await asyncio.sleep(self._options.load_s)
        self._is_open = True

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self._check_open()
        with self._counters:
            text, finish_reason = modelled_answer(self._options.model, request, self._options.output_tokens)
            usage = Usage(self.count_prompt_tokens(request), count_tokens(text), 0)
            if self._steps is not None:
                steps = self._steps.generate(
                    usage.num_prompt_tokens,
                    usage.num_output_tokens,
                    self._keys(request, usage),
                    is_streamed=request.needs_first_token,
                )
                async with aclosing(steps) as told:
                    async for job in told:
                        usage = replace(usage, num_cached_tokens=job.num_cached_tokens)
                        if not job.has_ended:
                            yield Chunk(text[:CHARACTERS_PER_TOKEN])
                            text = text[CHARACTERS_PER_TOKEN:]
            elif self._options.latency_s:
                await asyncio.sleep(self._options.latency_s)
            self._counters.add(usage)
            yield Chunk(text, finish_reason, usage)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self._check_open()
        with self._counters:
            num_tokens_of_each = tuple(map(count_tokens, request.texts))
            num_tokens = sum(num_tokens_of_each)
            if self._steps is not None:
                async with aclosing(self._steps.generate(num_tokens, 1, (), is_streamed=False)) as told:
                    async for _ in told:
                        """Its prompt takes its time."""
            elif self._options.latency_s:
                await asyncio.sleep(self._options.latency_s)
            model, usage = self._options.model, Usage(num_tokens, 0, 0)
            self._counters.add(usage)
            vectors = tuple(hashed_vector(model, text, request.dimensions) for text in request.texts)
            return Embeddings(vectors, usage, num_tokens_of_each)

    def _check_open(self) -> None:
        if not self._is_open:
            raise EngineUnavailable("the null engine is not started, or closed", retryable=True)

    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def num_steps(self) -> int:
        """The steps that were modelled so far."""
        return 0 if self._steps is None else self._steps.replica.num_steps

    def stats(self) -> EngineStats:
        return self._counters.stats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        return count_prompt_tokens(request.messages)

    def _keys(self, request: GenerateRequest, usage: Usage) -> tuple[int, ...]:
        """Return the keys of the prompt's full blocks; PromptTooLong where prompt and answer do not fit into all
        blocks."""
        most = max_request_tokens(self._options)
        if most is None:
            return ()
        num_tokens = usage.num_prompt_tokens + usage.num_output_tokens
        if num_tokens > most:
            raise PromptTooLong(
                f"prompt and answer have {num_tokens} tokens, and the engine holds {most}",
                hint="shorten the prompt or raise max_kv_tokens",
            )
        text = "".join(message.text for message in request.messages)
        return block_keys(text, MODELLED_BLOCK_TOKENS * CHARACTERS_PER_TOKEN)

    async def close(self) -> None:
        self._is_open = False
        if self._steps is not None:
            await self._steps.close()


def _capabilities(options: NullOptions) -> Capabilities:
    return Capabilities(
        max_context_tokens=None,
        max_kv_tokens=options.max_kv_tokens,
        has_json_schema=True,
        has_priority=False,
        has_prefix_cache=options.max_kv_tokens is not None,
        shares_cold_prefixes=True,
        max_step_tokens=None if options.step_time is None else options.max_step_tokens,
        counts_exactly=True,
    )


def max_request_tokens(options: NullOptions) -> int | None:
    """Return the most tokens of prompt and answer together: all blocks."""
    return (
        None
        if options.max_kv_tokens is None
        else options.max_kv_tokens // MODELLED_BLOCK_TOKENS * MODELLED_BLOCK_TOKENS
    )


def modelled_steps(options: NullOptions) -> ModelledSteps | None:
    """Return the steps that the engine is to model, with a cache of `max_kv_tokens` where that is given; None without
    `step_time`."""
    if options.step_time is None:
        return None
    max_kv_tokens = options.max_kv_tokens
    table = None if max_kv_tokens is None else BlockTable(max_kv_tokens // MODELLED_BLOCK_TOKENS, MODELLED_BLOCK_TOKENS)
    return ModelledSteps(StepSeconds(*options.step_time), options.max_step_tokens, table)


class NullKind:
    """This class makes the engines of `kind: null`."""

    Options = NullOptions

    def identity(self, options: NullOptions) -> Mapping[str, Any]:
        return {"kind": "null", "model": options.model}

    def num_replicas(self, options: NullOptions) -> int:
        return options.replicas

    def outline(self, options: NullOptions) -> EngineOutline:
        most = max_request_tokens(options)
        block_tokens = None if most is None else MODELLED_BLOCK_TOKENS
        return EngineOutline(count_prompt_tokens, 0.0, None, block_tokens, most, most)

    def check_schema(self, schema_text: str) -> None:
        read_schema(schema_text)

    def part_kinds(self, options: NullOptions) -> frozenset[PartKind]:
        return frozenset({"image", "file"})

    def has_embeddings(self, options: NullOptions) -> bool:
        return True

    def has_answers(self, options: NullOptions) -> bool:
        return True

    def tool_form(self, options: NullOptions) -> ToolForm:
        return "constrained"

    def open(self, options: NullOptions, replica: int, secrets: Secrets) -> NullEngine:
        return NullEngine(options)


def count_prompt_tokens(messages: Sequence[Message]) -> int:
    num_characters = sum(len(message.text) for message in messages)
    return num_characters // CHARACTERS_PER_TOKEN + 1 + sum(message.num_part_tokens for message in messages)


def count_tokens(text: str) -> int:
    return len(text) // CHARACTERS_PER_TOKEN + 1


def modelled_answer(model: str, request: GenerateRequest, num_tokens: int | None = None) -> tuple[str, FinishReason]:
    """Return the answer to `request` and why it ends there; equal in every process. Without a schema it has
    `num_tokens`."""
    parts = [model, str(request.seed), request.json_schema or ""]
    for message in request.messages:
        parts += (message.role, message.text)
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8)
    if request.json_schema is None:
        text = f"answer {digest.hexdigest()}"
        if num_tokens is not None:
            num_characters = num_tokens * CHARACTERS_PER_TOKEN - 1
            text = (f"{text} " * -(-num_characters // (len(text) + 1)))[:num_characters]
    else:
        text = instance(read_schema(request.json_schema), int.from_bytes(digest.digest(), "big"))
    for stop in request.stop:
        text = text.partition(stop)[0]
    if request.max_tokens is not None and count_tokens(text) > request.max_tokens:
        return text[: request.max_tokens * CHARACTERS_PER_TOKEN - 1], "length"
    return text, "stop"


def instance(shape: AnswerSchema, entropy: int) -> str:
    """Return a compact JSON text of `shape`, chosen by `entropy`."""
    match shape:
        case LiteralSchema(texts=texts):
            return texts[entropy % len(texts)]
        case NumberSchema():
            return str(_number(shape, entropy))
        case StringSchema(min_length=least, max_length=most):
            text = f"text {entropy % 2**32:08x}"[:most]
            return f'"{text.ljust(least, "x")}"'
        case ArraySchema(item=item, min_items=least, max_items=most):
            num_items = least + entropy % 3 if most is None else min(least + entropy % 3, most)
            return f"[{','.join(instance(item, _next(entropy, position)) for position in range(num_items))}]"
        case ObjectSchema(fields=fields):
            parts = (f"{json.dumps(name)}:{instance(one, _next(entropy, i))}" for i, (name, one) in enumerate(fields))
            return f"{{{','.join(parts)}}}"
        case AnyOfSchema(options=options):
            return instance(options[entropy % len(options)], _next(entropy, 0))


def _number(shape: NumberSchema, entropy: int) -> int:
    low = shape.minimum if shape.minimum is not None else min(0, shape.maximum or 0)
    high = shape.maximum if shape.maximum is not None else low + 99
    return low + entropy % (high - low + 1)


def _next(entropy: int, position: int) -> int:
    """Return other bits of the same entropy for each part of a value (the multiplier of a 64-bit linear generator)."""
    return ((entropy + position + 1) * 6364136223846793005 + 1442695040888963407) % 2**64 >> 7
