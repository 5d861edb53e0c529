"""Any server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, hosted services.

Owns one attempt per request, and what is asked of a server at the start. Never retries: what failed and when to try
again is told in the error, and the scheduler core decides. Closing the generator closes the connection, and with it
ends the request.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from sundog.engines.base import Capabilities, Chunk, Doubt, EngineOutline, EngineStats, GenerateRequest, Message
from sundog.engines.counters import Counters
from sundog.engines.embeddings import Embeddings, EmbedRequest
from sundog.engines.message_parts import PartKind
from sundog.engines.openai.connection import Connection
from sundog.engines.openai.models import Listed, read_models
from sundog.engines.openai.options import OpenAIOptions
from sundog.engines.openai.protocol.answers import read_chunks
from sundog.engines.openai.protocol.bodies import PATHS, request_body, with_extra
from sundog.engines.openai.protocol.embeddings import (
    EMBEDDINGS_PATH,
    MAX_VECTORS_BYTES,
    embeddings_body,
    read_embeddings,
)
from sundog.engines.openai.protocol.failures import MAX_ERROR_BYTES, engine_error_of
from sundog.engines.pool import ServerPool
from sundog.engines.structured.tool_form import plain_messages
from sundog.engines.tool_use import ToolForm
from sundog.engines.vllm.metrics import kv_capacity_tokens, metrics_url
from sundog.errors import BadResponse, ConfigError, EngineError, EngineUnavailable, SundogError
from sundog.secrets import Secrets
from sundog.tokens import CHARACTERS_PER_TOKEN
from sundog.transport.answer import REDIRECTS, StreamedAnswer, WholeAnswer
from sundog.transport.faults import TooLarge, TransportFault

START_TIMEOUT_S = 30.0
ERROR_BODY_S = 5.0
"""A server that has said that it failed, and then does not say why, has failed all the same."""
FINISH_S = 0.1
"""A server may leave a stream open after its end."""
# The length of a chat template.
TOKENS_PER_MESSAGE = 4
COUNT_ERROR = 0.25
# A server does not tell the size of its cache's blocks: this is vLLM's on a GPU.
SERVER_BLOCK_TOKENS = 16
OF_THE_REQUEST = frozenset({400, 404, 413, 415, 422})
"""Statuses of an answer that says that a forwarded request is wrong."""
MAX_SHOWN_CHARACTERS = 1000
"""As much of an error's message is told, cut after its secrets are hidden."""


class OpenAIEngine:
    """One server."""

    def __init__(
        self,
        options: OpenAIOptions,
        replica: int,
        secrets: Secrets,
        *,
        more: Callable[[GenerateRequest], Mapping[str, Any]] = lambda request: {},
    ) -> None:
        """`more`: what a request's body has beside the protocol; it comes before `extra_body`."""
        self._options = options
        self._more = more
        self._base_url = options.base_urls[replica]
        self._secrets = secrets
        self._extra_body: dict[str, Any] = secrets.reveal_all(options.extra_body)
        self._listed = Listed()
        self._max_kv_tokens: int | None = None
        self.connection = Connection(options, self._base_url, secrets)
        self._is_started = False
        self._counters = Counters()
        self._exchanges = _Exchange(self._counters, self.connection)
        self._capabilities = self._what_is_known()

    async def start(self) -> None:
        """Connect, and see whether the model is served, where the server has a list of models."""
        try:
            answer = await self.connection.get(self.connection.url_of("/models"), within_s=START_TIMEOUT_S)
        except TooLarge:
            """Then it is there, and its list is nothing to rely on."""
        except TransportFault as fault:
            await self.close()
            raise self.connection.start_error_of(fault) from None
        else:
            try:
                self._listed = self._read_list(answer)
            except SundogError:
                await self.close()
                raise
        self._is_started = True
        if self._listed.is_vllm:
            await self._read_kv_capacity()
        self._capabilities = self._what_is_known()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        with self._exchange():
            async with aclosing(self._attempt(request)) as chunks:
                async for chunk in chunks:
                    if chunk.usage is not None:
                        self._counters.add(chunk.usage)
                    yield chunk

    async def embed(self, request: EmbedRequest) -> Embeddings:
        with self._exchange():
            content = _encoded(embeddings_body(request, self._options.model, self._extra_body), "text")
            async with self.connection.post(EMBEDDINGS_PATH, content) as answer:
                if not 200 <= answer.status < 300:
                    raise await self._refusal(answer)
                found = read_embeddings(await answer.read(MAX_VECTORS_BYTES), request)
            self._counters.add(found.usage)
            return found

    @property
    def has_chat(self) -> bool:
        return self._options.api == "chat"

    @property
    def model(self) -> str:
        return self._options.model

    @property
    def added_fields(self) -> Mapping[str, Any]:
        return self._extra_body

    @asynccontextmanager
    async def forward(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncGenerator[StreamedAnswer, None]:
        with self._exchange():
            async with self.connection.post(path, body, headers) as answer:
                if not 200 <= answer.status < 300 and answer.status not in OF_THE_REQUEST:
                    raise await self._refusal(answer)
                yield answer

    def _exchange(self) -> _Exchange:
        """Return the context of a request."""
        if not self._is_started:
            raise EngineUnavailable("the engine is not started, or closed")
        return self._exchanges

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def _what_is_known(self) -> Capabilities:
        return Capabilities(
            max_context_tokens=self._options.max_context_tokens or self._listed.max_context_tokens,
            max_kv_tokens=self._max_kv_tokens,
            has_json_schema=True,
            has_priority=self._options.has_priority,
            has_prefix_cache=self._options.has_prefix_cache,
            shares_cold_prefixes=self._listed.is_vllm,
            doubt=self._doubt(),
        )

    def _doubt(self) -> Doubt | None:
        if not self._listed.is_missing:
            return None
        what = f"the list of models of {self.connection.shown_url} does not name '{self._options.model}'"
        return Doubt(what, self._listed.hint)

    def stats(self) -> EngineStats:
        return self._counters.stats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        """Return an estimate: the server's tokenizer is not here."""
        return estimate_prompt_tokens(request.messages)

    async def close(self) -> None:
        self._is_started = False
        await self.connection.close()

    async def _attempt(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks as they come where their time matters, else one for the whole answer."""
        async with self.connection.post(PATHS[self._options.api], self._content(request)) as answer:
            if not 200 <= answer.status < 300:
                raise await self._refusal(answer)
            texts: list[str] = []
            count = partial(self.count_prompt_tokens, request)
            async with aclosing(read_chunks(answer, count, takes_calls=bool(request.tools))) as chunks:
                async for chunk in chunks:
                    if request.needs_first_token:
                        yield chunk
                        continue
                    texts.append(chunk.text)
                    if chunk.usage is not None:
                        yield replace(chunk, text="".join(texts))
            await answer.finish(FINISH_S)

    async def _refusal(self, answer: StreamedAnswer) -> EngineError:
        body = await answer.read_start(MAX_ERROR_BYTES, ERROR_BODY_S)
        error = engine_error_of(answer.status, answer.headers, body, now_s=time.time())
        if answer.status == 404 and self._listed.is_missing:
            error.hint = self._listed.hint
        elif answer.status in REDIRECTS and (location := answer.headers.get("location")):
            error.hint = self._redirect_hint(location)
        return error

    def _content(self, request: GenerateRequest) -> bytes:
        options = self._options
        if options.tool_calls == "constrained" or options.api != "chat":
            # The model knows of no tools; a conversation that a row holds may have used some.
            request = replace(request, messages=tuple(plain_messages(request.messages)))
        body = request_body(
            request,
            model=options.model,
            api=options.api,
            has_priority=options.has_priority,
            is_streamed=request.needs_first_token,
        )
        return _encoded({**with_extra(body, self._extra_body), **self._more(request)}, "prompt")

    async def _read_kv_capacity(self) -> None:
        """It stays unknown where the page is not reachable: a proxy may serve the protocol alone."""
        url = metrics_url(self._secrets.reveal(self._base_url))
        with suppress(TransportFault):
            page = await self.connection.get(url, within_s=START_TIMEOUT_S)
            self._max_kv_tokens = kv_capacity_tokens(page.body.decode("utf-8", "replace"))

    def _read_list(self, answer: WholeAnswer) -> Listed:
        """Return what the list of models says. Where the server has none, or does not show it, the check is left
        out."""
        url = self.connection.shown_url
        if answer.status == 401:
            what = "refuses the key" if self._options.api_key else "wants a key"
            raise ConfigError(f"{url} {what} (401)", hint="check api_key")
        if answer.status in REDIRECTS and (location := answer.headers.get("location")):
            what = f"{url} redirects, which a request with a prompt does not follow"
            raise ConfigError(what, hint=self._redirect_hint(location))
        if answer.status != 200:
            return Listed()
        try:
            listed = read_models(answer.body, self._options.model)
        except ValueError as error:
            raise ConfigError(
                f"what answers at {url} does not speak the OpenAI protocol", hint="base_url ends in /v1"
            ) from error
        if listed.is_missing and listed.is_vllm:
            raise ConfigError(f"{url} does not serve the model '{self._options.model}'", hint=listed.hint)
        return listed

    def _redirect_hint(self, location: str) -> str:
        shown = self.connection.hide(location)[:MAX_SHOWN_CHARACTERS]
        return f"it points to {shown}: write the address behind the redirect"


class _Exchange:
    """The context in which a request runs: it is counted, and its failures are told without secrets."""

    def __init__(self, counters: Counters, connection: Connection) -> None:
        self._counters = counters
        self._connection = connection

    def __enter__(self) -> None:
        self._counters.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *raised: object) -> None:
        self._counters.__exit__()
        if isinstance(error, TransportFault):
            raise self._connection.error_of(error) from None
        if isinstance(error, EngineError):
            error.what = self._connection.hide(error.what)[:MAX_SHOWN_CHARACTERS]
            error.args = (error.what,)
            error.where = self._connection.shown_url


class OpenAIKind:
    """This class makes the engines of `kind: openai`."""

    Options = OpenAIOptions

    def identity(self, options: OpenAIOptions) -> Mapping[str, Any]:
        return {"kind": "openai", "model": options.model, "api": options.api, "extra_body": options.extra_body}

    def num_replicas(self, options: OpenAIOptions) -> int:
        return len(options.base_urls) or options.replicas

    def outline(self, options: OpenAIOptions) -> EngineOutline:
        block_tokens = SERVER_BLOCK_TOKENS if options.has_prefix_cache else None
        return EngineOutline(
            estimate_prompt_tokens,
            COUNT_ERROR,
            None,
            block_tokens,
            None,
            max_context_tokens=options.max_context_tokens,
            is_attached=options.pool is None,
        )

    def part_kinds(self, options: OpenAIOptions) -> frozenset[PartKind]:
        return frozenset({"image", "file"} if options.api == "chat" else ())

    def has_embeddings(self, options: OpenAIOptions) -> bool:
        return True

    def has_answers(self, options: OpenAIOptions) -> bool:
        return True

    def tool_form(self, options: OpenAIOptions) -> ToolForm:
        return options.tool_calls or ("native" if options.api == "chat" else "constrained")

    def pool(self, options: OpenAIOptions) -> ServerPool | None:
        return options.pool

    def at(self, options: OpenAIOptions, base_url: str, secrets: Secrets) -> OpenAIEngine:
        return OpenAIEngine(options.model_copy(update={"base_url": base_url, "pool": None}), 0, secrets)

    def open(self, options: OpenAIOptions, replica: int, secrets: Secrets) -> OpenAIEngine:
        return OpenAIEngine(options, replica, secrets)


def _encoded(body: Mapping[str, Any], what: str) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadResponse(f"the {what} cannot be written as UTF-8: {error.reason}", hint="clean the row") from error


def estimate_prompt_tokens(messages: Sequence[Message]) -> int:
    return sum(
        len(message.text) // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE + message.num_part_tokens for message in messages
    )
