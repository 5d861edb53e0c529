"""An answer as it comes: an event stream in pieces of any size, or one JSON object. Which of the two, the bytes say.

Owns the way from bytes to chunks. Never opens a connection and never retries.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

from sundog.engines.base import Chunk, FinishReason
from sundog.engines.openai.protocol.calls import CallJoiner
from sundog.engines.openai.protocol.choices import Piece, called_a_tool, read_choice
from sundog.engines.openai.protocol.events import MAX_EVENT_BYTES, EventSplitter
from sundog.engines.openai.protocol.failures import MAX_MESSAGE_CHARACTERS, error_told, is_error
from sundog.engines.openai.protocol.json_text import (
    DONE,
    NestedTooDeeply,
    joined_pairs,
    parse_json,
    shown_json,
)
from sundog.engines.openai.protocol.plain_events import PlainEvents
from sundog.engines.openai.protocol.usage import Counts
from sundog.errors import BadResponse

MAX_TEXT_CHARACTERS = 16 * 2**20
LINGER_S = 5.0
"""Token counts come at once after the end of an answer; a server may leave its stream open for ever."""

_UNLIMITED = nullcontext()
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class AnswerReader:
    """Reads one answer. `count_prompt_tokens` is asked where the server does not tell. `takes_calls`: the model was
    offered tools. `is_over`: what still comes is no part of the answer. `is_whole`: the answer has ended, though counts
    may still follow."""

    def __init__(self, count_prompt_tokens: Callable[[], int], *, takes_calls: bool = False) -> None:
        self._count_prompt_tokens = count_prompt_tokens
        self._takes_calls = takes_calls
        self._splitter = EventSplitter()
        self._plain = PlainEvents()
        self._form: Literal["events", "json"] | None = None
        self._beginning = b""
        self._body: list[bytes] = []
        self._num_body_bytes = 0
        self._has_events = False
        self._index: Any = None
        self._half_pair = ""
        self._num_characters = 0
        self._refusal = ""
        self._has_words = False
        self._has_thought = False
        self._calls = CallJoiner()
        self._has_called = False
        self._finish_reason: FinishReason | None = None
        self._counts = Counts()
        self.is_over = False

    @property
    def is_whole(self) -> bool:
        return self.is_over or self._finish_reason is not None

    def feed(self, piece: bytes) -> str:
        """Return the text that `piece` completes; EngineError as soon as the answer cannot become one."""
        if self._form is None:
            # Empty lines keep a connection alive until the answer comes.
            piece = self._beginning = (self._beginning + piece).lstrip()
            self._form = _form_of(piece)
        elif len(self._beginning) < MAX_MESSAGE_CHARACTERS:
            self._beginning += piece
        if self._form == "json":
            self._keep(piece)
        return self._read_events(self._splitter.feed(piece)) if self._form == "events" else ""

    def end(self) -> Chunk:
        """Return the last chunk, with the text that only the end of the answer completes; EngineError where it is
        not whole, refused or empty for want of tokens."""
        text = "" if self.is_over else self._read_rest()
        if self._half_pair:
            text, self._half_pair = text + "\ufffd", ""
            self._count(text[-1])
        self._refuse_what_is_no_answer()
        calls = self._calls.calls(is_cut=self._finish_reason == "length") if self._takes_calls else ()
        usage = self._counts.usage(
            # Not asked for where the server tells: counting a long prompt takes its time.
            estimated_prompt_tokens=0 if self._counts.num_prompt_tokens is not None else self._count_prompt_tokens(),
            num_characters=self._num_characters + self._calls.num_characters,
        )
        finish_reason = self._finish_reason or "stop"
        if calls and finish_reason == "stop":
            # So ends a call that was asked for by name.
            finish_reason = "tool_calls"
        return Chunk(text, finish_reason, usage, calls)

    def _keep(self, piece: bytes) -> None:
        self._body.append(piece)
        self._num_body_bytes += len(piece)
        if self._num_body_bytes > MAX_EVENT_BYTES:
            raise BadResponse(f"the server sent an answer of more than {MAX_EVENT_BYTES // 2**20} MiB")

    def _read_rest(self) -> str:
        if self._form != "json":
            return self._read_events(self._splitter.end())
        body = b"".join(self._body)
        try:
            value = parse_json(body.removeprefix(codecs.BOM_UTF8))
        except ValueError as error:
            # A JSON object may also come before an event stream, or one object a line.
            text = self._read_events(self._splitter.feed(body)) + self._read_events(self._splitter.end())
            if not self._has_events:
                raise _no_json(error, body) from error
            return text
        text = self._read_value(value, is_whole=True)
        self._count(text)
        if self._finish_reason is None and self._has_events:
            # Whole JSON is a whole answer; some servers leave its reason out.
            self._finish_reason = "stop"
        return text

    def _read_events(self, events: list[bytes]) -> str:
        texts = []
        for data in events:
            if self.is_over:
                break
            self._has_events = True
            text = self._plain.text_of(data)
            if text is None:
                text = self._read_event(data)
            elif self._half_pair:
                text = self._joined(text)
            self._count(text)
            texts.append(text)
        if self._num_characters + self._calls.num_characters > MAX_TEXT_CHARACTERS:
            raise BadResponse(f"the answer has more than {MAX_TEXT_CHARACTERS:,} characters", hint="set max_tokens")
        return "".join(texts)

    def _count(self, text: str) -> None:
        self._num_characters += len(text)
        self._has_words = self._has_words or not (text.isspace() or not text)

    def _read_event(self, data: bytes) -> str:
        if data == DONE:
            self.is_over = True
            return ""
        try:
            event = parse_json(data)
        except ValueError as error:
            raise _no_json(error, data) from error
        text = self._read_value(event)
        if text:
            self._plain.learn(data, event)
        return text

    def _read_value(self, event: Any, *, is_whole: bool = False) -> str:
        """Return the text of an event or of a whole answer."""
        if not isinstance(event, dict):
            raise BadResponse(f"the server sent JSON that is not an object: {_shown(event)}", retryable=True)
        if is_error(event):
            raise error_told(event)
        self._counts = self._counts.updated(event.get("usage"))
        try:
            piece = self._piece_of(event.get("choices"))
            if piece is not None and piece.calls is not None:
                self._has_called = True
                if self._takes_calls:
                    self._calls.add(piece.calls, is_whole=is_whole)
        except (AttributeError, TypeError) as error:
            raise BadResponse(f"the server sent a malformed answer: {error!s:.200}", retryable=True) from error
        if piece is None:
            return ""
        self._has_events = True
        self._refusal = (self._refusal + piece.refusal)[:MAX_MESSAGE_CHARACTERS]
        self._has_thought = self._has_thought or piece.has_thought
        if piece.finish_reason == "tool_calls" and not self._takes_calls:
            raise called_a_tool()
        self._finish_reason = self._finish_reason or piece.finish_reason
        return self._joined(piece.text)

    def _piece_of(self, choices: Any) -> Piece | None:
        if not choices:
            return None
        if not isinstance(choices, list):
            raise TypeError("its choices are no list")
        for choice in choices:
            index = choice.get("index") or 0
            if self._index is None:
                self._index = index
            # Where more than one answer was asked for (`n` in extra_body), the first one counts.
            if index == self._index:
                return read_choice(choice)
        return None

    def _joined(self, text: str) -> str:
        """Return `text` with the two halves of a surrogate pair joined, also over two events; a half alone is
        U+FFFD."""
        if not self._half_pair and (text.isascii() or not _HALF_PAIR.search(text)):
            return text
        text, self._half_pair = self._half_pair + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half_pair = text[:-1], text[-1]
        return joined_pairs(text)

    def _refuse_what_is_no_answer(self) -> None:
        if self._refusal.strip():
            raise BadResponse(f"the model refused: {shown_json(self._refusal, MAX_MESSAGE_CHARACTERS)}")
        if not self._has_events:
            sent = _shown(self._beginning[:MAX_MESSAGE_CHARACTERS].decode("utf-8", "replace"))
            hint = "see that base_url is that of a server that speaks the OpenAI protocol"
            raise BadResponse(f"the server sent no answer but: {sent}", hint=hint)
        num_characters = self._num_characters + self._calls.num_characters
        is_counted = self.is_over and num_characters > 0 and self._counts.num_output_tokens is not None
        if self._finish_reason is None and not is_counted:
            raise BadResponse("the answer broke off before its end", retryable=True)
        if self._finish_reason == "tool_calls" and not self._has_called:
            raise BadResponse("the answer ended for the call of a tool, and holds none", retryable=True)
        if self._has_words or (self._has_called and self._takes_calls):
            return
        if self._has_called:
            raise called_a_tool()
        if self._finish_reason == "length":
            thinking = "the model spent all its tokens on thinking" if self._has_thought else "its tokens were used up"
            raise BadResponse(f"the answer is empty: {thinking}", hint="raise max_tokens")
        if self._has_thought:
            hint = "raise max_tokens, or see whether the server takes the answer for thinking"
            raise BadResponse("the answer is empty: the model thought and then said nothing", hint=hint)


def _shown(sent: Any) -> str:
    return repr(shown_json(sent, MAX_MESSAGE_CHARACTERS))


def _form_of(beginning: bytes) -> Literal["events", "json"] | None:
    """Return the form of a body: one that begins with a brace is JSON, whatever its media type says; None where that
    cannot be seen yet."""
    text = beginning.removeprefix(codecs.BOM_UTF8).lstrip()
    if not text or codecs.BOM_UTF8.startswith(beginning):
        return None
    return "json" if text[:1] in (b"{", b"[") else "events"


def _no_json(error: ValueError, data: bytes) -> BadResponse:
    if isinstance(error, NestedTooDeeply):
        return BadResponse("the server's answer is nested too deeply to be read")
    beginning = _shown(data[:MAX_MESSAGE_CHARACTERS].decode("utf-8", "replace"))
    return BadResponse(f"the server's answer holds what is not JSON ({error!s:.200}): {beginning}", retryable=True)


async def read_chunks(
    pieces: AsyncIterator[bytes], count_prompt_tokens: Callable[[], int], *, takes_calls: bool = False
) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of an answer; the last one as soon as nothing can follow that belongs to it. Where the
    connection fails after the answer has ended, or nothing comes any more, the answer counts."""
    reader = AnswerReader(count_prompt_tokens, takes_calls=takes_calls)
    while not reader.is_over:
        try:
            # A time limit costs more than reading a piece.
            async with asyncio.timeout(LINGER_S) if reader.is_whole else _UNLIMITED:
                piece = await anext(pieces)
        except StopAsyncIteration:
            break
        except Exception:
            if not reader.is_whole:
                raise
            break
        text = reader.feed(piece)
        if text:
            yield Chunk(text)
    yield reader.end()


def read_whole(body: bytes, count_prompt_tokens: Callable[[], int], *, takes_calls: bool = False) -> Chunk:
    """Return the one chunk of an answer that has come whole, whatever its form."""
    reader = AnswerReader(count_prompt_tokens, takes_calls=takes_calls)
    text = reader.feed(body)
    last = reader.end()
    return replace(last, text=text + last.text) if text else last
