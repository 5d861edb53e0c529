"""Connections of a test byte by byte: what a client sends that is slow, and what comes back."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30.0
SMALL_BUFFER = 4096


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    """Yield a connection whose own buffer holds little, so that what its client does not read waits at the server."""
    where = urlsplit(address)
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        one.settimeout(TIMEOUT_S)
        one.connect((where.hostname, where.port))
        yield one


def head(path: str, num_bytes: int, *more: str) -> bytes:
    """Return the head of a request whose body has so many bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {num_bytes}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(path: str, body: Any) -> bytes:
    """Return a request."""
    sent = json.dumps(body).encode()
    return head(path, len(sent)) + sent


def all_of(connection: socket.socket) -> bytes:
    """Return what comes until the other side ends the connection."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        """It was ended at once."""
    return b"".join(pieces)


def refusal(answer: bytes) -> tuple[int, str]:
    """Return the status of an answer that is an error, and the error's code."""
    told, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in told.lower(), told
    return int(told.split()[1]), json.loads(body)["error"]["code"]
