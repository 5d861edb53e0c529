"""The meaning of a failure, be it an error status, an error event in a stream, or an error body with status 200.

Owns the reading of error bodies. Never retries.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from sundog.engines.openai.protocol.json_text import parse_json, shown_json
from sundog.errors import BadResponse, EngineError, EngineOverloaded, EngineTimeout, EngineUnavailable, PromptTooLong
from sundog.transport.retry_after import retry_after_s

MAX_ERROR_BYTES = 64 * 2**10
"""As much of an error body is read."""
MAX_MESSAGE_CHARACTERS = 4000
"""More than is shown: a key must be found in it before it is cut."""
MAX_PAGE_CHARACTERS = 4096

# OpenAI says it with a code; vLLM, llama.cpp and others only with words.
CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error"}
CONTEXT_WORDS = re.compile(r"context (length|window|size)|maximum model length|max_model_len|prompt is too long", re.I)
NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
# The words that servers write instead of a status, without case, `_` and a final "error".
STATUS_OF_WORD: Mapping[str, int] = {
    "ratelimit": 429, "ratelimitexceeded": 429, "toomanyrequests": 429, "slowdown": 429, "resourceexhausted": 429,
    "overloaded": 503, "serveroverloaded": 503, "engineoverloaded": 503, "serviceunavailable": 503, "unavailable": 503,
    "modeloverloaded": 503, "timeout": 504, "requesttimeout": 504, "deadlineexceeded": 504,
    "server": 500, "internal": 500, "internalserver": 500, "api": 500,
    "invalidrequest": 400, "badrequest": 400, "invalidargument": 400, "validation": 400, "contentfilter": 400,
    "contentpolicyviolation": 400, "exceedcontextsize": 400, "contextlengthexceeded": 400, "invalidapikey": 401,
    "authentication": 401, "unauthorized": 401, "permission": 403, "permissiondenied": 403, "notfound": 404,
    "modelnotfound": 404,
}  # fmt: skip

PARSER_WORDS = re.compile(r"tool[-_]call[-_]parser", re.I)
NO_PARSER = (
    "the server was started without a tool parser: give it --enable-auto-tool-choice and --tool-call-parser, or write "
    "`tool_calls: constrained` in the engine block"
)

_HINTS = {
    401: "check api_key",
    402: "the account has no credit left",
    403: "check api_key and what it may do",
    404: "check model, and whether base_url ends in /v1",
}


def engine_error_of(status: int, headers: Mapping[str, str], body: str | bytes, *, now_s: float) -> EngineError:
    """Return what an answer with an error status means. `headers` are looked up in lower case; `now_s` is the Unix
    time, for a Retry-After that is a date. Of `body` the first MAX_ERROR_BYTES are read."""
    data = body.encode("utf-8", "replace") if isinstance(body, str) else body
    words, message = _read_error(_value_of(data[:MAX_ERROR_BYTES]))
    error = _error(status, words, f"the server answered {status}: {message}", retry_after_s(headers, now_s))
    # Nothing is computed of a request that is at fault itself; servers that fail, or are late, may have begun.
    error.is_refused = error.is_refused or (status < 500 and status != 408)
    return error


def is_error(event: Mapping[str, Any]) -> bool:
    """Return whether an event, or a whole answer, tells of a failure."""
    if event.get("error") or event.get("object") == "error" or event.get("type") == "error":
        return True
    return "choices" not in event and any(event.get(key) for key in ("message", "detail"))


def error_told(event: Mapping[str, Any]) -> EngineError:
    """Return what an error means that came with status 200, by its code, or else its type, as a number or a word."""
    words, message = _read_error(event)
    status = next((found for word in words if (found := _status(word))), None)
    if status is None:
        status = 400 if _is_of_context(words, message) else 500
    return _error(status, words, f"the server told of an error ({', '.join(words) or 'no code'}): {message}", None)


def _error(status: int, words: tuple[str, ...], what: str, wait_s: float | None) -> EngineError:
    if NO_CREDIT & set(words):
        return EngineOverloaded(what, hint="the account has no credit left")
    if status in (429, 503, 529):
        return EngineOverloaded(what, retryable=True, retry_after_s=wait_s)
    if status in (408, 504):
        return EngineTimeout(what, retryable=True)
    if status >= 500:
        return EngineUnavailable(what, retryable=True)
    if status in (400, 413, 422) and _is_of_context(words, what):
        return PromptTooLong(what, hint="shorten the prompt or lower max_tokens")
    return BadResponse(what, hint=NO_PARSER if PARSER_WORDS.search(what) else _HINTS.get(status))


def _is_of_context(words: tuple[str, ...], message: str) -> bool:
    return bool(CONTEXT_CODES & set(words) or CONTEXT_WORDS.search(message))


def _status(word: str) -> int | None:
    if re.fullmatch(r"[45]\d\d", word, re.ASCII):
        return int(word)
    return STATUS_OF_WORD.get(re.sub(r"[^a-z]", "", word.lower()).removesuffix("error").removesuffix("exception"))


def _value_of(data: bytes) -> Any:
    try:
        return parse_json(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _read_error(value: Any) -> tuple[tuple[str, ...], str]:
    """Return the code, status and type as far as told, and the message, of {"error": {...}}, {"error": "..."},
    {"message": ...}, {"detail": ...} or plain text."""
    if not isinstance(value, dict):
        return (), _shown(value)
    error = value.get("error") or value
    if isinstance(error, str):
        is_word = re.fullmatch(r"\w{1,80}", error) is not None
        value = {"code": error if is_word else None, **value, "message": value.get("message") or error}
    elif isinstance(error, dict):
        value = error
    told = (value.get(key) for key in ("code", "status", "status_code", "type"))
    words = tuple(dict.fromkeys(shown_json(word, 80) for word in told if isinstance(word, str | int | float) and word))
    return words, _shown(value.get("message") or value.get("detail") or value)


def _shown(message: Any) -> str:
    if isinstance(message, str) and message.lstrip()[:1] == "<":
        message = _text_of_html(message)
    return shown_json(message, MAX_MESSAGE_CHARACTERS) or "nothing"


def _text_of_html(page: str) -> str:
    """Return what a reader sees of an error page: its title, or else its text."""
    page = page[:MAX_PAGE_CHARACTERS]
    title = re.search(r"<title[^>]*>([^<]*)</title", page, re.I)
    text = (
        title[1]
        if title
        else re.sub(r"<[^>]*>", " ", re.sub(r"<(script|style)\b.*?</\1[^>]*>?", " ", page, flags=re.S))
    )
    return html.unescape(text) if text.strip() else page
