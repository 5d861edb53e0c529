"""Requests and answers that pass unchanged between a client and a server of the OpenAI protocol.

Owns what must change in a body, and which headers go which way. Never opens a connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sundog.serve.identity import IDENTITY_HEADERS, OWN_NAMES

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""The headers that belong to one connection, beside those that its `connection` names."""
_FORWARDED = (IDENTITY_HEADERS - OWN_NAMES) | {
    "baggage",
    "openai-beta",
    "traceparent",
    "tracestate",
    "x-client-request-id",
    "x-data-parallel-rank",
    "x-request-id",
}
_ANSWERED = frozenset(
    {
        "content-type",
        "openai-processing-ms",
        "retry-after",
        "retry-after-ms",
        "x-llm-d-request-dropped-reason",
        "x-request-id",
        "x-should-retry",
        "x-smg-preempted",
    }
)
_ANSWERED_PREFIXES = ("x-ratelimit-",)
_MODEL = re.compile(rb'"model"(?P<gap>\s*:\s*)"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPED_LETTER = b"\\u006"
"""The beginning of each letter of `model` where it is escaped."""


def forwarded_body(raw: bytes, body: Mapping[str, Any], *, model: str) -> bytes:
    """Return the bytes that are sent to the server: those that came, with the name by which the server knows the model.
    `body`: what `raw` says."""
    if body.get("model") == model:
        return raw
    found = _MODEL.search(raw) if raw.count(b'"model"') == 1 and _ESCAPED_LETTER not in raw else None
    if found is not None and "model" in body:
        # The only text of that name is the name of the field: nothing else needs to be read and written again.
        return b'%s"model"%s%s%s' % (raw[: found.start()], found["gap"], json.dumps(model).encode(), raw[found.end() :])
    return json.dumps({**body, "model": model}, separators=(",", ":")).encode()


def asks_for_usage(body: Mapping[str, Any]) -> bool:
    """Return whether a client wants to hear of the tokens of its stream."""
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


def with_usage(raw: bytes, body: Mapping[str, Any]) -> bytes:
    """Return the bytes of a stream's body that asks the server for the tokens too. `body`: what `raw` says."""
    begin = raw.find(b"{") + 1
    if "stream_options" not in body and begin and body:
        return b'%s"stream_options":{"include_usage":true},%s' % (raw[:begin], raw[begin:])
    options = body.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        return raw
    return json.dumps({**body, "stream_options": {**(options or {}), "include_usage": True}}).encode()


def forwarded_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of a request that go to the server: who asks, and how requests are traced. Keys, cookies, the
    host and the form of the body are the connection's own. Names may have any case; the last value counts."""
    return {name: value for name, value in _of_ends(headers) if name in _FORWARDED}


def answer_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of an answer that go back to the client: what it is, its limits, and when to ask again."""
    return {
        name: value for name, value in _of_ends(headers) if name in _ANSWERED or name.startswith(_ANSWERED_PREFIXES)
    }


def _of_ends(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers that are meant for the ends of a way, and not for one connection on it."""
    found = [(name.lower(), value) for name, value in headers]
    named = {one.strip().lower() for name, value in found if name == "connection" for one in value.split(",")}
    return [(name, value) for name, value in found if name not in HOP_BY_HOP and name not in named]
