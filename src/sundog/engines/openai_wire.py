"""The OpenAI wire format: request bodies, the event stream of an answer, and what its failures mean.

Owns translation both ways. Never opens a connection and never retries.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from sundog.engines.base import Chunk, FinishReason, GenerateRequest, Usage
from sundog.errors import BadResponse, EngineError, EngineOverloaded, EngineTimeout, EngineUnavailable, PromptTooLong

Api = Literal["chat", "completions"]

PATHS: Mapping[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
# OpenAI says it with a code; vLLM, llama.cpp and others only with words.
CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error"}
CONTEXT_WORDS = re.compile(r"context (length|window|size)|maximum model length|max_model_len|prompt is too long", re.I)
MAX_MESSAGE_CHARACTERS = 500


def request_body(request: GenerateRequest, *, model: str, api: Api, has_priority: bool) -> dict[str, Any]:
    """The body of one streamed call. For `completions` the contents of all messages are joined by empty lines."""
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    if api == "chat":
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    else:
        body["prompt"] = "\n\n".join(message.content for message in request.messages)
    body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": json.loads(request.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if has_priority:
        body["priority"] = request.priority
    return body


async def read_events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
    """The JSON values of a server-sent event stream, up to `[DONE]`.

    Lines are split at the byte level: a text may hold characters that str.splitlines takes for line ends.
    """
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield _parse(data)


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadResponse(f"the server sent an event that is not JSON: {error}", retryable=True) from error


async def read_chunks(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Chunk, None]:
    """The chunks of an answer; the last one is sent when finish reason and usage are both known."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    async for event in read_events(pieces):
        if not isinstance(event, dict):
            raise BadResponse("the server sent an event that is not an object", retryable=True)
        if event.get("error"):
            raise _error_event(event)
        try:
            text, ended = _read_choice(event)
            usage = _read_usage(event["usage"]) if event.get("usage") else usage
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise BadResponse(f"the server sent a malformed event: {error!r}", retryable=True) from error
        finish_reason = ended or finish_reason
        if text:
            yield Chunk(text)
    if finish_reason is None:
        raise BadResponse("the answer broke off before its end", retryable=True)
    if usage is None:
        raise BadResponse(
            "the server did not report the tokens of the answer",
            hint="it must support stream_options.include_usage",
        )
    yield Chunk("", finish_reason, usage)


def _read_choice(event: Mapping[str, Any]) -> tuple[str, FinishReason | None]:
    if not event.get("choices"):
        return "", None
    choice = event["choices"][0]
    delta = choice.get("delta") or {}
    if delta.get("refusal"):
        raise BadResponse(f"the model refused: {delta['refusal']}")
    text = choice.get("text") or delta.get("content") or ""
    if not isinstance(text, str):
        raise TypeError(f"its text is {text!r}")
    reason = choice.get("finish_reason")
    if reason is not None and reason not in FINISH_REASONS:
        raise BadResponse(f"the answer ended for the reason '{reason}'", hint="sundog takes 'stop' and 'length'")
    return text, FINISH_REASONS[reason] if reason else None


def _read_usage(usage: Mapping[str, Any]) -> Usage:
    num_prompt_tokens, num_output_tokens = int(usage["prompt_tokens"]), int(usage.get("completion_tokens") or 0)
    details = usage.get("prompt_tokens_details") or {}
    num_cached_tokens = details.get("cached_tokens")
    if min(num_prompt_tokens, num_output_tokens) < 0 or not 0 <= (num_cached_tokens or 0) <= num_prompt_tokens:
        raise ValueError(f"its token counts cannot be right: {json.dumps(usage)}")
    return Usage(num_prompt_tokens, num_output_tokens, num_cached_tokens)


def _error_event(event: Mapping[str, Any]) -> EngineError:
    code = event["error"].get("code") if isinstance(event["error"], dict) else None
    return error_of(code if isinstance(code, int) else 500, {}, json.dumps(event), now_s=0.0)


def error_of(status: int, headers: Mapping[str, str], body: str, *, now_s: float) -> EngineError:
    """What an answer with an error status means; `now_s` is the Unix time, for a Retry-After that is a date."""
    code, message = _read_error(body)
    what = f"the server answered {status}: {message}"
    if status == 429 and code == "insufficient_quota":
        return EngineOverloaded(what, hint="the account has no credit left")
    if status in (429, 503):
        return EngineOverloaded(what, retryable=True, retry_after_s=retry_after_s(headers, now_s))
    if status in (408, 504):
        return EngineTimeout(what, retryable=True)
    if status >= 500:
        return EngineUnavailable(what, retryable=True)
    if status in (400, 413, 422) and (code in CONTEXT_CODES or CONTEXT_WORDS.search(message)):
        return PromptTooLong(what, hint="shorten the prompt or lower max_tokens")
    return BadResponse(what, hint=_HINTS.get(status))


_HINTS = {
    401: "check api_key",
    403: "check api_key and what it may do",
    404: "check model, and whether base_url ends in /v1",
}


def _read_error(body: str) -> tuple[str | None, str]:
    """The code and message of an error body: {"error": {...}}, {"message": ...}, {"detail": ...} or plain text."""
    try:
        value = json.loads(body)
    except ValueError:
        value = body
    if isinstance(value, dict):
        value = value.get("error") or value
    code = value.get("code") or value.get("type") if isinstance(value, dict) else None
    message = value.get("message") or value.get("detail") or value if isinstance(value, dict) else value
    text = message if isinstance(message, str) else json.dumps(message)
    return str(code) if code else None, " ".join(text.split())[:MAX_MESSAGE_CHARACTERS] or "nothing"


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The Retry-After header in seconds from now, whether it is a number or a date; None when absent or unreadable."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return None
