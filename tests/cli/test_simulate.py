"""`sundog simulate` as a user sees it: on the null engine, whose steps a profile tells exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sundog.cost.profile import Profile, StepLimits
from sundog.cost.step_time import FitError, StepTime
from sundog.engines.embedded.models import cache_folder
from sundog.measured.profiles import save_profile
from sundog.session.flow_file import load_plan
from tests.cli.flows import Ran, sundog

FLOW = """
name: study
engines:
  local: {kind: "null", max_concurrency: 4, step_time: [0.1, 0, 0, 0, 0], max_step_tokens: 512}
inputs:
  rows: {query: "select range as id from range(64)"}
nodes:
  ask:
    llm: {engine: local, prompt: "About {{ row.id }}.", max_tokens: 8}
outputs: {id: "{{ row.id }}", text: "{{ ask.text }}"}
"""
EXACT = FitError(1, 0.0, 0.0, 0.0)
PROFILE = Profile(StepTime(0.1, 0.0, 0.0, 0.0, 0.0, 0.0), StepLimits(512, 4), EXACT, EXACT, {})
PLACED = """
name: placed
workers: {gpu: {count: 1, usd_per_hour: 3.6}}
engines:
  one: {kind: "null", model: a, workers: gpu}
  two: {kind: "null", model: b, workers: gpu}
inputs:
  rows: {query: "select range as id from range(8)"}
nodes:
  first:
    llm: {engine: one, prompt: "{{ row.id }}"}
  second:
    llm: {engine: two, prompt: "{{ first.text }}"}
outputs: {text: "{{ second.text }}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    save_profile(cache_folder(), load_plan(tmp_path / "flow.yaml", {}).engines[0], PROFILE)
    sundog(tmp_path, "run", "flow.yaml", "--limit", "3", "--quiet")
    return tmp_path


def simulated(folder: Path, *options: str, flow: str = "flow.yaml") -> dict[str, Any]:
    ran = sundog(folder, "simulate", flow, "--format", "json", *options)
    assert ran.exit_code == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def makespans_s(document: dict[str, Any]) -> list[float]:
    return [one["makespan_s"]["expected"] for one in document["variants"]]


def test_twice_the_replicas_take_half_the_time(folder: Path) -> None:
    document = simulated(folder, "--compare", "--replicas local=2", "--compare", "--rows 32")
    whole, two, half = makespans_s(document)
    assert whole == pytest.approx(16 * 6 * 0.1), "sixteen waves of six tokens"
    assert two == pytest.approx(whole / 2)
    assert half == pytest.approx(whole / 2)
    assert document["makespan_s"] == document["variants"][-1]["makespan_s"]
    assert [one["num_rows"] for one in document["variants"]] == [64, 64, 32]
    pool = document["variants"][1]["pools"][0]
    assert (pool["num_replicas"], pool["num_calls"], pool["num_output_tokens"]) == (2, 64, 64 * 6)
    assert pool["busy_share"] == pytest.approx(1.0)


def test_more_rows_than_there_are_take_longer(folder: Path) -> None:
    (many,) = makespans_s(simulated(folder, "--rows", "640"))
    assert many == pytest.approx(160 * 6 * 0.1)


def test_the_fewest_replicas_for_a_deadline(folder: Path) -> None:
    document = simulated(folder, "--deadline", "4s")
    answer = document["variants"][-1]
    assert answer["machines"] == {"local": 3}
    assert answer["makespan_s"]["expected"] <= 4
    assert document["deadline_s"] == 4


def test_a_lost_replica_costs_time_and_no_row(folder: Path) -> None:
    without, lost = makespans_s(simulated(folder, "--replicas", "local=2", "--compare", "--fail local#1@1s"))
    assert lost > 1.5 * without


def test_workers_load_take_turns_and_cost(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(PLACED)
    (one,) = simulated(tmp_path)["variants"]
    assert one["machines"] == {"gpu": 1}
    assert sum(pool["num_loads"] for pool in one["pools"]) == 2
    assert one["worker_usd"] == pytest.approx(3.6 / 3600 * one["makespan_s"]["expected"], rel=1e-6)
    assert any("assumed to take 0.1 s" in line for line in one["assumptions"])
    assert one["makespan_s"]["high"] >= 10 * one["makespan_s"]["expected"], "what is assumed widens the range"


def test_text_and_page_say_the_same(folder: Path) -> None:
    text = sundog(folder, "simulate", "flow.yaml", "--compare", "--policy fcfs").stdout
    assert "as planned" in text
    assert "--policy fcfs" in text
    assert "≈9.6" in text
    page = sundog(folder, "simulate", "flow.yaml", "--format", "html", "--compare", "--policy 'fcfs'").stdout
    assert page.startswith("<!doctype html>")
    assert "--policy &#39;fcfs&#39;" in page, "what a user writes is escaped"
    assert page.count("<svg") == 2


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--replicas", "loca=2"], "no engine 'loca'"),
        (["--replicas", "local=0"], "not of the form NAME=N"),
        (["--workers", "gpu=2"], "no group of workers 'gpu'"),
        (["--fail", "local#1@5s"], "no replica 1"),
        (["--fail", "local@5s"], "not of the form"),
        (["--policy", "fcsf"], "did you mean 'fcfs'?"),
        (["--compare", "--polcy fcfs"], "unrecognized arguments"),
        (["--compare", "--policy 'fcfs"], "not a line of options"),
        (["--deadline", "soon"], "is no duration"),
        (["--deadline", "0.1s"], "more do not help"),
        (["--deadline", "4s", "--compare", ""], "looks for one answer"),
    ],
)
def test_mistakes_are_told_with_their_place(folder: Path, options: list[str], what: str) -> None:
    ran: Ran = sundog(folder, "simulate", "flow.yaml", *options)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert what in ran.stderr


def test_no_rows_are_told(folder: Path) -> None:
    (folder / "flow.yaml").write_text(FLOW.replace("range(64)", "range(0)"))
    ran = sundog(folder, "simulate", "flow.yaml")
    assert ran.exit_code == 2
    assert "there are no rows" in ran.stderr


def test_rows_that_come_over_time_have_latencies(folder: Path) -> None:
    document = simulated(folder, "--arrivals", "even:2/s")
    (one,) = document["variants"]
    assert one["makespan_s"]["expected"] == pytest.approx(63 / 2 + 0.6), "the last of 64 rows comes after 31.5 s"
    row, *_ = one["latencies"]
    assert (row["what"], row["count"]) == ("a row ends", 64)
    assert row["p99_s"] == pytest.approx(0.6, rel=0.03), "nobody waits"
    (busy,) = simulated(folder, "--arrivals", "even:20/s")["variants"]
    assert busy["latencies"][0]["p99_s"] > 5, "four at once, each 0.6 s, are 6.7 a second"


def test_a_trace_brings_its_own_requests(folder: Path) -> None:
    trace = folder / "azure.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,480,10\n2023-11-16 18:17:04.97,318,8\n"
    )
    (one,) = simulated(folder, "--arrivals", "azure.csv")["variants"]
    assert one["makespan_s"]["expected"] == pytest.approx(1.8), "the second comes after a second, and takes eight steps"
    assert one["pools"][0]["num_prompt_tokens"] == 798


def test_a_run_is_simulated_again_from_its_log(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--limit", "8", "--fresh", "--quiet", "--policy", "past_future")
    first, second = simulated(folder, "--log", "last", "--compare", "--policy prefix_grouped")["variants"]
    assert (first["policy"], second["policy"]) == ("past_future", "prefix_grouped"), "the run's own, if none is named"
    assert first["num_executed"] == second["num_executed"] == 8
    assert any(line.startswith("the run took ") for line in first["assumptions"])


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--arrivals", "poison:5/s"], "poison"),
        (["--arrivals", "even:1/s", "--log", "last"], "--log has arrivals of its own"),
        (["--arrivals", "even:1/s", "--deadline", "2h"], "--deadline is of a batch"),
        (["--log", "nothing"], "nothing"),
    ],
)
def test_mistaken_loads_are_told(folder: Path, options: list[str], what: str) -> None:
    ran = sundog(folder, "simulate", "flow.yaml", *options)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert what in ran.stderr
