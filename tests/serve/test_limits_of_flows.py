"""Limits of dollars and tokens of flows' rows: of a request, a key and its tenant."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.client import RowFailed
from sundog.ir.logical import EngineBlock
from sundog.ledger.ledger import SpendingLimits
from tests.serve.asking import Heard, ask
from tests.serve.keyed import added, kept_keys
from tests.serve.running import Running, running
from tests.serve.test_limits_at_doors import written

FLOW = """
name: topics
engines:
  local:
    kind: "null"
    model: m
    output_tokens: 7
    max_concurrency: 1
    price: {input_usd_per_mtok: 1000.0, output_usd_per_mtok: 10000.0}
inputs: {rows: {path: rows.jsonl}}
nodes:
  first: {llm: {engine: local, prompt: "{{ row.topic }}", max_tokens: 7}}
  second: {llm: {engine: local, prompt: "{{ row.other }}", max_tokens: 7}}
outputs: {topic: "{{ row.topic }}", first: "{{ first.text }}", second: "{{ second.text }}"}
"""
RUNS = "/v1/flows/topics/runs"
LIMITS: dict[str, dict[str, Any]] = {"limited": {"max_tokens": 1000}, "free": {}}
NUM_TOKENS, CALL_USD = 10, 0.073
"""A call here has so many tokens and costs so much."""


def row(number: int) -> dict[str, str]:
    return {"topic": f"{number:08}", "other": f"{number + 1000:08}"}


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "topics.yaml"
    path.write_text(FLOW)
    return path


@pytest.fixture
def server(tmp_path: Path, flow: Path) -> Iterator[Running]:
    with running(tmp_path / "state", [flow]) as one:
        yield one


def rows_of(heard: Heard) -> list[tuple[str, str]]:
    """Return the state of each row, and the node at which it failed."""
    assert heard.status == 200, heard.body
    return [(one["state"], one.get("error", {}).get("node", "")) for one in heard.body["rows"]]


def num_executed(server: Running) -> int:
    return server.serving.host.figures["topics"].num_executed


@pytest.mark.parametrize("limit", [{"max_tokens": 5 * NUM_TOKENS}, {"max_usd": 5 * CALL_USD}])
def test_rows_that_fit_are_done_and_a_later_request_continues(server: Running, limit: dict[str, Any]) -> None:
    rows = [row(number) for number in range(4)]
    heard = ask(server.address, "POST", RUNS, {"rows": rows, **limit})
    assert num_executed(server) == 5, "so many calls fit"
    failed = [one for one in heard.body["rows"] if one["state"] == "failed"]
    assert failed
    for one in failed:
        assert one["error"]["node"] == "limit"
        assert f"{next(iter(limit))} of the request 'run-" in one["error"]["cause"]
        assert "larger limit" in one["error"]["hint"]
    again = ask(server.address, "POST", RUNS, {"rows": rows, **limit})
    assert rows_of(again) == [("done", "")] * 4
    assert num_executed(server) == 8, "what was made is not made again, nor paid"
    assert not server.serving.host.accounts.spending._written, "requests that have ended have no account"


def test_rows_that_need_no_money_go_on(server: Running) -> None:
    assert rows_of(ask(server.address, "POST", RUNS, {"rows": [row(0)]})) == [("done", "")]
    heard = ask(server.address, "POST", RUNS, {"rows": [row(1), row(0)], "max_usd": 0})
    assert rows_of(heard) == [("failed", "limit"), ("done", "")]


def test_rows_of_a_key_are_paid_by_it_and_its_tenant(tmp_path: Path, flow: Path) -> None:
    state = tmp_path / "state"
    key = {"x-api-key": added(state, "one", "team", max_tokens=3 * NUM_TOKENS)}
    other = {"x-api-key": added(state, "two", "team")}
    with kept_keys(state) as keys:
        keys.limit_tenant("team", SpendingLimits(max_usd=4.5 * CALL_USD))
    with running(state, [flow]) as server:
        assert rows_of(ask(server.address, "POST", RUNS, {"rows": [row(0)]}, key)) == [("done", "")]
    with running(state, [flow]) as server:
        heard = ask(server.address, "POST", RUNS, {"rows": [row(1)]}, key)
        assert rows_of(heard) == [("failed", "limit")]
        assert "max_tokens of the key 'key-" in heard.body["rows"][0]["error"]["cause"]
        heard = ask(server.address, "POST", RUNS, {"rows": [row(1)]}, other)
        assert rows_of(heard) == [("done", "")], "one of its calls was made before, and paid"
        heard = ask(server.address, "POST", RUNS, {"rows": [row(2)]}, other)
        assert "max_usd of the tenant 'team'" in heard.body["rows"][0]["error"]["cause"]
    spent = written(state)
    assert spent["tenant:team"].num_tokens == 4 * NUM_TOKENS
    assert sorted(charge.num_tokens for charge in spent.values()) == [3 * NUM_TOKENS, 4 * NUM_TOKENS]


def test_what_was_accepted_is_paid_by_its_key_after_a_restart(tmp_path: Path, flow: Path) -> None:
    state = tmp_path / "state"
    flow.write_text(FLOW.replace("max_concurrency: 1", "max_concurrency: 1\n    latency_s: 60"))
    key = {"x-api-key": added(state, "one", max_tokens=3 * NUM_TOKENS)}
    with running(state, [flow]) as server:
        body = {"rows": [row(0), row(1)], "max_tokens": 2 * NUM_TOKENS}
        begun = ask(server.address, "POST", RUNS, body, {**key, "Prefer": "respond-async"})
        while not any(scope.startswith("key:") for scope in written(state, is_idle=False)):
            time.sleep(0.01)  # until a call begins, which is cut off
    flow.write_text(FLOW)
    with running(state, [flow]) as server:
        events = ask(server.address, "GET", begun.headers["location"], None, {**key, "accept": "text/event-stream"})
        assert "event: end" in events.body
        heard = ask(server.address, "GET", begun.headers["location"], None, key)
        assert ("failed", "limit") in rows_of(heard)
        assert num_executed(server) == 1, "what was cut off counts, for the request as for the key"
    (spent,) = written(state).values()
    assert 2 * NUM_TOKENS <= spent.num_tokens <= 3 * NUM_TOKENS


@pytest.mark.parametrize(
    ("name", "value"), [("max_usd", -1), ("max_usd", "much"), ("max_tokens", 1.5), ("max_tokens", True)]
)
def test_a_limit_that_is_none_is_refused(server: Running, name: str, value: Any) -> None:
    heard = ask(server.address, "POST", RUNS, {"row": row(0), name: value})
    assert (heard.status, heard.body["error"]["param"]) == (400, name)


def test_without_limits_nothing_is_counted(tmp_path: Path, server: Running) -> None:
    assert rows_of(ask(server.address, "POST", RUNS, {"rows": [row(0)]})) == [("done", "")]
    assert written(tmp_path / "state") == {}


def test_the_client_sends_limits(server: Running) -> None:
    with sd.Client(server.address) as client:
        with pytest.raises(RowFailed, match="max_tokens of the request") as failed:
            client.run("topics", row(1), max_tokens=2 * NUM_TOKENS - 1)
        assert failed.value.node == "limit"
        assert client.run("topics", row(1), max_usd=CALL_USD) is not None, "one of the two calls was made before"


def test_a_run_whose_key_another_process_counts_waits_for_it_and_no_other_does(
    tmp_path: Path, flow: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sundog.live.host.TICK_S", 0.05)
    state = tmp_path / "state"
    limited, free = ({"x-api-key": added(state, name, name, **terms)} for name, terms in LIMITS.items())
    flow.write_text(FLOW.replace("model: m", "model: m\n    latency_s: 60"))
    later = {"Prefer": "respond-async"}
    with running(state, [flow]) as first:
        ids = []
        for key, number in ((limited, 1), (free, 2), (limited, 3), (free, 4)):
            heard = ask(first.address, "POST", RUNS, {"row": row(number)}, key | later)
            assert heard.status == 202
            ids.append(heard.body["id"])
    flow.write_text(FLOW)
    with ExitStack() as others:
        other = others.enter_context(running(state, engines=[EngineBlock("priced", "null", {"model": "m"})]))
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 7}
        assert ask(other.address, "POST", "/v1/chat/completions", body, limited).status == 200, "it counts from now on"
        with running(state, [flow]) as second:

            def status(run_id: str, key: dict[str, str]) -> str:
                return str(ask(second.address, "GET", f"{RUNS}/{run_id}", None, key).body["status"])

            def has_completed(run_id: str, key: dict[str, str]) -> bool:
                return status(run_id, key) == "completed"

            for run_id in (ids[1], ids[3]):
                wait_until(partial(has_completed, run_id, free))
            assert [status(run_id, limited) for run_id in (ids[0], ids[2])] == ["running"] * 2
            assert f"the run '{ids[0]}' of the flow 'topics' waits" in caplog.text
            assert second.serving.host.flows["topics"].num_rows_in_flight == 0, "what waits takes no room of others"
            assert ask(second.address, "POST", RUNS, {"row": row(9)}, free).status == 200
            cancelled = ask(second.address, "DELETE", f"{RUNS}/{ids[2]}", None, limited)
            assert cancelled.body["status"] == "cancelled"
            others.close()
            wait_until(partial(has_completed, ids[0], limited))
            assert ask(second.address, "GET", f"{RUNS}/{ids[0]}", None, limited).body["row"]["state"] == "done"


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")
