"""The plugin's scheduler beside vLLM's own, both without a model: scheduler_runs.py runs them, once."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.vllm_server import ROOT, python_with_vllm, why_not

pytestmark = pytest.mark.vllm
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    command = [python_with_vllm(), Path(__file__).with_name("scheduler_runs.py")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT / "benchmarks"))),
        "OMP_NUM_THREADS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    results: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return results


def test_requests_without_an_envelope_are_scheduled_as_in_vllm_step_by_step(found: dict[str, Any]) -> None:
    assert found["stock_alike"]["different"] == []
    assert found["stock_alike"]["num_preempted"] > 5
    assert len(found["stock_alike"]["policies"]) >= 11


def test_the_same_holds_with_async_scheduling(found: dict[str, Any]) -> None:
    assert found["ahead"]["is_alike"]
    assert found["ahead"]["num_preempted"] > 5
    assert found["ahead"]["num_ended"] == 40


def test_with_envelopes_every_request_ends_under_pressure(found: dict[str, Any]) -> None:
    assert set(found["all_end"].values()) == {40}
    assert found["mixed"] == {"num_ended": 40}


def test_the_rank_decides_who_starts_and_who_is_preempted(found: dict[str, Any]) -> None:
    assert found["order"] == ["r5", "r40", "r300", "r900"]
    stock, ranked = found["victims"]
    assert stock == ["r500"]
    assert ranked == ["r900"]


def test_what_a_program_will_read_again_is_kept(found: dict[str, Any]) -> None:
    kept = {policy: run["cached"] for policy, run in found["kept"].items()}
    assert kept == {"None": 0, "continuum": 96, "kvflow": 96}


def test_a_pin_keeps_until_it_is_taken_back(found: dict[str, Any]) -> None:
    assert found["pinned"]["cached"] == 96
    assert found["pinned"]["answers"] == [{"num_blocks": 6}, {"was_kept": True}]


def test_no_allocation_fails_because_of_a_pin(found: dict[str, Any]) -> None:
    run = found["full_pressure"]
    assert run["pinned"] == {"num_blocks": 6}
    assert (run["before"]["num_kept_blocks"], run["before"]["num_free_blocks"]) == (12, 16)
    assert run["ended"] == ["large"]
    assert run["after"]["num_blocks_given_up"] == 12


def test_control_calls(found: dict[str, Any]) -> None:
    run = found["controls"]
    assert run["tenant"] == {"request_ids": ["a", "b"]}
    assert run["workflow"] == {"request_ids": ["b"]}
    assert run["none"]["error"] == "no selection"
    assert run["wrong"] == {"error": "ttl_s: Field required", "hint": "arguments: workflow, ttl_s"}
    assert "nothing is kept for it" in run["absent"]["error"]
    assert run["plan"] == {"num_known": 1}
    (step,) = run["steps"]["steps"]
    assert (step["num_prefill_tokens"], step["num_decode_tokens"], step["num_attention_pairs"]) == (120, 0, 2400.0)
    assert run["state"]["num_with_envelope"] == 2


def test_what_does_not_fit_is_named(found: dict[str, Any]) -> None:
    assert found["refusals"]["names"] == ["vllm.v1.core.sched.scheduler.Scheduler.frobnicate", "vllm.v1.gone.Scheduler"]
    assert "unknown policy set 'no_such_policy'" in found["refusals"]["policy"]
