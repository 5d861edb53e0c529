"""An S3 server of this machine whose answers a benchmark decides: it refuses what is written, or takes its time."""

from __future__ import annotations

import http.client
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

BUCKET = "faults"
FULL = b"<Error><Code>InsufficientStorage</Code><Message>The storage of the benchmark is full.</Message></Error>"
_OF_A_CONNECTION = ("connection", "transfer-encoding", "keep-alive", "content-length", "date", "server")


class StorageProxy:
    """Stands before a server. `mode`: how it treats what is written; reads pass."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.mode: Literal["open", "full", "slow"] = "open"
        #: The seconds that a write takes longer while it is slow.
        self.delay_s = 1.0
        #: The writes that were refused or delayed.
        self.num_struck = 0
        self._server = server
        proxy = self

        class Handler(_Handler):
            def pass_on(self) -> None:
                proxy.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True

    def answer(self, request: _Handler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if request.command == "PUT" and self.mode != "open":
            self.num_struck += 1
            if self.mode == "full":
                request.reply(507, {"Content-Type": "application/xml"}, FULL)
                return
            time.sleep(self.delay_s)
        connection = http.client.HTTPConnection(*self._server)
        try:
            connection.request(request.command, request.path, body, dict(request.headers.items()))
            found = connection.getresponse()
            request.reply(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is written in two parts, of which the second would wait for the first to be heard of.
    disable_nagle_algorithm = True

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _OF_A_CONNECTION:
                self.send_header(name, value)
        size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def struck_storage() -> Iterator[StorageProxy]:
    """An S3 server with BUCKET behind a proxy. The environment of this process, and of those that it starts from then
    on, leads there."""
    import boto3  # type: ignore[import-untyped]  # it has no types
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    proxy = StorageProxy(server.get_host_and_port())
    threading.Thread(target=proxy.http.serve_forever, daemon=True).start()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.http.server_port}",
    }
    try:
        boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1").create_bucket(
            Bucket=BUCKET
        )
        yield proxy
    finally:
        proxy.http.shutdown()
        server.stop()
