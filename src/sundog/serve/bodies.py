"""Bodies of requests, read within bounds, and answers as JSON.

Owns the bound of a body. Never knows what a body means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from sundog.serve.connections.held_bodies import HeldBody, held_body
from sundog.serve.wire.errors import Refusal

MAX_BODY_BYTES = 32 * 2**20


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return the body; Refusal 413 as soon as it is too long, 503 where all bodies together have no room."""
    told = request.headers.get("content-length", "")
    return await received_body(request.receive, told, held_body(request.scope), max_bytes)


async def received_body(receive: Receive, told: str, held: HeldBody | None, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return the body that comes with the messages of a request, which tells its length or "". `held`: its share of
    what this server holds, None without a bound."""
    if held is not None:
        max_bytes = min(max_bytes, held.max_bytes)
    if told.isdigit():
        if int(told) > max_bytes:
            raise _too_large(max_bytes)
        if held is not None:
            held.expect(int(told))
    pieces: list[bytes] = []
    num_bytes = 0
    more_follow = True
    while more_follow:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the client left before its request was whole")
        piece = message.get("body", b"")
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        if held is not None:
            held.take(len(piece))
        pieces.append(piece)
        more_follow = message.get("more_body", False)
    return b"".join(pieces)


def parse_json_body(body: bytes) -> Any:
    """Return the value of a body; Refusal 400 for what is no JSON."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(400, f"the body is no JSON: {error}", code="invalid_json", is_final=True) from error


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return Response(_encoded(value), status, headers, media_type="application/json")


def _encoded(value: Any) -> bytes:
    try:
        return to_json(value)
    except ValueError:
        # Half of a surrogate pair, which only escapes can say.
        return json.dumps(value).encode()


def _too_large(max_bytes: int) -> Refusal:
    what = f"the body is larger than the {max_bytes:,} bytes that this server takes"
    return Refusal(413, what, code="body_too_large", is_final=True)
