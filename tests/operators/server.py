"""A real HTTP server on a free port of this machine, that misbehaves on request."""

from __future__ import annotations

import gzip
import json
import socket
import struct
from dataclasses import dataclass, field
from threading import Lock
from urllib.parse import parse_qs, urlsplit

from tests.loopback_server import LoopbackServer, QuietHandler


@dataclass(frozen=True, slots=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Server(LoopbackServer):
    """`seen`: requests in the order they came. `num_hanging`: requests that wait for their client to go away."""

    seen: list[Seen] = field(default_factory=list)
    num_hanging: int = 0
    num_connections: int = 0
    lock: Lock = field(default_factory=Lock)

    def handler(self) -> type[_Handler]:
        return _Handler


class _Handler(QuietHandler):
    """/echo, /status/N, /redirect, /loop, /cookie, /bytes/HEX, /deep/N, /gzip/N, /reset, /half, /hang."""

    timeout = 10
    owner: Server

    def setup(self) -> None:
        super().setup()
        with self.owner.lock:
            self.owner.num_connections += 1

    def _answer_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        url = urlsplit(self.path)
        self._options = {key: values[0] for key, values in parse_qs(url.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.seen.append(Seen(self.command, self.path, headers, body))
        name, _, argument = url.path.lstrip("/").partition("/")
        getattr(self, f"_{name}")(argument)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer_any

    def _echo(self, argument: str) -> None:
        seen = self.owner.seen[-1]
        value = {"method": seen.method, "path": seen.path, "headers": seen.headers, "body": seen.body}
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _status(self, argument: str) -> None:
        retry_after = self._options.get("retry_after")
        said = self._options.get("say", "").encode()
        waits = {"Retry-After": retry_after, "Retry-After-Ms": self._options.get("retry_after_ms")}
        self._send(int(argument), said, {name: value for name, value in waits.items() if value})

    def _redirect(self, argument: str) -> None:
        self._send(302, b"", {"Location": self._options["to"]})

    def _loop(self, argument: str) -> None:
        self._send(302, b"", {"Location": "/loop"})

    def _deep(self, argument: str) -> None:
        self._send(200, b"[" * int(argument), {})

    def _cookie(self, argument: str) -> None:
        self._send(200, b"", {"Set-Cookie": "session=1", "ETag": '"x"', "X-Token": "t"})

    def _bytes(self, argument: str) -> None:
        self._send(200, bytes.fromhex(argument), {"Content-Type": self._options.get("type", "text/plain")})

    def _gzip(self, argument: str) -> None:
        self._send(200, gzip.compress(b"a" * int(argument)), {"Content-Encoding": "gzip"})

    def _reset(self, argument: str) -> None:
        # Lingering zero seconds makes close() send a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _half(self, argument: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")
        self.close_connection = True

    def _hang(self, argument: str) -> None:
        with self.owner.lock:
            self.owner.num_hanging += 1
        self.connection.recv(1)
        with self.owner.lock:
            self.owner.num_hanging -= 1
        self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
