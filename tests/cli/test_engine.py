"""`sundog engine`, and runs on servers that sundog starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.servers import servers
from tests.cli.flows import sundog, write_rows
from tests.engines.fake_vllm import FLOW, flow_text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(servers, "POLL_S", 0.01)
    write_rows(tmp_path, 6)
    (tmp_path / "flow.yaml").write_text(flow_text(tmp_path, replicas=2))
    yield tmp_path
    assert sundog(tmp_path, "engine", "down").exit_code == 0


def asked(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def test_up_run_status_down(folder: Path) -> None:
    up = sundog(folder, "engine", "up", "flow.yaml")
    assert up.exit_code == 0, up.stderr
    names = [line.split()[0] for line in up.stdout.splitlines()]
    assert names == ["local/0", "local/1"]
    assert up.stderr.count(": starting") == up.stderr.count(": ready") == 2
    assert sundog(folder, "engine", "up", "flow.yaml").stderr.count("up already") == 2
    ran = sundog(folder, "run", "flow.yaml", "--output", "out.jsonl")
    assert ran.exit_code == 0, ran.stderr
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert rows == [{"id": number, "said": f"ROW {number}"} for number in range(6)]
    assert len(asked(folder)) == 6
    assert {one["port"] for one in asked(folder)} == set((folder / "starts").read_text().split())
    status = sundog(folder, "engine", "status", "--json")
    assert [json.loads(line)["state"] for line in status.stdout.splitlines()] == ["ready", "ready"]
    assert "local/1" in sundog(folder, "engine", "status").stdout
    assert sundog(folder, "engine", "down", "--engine", "other").stderr == "no server was started here\n"
    assert sundog(folder, "engine", "down").stderr.count(": stopped") == 2
    assert sundog(folder, "engine", "status").stdout == ""


def test_a_server_with_our_plugin_hears_what_a_call_is_for(folder: Path) -> None:
    (folder / "flow.yaml").write_text(flow_text(folder, start=True))
    assert sundog(folder, "run", "flow.yaml").exit_code == 0
    assert not any("vllm_xargs" in one for one in asked(folder))
    scheduler = {"scheduler_cls": "sundog.vllm_plugin.scheduler.SundogScheduler"}
    extra = {"vllm_xargs": {"mine": 1}, "top_k": 4}
    (folder / "flow.yaml").write_text(flow_text(folder, start=True, arguments=scheduler, extra_body=extra))
    assert sundog(folder, "run", "flow.yaml", "--fresh").exit_code == 0
    sent = asked(folder)[6:]
    assert {one["vllm_xargs"]["mine"] for one in sent} == {1}
    said = [json.loads(one["vllm_xargs"]["sundog"]) for one in sent]
    assert {one.pop("workflow").partition("/")[2] for one in said} == set("012345")
    assert said == [{"flow": "served", "node": "say", "turn": 0, "last_turn": True}] * 6


def test_a_run_without_its_servers_says_what_to_run(folder: Path) -> None:
    ran = sundog(folder, "run", "flow.yaml")
    assert ran.exit_code == 2
    assert "sundog engine up FLOW --engine local" in ran.stderr
    assert not (folder / "starts").exists()


def test_a_run_may_start_its_servers_itself(folder: Path) -> None:
    (folder / "flow.yaml").write_text(flow_text(folder, start=True))
    assert sundog(folder, "run", "flow.yaml").exit_code == 0
    assert len(asked(folder)) == 6
    assert len((folder / "starts").read_text().split()) == 1
    assert sundog(folder, "engine", "status").stdout == ""


def test_what_has_no_servers_cannot_be_started(folder: Path) -> None:
    ran = sundog(folder, "engine", "up", "flow.yaml", "--engine", "locl")
    assert (ran.exit_code, "did you mean 'local'?" in ran.stderr) == (2, True)
    (folder / "flow.yaml").write_text(FLOW.replace("ENGINE", "{kind: 'null'}"))
    ran = sundog(folder, "engine", "up", "flow.yaml")
    assert (ran.exit_code, "no engine here has servers to start" in ran.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [{}, {"scheduler_cls": "sundog.vllm_plugin.scheduler.SundogScheduler"}])
def test_only_a_server_with_the_plugin_is_told_what_a_call_is_for(folder: Path, arguments: dict[str, str]) -> None:
    (folder / "flow.yaml").write_text(flow_text(folder, arguments=arguments, start=True))
    ran = sundog(folder, "run", "flow.yaml", "--output", "out.jsonl")
    assert ran.exit_code == 0, ran.stderr
    told = [json.loads(one["vllm_xargs"]["sundog"]) for one in asked(folder) if "vllm_xargs" in one]
    assert len(told) == (6 if arguments else 0)
    assert {(one["flow"], one["node"], one["last_turn"]) for one in told} <= {("served", "say", True)}
    assert len({one["workflow"] for one in told}) == len(told), "a workflow is one row's way"
