"""The door of flows, asked over HTTP: each kind of answer, and each wrong request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.serve.bodies import MAX_BODY_BYTES
from tests.serve.asking import Event, Heard, ask, listening_to
from tests.serve.running import Running, running

TOPICS = """
name: topics
engines:
  local: {kind: "null", model: m}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: "Facts on {{ row.topic }}"}
outputs: {topic: "{{ row.topic }}", facts: "{{ facts.text }}"}
"""
GATED = """
name: gated
inputs:
  rows: {path: rows.jsonl}
nodes:
  first:
    python: {call: "gates:same", args: {text: "{{ row.text }}"}}
  last:
    python: {call: "gates:wait", args: {text: "{{ first }}", gate: "{{ row.gate }}"}}
outputs: {text: "{{ last }}"}
"""
ASKS = """
name: asks
inputs:
  rows: {path: rows.jsonl}
nodes:
  check:
    human: {question: "Is {{ row.text }} right?"}
outputs: {said: "{{ check }}"}
"""
GATES = """
import asyncio
from pathlib import Path

HERE = Path(__file__).parent


def same(text):
    if text == "bad":
        raise ValueError("this text is bad")
    return text


async def wait(text, gate):
    while not (HERE / gate).exists():
        await asyncio.sleep(0.01)
    return text
"""
ROW = {"topic": "bees"}
RUNS = "/v1/flows/topics/runs"
GATED_RUNS = "/v1/flows/gated/runs"
LATER = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flows")
    (folder / "gates.py").write_text(GATES)
    for name, text in (("topics", TOPICS), ("gated", GATED), ("asks", ASKS)):
        (folder / f"{name}.yaml").write_text(text)
    (folder / "open").touch()
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    paths = [folder / f"{name}.yaml" for name in ("topics", "gated", "asks")]
    with running(folder / "state", paths) as one:
        yield one


def error_of(heard: Heard, status: int) -> dict[str, Any]:
    """Return the error of an answer in OpenAI's form."""
    assert heard.status == status, heard.body
    error: dict[str, Any] = heard.body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def rows_in_flight(server: Running) -> int:
    ready = ask(server.address, "GET", "/ready")
    return sum(flow["rows_in_flight"] for flow in ready.body["flows"].values())


def test_one_row_is_answered_when_it_is_done(server: Running) -> None:
    heard = ask(server.address, "POST", RUNS, {"row": ROW})
    assert heard.status == 200
    assert heard.body["status"] == "completed"
    assert heard.body["counts"] == {"done": 1, "failed": 0, "dropped": 0}
    assert heard.body["row"]["output"]["topic"] == "bees"
    assert "rows" not in heard.body
    assert ask(server.address, "GET", f"{RUNS}/{heard.body['id']}").body == heard.body


def test_rows_are_answered_in_their_order_and_a_failed_one_says_why(server: Running) -> None:
    rows = [{"text": text, "gate": "open"} for text in ("one", "bad", "three")]
    heard = ask(server.address, "POST", GATED_RUNS, {"rows": rows})
    assert heard.status == 200
    assert [row["index"] for row in heard.body["rows"]] == [0, 1, 2]
    assert [row["state"] for row in heard.body["rows"]] == ["done", "failed", "done"]
    error = heard.body["rows"][1]["error"]
    assert error["node"] == "first"
    assert "this text is bad" in error["cause"]


def test_events_come_in_the_order_of_what_happens(server: Running) -> None:
    body = {"row": {"text": "one", "gate": "open"}, "stream": True}
    with listening_to(server.address, "POST", GATED_RUNS, body) as events:
        heard = list(events)
    assert [event.name for event in heard] == ["run", "step", "step", "row", "end"]
    assert [event.data["step"] for event in heard if event.name == "step"] == ["first", "last"]
    assert heard[1].data == {"index": 0, "step": "first", "value": "one"}
    assert heard[3].data["output"] == {"text": "one"}
    assert heard[4].data["status"] == "completed"
    assert heard[4].data["id"] == heard[0].data["id"]
    assert len({event.id for event in heard[1:]}) == 4


def read_again(server: Running, path: str, last_event: str) -> list[Event]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last_event}
    with listening_to(server.address, "GET", path, headers=headers) as events:
        return list(events)


def test_a_stream_goes_on_behind_the_last_event_that_was_read(server: Running, folder: Path) -> None:
    body = {"row": {"text": "one", "gate": "resumed"}, "stream": True}
    with listening_to(server.address, "POST", GATED_RUNS, body) as events:
        path = f"{GATED_RUNS}/{next(events).data['id']}"
        first = next(events)
        assert first.data["step"] == "first"
    (folder / "resumed").touch()
    assert [event.name for event in read_again(server, path, first.id)] == ["step", "row", "end"]


def test_a_stream_of_a_kept_run_begins_anew_where_its_events_have_other_numbers(server: Running) -> None:
    body = {"rows": [{"text": "one", "gate": "open"}, {"text": "two", "gate": "open"}], "stream": True}
    with listening_to(server.address, "POST", GATED_RUNS, body) as events:
        heard = list(events)
    path = f"{GATED_RUNS}/{heard[0].data['id']}"
    again = read_again(server, path, heard[-2].id)
    assert [event.name for event in again] == ["run", "row", "row", "end"]
    assert [event.name for event in read_again(server, path, again[1].id)] == ["row", "end"]
    assert read_again(server, path, again[-1].id) == []
    assert read_again(server, path, "kept-99") == [], "a number that no event has ends at once"
    assert [event.name for event in read_again(server, path, "nonsense")] == ["run", "row", "row", "end"]


def test_rows_are_accepted_now_and_fetched_later(server: Running, folder: Path) -> None:
    heard = ask(server.address, "POST", GATED_RUNS, {"row": {"text": "one", "gate": "later"}}, LATER)
    assert heard.status == 202
    assert heard.headers["preference-applied"] == "respond-async"
    assert int(heard.headers["retry-after"]) > 0
    assert heard.body["status"] == "running"
    assert heard.body["row"] is None
    location = heard.headers["location"]
    assert ask(server.address, "GET", location).body["status"] == "running"
    (folder / "later").touch()
    with listening_to(server.address, "GET", location, headers={"Accept": "text/event-stream"}) as events:
        assert [event.name for event in events][-1] == "end"
    assert ask(server.address, "GET", location).body["row"]["output"] == {"text": "one"}


def test_an_answer_later_may_be_waited_for(server: Running) -> None:
    heard = ask(server.address, "POST", RUNS, {"row": ROW}, {"Prefer": "respond-async, wait=30"})
    assert heard.status == 200
    assert heard.body["status"] == "completed"


def test_a_key_gives_the_answer_that_it_gave(server: Running) -> None:
    first = ask(server.address, "POST", RUNS, {"row": ROW}, {"Idempotency-Key": "k1"})
    assert ask(server.address, "POST", RUNS, {"row": ROW}, {"Idempotency-Key": "k1"}).body == first.body
    assert ask(server.address, "POST", RUNS, {"row": ROW}, {"Idempotency-Key": "k2"}).body["id"] != first.body["id"]
    heard = ask(server.address, "POST", RUNS, {"row": {"topic": "ants"}}, {"Idempotency-Key": "k1"})
    error = error_of(heard, 422)
    assert error["param"] == "Idempotency-Key"
    assert heard.headers["x-should-retry"] == "false"
    assert error_of(ask(server.address, "POST", RUNS, {"row": ROW}, {"Idempotency-Key": "k" * 256}), 400)


def test_a_key_finds_the_run_that_goes_on(server: Running, folder: Path) -> None:
    body = {"row": {"text": "one", "gate": "attached"}}
    first = ask(server.address, "POST", GATED_RUNS, body, {**LATER, "Idempotency-Key": "a1"})
    with listening_to(server.address, "POST", GATED_RUNS, body | {"stream": True}, {"Idempotency-Key": "a1"}) as events:
        assert next(events).data["id"] == first.body["id"]
        (folder / "attached").touch()
        assert [event.name for event in events] == ["row", "end"], "steps are kept where the first asked for them"


@pytest.mark.parametrize(("method", "rest"), [("DELETE", ""), ("POST", "/cancel")])
def test_a_run_is_cancelled(server: Running, method: str, rest: str) -> None:
    rows = [{"text": "one", "gate": "open"}, {"text": "two", "gate": "never"}]
    begun = ask(server.address, "POST", GATED_RUNS, {"rows": rows}, LATER)
    path = begun.headers["location"]
    with listening_to(server.address, "GET", path, headers={"Accept": "text/event-stream"}) as events:
        assert [next(events).name, next(events).name] == ["run", "row"]
        heard = ask(server.address, method, path + rest)
        assert [event.name for event in events] == ["row", "end"]
    assert heard.body["status"] == "cancelled"
    assert [row["state"] for row in heard.body["rows"]] == ["done", "failed"]
    assert heard.body["rows"][1]["error"]["node"] == "cancelled"
    assert ask(server.address, method, path + rest).body == heard.body
    assert rows_in_flight(server) == 0


def test_a_deadline_ends_a_run(server: Running) -> None:
    heard = ask(server.address, "POST", GATED_RUNS, {"row": {"text": "one", "gate": "never"}, "deadline_s": 0.05})
    assert heard.status == 200
    assert heard.body["row"]["error"]["node"] == "deadline"


def test_a_question_to_a_person_does_not_outlive_the_deadline(server: Running) -> None:
    heard = ask(server.address, "POST", "/v1/flows/asks/runs", {"row": {"text": "x"}, "deadline_s": 0.05})
    assert heard.body["row"]["error"]["node"] == "deadline"
    waiting = ask(server.address, "POST", "/v1/flows/asks/runs", {"row": {"text": "x"}}, LATER)
    assert ask(server.address, "GET", waiting.headers["location"]).body["status"] == "running"
    assert ask(server.address, "DELETE", waiting.headers["location"]).body["status"] == "cancelled"


def tasks_of(server: Running) -> Counter[str]:
    """Return how many tasks of each coroutine there are in the server, but for connections without a request."""

    async def count() -> Counter[str]:
        found = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
        return Counter(name for name in found if "count" not in name)

    return asyncio.run_coroutine_threadsafe(count(), server.loop).result()


def test_a_reader_that_leaves_takes_its_tasks_with_it(server: Running) -> None:
    row = {"text": "one", "gate": "left"}
    begun = ask(server.address, "POST", GATED_RUNS, {"row": row}, LATER)
    path = begun.headers["location"]
    before = tasks_of(server)
    with listening_to(server.address, "GET", path, headers={"Accept": "text/event-stream"}) as events:
        assert next(events).name == "run"
        assert (tasks_of(server) - before).total() > 0
    for _ in range(2000):
        if not (more := tasks_of(server) - before):
            break
    assert not more
    assert ask(server.address, "GET", path).body["status"] == "running", "the work goes on"
    ask(server.address, "DELETE", path)


@pytest.mark.parametrize(
    ("body", "status", "param", "part"),
    [
        (b"{", 400, None, "no JSON"),
        (b'{"row": NaN}', 400, None, "no JSON"),
        ([], 400, None, "no JSON object"),
        ({}, 400, "rows", "one row"),
        ({"row": ROW, "rows": [ROW]}, 400, "rows", "one row"),
        ({"row": ROW, "streem": True}, 400, "streem", "'stream'"),
        ({"row": ROW, "stream": 1}, 400, "stream", "true or false"),
        ({"row": ROW, "deadline_s": 0}, 400, "deadline_s", "above 0"),
        ({"row": ROW, "deadline_s": "1"}, 400, "deadline_s", "number"),
        ({"row": ROW, "priority": 1.5}, 400, "priority", "whole number"),
        ({"rows": {}}, 400, "rows", "no list"),
        ({"rows": []}, 400, "rows", "these are 0"),
        ({"rows": [ROW] * 1001}, 400, "rows", "these are 1,001"),
        ({"row": []}, 422, "row", "an object"),
        ({"row": {"topik": 1}}, 422, "row.topic", "did you mean 'topik'?"),
        ({"rows": [ROW, {}]}, 422, "rows[1].topic", "no column 'topic'"),
    ],
)
def test_a_wrong_body_is_refused(server: Running, body: Any, status: int, param: str | None, part: str) -> None:
    heard = ask(server.address, "POST", RUNS, body)
    error = error_of(heard, status)
    assert error["param"] == param
    assert part in error["message"]
    assert error["type"] == "invalid_request_error"
    assert heard.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("POST", "/v1/flows/topic/runs", 404, "did you mean 'topics'?"),
        ("GET", "/v1/flows/topic", 404, "did you mean 'topics'?"),
        ("GET", f"{RUNS}/run-0", 404, "no run 'run-0'"),
        ("DELETE", f"{RUNS}/run-0", 404, "no run 'run-0'"),
        ("PUT", RUNS, 405, "does not take PUT"),
        ("GET", RUNS, 405, "does not take GET"),
        ("GET", "/v1/nothing", 404, "nothing at GET /v1/nothing"),
    ],
)
def test_a_wrong_place_is_told(server: Running, method: str, path: str, status: int, part: str) -> None:
    assert part in error_of(ask(server.address, method, path), status)["message"]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: Running) -> None:
    heard = ask(server.address, "POST", RUNS, headers={"Content-Length": str(MAX_BODY_BYTES + 1)})
    assert error_of(heard, 413)["code"] == "body_too_large"


def test_what_has_no_room_is_told_when_to_come_again(server: Running) -> None:
    rows = [{"text": str(number), "gate": "never"} for number in range(1000)]
    begun = [ask(server.address, "POST", GATED_RUNS, {"rows": rows}, LATER) for _ in range(2)]
    assert [heard.status for heard in begun] == [202, 202]
    heard = ask(server.address, "POST", GATED_RUNS, {"rows": rows})
    assert error_of(heard, 429)["code"] == "overloaded"
    assert int(heard.headers["retry-after"]) > 0
    for one in begun:
        assert ask(server.address, "DELETE", one.headers["location"]).body["counts"]["failed"] == 1000
    assert rows_in_flight(server) == 0


def test_flows_are_listed(server: Running) -> None:
    listed = ask(server.address, "GET", "/v1/flows").body["data"]
    assert [flow["id"] for flow in listed] == ["topics", "gated", "asks"]
    one = ask(server.address, "GET", "/v1/flows/topics").body
    assert (one["columns"], one["outputs"]) == (["topic"], ["topic", "facts"])


def test_what_is_served_is_described(server: Running) -> None:
    described = ask(server.address, "GET", "/openapi.json").body
    assert RUNS in described["paths"]
    page = ask(server.address, "GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert f"curl {server.address}{RUNS} -d" in page.body
