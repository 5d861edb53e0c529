"""The metrics of a server, read as Prometheus reads them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sundog.ir.logical import EngineBlock
from sundog.serve.batches.answering import ModelLines
from sundog.serve.batches.attempts import GONE, Attempted
from sundog.serve.wire.batches.lines import BatchLine
from tests.serve.asking import ask
from tests.serve.batching import begun, chat_line, client_of, ended, until
from tests.serve.running import running
from tests.serve.test_flow_door import ROW, RUNS, TOPICS

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(address: str) -> Samples:
    heard = ask(address, "GET", "/metrics")
    assert heard.status == 200
    families = text_string_to_metric_families(heard.body)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples of a name that have some labels."""
    wanted = set(labels.items())
    return sum(number for (one, found), number in samples.items() if one == name and wanted <= found)


def test_the_page_names_the_metrics_that_there_are(tmp_path: Path) -> None:
    with running(tmp_path / "state", engines=[EngineBlock("one", "null", {"model": "m"})]) as server:
        text = ask(server.address, "GET", "/metrics").body
    told = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `(sundog:|gen_ai_)", line)]
    assert sorted(told) == sorted(name for row in rows for name in re.findall(r"`(\S+?)`", row.split("|")[1]))
    assert sum("batch_lines_in_flight" in row and "wait to be tried again" in row for row in rows) == 1


def test_lines_that_wait_to_be_tried_again_are_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(self: ModelLines, line: BatchLine) -> Attempted:
        return GONE

    monkeypatch.setattr(ModelLines, "attempt", away)
    engines = [EngineBlock("one", "null", {"model": "model-one"})]
    with running(tmp_path, engines=engines) as server, client_of(server.address) as client:
        batch = begun(client, [chat_line(number) for number in range(3)])
        until(client, batch.id, lambda one: server.serving.batch_figures.num_lines_in_flight == 3)
        time.sleep(0.2)
        samples = samples_of(server.address)
        assert value(samples, "sundog:batch_lines_in_flight") == 3
        assert value(samples, "sundog:batches_open") == 1
        client.batches.cancel(batch.id)
        ended(client, batch.id)
        assert value(samples_of(server.address), "sundog:batch_lines_in_flight") == 0


def test_counts_are_those_of_the_work_done(tmp_path: Path) -> None:
    flow = tmp_path / "topics.yaml"
    flow.write_text(TOPICS)
    with running(tmp_path / "state", [flow]) as server:
        for _ in range(2):
            assert ask(server.address, "POST", RUNS, {"rows": [ROW, {"topic": "wasps"}]}).status == 200
        chat = {"model": "m", "messages": [{"role": "user", "content": "a secret text"}]}
        assert ask(server.address, "POST", "/v1/chat/completions", chat).status == 200
        unknown = {**chat, "model": "nobody-has-it"}
        assert ask(server.address, "POST", "/v1/chat/completions", unknown).status == 404
        samples = samples_of(server.address)
        text = ask(server.address, "GET", "/metrics").body
    assert value(samples, "sundog:flow_requests_accepted_total", flow="topics") == 2
    assert value(samples, "sundog:flow_rows_in_flight", flow="topics") == 0
    assert value(samples, "sundog:flow_rows_ended_total", flow="topics") == 4
    assert value(samples, "sundog:flow_calls_asked_total", flow="topics") == 4
    assert value(samples, "sundog:flow_calls_executed_total", flow="topics") == 2
    assert value(samples, "sundog:flow_calls_reused_total", flow="topics") == 2
    seconds = "gen_ai_client_operation_duration_seconds_count"
    assert value(samples, seconds, flow="topics", step="facts", model="m") == 2
    assert value(samples, seconds, flow="", step="") == 1
    assert value(samples, "sundog:call_attempts_total", outcome="succeeded") == 3
    assert value(samples, "sundog:prompt_tokens_total", flow="topics") > 0
    assert value(samples, "sundog:num_requests_running") == 0
    assert value(samples, "sundog:num_requests_waiting") == 0
    assert "secret" not in text
    assert "nobody-has-it" not in text
