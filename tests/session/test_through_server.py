"""Flows whose models a server has: which engine takes the place of each."""

from __future__ import annotations

from pathlib import Path

import pytest

import sundog as sd
from sundog.config import SERVER_KEY, read_config
from sundog.engines.openai.options import OpenAIOptions
from sundog.errors import ConfigError
from sundog.ir.logical import LogicalPlan
from sundog.session.through_server import TIER_HEADERS, through_server
from tests.cli.flows import sundog

FLOW = """
name: mixed
engines:
  local:
    {kind: "null", model: small, max_concurrency: 4, replicas: 3,
    price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}
    }
  far: {kind: openai, model: large, base_url: ["http://a/v1", "http://b/v1"], headers: {x-a: b}, extra_body: {top_k: 1}}
  placed: {kind: "null", model: wide, workers: gpu, max_concurrency: 5}
workers: {gpu: {count: 2}}
inputs:
  rows: {path: rows.jsonl}
nodes:
  one: {llm: {engine: local, prompt: "{{ row.a }}"}}
  two: {llm: {engine: far, prompt: "{{ one.text }}"}}
  three: {llm: {engine: placed, prompt: "{{ two.text }}"}}
outputs: {text: "{{ three.text }}"}
"""


@pytest.fixture
def plan(tmp_path: Path) -> LogicalPlan:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    return sd.load(tmp_path / "flow.yaml").plan()


@pytest.mark.parametrize("address", ["http://there:8321", "http://there:8321/", "http://there:8321/v1"])
def test_each_engine_is_asked_for_by_its_model(plan: LogicalPlan, address: str) -> None:
    asked = through_server(plan, address, "${env:KEY}")
    assert asked.workers == ()
    assert asked.tables == plan.tables
    local, far, placed = (OpenAIOptions.model_validate(block.options) for block in asked.engines)
    assert [block.name for block in asked.engines] == ["local", "far", "placed"]
    assert {(block.kind, block.workers) for block in asked.engines} == {("openai", None)}
    assert [one.model for one in (local, far, placed)] == ["small", "large", "wide"]
    assert [one.max_concurrency for one in (local, far, placed)] == [12, 64, 10], "as many as their own replicas take"
    assert local.price is not None
    assert far.extra_body == {"top_k": 1}
    for one in (local, far, placed):
        assert (one.base_url, one.api_key, one.headers) == ("http://there:8321/v1", "${env:KEY}", dict(TIER_HEADERS))


@pytest.mark.parametrize("address", ["", "there:8321", "there", "ftp://there", "http://", "http://there/?a=b"])
def test_what_is_no_address_is_refused(plan: LogicalPlan, address: str) -> None:
    with pytest.raises(ConfigError, match="--via takes the address of a server"):
        through_server(plan, address, None)


def test_the_key_comes_from_the_environment_and_is_never_written(
    plan: LogicalPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SERVER_KEY, raising=False)
    assert read_config().server_key is None
    monkeypatch.setenv(SERVER_KEY, "sk-sundog-secret")
    key = read_config().server_key
    assert key == "${env:SUNDOG_API_KEY}"
    assert "secret" not in str(through_server(plan, "http://there", key))


def test_explain_shows_where_the_models_are_asked(plan: LogicalPlan, tmp_path: Path) -> None:
    done = sundog(tmp_path, "explain", "flow.yaml", "--via", "http://127.0.0.1:9/v1")
    assert done.exit_code == 0, done.stderr
    assert "openai" in done.stdout
