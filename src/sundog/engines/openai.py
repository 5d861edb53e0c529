"""Any server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, hosted services.

Owns options, connections and one attempt per request. Never retries: what failed and when to try again is told in the
error, and the scheduler core decides. Closing the generator closes the connection, and with it ends the request.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Self

import httpx
from pydantic import Field, model_validator

from sundog.engines.base import (
    Capabilities,
    Chunk,
    EngineOptions,
    EngineOutline,
    EngineStats,
    GenerateRequest,
    Message,
)
from sundog.engines.counters import Counters
from sundog.engines.openai_protocol.answers import read_chunks
from sundog.engines.openai_protocol.bodies import PATHS, Api, request_body
from sundog.engines.openai_protocol.failures import error_of
from sundog.engines.openai_protocol.usage import CHARACTERS_PER_TOKEN
from sundog.engines.vllm_metrics import VLLM, kv_capacity_tokens, metrics_url
from sundog.errors import (
    BadResponse,
    ConfigError,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    SundogError,
    suggest,
)
from sundog.secrets import Secrets

CONNECT_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 3.0
"""Less than the 5 s after which uvicorn, and so vLLM, closes an idle connection: a request on its way would be lost."""
START_TIMEOUT_S = 30.0
# What a chat template comes to.
TOKENS_PER_MESSAGE = 4
COUNT_ERROR = 0.25
# A server does not tell the size of its cache's blocks: this is vLLM's on a GPU.
BLOCK_TOKENS = 16


class OpenAIOptions(EngineOptions):
    """`base_url`: up to and with `/v1`; several are replicas of one model. `timeout_s`: the longest silence of the
    server. `has_priority`: the server takes `priority` (vLLM with the priority policy). `has_prefix_cache`: it keeps
    prefixes, so calls with a common one go together. `max_context_tokens`: None takes what the server tells.
    `extra_body`: further fields of every request.
    """

    base_url: str | tuple[str, ...]
    api_key: str | None = None
    api: Api = "chat"
    timeout_s: float = Field(default=600.0, gt=0.0)
    has_priority: bool = False
    has_prefix_cache: bool = True
    max_context_tokens: int | None = Field(default=None, ge=1)
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @property
    def base_urls(self) -> tuple[str, ...]:
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url

    @model_validator(mode="before")
    @classmethod
    def _count_replicas(cls, written: Any) -> Any:
        """So that options read from a plan, where every field is given, are those that were written."""
        urls = written.get("base_url") if isinstance(written, dict) else None
        return {"replicas": len(urls), **written} if isinstance(urls, list | tuple) and urls else written

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if not self.base_urls:
            raise ValueError("base_url is empty")
        if self.replicas != len(self.base_urls):
            raise ValueError("every base_url is one replica: leave 'replicas' out and list the addresses in 'base_url'")
        return self


class OpenAIEngine:
    def __init__(
        self,
        options: OpenAIOptions,
        replica: int,
        secrets: Secrets,
        *,
        more: Callable[[GenerateRequest], Mapping[str, Any]] = lambda request: {},
    ) -> None:
        """`more`: what a request's body has beside the protocol and `extra_body`, before which it comes."""
        self._options = options
        self._more = more
        self._secrets = secrets
        self._base_url = secrets.reveal(options.base_urls[replica]).rstrip("/")
        self._shown_url = secrets.redact(self._base_url)
        self._key = None if options.api_key is None else secrets.reveal(options.api_key)
        self._extra_body = secrets.reveal_all(options.extra_body)
        self._max_context_tokens = options.max_context_tokens
        self._max_kv_tokens: int | None = None
        self._is_vllm = False
        self._client: httpx.AsyncClient | None = None
        self._counters = Counters()

    async def start(self) -> None:
        """Connect and see that the model is served, where the server has a list of models."""
        options = self._options
        self._client = httpx.AsyncClient(
            headers={} if self._key is None else {"Authorization": f"Bearer {self._key}"},
            timeout=httpx.Timeout(options.timeout_s, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=options.max_concurrency,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
        )
        try:
            response = await self._client.get(f"{self._base_url}/models", timeout=START_TIMEOUT_S)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            await self.close()
            raise ConfigError(f"'{self._shown_url}' is not an address", hint="base_url: http://host:port/v1") from error
        except httpx.TransportError as error:
            await self.close()
            raise EngineUnavailable(
                f"no server answers at {self._shown_url}: {self._hide(str(error)) or type(error).__name__}",
                hint="start the server or correct base_url",
                retryable=True,
            ) from None
        try:
            self._is_vllm = self._check_models(response)
        except SundogError:
            await self.close()
            raise
        if self._is_vllm:
            await self._read_kv_capacity(self._client)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        if self._client is None:
            raise EngineUnavailable("the engine is not started, or closed")
        with self._counters:
            try:
                async with aclosing(self._attempt(self._client, request)) as chunks:
                    async for chunk in chunks:
                        if chunk.usage is not None:
                            self._counters.add(chunk.usage)
                        yield chunk
            except httpx.TimeoutException as error:
                raise self._failure(EngineTimeout, "did not answer in time", error) from None
            except httpx.TransportError as error:
                raise self._failure(EngineUnavailable, "broke the connection", error) from None
            except httpx.DecodingError as error:
                raise self._failure(BadResponse, "sent a damaged answer", error) from None
            except EngineError as error:
                error.what = self._hide(error.what)
                error.args = (error.what,)
                error.where = self._shown_url
                raise

    def capabilities(self) -> Capabilities:
        return Capabilities(
            max_context_tokens=self._max_context_tokens,
            max_kv_tokens=self._max_kv_tokens,
            has_json_schema=True,
            has_priority=self._options.has_priority,
            has_prefix_cache=self._options.has_prefix_cache,
            shares_cold_prefixes=self._is_vllm,
        )

    def stats(self) -> EngineStats:
        return self._counters.stats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        """An estimate: the server's tokenizer is not here."""
        return count_prompt_tokens(request.messages)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _attempt(self, client: httpx.AsyncClient, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        url, headers = self._base_url + PATHS[self._options.api], {"Content-Type": "application/json"}
        async with client.stream("POST", url, content=self._content(request), headers=headers) as response:
            if response.status_code != 200:
                raise error_of(response.status_code, response.headers, await response.aread(), now_s=time.time())
            pieces = response.aiter_bytes()
            async with aclosing(read_chunks(pieces, partial(self.count_prompt_tokens, request))) as chunks:
                async for chunk in chunks:
                    yield chunk
            # The answer is whole; a body read to its end leaves the connection for the next request.
            with suppress(httpx.TransportError):
                async for _ in pieces:
                    pass

    def _content(self, request: GenerateRequest) -> bytes:
        options = self._options
        body = request_body(request, model=options.model, api=options.api, has_priority=options.has_priority)
        try:
            return json.dumps({**self._extra_body, **self._more(request), **body}, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise BadResponse(f"the prompt cannot be written as UTF-8: {error.reason}", hint="clean the row") from error

    async def _read_kv_capacity(self, client: httpx.AsyncClient) -> None:
        """It stays unknown where the page is not reachable: a proxy may serve the protocol alone."""
        with suppress(httpx.TransportError):
            response = await client.get(metrics_url(self._base_url), timeout=START_TIMEOUT_S)
            self._max_kv_tokens = kv_capacity_tokens(response.text)

    def _check_models(self, response: httpx.Response) -> bool:
        """Whether it is a vLLM server."""
        status = response.status_code
        if status in (404, 405):
            return False
        if status in (401, 403):
            raise ConfigError(f"{self._shown_url} refuses the key ({status})", hint="check api_key")
        if status != 200:
            error = error_of(status, response.headers, self._hide(response.text), now_s=time.time())
            error.where = self._shown_url
            raise error
        try:
            served = {model["id"]: model for model in response.json()["data"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"what answers at {self._shown_url} does not speak the OpenAI protocol", hint="base_url ends in /v1"
            ) from error
        if self._options.model not in served:
            hint = suggest(self._options.model, served)
            raise ConfigError(f"{self._shown_url} does not serve the model '{self._options.model}'", hint=hint)
        if self._max_context_tokens is None:
            self._max_context_tokens = served[self._options.model].get("max_model_len")
        return bool(served[self._options.model].get("owned_by") == VLLM)

    def _failure(self, kind: type[EngineError], what: str, error: Exception) -> EngineError:
        detail = self._hide(str(error)) or type(error).__name__
        return kind(f"the server {what}: {detail}", where=self._shown_url, retryable=True)

    def _hide(self, text: str) -> str:
        """`text` without the key, be it a named secret or written in the flow."""
        text = self._secrets.redact(text)
        return text.replace(self._key, "<api_key>") if self._key else text


class OpenAIKind:
    """`kind: openai`."""

    Options = OpenAIOptions

    def identity(self, options: OpenAIOptions) -> Mapping[str, Any]:
        return {"kind": "openai", "model": options.model, "api": options.api, "extra_body": options.extra_body}

    def num_replicas(self, options: OpenAIOptions) -> int:
        return len(options.base_urls)

    def outline(self, options: OpenAIOptions) -> EngineOutline:
        block_tokens = BLOCK_TOKENS if options.has_prefix_cache else None
        return EngineOutline(
            count_prompt_tokens, COUNT_ERROR, None, block_tokens, None, max_context_tokens=options.max_context_tokens
        )

    def open(self, options: OpenAIOptions, replica: int, secrets: Secrets) -> OpenAIEngine:
        return OpenAIEngine(options, replica, secrets)


def count_prompt_tokens(messages: Sequence[Message]) -> int:
    return sum(len(message.content) // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE for message in messages)
