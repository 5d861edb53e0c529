"""The doors of a server asked with anything: an answer, or an error that says what is wrong, and never a failure of
the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given

from sundog.ir.logical import EngineBlock
from tests.fuzz.budget import bounded, fuzz
from tests.fuzz.doors import BODIES, FLOW, MODEL, Asked, Told, answer_of, any_bytes, any_json, any_path, made_wrong
from tests.serve.running import running

ANSWER_S = 60.0
TOPICS = f"""
name: {FLOW}
engines:
  local: {{kind: "null", model: m}}
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  facts:
    llm: {{engine: local, prompt: "Facts on {{{{ row.topic }}}}"}}
outputs: {{topic: "{{{{ row.topic }}}}", facts: "{{{{ facts.text }}}}"}}
"""
Ask = Callable[[Asked], Told]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    folder = tmp_path_factory.mktemp("doors")
    flow = folder / "topics.yaml"
    flow.write_text(TOPICS)
    with running(folder / "state", [flow], [EngineBlock("one", "null", {"model": MODEL})]) as server:
        app = server.app

        def ask(asked: Asked) -> Told:
            return asyncio.run_coroutine_threadsafe(answer_of(app, asked), server.loop).result(ANSWER_S)

        yield ask
        assert server.serving.host.models.num_in_flight == 0, "a call that has an answer is over"


def check(ask: Ask, asked: Asked) -> None:
    with bounded():
        told = ask(asked)
    assert told.status < 500, told
    kind = told.headers.get("content-type", "")
    if asked.method == "HEAD":
        return
    if told.status == 307:
        assert told.headers["location"], "a path with a slash too many is led to the right one"
        return
    if kind.startswith("text/event-stream"):
        assert told.status == 200
        assert b'"server_error"' not in told.body, told
        assert b'"api_error"' not in told.body, told
        assert told.body.endswith(b"\n\n"), "a stream consists of whole events"
        return
    document = json.loads(told.body)
    if told.status >= 400:
        error = document["error"]
        assert error["message"], "an error says what is wrong"
        assert error["type"] not in ("server_error", "api_error")
        is_anthropic = document.get("type") == "error"
        assert set(error) == ({"type", "message"} if is_anthropic else {"message", "type", "param", "code"})
        assert "Error(" not in error["message"], "no exception's name reaches a client"


@pytest.mark.parametrize("path", sorted(BODIES))
def test_requests_that_are_right_are_answered(ask: Ask, path: str) -> None:
    for body in BODIES[path]:
        told = ask(Asked(path, json.dumps(body).encode()))
        assert told.status == 200, told


STOPS_IN_JSON = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hello"}],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "stop": ["tool"],
    "stream": True,
}


@fuzz(2.0)
@given(made_wrong())
@example(Asked("/v1/chat/completions", json.dumps(STOPS_IN_JSON).encode()))
def test_requests_made_wrong(ask: Ask, asked: Asked) -> None:
    check(ask, asked)


@fuzz()
@given(any_json)
def test_any_json(ask: Ask, asked: Asked) -> None:
    check(ask, asked)


@fuzz()
@given(any_bytes)
@example(Asked("/v1/chat/completions", b"[" * 100_000))
@example(Asked("/v1/chat/completions", b'{"model": "\\ud800", "messages": []}'))
@example(Asked("/v1/messages", b'{"model": "model-one", "max_tokens": 1' + b"0" * 5000 + b"}"))
def test_any_bytes(ask: Ask, asked: Asked) -> None:
    check(ask, asked)


@fuzz()
@given(any_path)
def test_any_path(ask: Ask, asked: Asked) -> None:
    check(ask, asked)
