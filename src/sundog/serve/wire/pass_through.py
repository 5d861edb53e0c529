"""Requests and answers that pass unchanged between a client and a server of the OpenAI protocol.

Owns what must change in a body, and which headers go which way. Never opens a connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from sundog.serve.identity import IDENTITY_HEADERS, OWN_NAMES

_FORWARDED = (IDENTITY_HEADERS - OWN_NAMES) | {
    "baggage",
    "openai-beta",
    "traceparent",
    "tracestate",
    "x-client-request-id",
    "x-data-parallel-rank",
    "x-request-id",
}
"""The headers of a request that go to the server. None is one of a single connection, as `transfer-encoding` is."""
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
"""The headers of an answer that go to the client; none is one of a single connection either."""
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
    found = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(found)
    return {name: value for name, value in found if name in _FORWARDED and name not in named}


def answer_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of an answer that go back to the client: what it is, its limits, and when to ask again."""
    found = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(found)
    return {
        name: value
        for name, value in found
        if (name in _ANSWERED or name.startswith(_ANSWERED_PREFIXES)) and name not in named
    }


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> Container[str]:
    """Return the headers that `connection` names: they are meant for one connection, and not for the ends of a way."""
    told = [value for name, value in headers if name == "connection"]
    return {one.strip().lower() for value in told for one in value.split(",")} if told else ()
