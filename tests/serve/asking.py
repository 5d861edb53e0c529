"""Requests of a test to a server on loopback, with the client of Python's library."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Heard:
    """An answer. `headers` has small letters; `body` is read as JSON where it is some."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str
    id: str
    data: Any


def ask(
    address: str,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    *,
    as_text: bool = False,
) -> Heard:
    """Return the answer to a request; `body` is sent as JSON, or as it is where it is bytes. `as_text`: the body of the
    answer is not read as JSON."""
    with closing(_connected(address)) as connection:
        connection.request(method, path, _encoded(body), dict(headers or {}))
        answer = connection.getresponse()
        text = answer.read()
    found = {name.lower(): value for name, value in answer.getheaders()}
    is_json = not as_text and found.get("content-type", "").startswith("application/json")
    return Heard(answer.status, found, json.loads(text) if is_json else text.decode())


@contextmanager
def listening_to(
    address: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Iterator[Iterator[Event]]:
    """Yield the events that a stream answers with; the end of the context closes its connection."""
    with closing(_connected(address)) as connection:
        connection.request(method, path, _encoded(body), dict(headers or {}))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        with closing(answer):
            yield _events(answer)


def _connected(address: str) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)


def _encoded(body: Any) -> bytes | None:
    return body if body is None or isinstance(body, bytes) else json.dumps(body).encode()


def _events(answer: http.client.HTTPResponse) -> Iterator[Event]:
    fields: dict[str, str] = {}
    while line := answer.readline().decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
