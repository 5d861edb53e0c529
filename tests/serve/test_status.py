"""The status of a server: one document of what happens, and who sees what of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from sundog.ir.logical import EngineBlock
from tests.serve.asking import ask
from tests.serve.keyed import added
from tests.serve.running import Running, running
from tests.serve.test_flow_door import ROW, RUNS, TOPICS
from tests.serve.test_keys_at_doors import bearer

SLOW = EngineBlock("slow", "null", {"model": "slow", "latency_s": 60.0, "max_concurrency": 1})
FAILING = """
name: failing
engines:
  local: {kind: "null", model: m}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: "Facts on {{ row.topic }}"}
  wanted:
    require: {that: "{{ row.topic != 'ants' }}", else: "ants are refused: {{ row.topic }} {{ row.text }}"}
outputs: {facts: "{{ facts.text }}"}
"""


def status_of(server: Running, key: str | None = None) -> Any:
    heard = ask(server.address, "GET", "/v1/status", None, {} if key is None else bearer(key))
    assert heard.status == 200, heard.body
    assert heard.headers["cache-control"] == "no-store"
    return heard.body


def test_counts_of_flows_calls_and_engines(tmp_path: Path) -> None:
    flow = tmp_path / "topics.yaml"
    flow.write_text(TOPICS)
    with running(tmp_path / "state", [flow]) as server:
        before = status_of(server)
        for _ in range(2):
            assert ask(server.address, "POST", RUNS, {"rows": [ROW, {"topic": "wasps"}]}).status == 200
        chat = {"model": "m", "messages": [{"role": "user", "content": "a secret text"}]}
        for _ in range(3):
            assert ask(server.address, "POST", "/v1/chat/completions", {**chat, "temperature": 0}).status == 200
        status = status_of(server)
    (idle,), (shown,) = before["flows"], status["flows"]
    assert (before["state"], before["savings"]["num_asked_calls"], idle["requests"]) == ("serving", 0, None)
    assert [step["name"] for step in idle["steps"]] == ["facts"], "steps are there before their first call"
    assert (shown["name"], shown["num_requests"], shown["num_rows_in_flight"]) == ("topics", 2, 0)
    assert shown["rows_ended"] == {"done": 4}
    assert shown["requests"]["num"] == 2
    (step,) = shown["steps"]
    assert (step["num_asked"], step["num_executed"], step["num_reused"]) == (4, 2, 2)
    assert (step["num_running"], step["num_waiting"], step["num_failed"]) == (0, 0, 0)
    assert status["savings"]["num_asked_calls"] == 7
    assert status["savings"]["num_merged_calls"] == 4
    assert status["gateway"]["num_reused"] == 2
    assert status["batches"] == {"num_open": 0, "num_lines_in_flight": 0, "lines_ended": {}}
    (engine,) = (one for one in status["engines"] if one["kind"] == "engine")
    assert engine["attempts"] == {"succeeded": 3}
    assert engine["calls"]["num"] == 3
    assert 0 <= engine["calls"]["p50_s"] <= engine["calls"]["p95_s"]
    (replica,) = engine["replicas"]
    assert (replica["state"], replica["num_running"], replica["num_waiting"]) == ("serving", 0, 0)
    assert "secret" not in json.dumps(status)


@contextmanager
def two_calls(server: Running) -> Iterator[None]:
    """Two calls of the slow model, one of a program, while the context lasts."""
    body = {"model": "slow", "messages": [{"role": "user", "content": "a secret text"}], "temperature": 1}
    connections = [HTTPConnection(server.address.removeprefix("http://")) for _ in range(2)]
    with closing(connections[0]), closing(connections[1]):
        for connection, headers in zip(connections, ({}, {"x-session-id": "one"}), strict=True):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        while server.serving.host.models.num_in_flight < 2:
            time.sleep(0.005)
        yield


def test_what_runs_and_what_waits_is_told(tmp_path: Path) -> None:
    with running(tmp_path, engines=[SLOW]) as server:
        with two_calls(server):
            status = status_of(server)
        while server.serving.host.models.num_in_flight:
            time.sleep(0.005)
    (engine,) = (one for one in status["engines"] if one["name"] == "slow")
    (replica,) = engine["replicas"]
    assert (replica["num_running"], replica["max_running"]) == (1, 1)
    assert engine["num_waiting"] == 1
    assert (status["gateway"]["num_in_flight"], status["gateway"]["num_programs"]) == (2, 1)
    assert "secret" not in json.dumps(status)


def test_failures_are_counted_and_the_beginning_of_what_they_say_is_told(tmp_path: Path) -> None:
    flow = tmp_path / "failing.yaml"
    flow.write_text(FAILING)
    with running(tmp_path / "state", [flow]) as server:
        for number in range(60):
            row = {"topic": "ants", "text": f"{number} " + "x" * 500 + " the end"}
            assert ask(server.address, "POST", "/v1/flows/failing/runs", {"row": row}).status == 200
        status = status_of(server)
    assert status["flows"][0]["rows_ended"] == {"failed": 60}
    assert status["failures"] == [
        {"what": "row", "flow": "failing", "where": "wanted", "error": "OperatorError", "num": 60}
    ]
    assert len(status["last_failures"]) == 20
    newest = status["last_failures"][0]["message"]
    assert newest.startswith("ants are refused: ants 59 x")
    assert len(newest) == 160
    assert "the end" not in json.dumps(status)


def test_a_key_sees_its_flows_and_the_messages_of_its_tenant(tmp_path: Path) -> None:
    flow, other = tmp_path / "failing.yaml", tmp_path / "topics.yaml"
    flow.write_text(FAILING)
    other.write_text(TOPICS)
    state = tmp_path / "state"
    key = added(state, "one", tenant="acme")
    stranger = added(state, "two", tenant="others", max_usd=20.0)
    narrow = added(state, "three", tenant="acme", flows=("topics",))
    with running(state, [flow, other]) as server:
        run = {"row": {"topic": "ants", "text": "private"}}
        assert ask(server.address, "POST", "/v1/flows/failing/runs", run, bearer(key)).status == 200
        assert ask(server.address, "GET", "/v1/status").status == 401
        server.serving.reload_errors[str(flow)] = "the file is bad"
        own, others, less = (status_of(server, one) for one in (key, stranger, narrow))
        ready = [ask(server.address, "GET", "/ready", None, bearer(one)).body for one in (key, narrow)]
    assert [one["message"] for one in own["last_failures"]] == ["ants are refused: ants private"]
    assert others["last_failures"] == []
    assert others["failures"] == own["failures"], "counts are of all"
    assert [one["name"] for one in less["flows"]] == ["topics"]
    assert (less["failures"], less["last_failures"]) == ([], [])
    assert (own["reload_errors"], less["reload_errors"]) == ({str(flow): "the file is bad"}, {})
    assert [set(one["flows"]) for one in ready] == [{"failing", "topics"}, {"topics"}]
    assert [len(one["reload_errors"]) for one in ready] == [1, 0]
    assert [one["num_reload_errors"] for one in ready] == [1, 1]
    (account,) = others["accounts"]
    assert (account["kind"], account["max_usd"], account["spent_usd"]) == ("key", 20.0, 0.0)


def test_batches_are_told_on_the_page_too(tmp_path: Path) -> None:
    with running(tmp_path, engines=[SLOW]) as server:
        before = ask(server.address, "GET", "/live").body
        figures = server.serving.batch_figures
        figures.num_open, figures.num_lines_in_flight = 1, 7
        figures.num_ended_lines.update(completed=40, failed=2)
        status, page = status_of(server), ask(server.address, "GET", "/live").body
    assert status["batches"] == {
        "num_open": 1,
        "num_lines_in_flight": 7,
        "lines_ended": {"completed": 40, "failed": 2},
    }
    assert "batches open" not in before
    assert "7 lines in flight" in page
    assert "<b>42</b>" in page
