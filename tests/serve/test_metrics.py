"""The metrics of a server, read as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.serve.asking import ask
from tests.serve.running import running
from tests.serve.test_flow_door import ROW, RUNS, TOPICS

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
