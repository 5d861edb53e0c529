"""An HTTP server on a free port of this machine, in a thread of the test's own process."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self


class LoopbackServer:
    """It answers while its block is open."""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return the class of what answers a request, which finds the server as `owner`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (self.handler(),), {"owner": self}))
        self._http.daemon_threads = True
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._http.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class QuietHandler(BaseHTTPRequestHandler):
    """It keeps connections open and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
