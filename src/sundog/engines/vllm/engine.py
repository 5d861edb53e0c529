"""vLLM servers: attached to by address, or started from the engine block.

Owns options, what decides the answers, and the health of one server. The protocol is engines.openai's; the processes
are kept by servers.servers. Never retries, never restarts.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import cache
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from sundog.engines.base import (
    Capabilities,
    Chunk,
    Engine,
    EngineOutline,
    EngineStats,
    GenerateRequest,
)
from sundog.engines.embeddings import Embeddings, EmbedRequest
from sundog.engines.message_parts import PartKind
from sundog.engines.openai.engine import COUNT_ERROR, SERVER_BLOCK_TOKENS, OpenAIEngine, estimate_prompt_tokens
from sundog.engines.openai.options import OpenAIOptions, ServerOptions
from sundog.engines.pool import ServerPool, with_most_replicas
from sundog.engines.served import ReplicaLoad, ServerCommand
from sundog.engines.tool_use import ToolForm
from sundog.engines.vllm.command import (
    RESERVED,
    Device,
    ServerArgument,
    argument_name,
    python_of,
    replicas_with_room,
    server_argv,
    server_environment,
)
from sundog.engines.vllm.health import probe
from sundog.engines.vllm.metrics import health_url
from sundog.errors import ConfigError, EngineUnavailable
from sundog.secrets import Secrets
from sundog.transport.answer import StreamedAnswer

# vLLM's own for most machines; tokens in flight, bounded by the KV capacity, are the tighter limit of long prompts.
MAX_NUM_SEQS = 256
# They change how fast a server answers, not what.
OF_SPEED = frozenset(
    {
        "additional_config",
        "api_server_count",
        "async_scheduling",
        "block_size",
        "data_parallel_size",
        "disable_log_requests",
        "disable_log_stats",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enable_prompt_tokens_details",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_events_config",
        "kv_transfer_config",
        "max_logprobs",
        "max_num_batched_tokens",
        "max_num_seqs",
        "num_gpu_blocks_override",
        "pipeline_parallel_size",
        "prefix_caching_hash_algo",
        "scheduler_cls",
        "scheduling_policy",
        "swap_space",
        "uvicorn_log_level",
    }
)


LOOPBACK = "127.0.0.1"
PLUGIN = "sundog.vllm_plugin"
ENVELOPE_ARGUMENT = "sundog"
"""The argument under which our plugin finds what a request says of its workflow; as JSON text, since the values are
scalars."""


class VLLMOptions(ServerOptions):
    """The options of `kind: vllm`; those of `openai` mean the same here."""

    #: A null in the block takes the server's `max_num_seqs`.
    max_concurrency: int = Field(default=MAX_NUM_SEQS, ge=1)
    #: Servers to attach to, up to and with `/v1`; without it they are started.
    base_url: str | tuple[str, ...] = ()
    #: vLLM's server options by name.
    arguments: dict[str, ServerArgument] = Field(default_factory=dict)
    #: The kind of processor that they run on.
    device: Device = "gpu"
    #: The interpreter that has vLLM.
    python: str | None = None
    #: Further variables for the server.
    environment: dict[str, str] = Field(default_factory=dict)
    #: A run starts the servers that are not up, and stops them.
    start: bool = False
    ready_timeout_s: float = Field(default=900.0, gt=0.0)
    #: Seconds that a server may be away before what waits for it is given up.
    max_down_s: float = Field(default=300.0, gt=0.0)
    #: Our plugin runs in the servers attached to.
    has_plugin: bool = False

    @model_validator(mode="before")
    @classmethod
    def _fill_limits(cls, written: Any) -> Any:
        """Fill in the limits, so that options read from a plan, where every field is given, equal the written ones."""
        if not isinstance(written, dict):
            return written
        found: dict[str, Any] = {}
        urls, arguments = written.get("base_url"), written.get("arguments")
        if isinstance(urls, list | tuple) and urls:
            found["replicas"] = len(urls)
        found |= {
            key: value for key, value in with_most_replicas({"pool": written.get("pool")}).items() if key != "pool"
        }
        if isinstance(arguments, dict):
            named = {argument_name(str(key)): value for key, value in arguments.items()}
            if "max_num_seqs" in named:
                found["max_concurrency"] = named["max_num_seqs"]
        return {**found, **written}

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, written: dict[str, ServerArgument]) -> dict[str, ServerArgument]:
        for key in written:
            if (name := argument_name(key)) in RESERVED:
                instead = RESERVED[name]
                hint = f"write it as the block's '{instead}'" if instead else "sundog chooses it"
                raise ValueError(f"'{key}' is no argument: {hint}")
        return {argument_name(key): value for key, value in written.items()}

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        if self.pool is not None:
            started = ("start",) if self.pool.ray is not None else ("arguments", "environment", "python", "start")
            for key in started:
                if getattr(self, key):
                    raise ValueError(
                        f"'{key}' is for servers that sundog starts on this machine: leave it or 'pool' out"
                    )
            return self
        if not self.base_urls:
            for key in ("headers", "ca_file", "proxy"):
                if getattr(self, key):
                    raise ValueError(f"'{key}' is for servers that are attached to by 'base_url'")
            return self
        if self.replicas != len(self.base_urls):
            raise ValueError("every base_url is one replica: leave 'replicas' out and list the addresses in 'base_url'")
        for key in ("arguments", "environment", "python", "start"):
            if getattr(self, key):
                raise ValueError(f"'{key}' is for servers that sundog starts: leave it or 'base_url' out")
        return self

    def max_replicas(self) -> int | None:
        if self.pool is not None:
            return None
        return replicas_with_room(self.device, self.arguments, self.environment)

    def of_openai(self, base_url: str) -> OpenAIOptions:
        """Return what the protocol needs to know of one server."""
        return OpenAIOptions(
            model=self.model,
            base_url=base_url,
            max_concurrency=self.max_concurrency,
            api_key=self.api_key,
            headers=self.headers,
            ca_file=self.ca_file,
            proxy=self.proxy,
            api=self.api,
            timeout_s=self.timeout_s,
            has_priority=True,
            max_context_tokens=self.max_context_tokens,
            extra_body=self.extra_body,
        )


class VLLMEngine:
    """One server: the OpenAI protocol, and its health."""

    def __init__(self, options: VLLMOptions, base_url: str, secrets: Secrets) -> None:
        self.suspicion = asyncio.Event()
        self.max_down_s = options.max_down_s
        self._xargs = options.extra_body.get("vllm_xargs", {})
        self._has_plugin = options.has_plugin or serves_plugin(options.arguments)
        self._protocol = OpenAIEngine(options.of_openai(base_url), 0, secrets, more=self._about)
        self._base_url = secrets.reveal(base_url)
        self._capabilities = self._what_is_known()

    async def start(self) -> None:
        await self._protocol.start()
        self._capabilities = self._what_is_known()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        try:
            async with aclosing(self._protocol.generate(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except EngineUnavailable:
            self.suspicion.set()
            raise

    async def embed(self, request: EmbedRequest) -> Embeddings:
        try:
            return await self._protocol.embed(request)
        except EngineUnavailable:
            self.suspicion.set()
            raise

    @property
    def has_chat(self) -> bool:
        return self._protocol.has_chat

    @property
    def model(self) -> str:
        return self._protocol.model

    @property
    def added_fields(self) -> Mapping[str, Any]:
        return self._protocol.added_fields

    @asynccontextmanager
    async def forward(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncGenerator[StreamedAnswer, None]:
        try:
            async with self._protocol.forward(path, body, headers) as answer:
                yield answer
        except EngineUnavailable:
            self.suspicion.set()
            raise

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def _what_is_known(self) -> Capabilities:
        return replace(self._protocol.capabilities(), reads_about=self._has_plugin, shares_cold_prefixes=True)

    def stats(self) -> EngineStats:
        return self._protocol.stats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        return self._protocol.count_prompt_tokens(request)

    async def probe(self) -> ReplicaLoad:
        return await probe(self._protocol.connection.get, self._base_url, self._protocol.connection.shown_url)

    def _about(self, request: GenerateRequest) -> dict[str, Any]:
        return {"vllm_xargs": {**self._xargs, ENVELOPE_ARGUMENT: json.dumps(request.about)}} if request.about else {}

    async def close(self) -> None:
        await self._protocol.close()


class VLLMKind:
    """This class makes the engines of `kind: vllm`."""

    Options = VLLMOptions

    def identity(self, options: VLLMOptions) -> Mapping[str, Any]:
        known = {"kind": "vllm", "model": options.model, "api": options.api, "extra_body": options.extra_body}
        return {**known, "arguments": answering(options.arguments)}

    def num_replicas(self, options: VLLMOptions) -> int:
        return options.replicas

    def outline(self, options: VLLMOptions) -> EngineOutline:
        known = options.max_context_tokens or context_argument(options.arguments)
        is_attached = bool(options.base_urls)
        return EngineOutline(estimate_prompt_tokens, COUNT_ERROR, None, SERVER_BLOCK_TOKENS, None, known, is_attached)

    def part_kinds(self, options: VLLMOptions) -> frozenset[PartKind]:
        return frozenset({"image"} if options.api == "chat" else ())

    def has_embeddings(self, options: VLLMOptions) -> bool:
        return True

    def has_answers(self, options: VLLMOptions) -> bool:
        return True

    def tool_form(self, options: VLLMOptions) -> ToolForm:
        return options.tool_calls or ("native" if "tool_call_parser" in options.arguments else "constrained")

    def open(self, options: VLLMOptions, replica: int, secrets: Secrets) -> Engine:
        if not options.base_urls:
            raise ConfigError(f"the vLLM servers of '{options.model}' are not up", hint="sundog engine up FLOW")
        return VLLMEngine(options, options.base_urls[replica], secrets)

    def needs_server(self, options: VLLMOptions) -> bool:
        return not options.base_urls and options.pool is None

    def pool(self, options: VLLMOptions) -> ServerPool | None:
        return options.pool

    def at(self, options: VLLMOptions, base_url: str, secrets: Secrets) -> Engine:
        if options.pool is not None and options.pool.ray is not None:
            # A machine of the cluster: no proxy of the environment leads there.
            return self.attach(options, base_url, secrets)
        return VLLMEngine(options, base_url, secrets)

    def starts_by_itself(self, options: VLLMOptions) -> bool:
        return options.start

    def server(self, options: VLLMOptions, replica: int, port: int, secrets: Secrets) -> ServerCommand:
        return _command(options, LOOPBACK, port, secrets, replica, options.replicas)

    def pool_server(self, options: VLLMOptions, host: str, port: int, secrets: Secrets) -> ServerCommand:
        # Ray has put the GPUs of one server into the environment.
        return _command(options, host, port, secrets, 0, 1)

    def attach(self, options: VLLMOptions, base_url: str, secrets: Secrets) -> Engine:
        # On this machine: no proxy of the environment leads there.
        return VLLMEngine(options.model_copy(update={"proxy": ""}), base_url, secrets)


def _command(
    options: VLLMOptions, host: str, port: int, secrets: Secrets, replica: int, num_replicas: int
) -> ServerCommand:
    """Return the command of a server that is one of so many on its machine. ConfigError where vLLM is not there."""
    python = python_of(options.python)
    check_python(python)
    arguments = {"max_num_seqs": options.max_concurrency, "enable_prompt_tokens_details": True, **options.arguments}
    written = {key: secrets.reveal(value) for key, value in options.environment.items()}
    environment = server_environment(options.device, replica, num_replicas, arguments, written)
    if options.api_key is not None:
        # The command line is readable by everybody on the machine.
        environment["VLLM_API_KEY"] = secrets.reveal(options.api_key)
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    identity = options.model_dump(mode="json", include={"model", "arguments", "device", "python", "environment"})
    return ServerCommand(
        server_argv(python, options.model, host, port, secrets.reveal_all(arguments)),
        environment,
        base_url,
        health_url(base_url),
        {"kind": "vllm", **identity, "max_num_seqs": options.max_concurrency},
        options.ready_timeout_s,
    )


def serves_plugin(arguments: Mapping[str, ServerArgument]) -> bool:
    """Return whether what is started so runs our plugin."""
    return str(arguments.get("scheduler_cls", "")).startswith(PLUGIN)


def answering(arguments: Mapping[str, ServerArgument]) -> dict[str, ServerArgument]:
    """Return those that may change answers."""
    return {key: value for key, value in arguments.items() if key not in OF_SPEED}


def context_argument(arguments: Mapping[str, ServerArgument]) -> int | None:
    """Return the context that is asked for in tokens; None where vLLM takes the model's own, or reads it from text
    (`32k`)."""
    written = arguments.get("max_model_len")
    return written if isinstance(written, int) and written > 0 else None


@cache
def check_python(python: str) -> None:
    """Raise ConfigError when the interpreter is not there or has no vLLM."""
    hint = "name an interpreter with vLLM in the block's `python` or in SUNDOG_VLLM_PYTHON; or pip install sundog[vllm]"
    if python == sys.executable:
        has_vllm = importlib.util.find_spec("vllm") is not None
    else:
        program = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
        try:
            has_vllm = subprocess.run([python, "-c", program], check=False, capture_output=True).returncode == 0
        except OSError as error:
            raise ConfigError(f"{python} cannot be run: {error.strerror}", hint=hint) from error
    if not has_vllm:
        raise ConfigError(f"{python} has no vLLM", hint=hint)
