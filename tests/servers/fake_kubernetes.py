"""A cluster's API as far as EndpointSlices go: lists, watches that go on from a version, and all that befalls them."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sundog.servers.kubernetes import ClusterAPI
from tests.loopback_server import LoopbackServer, QuietHandler

TOKEN = "token-of-the-pod"


class FakeKubernetes(LoopbackServer):
    """It keeps the slices of one service, `llms/llama`."""

    def __init__(self, folder: Path) -> None:
        self.token_file = folder / "token"
        self.token_file.write_text(f"{TOKEN}\n", encoding="utf-8")
        self.slices: dict[str, dict[str, Any]] = {}
        self.version = 100
        self.oldest = 100
        #: Each (version, event).
        self.events: list[tuple[int, dict[str, Any]]] = []
        #: Watches that began before this number end at once.
        self.num_dropped = 0
        #: The status of all answers, 0 for what is asked for.
        self.refuses = 0
        self.num_lists = self.num_watches = 0
        self.lock = Lock()

    @property
    def api(self) -> ClusterAPI:
        return ClusterAPI(self.origin, self.token_file, None)

    def put(self, name: str, *endpoints: tuple[str, str], ports: Any = ({"name": "http", "port": 8000},)) -> None:
        """Give a slice endpoints: each an address, and `ready`, `unready`, `ends` or "" for what says nothing."""
        found = [{"addresses": [address], "conditions": CONDITIONS[state]} for address, state in endpoints]
        kind = "MODIFIED" if name in self.slices else "ADDED"
        self._happen(kind, name, {"endpoints": found, "ports": list(ports)})

    def delete(self, name: str) -> None:
        self._happen("DELETED", name, self.slices[name])

    def drop_watches(self) -> None:
        self.num_dropped = self.num_watches + 1

    def forget_history(self) -> None:
        """Drop the history: only a list tells how things stand."""
        with self.lock:
            self.version += 10
            self.oldest = self.version

    def error(self, code: int) -> None:
        """Say an error in the open watches."""
        with self.lock:
            self.version += 1
            self.events.append((self.version, {"type": "ERROR", "object": {"kind": "Status", "code": code}}))

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Handler

    def _happen(self, kind: str, name: str, one: dict[str, Any]) -> None:
        with self.lock:
            self.version += 1
            told = {**one, "metadata": {"name": name, "resourceVersion": str(self.version)}}
            if kind == "DELETED":
                del self.slices[name]
            else:
                self.slices[name] = told
            self.events.append((self.version, {"type": kind, "object": told}))


CONDITIONS: dict[str, dict[str, Any]] = {
    "ready": {"ready": True, "serving": True, "terminating": False},
    "unready": {"ready": False, "serving": False, "terminating": False},
    "ends": {"ready": False, "serving": True, "terminating": True},
    "": {},
}


class _Handler(QuietHandler):
    owner: FakeKubernetes

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        with suppress(OSError):  # whoever asked has gone
            self._take()

    def _take(self) -> None:
        owner, parts = self.owner, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert parts.path == "/apis/discovery.k8s.io/v1/namespaces/llms/endpointslices", parts.path
        assert query["labelSelector"] == "kubernetes.io/service-name=llama"
        if self.headers["Authorization"] != f"Bearer {owner.token_file.read_text(encoding='utf-8').strip()}":
            self._answer(401, {})
        elif owner.refuses:
            self._answer(owner.refuses, {"kind": "Status"})
        elif "watch" not in query:
            owner.num_lists += 1
            with owner.lock:
                self._answer(
                    200,
                    {"metadata": {"resourceVersion": str(owner.version)}, "items": list(owner.slices.values())},
                )
        elif int(query["resourceVersion"]) < owner.oldest:
            self._answer(410, {"kind": "Status", "code": 410})
        else:
            owner.num_watches += 1
            self._watch(owner.num_watches, int(query["resourceVersion"]))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, number: int, version: int) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while number >= self.owner.num_dropped:
            with self.owner.lock:
                news = [event for at, event in self.owner.events if at > version]
                version = self.owner.version
            for event in news:
                self.wfile.write(json.dumps(event).encode() + b"\n")
            self.wfile.flush()
            time.sleep(0.01)
