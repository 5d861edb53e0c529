"""Keys at the doors: who comes in, what each key may use and see, and where no key is told."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from sundog.errors import ConfigError
from sundog.ir.logical import EngineBlock
from sundog.sched.events import RequestArrived
from sundog.serve.server import check_listen_address
from tests.serve.asking import ask
from tests.serve.keyed import Clock, added, kept_keys
from tests.serve.running import Running, running

MODELS = [EngineBlock("one", "null", {"model": "model-one"}), EngineBlock("two", "null", {"model": "model-two"})]
HELLO: Any = [{"role": "user", "content": "hello"}]
CHAT = {"model": "model-one", "messages": HELLO}
FLOW = """
name: {name}
engines:
  one: {{kind: "null", model: model-one}}
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  facts:
    llm: {{engine: one, prompt: "Facts on {{{{ row.topic }}}}"}}
outputs: {{facts: "{{{{ facts.text }}}}"}}
"""
ROW = {"row": {"topic": "bees"}}
WRONG = "sk-sundog-" + "w" * 43
SLOW = EngineBlock("slow", "null", {"model": "slow", "latency_s": 60.0})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("keyed")
    return {
        "folder": str(folder),
        "all": added(folder, "all", "acme"),
        "heavy": added(folder, "heavy", "firm", weight=3.0),
        "some": added(folder, "some", "acme", models=("model-o*",), flows=("a*",)),
    }


@pytest.fixture(scope="module")
def server(keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    flows = []
    for name in ("animals", "bees"):
        flows.append(tmp_path_factory.mktemp("flows") / f"{name}.yaml")
        flows[-1].write_text(FLOW.format(name=name))
    with running(Path(keys["folder"]), flows, MODELS[1:]) as one:
        yield one


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def client(server: Running, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize(
    "headers", [{}, bearer(WRONG), {"x-api-key": WRONG}, {"Authorization": "Basic eA=="}, bearer("")]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/s/x/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/flows"),
        ("POST", "/v1/flows/animals/runs"),
        ("POST", "/programs/release"),
        ("GET", "/nothing"),
        ("GET", "/health/../v1/models"),
    ],
)
def test_nobody_comes_in_without_a_valid_key(server: Running, method: str, path: str, headers: dict[str, str]) -> None:
    heard = ask(server.address, method, path, CHAT if method == "POST" else None, headers)
    assert heard.status == 401
    assert heard.body["error"]["type"] == "authentication_error"
    assert heard.body["error"]["code"] == "invalid_api_key"
    assert heard.headers["www-authenticate"] == "Bearer"
    assert WRONG not in json.dumps(heard.body)


@pytest.mark.parametrize("path", ["/v1/messages", "/s/x/v1/messages", "/v1/messages/count_tokens"])
def test_the_doors_of_anthropic_say_it_in_its_form(server: Running, keys: dict[str, str], path: str) -> None:
    body = {**CHAT, "max_tokens": 9}
    heard = ask(server.address, "POST", path, body)
    assert (heard.status, heard.body["type"]) == (401, "error")
    assert heard.body["error"]["type"] == "authentication_error"
    assert ask(server.address, "POST", path, body, {"x-api-key": keys["all"]}).status == 200


def test_who_watches_needs_no_key(server: Running, keys: dict[str, str]) -> None:
    assert [ask(server.address, "GET", path).status for path in ("/health", "/ready")] == [200, 200]
    seen = {"status": "ready", "num_reload_errors": 0}
    for headers in ({}, bearer(WRONG)):
        assert ask(server.address, "GET", "/ready", None, headers).body == seen, "names are for those who have a key"
    for key, flows in (("all", {"animals", "bees"}), ("some", {"animals"})):
        told = ask(server.address, "GET", "/ready", None, bearer(keys[key])).body
        assert (set(told["flows"]), told["reload_errors"]) == (flows, {}), "a key sees the flows that it may use"


def test_a_key_in_either_header_opens(server: Running, keys: dict[str, str]) -> None:
    assert client(server, keys["all"]).chat.completions.create(**CHAT).choices
    headers = {"x-api-key": keys["all"], "Authorization": "Bearer none"}
    assert ask(server.address, "POST", "/v1/chat/completions", CHAT, headers).status == 200


def test_the_weight_of_a_key_goes_with_its_calls(
    server: Running, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, heard = server.serving.host.driver, []
    run = driver.run

    def heard_run(arrived: RequestArrived, attempt: Any) -> Any:
        heard.append((arrived.facts.tenant, arrived.facts.weight))
        return run(arrived, attempt)

    monkeypatch.setattr(driver, "run", heard_run)
    chat = {**CHAT, "messages": [{"role": "user", "content": "how heavy?"}]}
    for path, body in (("/v1/chat/completions", chat), ("/v1/flows/bees/runs", {"row": {"topic": "weights"}})):
        assert ask(server.address, "POST", path, body, bearer(keys["heavy"])).status == 200
    assert heard == [("firm", 3.0)] * 2


def test_a_key_uses_and_sees_what_it_may(server: Running, keys: dict[str, str]) -> None:
    with client(server, keys["some"]) as one:
        assert [model.id for model in one.models.list()] == ["model-one"]
        assert one.chat.completions.create(**CHAT).choices
        with pytest.raises(openai.PermissionDeniedError) as refused:
            one.chat.completions.create(model="model-two", messages=HELLO)
        assert (refused.value.code, refused.value.param) == ("model_not_allowed", "model")
        for ask_for in (
            lambda: one.responses.create(model="two", input="x"),
            lambda: one.embeddings.create(model="two", input="x"),
            lambda: one.models.retrieve("two"),
        ):
            with pytest.raises(openai.PermissionDeniedError):
                ask_for()
    some, found = bearer(keys["some"]), ask(server.address, "GET", "/v1/flows", None, bearer(keys["some"]))
    assert [flow["id"] for flow in found.body["data"]] == ["animals"]
    document = ask(server.address, "GET", "/openapi.json", None, some).body
    (scheme,) = document["components"]["securitySchemes"].items()
    assert (scheme[1], document["security"]) == ({"type": "http", "scheme": "bearer"}, [{scheme[0]: []}])
    told = json.dumps(document)
    assert ("/animals/" in told, "/bees/" in told) == (True, False)
    assert ask(server.address, "POST", "/v1/flows/animals/runs", ROW, some).status == 200
    for method, path in (("POST", "/v1/flows/bees/runs"), ("GET", "/v1/flows/bees"), ("GET", "/v1/flows/bees/runs/x")):
        heard = ask(server.address, method, path, ROW if method == "POST" else None, some)
        assert (heard.status, heard.body["error"]["code"]) == (403, "flow_not_allowed")


def test_runs_and_responses_belong_to_their_sender(server: Running, keys: dict[str, str]) -> None:
    own, other = bearer(keys["all"]), bearer(keys["some"])
    again = {"Idempotency-Key": "one"}
    first = ask(server.address, "POST", "/v1/flows/animals/runs", ROW, own | again).body["id"]
    assert ask(server.address, "POST", "/v1/flows/animals/runs", ROW, own | again).body["id"] == first
    assert ask(server.address, "POST", "/v1/flows/animals/runs", ROW, other | again).body["id"] != first
    path = f"/v1/flows/animals/runs/{first}"
    assert ask(server.address, "GET", path, None, own).status == 200
    assert [ask(server.address, method, path, None, other).status for method in ("GET", "DELETE")] == [404, 404]
    with client(server, keys["all"]) as one, client(server, keys["some"]) as two:
        answer = one.responses.create(model="model-one", input="hello")
        assert one.responses.retrieve(answer.id).id == answer.id
        with pytest.raises(openai.NotFoundError):
            two.responses.retrieve(answer.id)
        with pytest.raises(openai.NotFoundError):
            two.responses.create(model="model-one", input="on", previous_response_id=answer.id)


def test_the_core_hears_the_tenant_of_the_key(server: Running, keys: dict[str, str]) -> None:
    seen: list[Any] = []
    driver = server.serving.host.driver
    whole, driver._handle = driver._handle, lambda event: (seen.append(event), whole(event))[1]  # type: ignore[method-assign,func-returns-value]  # a spy
    row = {"row": {"topic": "the tenant"}}
    headers = {"x-tenant-id": "another", "x-session-id": "s"}
    try:
        for key in ("all", "some"):
            client(server, keys[key]).chat.completions.create(**CHAT, extra_headers=headers)
        ask(server.address, "POST", "/v1/flows/animals/runs", row, bearer(keys["all"]))
    finally:
        driver._handle = whole  # type: ignore[method-assign]  # as above
    arrived = [event for event in seen if type(event).__name__ == "RequestArrived"]
    assert [event.facts.tenant for event in arrived] == ["acme"] * 3
    first, second = (event.workflow_id for event in arrived[:2])
    assert first != second, "each key has programs of its own"
    assert first.endswith("/s")
    assert second.endswith("/s")


def test_new_and_revoked_keys_count_within_a_second(tmp_path: Path, clock: Clock) -> None:
    with running(tmp_path, engines=MODELS) as server:
        assert ask(server.address, "GET", "/v1/models").status == 200
        first = added(tmp_path, "first")
        clock.ahead_s += 1.0
        assert ask(server.address, "GET", "/v1/models").status == 401
        second = added(tmp_path, "second")
        assert [ask(server.address, "GET", "/v1/models", None, bearer(key)).status for key in (first, second)] == [
            200,
            200,
        ]
        with kept_keys(tmp_path) as keys:
            keys.revoke("first")
            keys.revoke("second")
        clock.ahead_s += 1.0
        for headers in (bearer(first), bearer(second), {}):
            assert ask(server.address, "GET", "/v1/models", None, headers).status == 401


def test_requests_a_minute_are_limited(tmp_path: Path, clock: Clock) -> None:
    key, other = added(tmp_path, "few", max_per_minute=2), added(tmp_path, "other")
    with running(tmp_path, engines=MODELS) as server:
        with client(server, key) as one:
            for _ in range(2):
                one.chat.completions.create(**CHAT)
            with pytest.raises(openai.RateLimitError) as refused:
                one.chat.completions.create(**CHAT)
            assert refused.value.code == "rate_limit_exceeded"
            assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
            assert one.models.list().data, "what begins nothing is not counted"
            clock.ahead_s += 60.0
            one.chat.completions.create(**CHAT)
        client(server, other).chat.completions.create(**CHAT)


def test_requests_at_once_are_limited_until_one_ends(tmp_path: Path) -> None:
    key = added(tmp_path, "few", max_at_once=1)
    path, slow = "/v1/chat/completions", json.dumps({"model": "slow", "messages": HELLO})
    with running(tmp_path, engines=[*MODELS, SLOW]) as server, client(server, key) as one:
        with closing(HTTPConnection(server.address.removeprefix("http://"))) as waiting:
            waiting.request("POST", path, slow, bearer(key))
            while not server.serving.host.models.num_in_flight:
                time.sleep(0.005)
            with pytest.raises(openai.RateLimitError) as refused:
                one.chat.completions.create(**CHAT)
            assert refused.value.response.headers["retry-after"] == "1"
        while server.serving.host.models.num_in_flight:
            time.sleep(0.005)
        statuses = (ask(server.address, "POST", path, CHAT, bearer(key)).status for _ in range(100))
        assert 200 in statuses


class _Behind(BaseHTTPRequestHandler):
    """A server behind the gateway, which keeps what it was sent."""

    seen: list[str]

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.seen.append(f"{self.path}\n{self.headers}\n{body}")
        message = {"role": "assistant", "content": "hi"}
        self._answer({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def log_message(self, format: str, *values: Any) -> None:
        """Keep the output of tests clean."""

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def server_behind() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    with HTTPServer(("127.0.0.1", 0), type("Behind", (_Behind,), {"seen": seen})) as behind:
        thread = threading.Thread(target=behind.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{behind.server_address[1]}/v1", seen
        finally:
            behind.shutdown()
            thread.join()


@pytest.mark.parametrize("header", ["Authorization", "x-api-key"])
def test_a_key_goes_to_no_server_and_into_no_log(tmp_path: Path, header: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = added(tmp_path, "one")
    headers = {header: f"Bearer {key}" if header == "Authorization" else key, "x-session-id": "told"}
    with server_behind() as (address, seen):
        block = EngineBlock("front", "openai", {"model": "m", "base_url": address})
        with running(tmp_path, engines=[block]) as server:
            for path in ("/v1/chat/completions", "/v1/messages"):
                body = {"model": "m", "messages": HELLO, "max_tokens": 9}
                assert ask(server.address, "POST", path, body, headers).status == 200
            refused = ask(server.address, "POST", "/v1/chat/completions", {"model": "x", "messages": HELLO}, headers)
    assert (len(seen), refused.status) == (2, 404)
    assert all("told" in one for one in seen), "the headers of who asks do go on"
    for text in (*seen, caplog.text, json.dumps(refused.body)):
        assert key not in text
        assert "sk-sundog" not in text


def test_others_reach_only_a_server_with_keys() -> None:
    with pytest.raises(ConfigError, match="without keys"):
        check_listen_address("0.0.0.0", has_keys=False)
    check_listen_address("127.0.0.1", has_keys=False)
    check_listen_address("0.0.0.0", has_keys=True)
