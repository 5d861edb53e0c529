"""The doors of a server asked with anything: an answer, or an error that says what is wrong, and never a failure of
the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sundog.ir.logical import EngineBlock
from sundog.serve.serving import Serving
from sundog.serve.wire.batches.lines import LineRules, checked_line, read_line, unanswered_line
from sundog.serve.wire.errors import Refusal
from sundog.store.files import FileBook, KeptFile
from tests.fuzz.budget import bounded, fuzz
from tests.fuzz.doors import (
    BATCH_FILE,
    BODIES,
    CHAT,
    FLOW,
    MODEL,
    Asked,
    Told,
    answer_of,
    any_bytes,
    any_form,
    any_json,
    any_path,
    encoded,
    made_wrong,
)
from tests.fuzz.mutations import MUTATIONS, mutated_data
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
        asyncio.run_coroutine_threadsafe(keep_file(server.serving), server.loop).result(ANSWER_S)

        def ask(asked: Asked) -> Told:
            return asyncio.run_coroutine_threadsafe(answer_of(app, asked), server.loop).result(ANSWER_S)

        yield ask
        assert server.serving.host.models.num_in_flight == 0, "a call that has an answer is over"


async def keep_file(serving: Serving) -> None:
    """Keep a file of a batch, as if a client had sent it."""
    path = serving.config.state_dir / "files" / BATCH_FILE
    path.parent.mkdir()
    path.write_bytes(b'{"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": {}}')
    await FileBook(serving.host.store).put(KeptFile(BATCH_FILE, "", "batch", "one", 9, 0.0))


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
    if kind and not kind.startswith("application/json"):
        assert told.status == 200, "pages and figures are no JSON; errors are"
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
@example(Asked("/", b"{}", method="GET"))
@example(Asked("/metrics", b"{}", method="GET"))
def test_any_path(ask: Ask, asked: Asked) -> None:
    check(ask, asked)


@fuzz()
@given(any_form)
def test_any_form(ask: Ask, asked: Asked) -> None:
    check(ask, asked)


LINE = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": {**CHAT, "stream": False}}
RULES = LineRules("/v1/chat/completions", models=(MODEL,))


@fuzz()
@given(MUTATIONS.map(lambda mutations: encoded(mutated_data(LINE, mutations))) | st.binary(max_size=99))
@example(json.dumps(LINE).encode())
@example(b"[" * 100_000)
@example(json.dumps({**LINE, "custom_id": "\ud800"}).encode())
def test_any_line_of_a_batch(raw: bytes) -> None:
    with bounded():
        try:
            custom_id = checked_line(raw, RULES)
        except Refusal:
            return
        line = read_line(1, raw)
        told = unanswered_line("batch_x", line, "late", "it came late")
    assert told.count(b"\n") == 1, "one line tells of one line"
    assert json.loads(told)["custom_id"] == custom_id == line.custom_id
