"""`sundog show`, `--output -`, and how a run is named."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from sundog.cli import runs, show
from tests.cli.flows import num_checks, report_of, sundog, write_checked, write_review


def test_the_rows_of_a_run_without_an_output_are_shown(tmp_path: Path) -> None:
    write_checked(tmp_path, 4, bad="1")
    run_id = report_of(sundog(tmp_path, "run", "flow.yaml", "--json"))["run_id"]
    assert sundog(tmp_path, "show", run_id).stdout == '{"id":0,"found":0}\n{"id":2,"found":4}\n{"id":3,"found":6}\n'
    assert sundog(tmp_path, "show", run_id, "--limit", "1").stdout == '{"id":0,"found":0}\n'
    assert sundog(tmp_path, "show", "last", "--format", "csv").stdout == "id,found\n0,0\n2,4\n3,6\n"
    assert sundog(tmp_path, "show", "last", "--format", "table").stdout == "id  found\n0   0\n2   4\n3   6\n"
    assert num_checks(tmp_path) == 4


def test_the_failed_rows_are_shown(tmp_path: Path) -> None:
    write_checked(tmp_path, 4, bad="1 3")
    sundog(tmp_path, "run", "flow.yaml")
    lines = sundog(tmp_path, "show", "last", "--errors").stdout.splitlines()
    assert [(one["row"], one["node"], one["attempts"]) for one in map(json.loads, lines)] == [
        (1, "check", 1),
        (3, "check", 1),
    ]
    table = list(csv.DictReader(io.StringIO(sundog(tmp_path, "show", "last", "--errors", "--format", "csv").stdout)))
    assert [row["row"] for row in table] == ["1", "3"]
    assert "row 1 is bad" in table[0]["cause"]


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    write_checked(tmp_path, 2, bad="0 1")
    sundog(tmp_path, "run", "flow.yaml")
    for form in ("jsonl", "csv", "table"):
        ran = sundog(tmp_path, "show", "last", "--format", form)
        assert (ran.exit_code, ran.stdout) == (0, "")
        assert ran.stderr.endswith("has no output rows; 2 have failed: --errors\n")


def test_a_table_says_how_many_rows_it_leaves_out(tmp_path: Path) -> None:
    write_review(tmp_path, 25)
    sundog(tmp_path, "run", "flow.yaml")
    ran = sundog(tmp_path, "show", "last", "--format", "table")
    assert len(ran.stdout.splitlines()) == 1 + show.NUM_TABLE_ROWS
    assert ran.stderr == "5 more rows: --limit 25\n"


def test_a_table_fits_its_width_and_keeps_to_lines() -> None:
    rows = [{"id": "1", "text": "x" * 200, "more": "日本語" * 30}, {"id": "2", "text": "short", "more": ""}]
    lines = list(show.row_lines(("id", "text", "more"), rows, 40))
    assert lines[0].split() == ["id", "text", "more"]
    assert lines[1].startswith("1   xxx")
    assert lines[1].count("…") == 2
    assert all(sum(2 if ord(character) > 0x2E80 else 1 for character in line) <= 40 for line in lines)
    assert show._cell("a\nb\x1b[31m") == "a b [31m"
    assert show._cell(["é"]) == '["é"]'


def test_rows_on_stdout_leave_the_rest_to_stderr(tmp_path: Path) -> None:
    write_checked(tmp_path, 3, bad="1")
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "-")
    assert (ran.exit_code, ran.stdout) == (1, '{"id":0,"found":0}\n{"id":2,"found":4}\n')
    assert "rows     2 done, 1 failed" in ran.stderr
    assert "row 1 failed in check" in ran.stderr
    assert not (tmp_path / "-").exists()
    again = sundog(tmp_path, "run", "flow.yaml", "--output", "-", "--json")
    assert again.stdout == ran.stdout
    *_, report, note = map(json.loads, again.stderr.splitlines())
    assert report["num_failed"] == 1
    assert note["text"].startswith("row 1 failed in check")
    assert num_checks(tmp_path) == 3, "it is the run without an output file"


def test_a_run_is_named_by_what_no_other_begins_with(tmp_path: Path) -> None:
    write_checked(tmp_path, 1, bad="")
    sundog(tmp_path, "run", "flow.yaml")
    (run_id,) = [run["run"] for run in json.loads(sundog(tmp_path, "runs", "--json").stdout)]
    assert sundog(tmp_path, "show", "che").stdout == '{"id":0,"found":0}\n'
    assert sundog(tmp_path, "trace", run_id[:9]).stdout.startswith(f"{run_id}.trace.json:")
    sundog(tmp_path, "run", "flow.yaml", "--fresh")
    newest, oldest = [run["run"] for run in json.loads(sundog(tmp_path, "runs", "--json").stdout)]
    ran = sundog(tmp_path, "show", "checked")
    assert ran.exit_code == 2
    assert ran.stderr == (f"error: 2 runs begin with 'checked'\n  write more of one of: {newest}, {oldest}\n")
    ids = {name: json.loads(sundog(tmp_path, "runs", name, "--json").stdout) for name in ("last", "checked", oldest)}
    assert [[run["run"] for run in found] for found in ids.values()] == [[newest], [newest, oldest], [oldest]]
    for command in ("show", "trace", "runs"):
        ran = sundog(tmp_path, command, "chocked")
        assert (ran.exit_code, ran.stderr.splitlines()[0]) == (2, "error: there is no run 'chocked' in .sundog")


FOUND = {
    "run": "review-9bdcee25",
    "state": "finished",
    "rows": 1200,
    "done": 1190,
    "failed": 10,
    "dropped": 0,
    "began": "2026-11-28T11:21:00.787711+00:00",
    "output": "/data/projects/reviews/2026/november/answers.jsonl",
}


@pytest.mark.parametrize(
    ("width", "head", "end"),
    [
        (None, list(runs.RUN_COLUMNS), "/data/projects/reviews/2026/november/answers.jsonl"),
        (200, list(runs.RUN_COLUMNS), "/data/projects/reviews/2026/november/answers.jsonl"),
        (100, list(runs.RUN_COLUMNS), "…vember/answers.jsonl"),
        (88, [name for name in runs.RUN_COLUMNS if name != "dropped"], "…r/answers.jsonl"),
        (66, ["run", "state", "rows", "done", "failed", "output"], "…r/answers.jsonl"),
        (50, ["run", "state", "rows", "done", "failed"], "10"),
        (32, ["run", "state", "done"], "1,190"),
    ],
)
def test_lines_of_runs_fit_the_terminal(width: int | None, head: list[str], end: str) -> None:
    first, line = runs.run_lines([FOUND], width)
    assert first.split() == head
    assert line.split()[-1] == end
    assert width is None or max(len(first), len(line)) <= width
