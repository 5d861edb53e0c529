"""Results of `vllm bench serve` tell the step time of the server that made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.modelled.replica import Job, ModelledReplica, StepSeconds
from sundog.errors import ConfigError
from sundog.measured.named_profiles import profile_from

SECONDS = StepSeconds(8e-3, 25e-6, 55e-6, 6e-8, 4e-9)
STEP_TOKENS = 2048


def served(concurrency: int, prompt: int, output: int, num_requests: int, **more: Any) -> dict[str, Any]:
    """The result of a benchmark that keeps a modelled server at so many requests, in the fields that vLLM writes."""
    server = ModelledReplica(SECONDS, STEP_TOKENS)
    sent_s: dict[Job, float] = {}
    first_s: list[float] = []
    token_s: list[float] = []
    now_s, num_left = 0.0, num_requests
    first: dict[Job, float] = {}
    while num_left or server.jobs:
        while num_left and len(server.jobs) < concurrency:
            job = Job(prompt, output)
            sent_s[job] = now_s
            server.add(job, now_s)
            num_left -= 1
        assert server.due_s is not None
        now_s = server.due_s
        for job in server.pass_steps(now_s):
            if job not in first:
                first[job] = now_s
                first_s.append(now_s - sent_s[job])
            if job.has_ended:
                token_s.append((now_s - first[job]) / (output - 1))
    return {
        "date": "20260101-000000",
        "model_id": "m",
        "num_prompts": num_requests,
        "request_rate": "inf",
        "max_concurrency": concurrency,
        "duration": now_s,
        "completed": num_requests,
        "failed": 0,
        "total_input_tokens": prompt * num_requests,
        "total_output_tokens": output * num_requests,
        "mean_ttft_ms": sum(first_s) / num_requests * 1e3,
        "mean_tpot_ms": sum(token_s) / num_requests * 1e3,
        "gpu": "modelled",
        "max_num_batched_tokens": str(STEP_TOKENS),
        **more,
    }


def written(folder: Path, results: list[dict[str, Any]]) -> list[Path]:
    paths = [folder / f"{number}.json" for number in range(len(results))]
    for path, result in zip(paths, results, strict=True):
        path.write_text(json.dumps(result))
    return paths


SWEEP = [(1, 100), (1, 1500), (1, 6000), (8, 100), (8, 1500), (32, 100), (32, 1500)]


def test_a_sweep_tells_the_server(tmp_path: Path) -> None:
    """Waves of equal requests run in step, but that prompts of one wave come while the last one ends."""
    results = [served(concurrency, prompt, 64, 4 * concurrency) for concurrency, prompt in SWEEP]
    profile = profile_from(written(tmp_path, results), None)
    model = profile.step_time
    assert model.step_s == pytest.approx(SECONDS.step_s, rel=0.02)
    assert model.prefill_token_s == pytest.approx(SECONDS.prefill_token_s, rel=0.05)
    assert profile.fitted.mape < 0.02
    assert profile.limits.max_step_tokens == STEP_TOKENS
    assert profile.limits.max_decode_requests == 32
    assert profile.measured_on["gpu"] == "modelled"


def test_appended_results_are_lines_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(
        "\n".join(json.dumps(served(concurrency, prompt, 64, concurrency)) for concurrency, prompt in SWEEP)
    )
    assert profile_from([path], None).limits.max_decode_requests == 32


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"request_rate": 3.0}, "request_rate"),
        ({"max_concurrency": None}, "max_concurrency"),
        ({"failed": 2}, "2 requests of the benchmark failed"),
        ({"completed": 0}, "completed"),
        ({"completed": 1000}, "a count is less than 1"),
        ({"duration": "long"}, "duration"),
        ({"model_id": "other"}, "several models: m, other"),
    ],
)
def test_a_result_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profile_from(written(tmp_path, [served(1, 100, 64, 1), served(1, 100, 64, 1, **changes)]), None)
    assert what in str(caught.value)


def test_one_result_cannot_tell_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot tell"):
        profile_from(written(tmp_path, [served(4, 100, 64, 4)]), None)


def test_the_largest_step_must_be_said(tmp_path: Path) -> None:
    results = [
        served(concurrency, prompt, 64, concurrency, max_num_batched_tokens=None) for concurrency, prompt in SWEEP
    ]
    with pytest.raises(ConfigError, match="max-step-tokens"):
        profile_from(written(tmp_path, results), None)
    assert profile_from(written(tmp_path, results), 512).limits.max_step_tokens == 512


def test_results_that_do_not_tell_what_ran_together(tmp_path: Path) -> None:
    throughput = {
        "elapsed_time": 3.0,
        "num_requests": 10,
        "total_num_tokens": 99,
        "requests_per_second": 3,
        "tokens_per_second": 33,
    }
    latency = {"avg_latency": 1.0, "latencies": [1.0], "percentiles": {}}
    for result in (throughput, latency):
        with pytest.raises(ConfigError, match="max-concurrency"):
            profile_from(written(tmp_path, [result]), None)


def test_other_files_are_not_mixed_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only results of vllm bench serve"):
        profile_from(written(tmp_path, [served(1, 100, 64, 1), {"a": 1}]), None)
    with pytest.raises(ConfigError, match="max-step-tokens"):
        profile_from(written(tmp_path, [{"a": 1}]), 100)
