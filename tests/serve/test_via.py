"""A run whose models a server has: its calls go behind live ones, and its rows are those of its own engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.config import SERVER_KEY
from sundog.errors import UserError
from sundog.ir.logical import EngineBlock
from sundog.sched.events import RequestArrived
from tests.serve.keyed import added
from tests.serve.running import running

FLOW = """
name: topics
engines:
  local: {kind: "null", model: model-one}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: "Facts on {{ row.topic }}", max_tokens: 8}
  good:
    llm: {engine: local, prompt: "Is this good: {{ facts.text }}", output: {is_good: bool}}
outputs: {topic: "{{ row.topic }}", facts: "{{ facts.text }}", is_good: "{{ good.is_good }}"}
"""
MODELS = [EngineBlock("front", "null", {"model": "model-one"})]
NUM_ROWS = 12


@pytest.fixture
def flow(tmp_path: Path) -> sd.api.FlowFile:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"topic": "t{number}"}}\n' for number in range(NUM_ROWS)))
    (tmp_path / "flow.yaml").write_text(FLOW)
    return sd.load(tmp_path / "flow.yaml")


def test_a_run_asks_the_models_of_a_server_behind_its_live_requests(
    tmp_path: Path, flow: sd.api.FlowFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = flow.run(state=tmp_path / "own", progress=False)
    with running(tmp_path / "served", engines=MODELS) as server:
        driver, heard = server.serving.host.driver, []
        run = driver.run

        def heard_run(arrived: RequestArrived, attempt: Any) -> Any:
            heard.append(arrived.facts.tier)
            return run(arrived, attempt)

        monkeypatch.setattr(driver, "run", heard_run)
        via = flow.run(state=tmp_path / "via", progress=False, via=server.address)
        again = flow.run(state=tmp_path / "via", progress=False, via=server.address)
        assert server.serving.host.models.num_in_flight == 0
    assert heard == ["batch"] * (2 * NUM_ROWS), "each call once: a run that is finished asks nothing more"
    assert list(via) == list(own)
    assert again.report.run_id == via.report.run_id
    assert via.report.run_id != own.report.run_id, "a run with other engines is another run"


def test_a_run_comes_in_with_the_key_of_the_environment(
    tmp_path: Path, flow: sd.api.FlowFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = added(tmp_path / "served", "batches")
    with running(tmp_path / "served", engines=MODELS) as server:
        monkeypatch.delenv(SERVER_KEY, raising=False)
        with pytest.raises(UserError, match="401"):
            flow.run(state=tmp_path / "via", progress=False, via=server.address)
        monkeypatch.setenv(SERVER_KEY, key)
        result = flow.run(state=tmp_path / "via", progress=False, via=server.address)
    assert result.report.num_done == NUM_ROWS
    kept = b"".join(path.read_bytes() for path in (tmp_path / "via").rglob("*") if path.is_file())
    assert key.encode() not in kept
