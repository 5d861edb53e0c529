"""The other commands: explain, runs, trace, model, --version."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

import sundog as sd
from tests.cli.flows import report_of, sundog, write_checked, write_review, write_rows

EVERYTHING = """
name: everything
engines:
  small: {kind: "null", replicas: 2, max_concurrency: 4, max_tokens_in_flight: 8000}
  unused: {kind: "null"}
limits:
  https://example.com: {max_concurrency: 4}
inputs:
  rows: {path: rows.jsonl}
constants: {tone: calm}
nodes:
  policy:
    sql: {database: "sqlite:///policy.db", query: "select text from p where id = :id", params: {id: "{{ row.id }}"}}
  now:
    sql: {database: "sqlite:///policy.db", query: "select datetime('now') as at"}
  page:
    http: {url: "https://example.com/pages", params: {id: "{{ row.id }}"}}
    timeout: 5
    retries: 0
  keep:
    filter: "{{ page.status == 200 }}"
  facts:
    llm: {engine: small, prompt: "{{ tone }} {{ policy[0].text }} {{ page.text }}"}
  ideas:
    llm: {engine: small, prompt: "{{ facts.text }}", temperature: 0.7}
  revise:
    loop:
      max_turns: 3
      until: "{{ judge.good }}"
      nodes:
        draft:
          llm: {engine: small, prompt: "{{ ideas.text }} {{ loop.turn }}"}
        judge:
          llm: {engine: small, prompt: "{{ draft.text }}", output: {good: bool}}
          share: false
  send:
    http: {method: POST, url: "https://example.com/answers", json: {text: "{{ revise.draft.text }}"}}
  log:
    sql: {database: "sqlite:///log.db", query: "insert into log values (:id)", params: {id: "{{ row.id }}"}}
  logged:
    sql: {database: "sqlite:///log.db", query: "select count(*) as n from log"}
outputs: {id: "{{ row.id }}", text: "{{ revise.draft.text }}", n: "{{ logged[0].n }}"}
"""


def test_explain_shows_both_plans(tmp_path: Path, check_golden: Callable[[str, str], None]) -> None:
    (tmp_path / "flow.yaml").write_text(EVERYTHING)
    write_rows(tmp_path, 1200)
    for name, table in (("policy.db", "p (id int, text text)"), ("log.db", "log (id int)")):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute(f"create table {table}")
    ran = sundog(tmp_path, "explain", "flow.yaml")
    assert (ran.exit_code, ran.stderr) == (0, "")
    check_golden("explain/everything.txt", ran.stdout)
    assert not (tmp_path / ".sundog").exists()


def test_explain_shows_the_choice_of_rows_and_policy(tmp_path: Path) -> None:
    write_review(tmp_path)
    ran = sundog(tmp_path, "explain", "flow.yaml", "--limit", "7", "--policy", "fcfs", "--max-rows-in-flight", "5")
    assert "physical plan, policy fcfs\n├── rows: 7, at most 5 in flight, read by row.topic\n" in ran.stdout


def test_explain_finds_missing_columns(tmp_path: Path) -> None:
    write_review(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n')
    ran = sundog(tmp_path, "explain", "flow.yaml")
    assert ran.exit_code == 2
    assert "the input has no column 'topic'" in ran.stderr


def test_runs_are_listed_with_their_state(tmp_path: Path) -> None:
    assert sundog(tmp_path, "runs").stdout == "no runs in .sundog\n"
    write_checked(tmp_path, 3, bad="0")
    sundog(tmp_path, "run", "flow.yaml", "--output", "a.csv", "--fail-fast", "--max-rows-in-flight", "1")
    sundog(tmp_path, "run", "flow.yaml", "--output", "b.csv")
    found = json.loads(sundog(tmp_path, "runs", "--json").stdout)
    assert [(run["state"], run["rows"], run["failed"], Path(run["output"]).name) for run in found] == [
        ("finished", 3, 1, "b.csv"),
        ("unfinished", 3, 1, "a.csv"),
    ]
    head, newest, _ = sundog(tmp_path, "runs").stdout.splitlines()
    assert head.split()[:3] == ["run", "state", "rows"]
    assert newest.split()[:3] == [found[0]["run"], "finished", "3"]


@pytest.mark.parametrize("command", [("runs",), ("runs", "last"), ("show", "last"), ("trace", "last")])
def test_a_look_into_another_folder_leaves_nothing_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "other").mkdir()
    ran = sundog(tmp_path, *command, "--state", "other")
    assert "no runs in other" in ran.stdout + ran.stderr
    assert list((tmp_path / "other").iterdir()) == []


def test_state_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_review(tmp_path)
    monkeypatch.setenv("SUNDOG_STATE", "kept")
    sundog(tmp_path, "run", "flow.yaml")
    assert (tmp_path / "kept").is_dir()
    assert not (tmp_path / ".sundog").exists()
    assert len(sundog(tmp_path, "runs").stdout.splitlines()) == 2
    assert sundog(tmp_path, "runs", "--state", "other").stdout == "no runs in other\n"


def test_a_trace_holds_a_slice_for_each_executed_call(tmp_path: Path) -> None:
    write_review(tmp_path)
    report = report_of(sundog(tmp_path, "run", "flow.yaml", "--json"))
    ran = sundog(tmp_path, "trace", report["run_id"])
    assert ran.exit_code == 0, ran.stderr
    trace = json.loads((tmp_path / f"{report['run_id']}.trace.json").read_text())
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["args"]]
    assert len(slices) == report["num_executed"]
    assert sum(event["args"]["output_tokens"] for event in slices) == report["num_output_tokens"]
    assert list(tmp_path.glob(".*trace*")) == []


def test_a_trace_of_an_unknown_run_is_refused(tmp_path: Path) -> None:
    ran = sundog(tmp_path, "trace", "nothing-1")
    assert (ran.exit_code, ran.stderr.splitlines()[0]) == (2, "error: there are no runs in .sundog")
    write_review(tmp_path)
    sundog(tmp_path, "run", "flow.yaml")
    ran = sundog(tmp_path, "trace", "review-x")
    assert (ran.exit_code, ran.stderr.splitlines()[0]) == (2, "error: there is no run 'review-x' in .sundog")


def test_models_are_listed_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path))
    assert sundog(tmp_path, "model", "list").stdout == "smollm2-135m  not pulled (98 MB)\n"
    ran = sundog(tmp_path, "model", "path", "smollm2-135m")
    assert ran.exit_code == 2
    assert ran.stderr == "error: the model 'smollm2-135m' is not pulled\n  sundog model pull smollm2-135m\n"
    ran = sundog(tmp_path, "model", "pull", "gpt")
    assert ran.exit_code == 2
    assert "error: unknown model 'gpt'" in ran.stderr


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    assert sundog(tmp_path, "--version").stdout == f"sundog {version('sundog')}\n"
    assert sd.__version__ == version("sundog")


@pytest.mark.parametrize("command", [[], ["run"], ["engine", "up"], ["model", "pull"]])
def test_help_has_a_short_form(tmp_path: Path, command: list[str]) -> None:
    short, long = (sundog(tmp_path, *command, option) for option in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert short.stdout.startswith(f"Usage: {' '.join(['root', *command])} [OPTIONS]")


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("{kind: 'null'}", 2048),
        ("{kind: 'null', max_concurrency: 1024, replicas: 3}", 6144),
        ("{kind: 'null', max_concurrency: 100000}", 32_768),
    ],
)
def test_rows_in_flight_fill_the_places_of_the_engines(tmp_path: Path, engine: str, expected: int) -> None:
    (tmp_path / "flow.yaml").write_text(
        f"name: places\nengines: {{e: {engine}}}\ninputs: {{rows: {{path: rows.jsonl}}}}\n"
        'nodes: {ask: {llm: {engine: e, prompt: "{{ row.id }}"}}}\noutputs: {a: "{{ ask.text }}"}\n'
    )
    write_rows(tmp_path, 1)
    shown = json.loads(sundog(tmp_path, "explain", "flow.yaml", "--format", "json").stdout)
    assert shown["max_rows_in_flight"] == expected
    shown = json.loads(sundog(tmp_path, "explain", "flow.yaml", "--format", "json", "--max-rows-in-flight", "7").stdout)
    assert shown["max_rows_in_flight"] == 7


def test_explain_counts_the_values_of_a_wide_prompt(tmp_path: Path) -> None:
    """Each set of values that was counted had a table of its own in DuckDB, all at once: 20 columns were too many."""
    prompt = " ".join(f"{{{{ row.c{number} }}}}" for number in range(30))
    node = f'{{llm: {{engine: e, prompt: "{prompt}"}}}}'
    (tmp_path / "flow.yaml").write_text(
        'name: wide\nengines: {e: {kind: "null"}}\ninputs: {rows: {path: rows.jsonl}}\n'
        f'nodes: {{wide: {node}}}\noutputs: {{a: "{{{{ wide.text }}}}"}}\n'
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps({f"c{number}": "x" * 200 for number in range(30)}) + "\n")
    shown = sundog(tmp_path, "explain", "flow.yaml")
    assert shown.exit_code == 0
    assert "not every move of one was tried" in shown.stdout


def test_a_quota_of_files_is_a_finite_number(tmp_path: Path) -> None:
    told = sundog(tmp_path, "serve", "--port", "0", "--file-quota", "inf")
    assert told.exit_code == 2
    assert "--file-quota inf is no number of GiB" in told.stderr
