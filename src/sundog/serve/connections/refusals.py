"""The refusals of requests that no door has seen, as whole answers after which the connection is closed.

Owns what they say. Never decides whom to refuse.
"""

from __future__ import annotations

from http import HTTPStatus

from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from sundog.serve.bodies import json_response
from sundog.serve.wire.errors import Refusal, error_at

RETRY_AFTER_S = 1.0


def head_too_large(max_bytes: int) -> Refusal:
    what = f"the headers are larger than the {max_bytes:,} bytes that this server takes"
    return Refusal(431, what, code="headers_too_large", is_final=True)


def too_slow() -> Refusal:
    """Return the refusal of a request that comes in too slowly; nothing of it was begun."""
    return Refusal(408, "the request did not come in within the time that this server waits", code="request_timeout")


def too_many_connections(max_connections: int) -> Refusal:
    what = f"this server has {max_connections:,} connections open, and takes no more"
    return Refusal(503, what, code="too_many_connections", retry_after_s=RETRY_AFTER_S)


def not_http(what: str) -> Refusal:
    return Refusal(400, f"this is no HTTP request: {what}", code="invalid_http", is_final=True)


def refusal_bytes(refusal: Refusal, path: str) -> bytes:
    """Return the answer as it is sent. `path`: of the request, "" where it is not known."""
    status, told = error_at(path, refusal)
    body = to_json(told)
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    lines = [f"{name}: {value}" for name, value in {**headers, **refusal.headers()}.items()]
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


class RefusingApp:
    """This ASGI application refuses every request, and closes its connection."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"connection": "close", **self._refusal.headers()}
        status, body = error_at(scope["path"], self._refusal)
        await json_response(body, status, headers)(scope, receive, send)
