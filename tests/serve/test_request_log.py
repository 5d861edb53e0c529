"""The log of requests: what a line tells, and what none ever has."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from sundog.ir.logical import EngineBlock
from sundog.secrets import Secrets
from sundog.serve.seeing.line_writer import LineWriter
from sundog.serve.seeing.log_lines import JSONLines, LogFormat, LogLevel, TextLines, set_up_logs
from sundog.serve.seeing.request_log import RequestLog
from tests.serve.asking import ask
from tests.serve.keyed import added
from tests.serve.running import running
from tests.serve.test_flow_door import ROW, RUNS, TOPICS
from tests.serve.test_keys_at_doors import bearer

PROMPT = "a private text of a client"
UUID = "8c3b0e3a-7b1f-4c39-9d4e-0f5a3f0f6c55"
MODEL = EngineBlock("one", "null", {"model": "model-one"})


@pytest.fixture(params=[TextLines, JSONLines])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """The log at its finest, in both forms."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param(str))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def requests_of(lines: io.StringIO) -> list[dict[str, Any]]:
    """Return the fields of the lines on requests."""
    told = [json.loads(line) for line in lines.getvalue().splitlines() if line.startswith("{")]
    return [one for one in told if one["logger"] == "sundog.requests"]


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "model-one", "messages": [{"role": "user", "content": PROMPT}], **more}


def test_no_line_has_a_key_a_header_or_a_prompt(tmp_path: Path, lines: io.StringIO) -> None:
    flow = tmp_path / "topics.yaml"
    flow.write_text(TOPICS)
    state = tmp_path / "state"
    key = added(state, "one", tenant="acme")
    headers = {**bearer(key), "x-session-id": "their-session", "x-request-id": f"theirs-{key}", "user-agent": "them/1"}
    with running(state, [flow], [MODEL]) as server:
        address = server.address
        for path in ("/v1/chat/completions", "/s/their-session/v1/chat/completions", "/v1/responses", "/v1/messages"):
            body = chat(max_tokens=5, input=PROMPT)
            assert ask(address, "POST", path, body, headers).status in (200, 400)
        told = ask(address, "POST", "/v1/chat/completions", chat(stream=True), headers, as_text=True)
        assert "[DONE]" in told.body
        assert ask(address, "POST", "/v1/chat/completions", chat(model=f"no {PROMPT}"), headers).status == 404
        assert ask(address, "POST", RUNS, {"row": {"topic": PROMPT}}, headers).status == 200
        assert ask(address, "POST", RUNS, {"row": {"wrong": PROMPT}}, headers).status == 422
        assert ask(address, "GET", f"/v1/keys/{key}", None, headers).status == 404
        assert ask(address, "GET", "/v1/models", None, bearer(f"{key}x")).status == 401
    text = lines.getvalue()
    assert text.count("POST /v1/chat/completions 200") == 2
    assert "unmatched 404" in text
    for private in (key, "sk-sundog", PROMPT, "private", "their-session", "them/1", "theirs-"):
        assert private not in text, private


@pytest.mark.parametrize("lines", [JSONLines], indirect=True)
def test_a_line_tells_who_asked_for_what_and_what_it_took(tmp_path: Path, lines: io.StringIO) -> None:
    flow = tmp_path / "topics.yaml"
    flow.write_text(TOPICS)
    state = tmp_path / "state"
    key = added(state, "one", tenant="acme")
    with running(state, [flow], [MODEL]) as server:
        for _ in range(2):
            greedy = chat(temperature=0)
            assert ask(server.address, "POST", "/v1/chat/completions", greedy, bearer(key)).status == 200
        headers = {**bearer(key), "x-request-id": UUID}
        assert ask(server.address, "POST", RUNS, {"rows": [ROW, ROW]}, headers).status == 200
        assert ask(server.address, "GET", "/v1/flows/nobody", None, headers).status == 404
    first, second, run, missing = requests_of(lines)
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (first["tenant"], first["model"], first["is_reused"]) == ("acme", "model-one", False)
    assert first["num_prompt_tokens"] > 0
    assert first["num_output_tokens"] > 0
    assert first["duration_ms"] >= 0
    assert len(first["request_id"]) == 32
    assert second["is_reused"] is True
    assert "num_prompt_tokens" not in second
    assert (run["path"], run["flow"], run["request_id"]) == ("/v1/flows/{name}/runs", "topics", UUID)
    assert run["run"].startswith("run-")
    assert run["num_output_tokens"] > 0
    assert (missing["path"], missing["status"]) == ("/v1/flows/{name}", 404)
    assert "flow" not in missing


@pytest.mark.parametrize("lines", [JSONLines], indirect=True)
def test_lines_of_streams_tell_which_was_made(tmp_path: Path, lines: io.StringIO) -> None:
    with running(tmp_path, engines=[MODEL]) as server:
        for _ in range(2):
            greedy = chat(temperature=0, stream=True)
            assert ask(server.address, "POST", "/v1/chat/completions", greedy).status == 200
    first, second = requests_of(lines)
    assert (first["is_reused"], second["is_reused"]) == (False, True)
    assert first["num_output_tokens"] > 0
    assert "num_output_tokens" not in second


def test_at_the_level_of_warnings_no_request_is_logged(tmp_path: Path, lines: io.StringIO) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    with running(tmp_path, engines=[MODEL]) as server:
        assert ask(server.address, "POST", "/v1/chat/completions", chat()).status == 200
    assert lines.getvalue() == ""


@pytest.mark.parametrize("form", LogFormat)
def test_lines_have_no_secret_and_not_what_an_exception_says(
    form: LogFormat, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    secrets = Secrets({"TOKEN": "a-secret-value"})
    secrets.reveal("${env:TOKEN}")
    set_up_logs(form, LogLevel.INFO, secrets.redact)
    try:
        raise KeyError(PROMPT)
    except KeyError as error:
        logging.getLogger("sundog.serve").error("it failed with %s", "a-secret-value", exc_info=error)
    root.handlers[0].flush()
    text = capfd.readouterr().err
    assert "it failed with ${env:TOKEN}" in text
    assert "KeyError" in text
    assert "test_request_log" in text
    assert PROMPT not in text


@pytest.mark.parametrize("lines", [JSONLines], indirect=True)
@pytest.mark.parametrize("name", ["v", "f", "v1", "flows", "runs", "v1/flows"])
def test_a_path_is_told_as_its_route_is_written_whatever_a_client_names(
    tmp_path: Path, lines: io.StringIO, name: str
) -> None:
    with running(tmp_path, engines=[MODEL]) as server:
        assert ask(server.address, "POST", f"/v1/flows/{name}/runs", {"row": {}}).status == 404
        assert ask(server.address, "GET", f"/v1/models/{name}").status == 404
        assert ask(server.address, "POST", f"/s/{name}/v1/chat/completions", chat()).status in (200, 404)
    flow, model, program = [one["path"] for one in requests_of(lines)]
    assert flow == ("unmatched" if "/" in name else "/v1/flows/{name}/runs")
    assert model == "/v1/models/{model}"
    assert program == ("unmatched" if "/" in name else "/s/{session}/v1/chat/completions")


@pytest.mark.parametrize("lines", [JSONLines], indirect=True)
@pytest.mark.parametrize(("error", "status"), [(KeyError("a fault"), 500), (ClientDisconnect(), 499)])
def test_a_request_that_fails_is_told_from_one_whose_client_has_left(
    lines: io.StringIO, error: Exception, status: int
) -> None:
    async def failing(request: Request) -> Response:
        raise error

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        """Send nothing."""

    app = Starlette(routes=[Route("/", failing)], middleware=[Middleware(RequestLog)])
    scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": [], "query_string": b""}
    with pytest.raises(type(error)):
        asyncio.run(app(scope, receive, send))
    assert [one["status"] for one in requests_of(lines)] == [status]


def test_a_log_that_nobody_reads_keeps_nobody_waiting_and_says_how_many_lines_it_has_lost() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, max_lines=20)
    for number in range(200):
        # More than the pipe takes.
        writer.handle(logging.makeLogRecord({"msg": f"{number} {'x' * 4096}"}))
    text: list[str] = []
    with os.fdopen(reading) as pipe:
        reader = Thread(target=lambda: text.extend(pipe))
        reader.start()
        writer.flush()
        writer.handle(logging.makeLogRecord({"msg": "the last one"}))
        writer.flush()
        os.close(writing)
        reader.join(10)
    *lines, lost, last = text
    assert last == "the last one\n"
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == [*range(len(numbers))]
    assert lost == f"{200 - len(numbers)} lines of this log are lost: nobody has read them in time\n"
    assert 20 <= len(numbers) < 200


def test_a_log_whose_reader_is_gone_is_written_no_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(writing)
    for _ in range(2):
        writer.handle(logging.makeLogRecord({"msg": "a line"}))
        writer.flush()
    os.close(writing)
