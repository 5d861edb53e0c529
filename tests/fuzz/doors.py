"""The doors of a server, asked in this process with anything: whole requests made wrong, and what is no request.

Owns the requests, and how one is asked without a socket. Never judges an answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from tests.fuzz.mutations import MUTATIONS, mutated_data

MODEL = "model-one"
FLOW = "topics"
TEXT = {"role": "user", "content": "hello"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "look", "description": "looks", "parameters": PARAMETERS}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"city": "Oslo"}'}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "one", "schema": PARAMETERS, "strict": True}}

CHAT = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "be kind"},
        TEXT,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
    ],
    "tools": [TOOL],
    "tool_choice": "auto",
    "temperature": 0,
    "max_tokens": 9,
    "stop": ["end"],
    "stream": True,
    "stream_options": {"include_usage": True},
}
SHAPED = {
    "model": MODEL,
    "messages": [TEXT],
    "response_format": SCHEMA,
    "n": 1,
    "seed": 3,
    "user": "me",
    "metadata": {"session_id": "s"},
    "priority": 1,
}
COMPLETION = {"model": MODEL, "prompt": "hello", "max_tokens": 4, "temperature": 0.5, "stream": False, "echo": False}
EMBEDDING = {"model": MODEL, "input": ["a", "b"], "encoding_format": "float", "dimensions": 8}
RESPONSE = {
    "model": MODEL,
    "instructions": "be kind",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ],
    "tools": [{"type": "function", "name": "look", "parameters": PARAMETERS, "strict": True}],
    "text": {"format": {"type": "json_schema", "name": "one", "schema": PARAMETERS}},
    "max_output_tokens": 9,
    "previous_response_id": None,
    "stream": True,
    "store": True,
}
MESSAGE = {
    "model": MODEL,
    "max_tokens": 9,
    "system": [{"type": "text", "text": "be kind"}],
    "messages": [
        TEXT,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {"city": "Oslo"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sunny"}]},
    ],
    "tools": [{"name": "look", "description": "looks", "input_schema": PARAMETERS}],
    "tool_choice": {"type": "auto"},
    "metadata": {"user_id": "me"},
    "stop_sequences": ["end"],
    "stream": True,
}
BATCH_FILE = "file-one"
BATCH = {
    "input_file_id": BATCH_FILE,
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "metadata": {"job": "one"},
    "output_expires_after": {"anchor": "created_at", "seconds": 3600},
}
RUN = {"rows": [{"topic": "bees"}, {"topic": "tea"}], "priority": 1, "deadline_s": 5, "stream": False}
BODIES: Mapping[str, tuple[Any, ...]] = {
    "/v1/chat/completions": (CHAT, SHAPED),
    "/s/one/v1/chat/completions": (CHAT,),
    "/v1/completions": (COMPLETION,),
    "/v1/embeddings": (EMBEDDING,),
    "/v1/responses": (RESPONSE,),
    "/v1/messages": (MESSAGE,),
    "/v1/messages/count_tokens": (MESSAGE,),
    "/v1/batches": (BATCH,),
    "/programs/release": ({"program_id": "one"},),
    f"/v1/flows/{FLOW}/runs": (RUN, {"row": {"topic": "bees"}, "stream": True}),
}
"""By path, bodies that are answered."""

HEADERS: Mapping[str, tuple[str, ...]] = {
    "x-session-id": ("one", "", "/../", "x" * 999),
    "x-request-timeout": ("1", "0", "-1", "nan", "1e999", "soon"),
    "x-stainless-timeout": ("1", "0", "-1", "nan", "1e999"),
    "x-priority": ("1", "high", "-99999999999999999999", "1.5"),
    "prefer": ("respond-async", "respond-async, wait=0", "wait=-1", "wait=99999999999999999999999"),
    "idempotency-key": ("one", "", "x" * 999),
    "accept": ("text/event-stream", "*/*", ""),
    "traceparent": ("00-1-2-3", "x"),
    "content-length": ("3", "x", "-1", "99999999999999"),
    "content-type": ("text/plain", "application/json; charset=utf-7", "multipart/form-data"),
    "x-sundog-budget": ("1", "0", "-1", "nan", "much", "1e300"),
    "x-sundog-max-usd": ("1", "0", "-1", "inf", "much"),
    "x-sundog-max-tokens": ("10000", "0", "-1", "1.5", "99999999999999999999"),
    "x-request-id": ("one", "\xe9"),
}

_numbers = st.integers(0, 2**16)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


def encoded(value: Any) -> bytes:
    """Return a value as a client would send it that writes anything."""
    try:
        return json.dumps(value, default=str).encode()
    except (ValueError, RecursionError, TypeError):
        # A mutation may have made a circle, or keys that are no text.
        return repr(value)[:999].encode("utf-8", "replace")


_headers = st.dictionaries(st.sampled_from(sorted(HEADERS)), _numbers, max_size=2).map(
    lambda picked: {name: HEADERS[name][number % len(HEADERS[name])] for name, number in picked.items()}
)


@dataclass(frozen=True)
class Asked:
    """A request. Its representation is what hypothesis prints of one that fails."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"


@st.composite
def made_wrong(draw: st.DrawFn) -> Asked:
    """Requests that are answered, with some changes."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body = mutated_data(draw(st.sampled_from(BODIES[path])), draw(MUTATIONS))
    return Asked(path, encoded(body), draw(_headers))


any_json = st.builds(Asked, st.sampled_from(sorted(BODIES)), _values.map(encoded), _headers)
any_bytes = st.builds(
    Asked,
    st.sampled_from(sorted(BODIES)),
    st.binary(max_size=99) | st.text(max_size=99).map(lambda text: text.encode("utf-16", "surrogatepass")),
    _headers,
)
_names = st.sampled_from(["one", FLOW, MODEL, "resp_x", "..", "%2e", "\x00", "é", "x" * 300, ""]) | st.text(max_size=9)
any_path = st.builds(
    lambda pattern, one, other, method, headers: Asked(pattern.format(one, other), b"{}", headers, method),
    st.sampled_from(
        [
            "/v1/models",
            "/v1/models/{0}",
            "/v1/responses/{0}",
            "/s/{0}/v1/messages",
            "/v1/flows",
            "/v1/flows/{0}",
            "/v1/flows/{0}/runs",
            "/v1/flows/" + FLOW + "/runs/{0}",
            "/v1/flows/{0}/runs/{1}/cancel",
            "/v1/files",
            "/v1/files/{0}",
            "/v1/batches/{0}",
            "/v1/batches/{0}/cancel",
            "/health",
            "/ready",
            "/{0}",
            "/{0}/{1}",
        ]
    ),
    _names,
    _names,
    st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"]),
    _headers,
)

FORM_PARTS = (
    b"--x\r\n",
    b"--x--\r\n",
    b"--",
    b"\r\n",
    b"\r\n\r\n",
    b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
    b'Content-Disposition: form-data; name="file"; filename="one"\r\n\r\n{}\r\n',
    b'Content-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n3600\r\n',
    b"Content-Disposition: form-data; name*=utf-8''%ff\r\n",
    b"Content-Disposition\r\n",
)
FORM_TYPES = ("multipart/form-data; boundary=x", 'multipart/form-data; boundary="', "multipart/mixed; boundary=x", "")
any_form = st.builds(
    lambda pieces, kind: Asked("/v1/files", b"".join(pieces), {"content-type": kind}),
    st.lists(st.sampled_from(FORM_PARTS) | st.binary(max_size=9), max_size=9),
    st.sampled_from(FORM_TYPES) | st.just(FORM_TYPES[0]),
)


@dataclass(frozen=True)
class Told:
    """The answer of an application."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def answer_of(app: ASGIApp, asked: Asked) -> Told:
    """Return what the application answers to a request; its exception where it raises one."""
    sent: list[Message] = []
    left = asyncio.Event()
    coming: list[Message] = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> Message:
        if coming:
            return coming.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": asked.path,
        "raw_path": asked.path.encode("utf-8", "replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in asked.headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    start, *pieces = sent
    assert start["type"] == "http.response.start", start
    assert not pieces[-1].get("more_body"), "an answer ends"
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    return Told(start["status"], headers, b"".join(piece.get("body", b"") for piece in pieces))
