"""A vLLM server with the plugin in it: what a client sees."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.engines.vllm_server import MAX_POSITIONS, MODEL, ROOT, running_vllm, why_not

pytestmark = pytest.mark.vllm
TOKEN = "a-token-for-this-test"
TIMEOUT_S = 120
ENDLESS_TOKENS = MAX_POSITIONS - 100
"""A minute of steps and more, so that an abort never comes too late."""


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    options = {
        "--scheduler-cls": "sundog.vllm_plugin.scheduler.SundogScheduler",
        "--scheduling-policy": "fcfs",
        "--max-model-len": str(MAX_POSITIONS),
        "--additional-config": '{"sundog": {"policy": "continuum"}}',
    }
    variables = {"VLLM_PLUGINS": "sundog", "SUNDOG_CONTROL_TOKEN": TOKEN, "PYTHONPATH": str(ROOT / "src")}
    with running_vllm(tmp_path_factory.mktemp("plugin"), options, os.environ | variables) as url:
        yield url


def complete(base_url: str, envelope: str, **more: Any) -> httpx.Response:
    request = {"model": MODEL, "prompt": "Say hello. " * 8, "max_tokens": 4, "vllm_xargs": {"sundog": envelope}} | more
    return httpx.post(f"{base_url}/completions", json=request, timeout=TIMEOUT_S)


def control(base_url: str, call: str, arguments: dict[str, Any] | None = None, token: str = TOKEN) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    url = base_url.removesuffix("/v1") + f"/sundog/{call}"
    return httpx.post(url, json=arguments or {}, headers=headers, timeout=TIMEOUT_S)


def test_a_malformed_envelope_is_refused_with_its_field(base_url: str) -> None:
    for envelope in ('{"trun": 1}', "{"):
        response = complete(base_url, envelope)
        assert response.status_code == 400
    assert "turn" in complete(base_url, '{"turn": "1"}').text


def test_a_turn_leaves_its_blocks_for_the_next(base_url: str) -> None:
    envelope = {"workflow": "agent", "turn": 0, "last_turn": False, "tool": "shell"}
    assert complete(base_url, json.dumps(envelope)).status_code == 200
    state = control(base_url, "state").json()
    assert (state["policy"], state["num_bad_envelopes"]) == ("continuum", 0)
    assert (state["num_workflows"], state["num_kept_blocks"]) == (1, 2)
    assert complete(base_url, json.dumps(envelope | {"turn": 1, "last_turn": True})).status_code == 200
    state = control(base_url, "state").json()
    assert (state["num_workflows"], state["num_kept_blocks"]) == (0, 0)
    steps = control(base_url, "steps", {"since": 0}).json()["steps"]
    assert len(steps) >= 8
    assert all(step["elapsed_s"] > 0 for step in steps)


def test_who_has_no_token_learns_nothing(base_url: str) -> None:
    assert control(base_url, "state", token="wrong").status_code == 401
    assert control(base_url, "nonsense").status_code == 404
    assert control(base_url, "pin", {"workflow": "nobody", "ttl_s": 1}).status_code == 400


def test_an_abort_ends_the_requests_of_a_workflow(base_url: str) -> None:
    request = {
        "model": MODEL, "prompt": "Tell me a story.", "max_tokens": ENDLESS_TOKENS, "ignore_eos": True, "stream": True,
        "vllm_xargs": {"sundog": '{"workflow": "long", "tenant": "t"}'},
    }  # fmt: skip
    num_chunks, reason = 0, None
    with httpx.stream("POST", f"{base_url}/completions", json=request, timeout=TIMEOUT_S) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            num_chunks += 1
            reason = json.loads(line.removeprefix("data: "))["choices"][0]["finish_reason"] or reason
            if num_chunks == 1:
                assert control(base_url, "abort", {"workflow": "other"}).json() == {"num_aborted": 0}
                assert control(base_url, "abort", {"workflow": "long", "tenant": "t"}).json() == {"num_aborted": 1}
    assert reason == "abort"
    assert num_chunks < ENDLESS_TOKENS
