"""`sundog simulate` as a user sees it: on the null engine, whose steps a profile tells exactly."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from shutil import copytree
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
  idle: {kind: "null"}
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


@pytest.fixture(scope="module")
def ran_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the flow and the state of one run of it; tests take copies."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "flow.yaml").write_text(FLOW)
    save_profile(cache_folder(), load_plan(folder / "flow.yaml", {}).engines[1], PROFILE)
    sundog(folder, "run", "flow.yaml", "--limit", "3", "--quiet")
    return folder


@pytest.fixture
def folder(ran_once: Path, tmp_path: Path) -> Path:
    return copytree(ran_once, tmp_path / "copy")


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
    document = simulated(folder, "--replicas", "local=2", "--compare", "--fail local#1@1s")
    without, lost = makespans_s(document)
    assert lost > 1.5 * without
    assert [(one["num_failed_rows"], one["num_executed"]) for one in document["variants"]] == [(0, 64), (0, 64)]


def test_replicas_that_come_and_go_stand_beside_those_that_stay(folder: Path) -> None:
    """One wave of four calls takes 0.6 s: 1,600 waves on one replica. Autoscaled, three more are there after 60 s, when
    100 waves have ended."""
    document = simulated(
        folder, "--rows", "6400", "--replicas", "local=4", "--compare", "--autoscale local=1..4:queue:start=45s"
    )
    fixed, scaled = makespans_s(document)
    assert fixed == pytest.approx(240.0)
    assert scaled == pytest.approx(60.0 + 225.0)
    hours = [one["pools"][0]["replica_s"] for one in document["variants"]]
    assert hours == [pytest.approx(4 * 240.0), pytest.approx(285.0 + 3 * 270.0)]
    (note,) = (line for line in document["variants"][1]["assumptions"] if "1 to 4 replicas" in line)
    assert "starts in 45 s, and" in note, "it was told, not assumed"
    assert max(document["variants"][1]["course"][0]["num_replicas"]) == 4


def test_remaining_work_rents_no_more_than_a_time_needs(folder: Path) -> None:
    by_finish = ["--compare", "--autoscale local=1..8:finish=10m:start=0s", "--rows", "6400"]
    document = simulated(folder, *by_finish, "--compare", "--autoscale local=1..8:queue:start=0s")
    alone, in_time, by_queue = document["variants"]
    assert alone["makespan_s"]["expected"] == pytest.approx(960.0)
    assert 480.0 < in_time["makespan_s"]["expected"] <= 600.0
    assert by_queue["makespan_s"]["expected"] < 200.0, "the queue does not know how much time there is"
    assert max(in_time["course"][0]["num_replicas"]) == 2


def test_a_page_shows_replicas_that_come(folder: Path) -> None:
    options = ["--rows", "6400", "--autoscale", "local=1..4:queue"]
    page = sundog(folder, "simulate", "flow.yaml", "--format", "html", *options).stdout
    assert '<polyline class="replicas"' in page
    assert "up to 4 replicas" in page
    text = sundog(folder, "simulate", "flow.yaml", *options).stdout
    assert "replica hours" in text
    assert "starts in 10 s (assumed; --autoscale local=...:start=TIME says otherwise)" in text


def test_autoscaling_is_of_no_engine_on_workers(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(PLACED)
    ran = sundog(tmp_path, "simulate", "flow.yaml", "--autoscale", "one=1..2:queue")
    assert ran.exit_code == 2
    assert "is on workers" in ran.stderr


def test_phases_apart_stand_beside_replicas_that_do_both(folder: Path) -> None:
    """One of the six tokens of a call is the prompt's, which takes a step of 0.1 s for four, and five are decoded."""
    apart = "--split-phases local=1+1:inf"
    document = simulated(folder, "--rows", "8", "--compare", apart, "--compare", "--split-phases local=1+1:1KB/s:10B")
    both, split, slow = document["variants"]
    assert both["makespan_s"]["expected"] == pytest.approx(1.2)
    assert split["makespan_s"]["expected"] == pytest.approx(0.1 + 0.5 + 0.5), "prompts are computed meanwhile"
    assert slow["makespan_s"]["expected"] > 1.1
    assert split["machines"] == {"local": 1, "local/decode": 1}
    prompts, answers = split["pools"]
    assert (prompts["num_output_tokens"], answers["num_output_tokens"]) == (8, 40)
    assert (prompts["num_calls"], answers["num_calls"], split["num_executed"]) == (8, 8, 8)
    (note,) = (line for line in slow["assumptions"] if "decodes on" in line)
    assert "KV blocks move at 0.0 GB/s, 10 bytes a token" in note
    text = sundog(folder, "simulate", "flow.yaml", *apart.split()).stdout
    assert "engine:local/decode" in text


def test_a_decode_replica_may_fail(folder: Path) -> None:
    options = ["--split-phases", "local=1+2:inf", "--compare", "--fail local/decode#1@1s"]
    without, lost = makespans_s(simulated(folder, *options))
    assert lost > without
    ran = sundog(folder, "simulate", "flow.yaml", "--split-phases", "local=1+2:inf", "--fail", "local/decode#2@1s")
    assert ran.exit_code == 2
    assert "no replica 2" in ran.stderr


def test_replicas_change_their_roles(folder: Path) -> None:
    """Five of six tokens are decoded, so one decode replica beside three for prompts is too few."""
    options = ["--rows", "2000", "--split-phases", "local=3+1:inf", "--compare", "--split-phases local=3+1:inf:flip"]
    document = simulated(folder, *options)
    stay, flip = document["variants"]
    assert flip["makespan_s"]["expected"] < 0.5 * stay["makespan_s"]["expected"]
    assert [one["pools"][0]["num_flips"] for one in (stay, flip)] == [0, 2]
    assert "change between prefill and decode 2 times" in sundog(folder, "simulate", "flow.yaml", *options).stdout


def test_phases_need_a_profile(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW.replace(", step_time: [0.1, 0, 0, 0, 0], max_step_tokens: 512", ""))
    ran = sundog(tmp_path, "simulate", "flow.yaml", "--split-phases", "local=1+1:inf")
    assert ran.exit_code == 2
    assert "it has no profile" in ran.stderr


def test_changes_that_change_nothing_are_told(folder: Path) -> None:
    (one,) = simulated(folder, "--replicas", "idle=2", "--fail", "local#0@100s")["variants"]
    assert one["assumptions"][-2:] == [
        "no step uses the engine 'idle': its replicas and profile change nothing",
        "the failure local#0@100s comes after the end",
    ]


def test_workers_load_take_turns_and_cost(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(PLACED)
    (one,) = simulated(tmp_path)["variants"]
    assert one["machines"] == {"gpu": 1}
    assert sum(pool["num_loads"] for pool in one["pools"]) == 2
    assert one["worker_usd"] == pytest.approx(3.6 / 3600 * one["makespan_s"]["expected"], rel=1e-6)
    assert any("assumed to take 0.1 s" in line for line in one["assumptions"])
    assert one["makespan_s"]["high"] >= 10 * one["makespan_s"]["expected"], "what is assumed widens the range"
    profiles = ("--engine-profile", "llama-3-8b-h100")
    (known,) = simulated(tmp_path, *profiles)["variants"]
    assert "one: a load is assumed to take 10 s (1-100 s)" in known["assumptions"]
    assert known["makespan_s"]["high"] >= known["makespan_s"]["expected"] + 180, "two loads of up to 90 s more"
    assert known["makespan_s"]["low"] <= known["makespan_s"]["expected"] - 18, "or of 9 s less"


SERVED = """
name: served
workers: {group: {count: 2}}
engines:
  local: {kind: vllm, model: m, arguments: {tensor_parallel_size: 2}, environment: {CUDA_VISIBLE_DEVICES: "0,1,2,3"}}
  alone: {kind: vllm_local, model: m}
inputs:
  rows: {query: "select range as id from range(8)"}
nodes:
  ask:
    llm: {engine: local, prompt: "{{ row.id }}"}
outputs: {text: "{{ ask.text }}"}
"""


@pytest.mark.parametrize(
    ("old", "new", "options", "what"),
    [
        (
            "",
            "",
            ["--replicas", "local=3"],
            "--replicas local=3: the GPUs that the engine 'local' names have room for 2",
        ),
        ("", "", ["--replicas", "alone=2"], "the engine 'alone' cannot have 2 replicas"),
        (
            "model: m, arg",
            "model: m, replicas: 3, arg",
            [],
            "flow.yaml:5:84: the GPUs that the block names have room for 2",
        ),
        (
            "model: m, arg",
            "model: m, workers: group, arg",
            ["--workers", "group=3"],
            "--workers group=3: the GPUs that",
        ),
        ("count: 2", "count: 3", [], ""),
    ],
)
def test_more_replicas_than_gpus_are_told(tmp_path: Path, old: str, new: str, options: list[str], what: str) -> None:
    """The GPUs are those that the engine's block names in CUDA_VISIBLE_DEVICES; a block that names none has any."""
    (tmp_path / "flow.yaml").write_text(SERVED.replace(old, new))
    ran = sundog(tmp_path, "simulate", "flow.yaml", *options)
    assert ran.exit_code == (2 if what else 0), ran.stderr
    assert what in ran.stderr


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
        (["--replicas", "local=100000"], "at most 4,096"),
        (["--fail", "local#0@1s", "--fail", "local#0@2s+1s"], "it is away since 1 s for good"),
        (["--workers", "gpu=2"], "no group of workers 'gpu'"),
        (["--fail", "local#1@5s"], "no replica 1"),
        (["--fail", "local@5s"], "not of the form"),
        (["--fail", "local#0@1.2.3s"], "not of the form"),
        (["--fail", "idle#0@5s"], "no step uses the engine 'idle'"),
        (["--replicas", "local=2", "--replicas", "local=3"], "--replicas local= is given twice"),
        (["--engine-profile", "a", "--engine-profile", "b"], "--engine-profile is given twice for all engines"),
        (["--compare", "--rows 0"], "--rows: 0 is too few"),
        (["--compare", "--max-rows-in-flight 0"], "--max-rows-in-flight: 0 is too few"),
        (["--policy", "fcsf"], "did you mean 'fcfs'?"),
        (["--compare", "--polcy fcfs"], "unrecognized arguments"),
        (["--compare", "--policy 'fcfs"], "not a line of options"),
        (["--deadline", "soon"], "is no duration"),
        (["--deadline", "0.1s"], "more do not help"),
        (["--deadline", "4s", "--compare", ""], "looks for one answer"),
        (["--deadline", "4s", "--autoscale", "local=1..2:queue"], "looks for a number of equal replicas that stay"),
        (["--autoscale", "local=1..2"], "not of the form ENGINE=MIN..MAX:RULE"),
        (["--autoscale", "local=1..2:soon"], "not of the form ENGINE=MIN..MAX:RULE"),
        (["--autoscale", "local=1..2:queue=0"], "not of the form ENGINE=MIN..MAX:RULE"),
        (["--autoscale", "local=1..2:queue:stop=3s"], "not of the form ENGINE=MIN..MAX:RULE"),
        (["--autoscale", "local=0..2:queue"], "0..2 is no range of replicas"),
        (["--autoscale", "local=3..2:queue"], "3..2 is no range of replicas"),
        (["--autoscale", "local=1..4097:queue"], "at most 4,096"),
        (["--autoscale", "local=1..2:finish"], "finish= is no duration"),
        (["--autoscale", "local=1..2:finish=0s"], "finish=0s is no duration"),
        (["--autoscale", "local=1..2:queue:start=soon"], "start=soon is no duration"),
        (["--split-phases", "local=1+4097:inf"], "4,097 replicas are too many"),
        (["--autoscale", "loca=1..2:queue"], "no engine 'loca'"),
        (["--autoscale", "local=1..2:queue", "--replicas", "local=2"], "the replicas of 'local' are told twice"),
        (["--compare", "--autoscale local=1..2"], "not of the form ENGINE=MIN..MAX:RULE"),
        (["--split-phases", "local=1+1"], "not of the form ENGINE=PREFILL+DECODE:BANDWIDTH"),
        (["--split-phases", "local=1+1:fast"], "not of the form ENGINE=PREFILL+DECODE:BANDWIDTH"),
        (["--split-phases", "local=1+1:inf:flop"], "not of the form ENGINE=PREFILL+DECODE:BANDWIDTH"),
        (["--split-phases", "local=0+1:inf"], "a number is 0"),
        (["--split-phases", "local=1+1:0GB/s:1KiB"], "a number is 0"),
        (["--split-phases", "loca=1+1:inf"], "no engine 'loca'"),
        (["--split-phases", "local=1+1:1GB/s"], "how large the KV cache of a token is"),
        (["--split-phases", "local=1+1:inf", "--autoscale", "local=1..2:queue"], "are told twice"),
        (["--split-phases", "local=1+1:inf", "--deadline", "4s"], "leave --split-phases away"),
        (["--arrivals", "even:1/s", "--autoscale", "local=1..2:finish=1h"], "finish is of a batch"),
    ],
)
def test_mistakes_are_told_with_their_place(folder: Path, options: list[str], what: str) -> None:
    ran: Ran = sundog(folder, "simulate", "flow.yaml", *options)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert what in ran.stderr


def test_a_variant_whose_rows_fail_says_so_where_it_is_compared(folder: Path) -> None:
    for form in ("text", "html"):
        shown = sundog(folder, "simulate", "flow.yaml", "--compare", "--fail local#0@0.15s", "--format", form).stdout
        assert re.search(r"--fail local#0@0.15s \(\d+ rows fail\)", shown)


@pytest.mark.parametrize("content", [b"", b"no log at all", gzip.compress(b"", mtime=0)], ids=["empty", "text", "gzip"])
def test_logs_that_tell_nothing_are_named(folder: Path, content: bytes) -> None:
    sundog(folder, "run", "flow.yaml", "--limit", "8", "--fresh", "--quiet")
    for log in folder.rglob("events-*.jsonl.gz"):
        log.write_bytes(content)
    ran = sundog(folder, "simulate", "flow.yaml", "--log", "last")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "the run's logs tell nothing" in ran.stderr
    assert "events-" in ran.stderr


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
    assert one["assumptions"] == [
        "requests and their lengths are the trace's, not the flow's",
        "the trace does not tell what prompts share: nothing is taken to be cached",
    ]
    page = sundog(folder, "simulate", "flow.yaml", "--arrivals", "azure.csv", "--format", "html").stdout
    assert "engine:local: first token" in page


def test_a_run_is_simulated_again_from_its_log(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--limit", "8", "--fresh", "--quiet", "--policy", "past_future")
    first, second = simulated(folder, "--log", "last", "--compare", "--policy prefix_grouped")["variants"]
    assert (first["policy"], second["policy"]) == ("past_future", "prefix_grouped"), "the run's own, if none is named"
    assert first["num_executed"] == second["num_executed"] == 8
    assert any(
        re.match("the run took .* for the 8 rows in its log, under past_future", line) for line in first["assumptions"]
    )


def test_a_replay_has_the_window_of_its_run_and_the_replicas_that_are_asked_for(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--limit", "8", "--fresh", "--quiet", "--max-rows-in-flight", "2")
    variants = simulated(
        folder, "--log", "last", "--compare", "--max-rows-in-flight 8", "--compare", "--replicas local=2"
    )["variants"]
    assert [one["max_rows_in_flight"] for one in variants] == [2, 8, 2]
    assert [one["machines"] for one in variants] == [{"local": 1}, {"local": 1}, {"local": 2}]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--arrivals", "poison:5/s"], "poison"),
        (["--arrivals", "even:1/s", "--log", "last"], "--log has arrivals of its own"),
        (["--arrivals", "even:1/s", "--deadline", "2h"], "--deadline is of a batch"),
        (["--log", "nothing"], "nothing"),
        (["--log", "last", "--rows", "5"], "--rows 5: a replay has the rows of its run"),
        (["--arrivals", "broken.csv"], "broken.csv:3: 2 values under 3 columns"),
        (["--arrivals", "broken.csv", "--rows", "5"], "--rows 5: a trace brings its own requests"),
    ],
)
def test_mistaken_loads_are_told(folder: Path, options: list[str], what: str) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens"
    (folder / "broken.csv").write_text(f"{header}\n2023-11-16 18:17:03.97,480,10\n2023-11-16 18:17:04.97,8\n")
    ran = sundog(folder, "simulate", "flow.yaml", *options)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert what in ran.stderr
