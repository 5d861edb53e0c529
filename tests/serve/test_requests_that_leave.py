"""Requests at the door of models that leave without an answer. Whichever way they go, the next request stands where
they stood, and nothing is held for them."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pytest

from sundog.errors import StoreError
from sundog.ir.logical import EngineBlock
from sundog.ledger.ledger import SpendingScope
from tests.loopback_server import LoopbackServer, QuietHandler
from tests.serve.asking import ask
from tests.serve.running import Running, running

PATH = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
FIRST = [{"role": "user", "content": "begin"}]
SECOND = [*FIRST, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "go on"}]
BUDGET = {"x-sundog-budget": "5", "x-parent-session-id": "root"}


class WrongServer(LoopbackServer):
    """A server that says of every request that it is wrong."""

    def handler(self) -> type[Any]:
        return _Wrong


class _Wrong(QuietHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(400)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with WrongServer() as wrong:
        blocks = [
            EngineBlock("fast", "null", {"model": "fast"}),
            EngineBlock("slow", "null", {"model": "slow", "latency_s": 60.0}),
            EngineBlock("wrong", "openai", {"model": "wrong", "base_url": f"{wrong.origin}/v1"}),
        ]
        with running(tmp_path_factory.mktemp("leaving"), engines=blocks) as one:
            yield one


@contextmanager
def arrivals(server: Running) -> Iterator[list[Any]]:
    """Yield the requests of the core, as they come while the context lasts."""
    seen: list[Any] = []
    driver = server.serving.host.driver
    whole = driver._handle

    def spy(event: Any) -> None:
        if type(event).__name__ == "RequestArrived":
            seen.append(event)
        whole(event)

    driver._handle = spy  # type: ignore[method-assign]  # a spy
    try:
        yield seen
    finally:
        driver._handle = whole  # type: ignore[method-assign]  # as above


def leave(server: Running, body: Mapping[str, Any], headers: Mapping[str, str]) -> int:
    """Send a request whose client goes before it is answered, and return when the server has seen that."""
    models = server.serving.host.models
    port = int(server.address.rpartition(":")[2])
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("POST", PATH, json.dumps(body).encode(), dict(headers))
        wait_until(lambda: models.num_in_flight == 1)
    wait_until(lambda: models.num_in_flight == 0 and not server.serving.host.budgets._num_running)
    time.sleep(0.02)
    return 499


def wait_until(is_so: Any) -> None:
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.005)
    raise AssertionError("it never came")


@pytest.mark.parametrize("session", ["", "told"])
@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        pytest.param({"model": "slow"}, {"x-litellm-timeout": "0.05"}, 504, id="time"),
        pytest.param({"model": "wrong"}, {}, 400, id="wrong"),
        pytest.param({"model": "fast", "max_tokens": 9}, {"x-sundog-max-tokens": "1"}, 429, id="limit"),
        pytest.param({"model": "fast"}, {"x-sundog-max-tokens": "1"}, 400, id="unknown-length"),
        pytest.param({"model": "slow"}, {}, 499, id="client"),
    ],
)
def test_the_next_request_stands_where_it_stood(
    server: Running, fields: dict[str, Any], headers: dict[str, str], status: int, session: str, is_streamed: bool
) -> None:
    name = f"{session}-{fields['model']}-{status}-{is_streamed}" if session else ""
    told = {"x-session-id": name} | BUDGET if session else {}
    first = [{"role": "user", "content": f"begin {status} {fields} {is_streamed}"}]
    messages = [*first, *SECOND[1:]]
    good = {"model": "fast", "tools": TOOLS}
    with arrivals(server) as seen:
        assert ask(server.address, "POST", PATH, good | {"messages": first}, told).status == 200
        failing = {"messages": messages, "tools": TOOLS, "stream": is_streamed} | fields
        send = leave if status == 499 else lambda *args: ask(server.address, "POST", PATH, *args[1:]).status
        assert send(server, failing, told | headers) == status
        assert ask(server.address, "POST", PATH, good | {"messages": messages}, told).status == 200
    ended = [(event.workflow_id, event.depth) for event in seen if event.pool == "engine:fast"]
    program = ended[0][0]
    assert program
    assert ended == [(program, 0), (program, 1)]
    budgets = server.serving.host.budgets
    wait_until(lambda: not budgets._num_running)
    assert not [scope for scope in server.serving.host.accounts._paying if scope.kind == "request"]


def test_a_request_whose_second_payer_cannot_be_found_leaves_the_first(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = server.serving.host.budgets
    enter = budgets.enter

    async def failing(name: str, told_usd: float | None) -> tuple[SpendingScope, ...]:
        if name == "/root":
            raise StoreError("the disk is gone")
        return await enter(name, told_usd)

    monkeypatch.setattr(budgets, "enter", failing)
    body = {"model": "fast", "messages": FIRST}
    heard = ask(server.address, "POST", PATH, body, {"x-session-id": "half"} | BUDGET)
    assert heard.status == 500
    assert not budgets._num_running
