"""Model calls of the code that runs for a row, led to the gateway, whatever client they are made with.

Owns the one place where a client's library is changed: requests to the endpoints of models, made inside a row, go to
the address of that row's program. Requests outside of a row, and all others, are let alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

LIBRARIES = ("httpx", "httpx2")
"""The libraries with which clients of models ask; each is changed where it has been imported."""
ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/embeddings", "/messages", "/messages/count_tokens")
#: The address of the program of the row that runs, up to and with `/v1`; None outside of rows.
program_url: ContextVar[str | None] = ContextVar("program_url", default=None)


@contextmanager
def redirected() -> Iterator[None]:
    """Lead model calls to the gateway while the context lasts."""
    changed: list[tuple[type, Any]] = []
    for name in LIBRARIES:
        library = sys.modules.get(name)
        if library is not None:
            for client in (library.AsyncClient, library.Client):
                changed.append((client, client.send))
                client.send = _leading(client.send, library)
    try:
        yield
    finally:
        for client, send in changed:
            client.send = send  # type: ignore[attr-defined]  # the class of a library that is not imported here


def _leading(send: Any, library: Any) -> Any:
    """Return `send` of a client's class with the address changed where that is to be; it gives an awaitable or an
    answer, as the class does."""

    @wraps(send)
    def led(self: Any, request: Any, **options: Any) -> Any:
        base = program_url.get()
        if base is not None and (endpoint := _endpoint(request.url.path)) is not None:
            request.url = library.URL(base + endpoint)
            request.headers["host"] = request.url.netloc.decode()
        return send(self, request, **options)

    return led


def _endpoint(path: str) -> str | None:
    """Return the endpoint of a model at the end of a path; the longest one counts."""
    found = [endpoint for endpoint in ENDPOINTS if path.rstrip("/").endswith(endpoint)]
    return max(found, key=len, default=None)
