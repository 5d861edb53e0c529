"""`sundog run --on ray`: its options, and the command that a job is. No cluster is started here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sundog.ray.jobs import submission
from sundog.ray.jobs.submission import JobRequest
from tests.cli.flows import sundog, write_review

HEAD = "http://head:8265"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[JobRequest]:
    """The jobs that commands ask for."""
    found: list[JobRequest] = []

    def keep(request: JobRequest, say: Callable[[str], None]) -> int:
        found.append(request)
        return 7

    monkeypatch.setattr(submission, "run_as_job", keep)
    return found


def run(folder: Path, *words: str) -> Any:
    return sundog(folder, "run", "flow.yaml", *words)


@pytest.mark.parametrize("words", [("--cells", "2"), ("--address", HEAD), ("--finish-in", "2h"), ("--shared", "/tmp")])
def test_options_of_a_cluster_need_it(tmp_path: Path, words: tuple[str, str]) -> None:
    write_review(tmp_path)
    ran = run(tmp_path, *words)
    assert ran.exit_code == 2
    assert f"{words[0]} is of a run on a cluster\n  say --on ray" in ran.stderr


def test_a_job_is_the_same_command_without_the_address(tmp_path: Path, sent: list[JobRequest]) -> None:
    write_review(tmp_path)
    shared = ("--shared", str(tmp_path / "all"), "--output", str(tmp_path / "all" / "out.csv"))
    options = ("--on", "ray", "--cells", "4", "--limit", "5", "--no-rule", "a", "--no-rule", "b", "--fail-fast", "-q")
    ran = run(tmp_path, *options, *shared, "--address", HEAD, "--state", "s3://bucket/state")
    assert ran.exit_code == 7, ran.stderr
    [request] = sent
    assert (request.address, request.state) == (HEAD, "s3://bucket/state")
    words = " ".join(request.words)
    assert words == (
        f"run flow.yaml --state s3://bucket/state --output {tmp_path}/all/out.csv --limit 5 --fail-fast "
        "--no-rule a --no-rule b --on ray --cells 4 --quiet"
    )


def test_the_environment_names_the_cluster_and_the_state(
    tmp_path: Path, sent: list[JobRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_review(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", HEAD)
    monkeypatch.setenv("SUNDOG_STATE", "gs://bucket/state")
    assert run(tmp_path, "--on", "ray").exit_code == 7
    assert (sent[0].address, sent[0].state) == (HEAD, "gs://bucket/state")
    assert sent[0].words == ["run", "flow.yaml", "--state", "gs://bucket/state", "--on", "ray"]


def test_an_input_is_counted_from_the_flows_folder(tmp_path: Path, sent: list[JobRequest]) -> None:
    flow = tmp_path / "flow"
    flow.mkdir()
    write_review(flow)
    (flow / "few.jsonl").write_text('{"id": 1, "topic": "tea"}\n')
    words = ("--on", "ray", "--address", HEAD, "--state", "s3://bucket/state", "--input", "rows=flow/few.jsonl")
    ran = sundog(tmp_path, "run", "flow/flow.yaml", *words)
    assert ran.exit_code == 7, ran.stderr
    assert sent[0].folder == Path("flow")
    assert "--input rows=few.jsonl" in " ".join(sent[0].words)


def test_the_secrets_that_a_flow_names_go_along(
    tmp_path: Path, sent: list[JobRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_review(tmp_path)
    flow = tmp_path / "flow.yaml"
    engine = (
        '{kind: openai, base_url: "http://x/v1", model: m, api_key: "${env:DEMO_KEY}", headers: {a: "${env:GONE}"}}'
    )
    flow.write_text(flow.read_text().replace('{kind: "null"}', engine))
    monkeypatch.setenv("DEMO_KEY", "a secret value")
    monkeypatch.delenv("GONE", raising=False)
    ran = run(tmp_path, "--on", "ray", "--address", HEAD, "--state", "s3://bucket/state")
    assert ran.exit_code == 7, ran.stderr
    assert sent[0].secrets == {"DEMO_KEY": "a secret value"}
    assert "a secret value" not in " ".join(sent[0].words)


def test_what_only_this_machine_has_is_refused_before_a_job_is_sent(tmp_path: Path, sent: list[JobRequest]) -> None:
    write_review(tmp_path)
    ran = run(tmp_path, "--on", "ray", "--address", HEAD)
    assert ran.exit_code == 2
    assert "the state '.sundog' is a folder of this machine" in ran.stderr
    assert sent == []
    assert not (tmp_path / ".sundog").exists()
