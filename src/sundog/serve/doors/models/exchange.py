"""One exchange at a door of models: what the client asked, and how the engine's answer reaches it.

Owns the way of an answer in both kinds of engines: a server's bytes, and the chunks of an engine in this process. An
attempt that fails before the answer has begun may be made again elsewhere; one that fails later ends the stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast

from pydantic_core import from_json, to_json

from sundog.engines.base import Chunk, Engine, GenerateRequest, Usage
from sundog.engines.forwarding import ForwardingEngine
from sundog.engines.openai.protocol.usage import Counts
from sundog.errors import BadResponse, EngineError
from sundog.host.attempt import Success
from sundog.sched.events import Submit
from sundog.serve.doors.models.forms import FormStream, WireForm
from sundog.serve.doors.models.reply import Reply
from sundog.serve.doors.models.usage_asking import FIELD, UsageAsking, blames_the_asking
from sundog.serve.seeing.request_log import RequestNotes
from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.pass_through import answer_headers, asks_for_usage, forwarded_body, with_usage
from sundog.serve.wire.replays.telling import replayed_chunks
from sundog.serve.wire.sse import ChunkReader
from sundog.serve.wire.stream_scan import StreamScan
from sundog.store.store import NO_USAGE
from sundog.transport.answer import StreamedAnswer

MAX_ANSWER_BYTES = 256 * 2**20
MAX_ERROR_BYTES = 2**20
FINISH_S = 0.1
"""A server may leave a stream open after its end."""
JSON = {"content-type": "application/json"}


class ToldChunks(Protocol):
    """The chunks of an engine of this process in the words of a chat, or of a completion."""

    def feed(self, chunk: Chunk) -> list[dict[str, Any]]:
        """Return the chunks of a stream that one of the engine's makes."""
        ...

    def whole(self, chunks: list[Chunk]) -> dict[str, Any]:
        """Return the completion that all of them make."""
        ...


@dataclass(slots=True)
class Exchange:
    """One request of a client, with all that its attempts need."""

    form: WireForm
    #: The body as it came, and what it says.
    raw: bytes
    body: Mapping[str, Any]
    #: The chat that it asks for; `body` itself of a plain form.
    chat: Mapping[str, Any]
    is_streamed: bool
    #: The id of the answer, and its time in seconds since 1970.
    answer_id: str
    created: int
    reply: Reply
    #: Headers for a server.
    headers: Mapping[str, str]
    #: Called when the first piece is there, where the core wants to hear of it.
    on_first: Callable[[], None]
    #: The notes of its request for the log.
    notes: RequestNotes
    #: The servers that may be asked for the tokens of a stream.
    usage_asking: UsageAsking
    #: As it is estimated for the core.
    num_prompt_tokens: int = 0
    #: Its stream tells of tokens, whatever the client wants: others read it too.
    keeps_usage: bool = False
    stream: FormStream = field(init=False)
    #: A server behind this one has said that the request is wrong, and the client was told so.
    is_refused: bool = False
    #: The whole answer in the client's form, None while there is none, and of what passed through.
    answer: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.stream = self.form.stream(self.body, self.answer_id, self.created)

    async def forwarded(self, engine: ForwardingEngine, submit: Submit) -> Success[Usage | None]:
        """Ask a server, and pass on what it answers."""
        adds_usage = self._adds_usage(engine)
        try:
            found = await self._passed(engine, submit, adds_usage=adds_usage)
            if found is None:
                found = await self._passed(engine, submit, adds_usage=False)
                assert found is not None, "nothing was added that a server could blame"
                if not self.is_refused:
                    self.usage_asking.is_refused(engine, submit.replica_id)
        except EngineError as error:
            raise self._final_once_begun(error) from error.__cause__
        return found

    async def generated(
        self, engine: Engine, request: GenerateRequest, submit: Submit, told: ToldChunks
    ) -> Success[Usage | None]:
        """Ask an engine of this process, and tell its chunks in the client's form."""
        usage: Usage | None = None
        chunks: list[Chunk] = []
        is_first = True
        try:
            async with aclosing(engine.generate(request)) as generated:
                async for chunk in generated:
                    if is_first:
                        is_first = False
                        self._first(submit)
                    usage = chunk.usage or usage
                    if not self.is_streamed:
                        chunks.append(chunk)
                        continue
                    await self._begin()
                    await self.reply.pieces(piece for one in told.feed(chunk) for piece in self.stream.feed(one))
            if self.is_streamed:
                await self._end()
            else:
                await self.told_whole(told.whole(chunks))
        except EngineError as error:
            raise self._final_once_begun(error) from error.__cause__
        return Success(usage, usage)

    def held(self, form: WireForm, reply: Reply) -> Exchange:
        """Return the same exchange in the form of a server, with its answer for `reply`."""
        raw = self.raw if self.form.is_plain else to_json(self.chat)
        return replace(self, form=form, raw=raw, body=self.chat, reply=reply, keeps_usage=self.is_streamed)

    @property
    def own_chat(self) -> Mapping[str, Any]:
        """Return the chat as an engine of this process is asked."""
        tells_usage = self.is_streamed and (self.keeps_usage or not self.form.is_plain)
        return {**self.chat, FIELD: {"include_usage": True}} if tells_usage else self.chat

    @property
    def has_begun(self) -> bool:
        """Return whether the client has got a part of the answer."""
        return self.reply.has_begun

    async def read_whole(self, answer: object) -> None:
        """Send a completion that is there as a stream in the client's form."""
        completion = cast(Mapping[str, Any], answer)
        has_usage = asks_for_usage(self.chat)
        chunks = replayed_chunks(completion, has_usage=has_usage) if self.form.is_plain else [completion]
        await self._begin()
        await self.reply.pieces(told for chunk in chunks for told in self.stream.feed(chunk))
        await self._end()

    async def read_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        """Send a stream that others read too, in the client's form."""
        await self._sent_stream(pieces, StreamScan(), hides_usage=not asks_for_usage(self.chat))

    async def told_whole(self, completion: Mapping[str, Any]) -> None:
        """Send a whole answer in the client's form."""
        self.answer = self.form.from_chat(completion, self.body, self.answer_id, self.created)
        await self.reply.whole(200, to_json(self.answer), JSON)

    async def failed(self, refusal: Refusal) -> None:
        """Tell the client of a failure, in its form: as an answer, or as the end of the stream that has begun."""
        if not self.reply.has_begun:
            body = to_json(self.form.error(refusal))
            await self.reply.whole(self.form.status(refusal), body, {**JSON, **refusal.headers()})
        elif self.is_streamed and not self.reply.has_ended:
            await self.reply.pieces(self.stream.fail(refusal))
            await self.reply.end_stream()

    async def _passed(
        self, engine: ForwardingEngine, submit: Submit, *, adds_usage: bool
    ) -> Success[Usage | None] | None:
        """Pass on what a server answers; None where it blames what was added to the request (`adds_usage`)."""
        sent = self._sent(engine, adds_usage=adds_usage)
        async with engine.forward(self.form.path, sent, self.headers) as answer:
            if answer.status >= 400:
                body = await answer.read(MAX_ERROR_BYTES)
                if adds_usage and blames_the_asking(answer.status, body):
                    return None
                return await self._wrong(answer, body)
            if self.is_streamed:
                hides_usage = adds_usage and not self.keeps_usage
                return await self._passed_stream(answer, submit, hides_usage=hides_usage)
            return await self._passed_whole(answer)

    def _sent(self, engine: ForwardingEngine, *, adds_usage: bool) -> bytes:
        raw = self.raw if self.form.is_plain else json.dumps(self.chat, ensure_ascii=True).encode()
        if engine.added_fields:
            raw = json.dumps({**self.chat, **engine.added_fields}).encode()
        sent = forwarded_body(raw, self.chat, model=engine.model)
        if not adds_usage:
            return sent
        return with_usage(sent, {**self.chat, **engine.added_fields, "model": engine.model})

    def _adds_usage(self, engine: ForwardingEngine) -> bool:
        """Return whether the server is asked for a stream's tokens though the client does not ask."""
        if not self.is_streamed or asks_for_usage(self.chat) or FIELD in engine.added_fields:
            return False
        return self.usage_asking.may_ask(engine)

    async def _passed_stream(
        self, answer: StreamedAnswer, submit: Submit, *, hides_usage: bool
    ) -> Success[Usage | None]:
        scan = StreamScan()
        await self._sent_stream(answer, scan, partial(self._first, submit), hides_usage=hides_usage)
        if not self.reply.has_begun:
            raise BadResponse("the server's stream has no events", retryable=True)
        if self.reply.is_done:
            await answer.finish(FINISH_S)
        ended = scan.end()
        usage = self._usage(ended.usage)
        return Success(usage, usage)

    async def _sent_stream(
        self,
        pieces: AsyncIterator[bytes],
        scan: StreamScan,
        on_first: Callable[[], None] = lambda: None,
        *,
        hides_usage: bool,
    ) -> None:
        """Send a stream, if it has any pieces."""
        reader, is_plain, is_first = ChunkReader(), self.form.is_plain, True
        async for piece in pieces:
            if is_first:
                is_first = False
                on_first()
                await self._begin()
            if is_plain and hides_usage:
                shown = scan.passed(piece)
            else:
                scan.feed(piece)
                shown = piece
            if not is_plain:
                await self.reply.pieces(told for chunk in reader.feed(shown) for told in self.stream.feed(chunk))
                self.reply.is_done = reader.is_done
            elif shown:
                await self.reply.piece(shown)
            if self.reply.is_done:
                break
        if is_first:
            return
        if is_plain:
            if hides_usage and (shown := scan.last()):
                await self.reply.piece(shown)
            await self.reply.end_stream()
        else:
            await self.reply.pieces(told for chunk in reader.end() for told in self.stream.feed(chunk))
            await self._end()

    async def _passed_whole(self, answer: StreamedAnswer) -> Success[Usage | None]:
        body = await answer.read(MAX_ANSWER_BYTES)
        try:
            completion = from_json(body)
        except ValueError as error:
            raise BadResponse(f"the server's answer is no JSON: {error}", retryable=True) from error
        if not isinstance(completion, dict):
            raise BadResponse("the server's answer is no JSON object", retryable=True)
        if self.form.is_plain:
            await self.reply.whole(200, body, {**JSON, **answer_headers(answer.headers.items())})
        else:
            await self.told_whole(completion)
        usage = self._usage(completion.get("usage"))
        return Success(usage, usage)

    async def _wrong(self, answer: StreamedAnswer, body: bytes) -> Success[Usage | None]:
        """Pass on what a server says of a request that is wrong."""
        self.is_refused = True
        if self.form.is_plain:
            await self.reply.whole(answer.status, body, {**JSON, **answer_headers(answer.headers.items())})
        else:
            await self.failed(Refusal(answer.status, message_of(body), is_final=True))
        return Success(None, NO_USAGE, num_answered=0)

    async def _begin(self) -> None:
        if not self.reply.has_begun:
            await self.reply.begin_stream()
            await self.reply.pieces(self.stream.begin())

    async def _end(self) -> None:
        await self._begin()
        await self.reply.pieces(self.stream.end())
        await self.reply.end_stream()

    def _first(self, submit: Submit) -> None:
        if submit.needs_first_token:
            self.on_first()

    def _usage(self, told: Any) -> Usage | None:
        if told is None:
            return None
        return Counts().updated(told).usage(estimated_prompt_tokens=self.num_prompt_tokens, num_characters=0)

    def _final_once_begun(self, error: EngineError) -> EngineError:
        """Return the failure; it is the last one where the client has got a part of the answer."""
        if self.reply.has_begun:
            error.retryable = False
        return error


def message_of(body: bytes) -> str:
    """Return what a server says is wrong."""
    try:
        told = from_json(body)
    except ValueError:
        told = None
    error = told.get("error") if isinstance(told, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else "the server refuses the request"
