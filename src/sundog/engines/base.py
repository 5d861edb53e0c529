"""The contract that every engine keeps and one conformance suite checks.

Owns requests, chunks, capabilities and the registry. Never schedules, retries or shares: sched does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from sundog.engines.message_parts import MessagePart, PartKind, TextPart, part_text, part_tokens
from sundog.engines.tool_use import ToolCall, ToolChoice, ToolForm, ToolSchema
from sundog.registry import Registry
from sundog.secrets import Secrets
from sundog.tokens import CHARACTERS_PER_TOKEN, TokenPrices

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a prompt."""

    role: Role
    content: str
    #: In place of `content`, for engines whose kind is a PartsKind.
    parts: tuple[MessagePart, ...] = ()
    #: The tools that an assistant called in this turn.
    tool_calls: tuple[ToolCall, ...] = ()
    #: The call whose result a message of the role `tool` is.
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """Return all that a model reads of the message, as one text: its content, parts and calls."""
        if not self.parts and not self.tool_calls:
            return self.content
        calls = (f"{call.name}{call.arguments}" for call in self.tool_calls)
        return "".join((self.content, *map(part_text, self.parts), *calls))

    @property
    def num_part_tokens(self) -> int:
        """Return an estimate of the tokens that its pictures and documents have beyond those of `text`."""
        parts = (part for part in self.parts if not isinstance(part, TextPart))
        return sum(part_tokens(part) - len(part_text(part)) // CHARACTERS_PER_TOKEN for part in parts)


@dataclass(slots=True)
class GenerateRequest:
    """One LLM call."""

    request_id: str
    messages: tuple[Message, ...]
    #: None leaves the limit to the engine.
    max_tokens: int | None = None
    #: 0 is greedy, None the engine's own.
    temperature: float | None = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    #: JSON text of a schema that the answer must satisfy.
    json_schema: str | None = None
    #: Smaller is sooner, for engines that take one.
    priority: int = 0
    #: Facts of the call as JSON types, for engines that plan by them (docs/engines.md).
    about: Mapping[str, Any] = field(default_factory=dict)
    #: The caller acts on the first chunk before the answer is whole; without it an engine may give the answer in one
    #: chunk, which costs less.
    needs_first_token: bool = False
    #: For engines whose kind has the tool form `native`.
    tools: tuple[ToolSchema, ...] = ()
    tool_choice: ToolChoice = "auto"
    #: False asks for one call at most.
    has_parallel_calls: bool = True


@dataclass(slots=True)
class Usage:
    """Tokens of one request."""

    num_prompt_tokens: int
    num_output_tokens: int
    #: Prompt tokens that came from the engine's prefix cache, None where the engine does not tell.
    num_cached_tokens: int | None = None
    #: Prompt tokens that a cache without end would have held, None where the engine does not tell.
    num_seen_tokens: int | None = None
    #: The engine did not tell the tokens of prompt or answer, and they are what its characters come to.
    is_estimated: bool = False


@dataclass(slots=True)
class Chunk:
    """A piece of an answer. The last chunk, and only it, has `finish_reason` and `usage`, and the calls of tools."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Doubt:
    """The reason why a replica may refuse what it is asked for, though it has started."""

    what: str
    #: A sentence that says what to do.
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The abilities and limits of one replica."""

    #: None where it is not known.
    max_context_tokens: int | None
    #: None where it is not known.
    max_kv_tokens: int | None
    has_json_schema: bool
    has_priority: bool
    has_prefix_cache: bool
    #: The most tokens that it computes in one step, None where it is not known.
    max_step_tokens: int | None = None
    #: A request also finds prefixes that another one is still computing.
    shares_cold_prefixes: bool = False
    #: It plans by GenerateRequest.about; the others are given none.
    reads_about: bool = False
    #: None where nothing speaks against it.
    doubt: Doubt | None = None
    #: `count_prompt_tokens` gives the very tokens that a request will have, and no estimate.
    counts_exactly: bool = False


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the start of one replica."""

    num_requests: int = 0
    num_running: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0


class Engine(Protocol):
    """One replica. All methods are called on one event loop; no method blocks it.

    `generate` yields at least one chunk, the last with finish_reason and usage. Closing the generator aborts
    the request and frees what it held. Failures are EngineError: EngineUnavailable (not there),
    EngineOverloaded (429, 503), EngineTimeout, PromptTooLong, BadResponse.
    """

    async def start(self) -> None:
        """Load or connect; EngineUnavailable or ConfigError with what to do."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]: ...

    def capabilities(self) -> Capabilities:
        """Return what this replica can do; asked after `start`, also when it is closed. Each call asks twice, so it
        must be at hand."""
        ...

    def stats(self) -> EngineStats:
        """Return the counters so far; cheap, may be asked at any time."""
        ...

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        """Return the number of prompt tokens of a request: exact where the engine's tokenizer is here, else an
        estimate. Asked after `start`, also when the replica is closed: another one may be loaded later."""
        ...

    async def close(self) -> None:
        """Abort what runs and free everything; called once, after `start` or its failure."""
        ...


class EngineOptions(BaseModel):
    """Options of every engine block; each kind adds its own. Strings may hold `${env:NAME}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    replicas: int = Field(default=1, ge=1)
    #: Requests in flight per replica.
    max_concurrency: int = Field(default=32, ge=1)
    #: Prompt plus output tokens admitted per replica; None takes the replica's KV capacity where known.
    max_tokens_in_flight: int | None = Field(default=None, ge=1)
    #: Engines with the same one share its processor; None for one of its own.
    shared_device: str | None = Field(default=None, min_length=1)
    #: The longest wait before another attempt that the server may ask for; None takes the default.
    max_retry_wait_s: float | None = Field(default=None, ge=0.0)
    #: None where tokens cost nothing.
    price: TokenPrices | None = None
    #: The way in which models call tools; None takes the kind's own.
    tool_calls: ToolForm | None = None

    def only_constrained(self) -> Self:
        """Return the options of a kind that offers no tools of its own; ValueError where the block asks for that."""
        if self.tool_calls == "native":
            raise ValueError("this kind of engine has no tool calls of its own: leave tool_calls out")
        return self

    def max_replicas(self) -> int | None:
        """Return how many replicas have room on the processors that the block names; None where it names none."""
        return None


@dataclass(frozen=True, slots=True)
class EngineOutline:
    """The facts of a replica that can be told before it is started."""

    #: The prompt tokens of a conversation, the chat template included.
    count: Callable[[Sequence[Message]], int]
    #: The relative error of `count`, 0 where it is exact.
    count_error: float
    #: The tokens themselves, None where no tokenizer is here.
    encode: Callable[[Sequence[Message]], Sequence[int]] | None
    #: Tokens of a block of its prefix cache, None where it has none.
    block_tokens: int | None
    #: None where it is not known.
    max_kv_tokens: int | None
    #: The most tokens of a prompt and its answer together, None where it is not known.
    max_context_tokens: int | None = None
    #: Replicas are servers of others, so that starting one only asks it what it serves.
    is_attached: bool = False


class EngineKind(Protocol):
    """One entry of the registry: how to read options and open replicas."""

    Options: type[EngineOptions]

    def identity(self, options: Any) -> Mapping[str, Any]:
        """Return what decides the answers: model and weights, never the name, address, replicas or limits.
        Two engines with equal identity may share results. Contains no secret."""
        ...

    def num_replicas(self, options: Any) -> int:
        """Return how many replicas `open` may be asked for."""
        ...

    def outline(self, options: Any) -> EngineOutline:
        """Return what can be told of a replica before it starts. Nothing is started or connected to; ConfigError or
        EngineError when the tokenizer cannot be loaded."""
        ...

    def tool_form(self, options: Any) -> ToolForm:
        """Return how a model of this block calls tools: `native`, by `GenerateRequest.tools`; or `constrained`, by
        `sundog.engines.structured.tool_form`."""
        ...

    def open(self, options: Any, replica: int, secrets: Secrets) -> Engine:
        """Return replica number `replica` (from 0), not started."""
        ...


@runtime_checkable
class PartsKind(Protocol):
    """A kind whose engines may take more than text."""

    def part_kinds(self, options: Any) -> frozenset[PartKind]:
        """Return the kinds of parts that engines of this block take beside text."""
        ...


@runtime_checkable
class EmbeddedKind(Protocol):
    """A kind whose engines are no servers: they may load the model on this machine."""

    def loads_model_here(self, options: Any) -> bool:
        """Return whether engines of this block load the model into this process, or into one that they start."""
        ...


@runtime_checkable
class SchemaLimitedKind(Protocol):
    """A kind whose engines generate answers of some schemas only."""

    def check_schema(self, schema_text: str) -> None:
        """Raise BadResponse for a schema, as JSON text, of which no answer can be generated."""
        ...


ENGINES: Registry[type[EngineKind]] = Registry("sundog.engines", "engine kind")
