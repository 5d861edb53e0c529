"""The discipline of a run: order, resume, failures, a busy machine; and `sundog bench` itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import halo.idle
import halo.runner
import halo.turns
import pytest
from halo.deployments import running_engines
from halo.idle import wait_until_idle
from halo.measure import measure
from halo.modelled import load_s
from halo.results import read_results
from halo.runner import run
from halo.turns import Settings, cases_of, kv_tokens_of
from typer.testing import CliRunner

import sundog.cli.bench
from sundog.cli.main import app
from sundog.errors import ConfigError
from tests.bench.conftest import TPCH_SCALE


@pytest.fixture
def settings(tmp_path: Path, database_of: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    database = database_of("w4")
    monkeypatch.setattr(halo.turns, "open_data", lambda *_: database)
    return Settings(
        engine="null",
        workloads=("w4",),
        arms=("sundog", "asyncio"),
        conditions=(("halo", "large"),),
        num_rows=(4,),
        num_repeats=2,
        seed=1,
        folder=tmp_path / "results",
        http_mean_s=0.0,
        is_isolated=False,
    )


def test_arms_take_turns_and_nothing_is_measured_twice(settings: Settings) -> None:
    said: list[str] = []
    assert run(replace(settings, num_repeats=1), said.append) == 2
    assert run(settings, said.append) == 2
    assert run(settings, said.append) == 0
    assert [line.rpartition(":")[0] for line in said] == [
        f"null-large-halo-w4-4 {arm} {repeat}" for repeat in (0, 1) for arm in ("sundog", "asyncio")
    ]


def test_a_result_says_how_it_came_to_be(settings: Settings) -> None:
    run(settings, lambda line: None)
    for result in read_results(settings.folder):
        assert {"commit", "processor", "python", "load_1min", "tpchgen-cli"} <= result["machine"].keys()
        assert result["case"]["seed"] == 1
        assert result["case"]["database"] == "sqlite", "the URL names folders of this machine"
        assert {"wall_s", "cpu_s", "engine_cpu_s", "num_llm", "num_output_tokens", "answers"} <= result.keys()
        assert ("planning_s" in result) == (result["arm"] == "sundog")
        assert ("batch" in result) == (result["arm"] == "asyncio")


def test_an_arm_that_cannot_run_is_reported(settings: Settings) -> None:
    run(replace(settings, arms=("langgraph",), num_repeats=1), lambda line: None)
    (result,) = read_results(settings.folder)
    assert result.get("error") == "langgraph is not installed" or result["num_done"] == 4


def test_a_process_that_breaks_is_a_result(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    run(replace(settings, is_isolated=True, num_repeats=1), lambda line: None)
    assert {result["error"] for result in read_results(settings.folder)} == {"ended with 1: "}


def test_a_busy_machine_is_waited_for() -> None:
    shares, said, slept = iter((0.9, 0.5, 0.1)), list[str](), list[float]()
    wait_until_idle(said.append, lambda: next(shares), slept.append)
    assert said == ["the machine is busy with other work (90% of its processors): waiting"]
    assert len(slept) == 2
    with pytest.raises(ConfigError, match="the machine stayed busy for 30 minutes"):
        wait_until_idle(said.append, lambda: 0.21, slept.append)
    assert 0 <= halo.idle.busy_share(sleep=lambda _: None) <= 1


def test_a_repetition_of_all_cases_comes_before_the_next_and_engines_are_started_seldom(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def counted(name: str, sizes: Any) -> Any:
        started.append(sizes.kv_tokens)
        return running_engines(name, sizes)

    monkeypatch.setattr(halo.runner, "running_engines", counted)
    monkeypatch.setattr(halo.turns, "kv_tokens_of", lambda _, case: case.num_rows * 100)
    monkeypatch.setattr(halo.runner, "wait_until_idle", lambda say: say("idle"))
    said: list[str] = []
    busy = replace(settings, num_rows=(3, 2), num_repeats=3, needs_idle_machine=True)
    assert run(busy, said.append) == 3 * 2 * 2
    order = [line.split(":")[0].removeprefix("null-large-halo-w4-") for line in said]
    assert order[:5] == ["idle", "2 sundog 0", "2 asyncio 0", "3 sundog 0", "3 asyncio 0"]
    assert order[5:9] == ["idle", "3 sundog 1", "3 asyncio 1", "2 sundog 1"]
    assert order[10:12] == ["idle", "2 sundog 2"]
    assert started == [200, 300, 200, 300]


def test_a_run_whose_time_is_up_goes_on_later(settings: Settings) -> None:
    said: list[str] = []
    assert run(replace(settings, max_s=0), said.append) == 1
    assert said[-1] == "the time is up; the same command goes on from here"
    assert run(settings, said.append) == 3


def test_arms_in_modelled_time_run_in_processes_side_by_side(settings: Settings) -> None:
    modelled = replace(settings, engine="modelled", num_rows=(6,), is_isolated=True, num_repeats=1)
    run(modelled, lambda line: None)
    own, other = read_results(settings.folder)
    assert {own["arm"], other["arm"]} == {"sundog", "asyncio"}
    assert own["answers"] == other["answers"]
    assert own["wall_s"] > load_s("a")  # modelled seconds


def test_a_tenth_of_the_prompt_tokens_fits_into_the_small_cache(settings: Settings) -> None:
    sized = replace(settings, engine="modelled", num_rows=(64,), conditions=(("halo", "small"), ("halo", "large")))
    large, small = (kv_tokens_of(sized, case) for case in cases_of(sized))
    (case, _) = cases_of(sized)
    blocks = {model: {"kind": "null", "model": model, "output_tokens": 24} for model in "abc"}
    total = measure(replace(case, blocks=blocks), "asyncio")["num_prompt_tokens"]
    assert 0 <= 3 * large - total < 3 * 1024
    assert 0 <= 3 * small - total / 10 < 3 * 1024


def test_quick_shows_that_all_arms_agree(database_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database = database_of("w4")
    monkeypatch.setattr(halo.turns, "open_data", lambda *_: database)
    options = ["--quick", "--workloads", "w4", "--arms", "sundog,asyncio,careful", "--tpch-scale", str(TPCH_SCALE)]
    shown = CliRunner().invoke(app, ["bench", *options])
    assert shown.exit_code == 0, shown.output
    assert "| W4 bridge | 25% |" in shown.output


def test_quick_fails_when_an_arm_gives_other_rows(database_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database = database_of("w4")
    monkeypatch.setattr(halo.turns, "open_data", lambda *_: database)

    def forgetful(case: Any, arm: str) -> dict[str, Any]:
        found = measure(case, arm)
        return found | ({"answers": found["answers"][::-1]} if arm == "careful" else {})

    monkeypatch.setattr(halo.runner, "measure", forgetful)
    shown = CliRunner().invoke(app, ["bench", "--quick", "--workloads", "w4", "--arms", "asyncio,careful"])
    assert shown.exit_code == 1
    assert "gave other rows than plain asyncio: null-large-halo-w4-12 careful" in shown.output


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--workloads", "w9"], "there is no workload 'w9'"),
        (["--conditions", "halo", "--allow-busy"], "there is no condition 'halo'"),
        (["--arms", "luck"], "there is no arm 'luck'"),
        (["--engine", "steam", "--allow-busy", "--workloads", "w4"], "there are no engines called 'steam'"),
    ],
)
def test_wrong_options_are_told(options: list[str], complaint: str, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["bench", "--results", str(tmp_path), *options])
    assert shown.exit_code == 2, shown.output
    assert complaint in shown.output


def test_outside_a_clone_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sundog.cli.bench, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["bench"])
    assert shown.exit_code == 2
    assert "clone sundog's repository" in shown.output
