"""`sundog run` inside this process: what it prints, writes and repeats, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sundog.config import read_config
from sundog.runtime import local_work
from tests.cli.flows import num_checks, report_of, sundog, write_checked, write_review, write_rows


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_writes_its_rows_and_reports_what_sharing_saved(tmp_path: Path) -> None:
    write_review(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    assert ran.exit_code == 0, ran.stderr
    assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == list(range(12))
    assert re.search(r"^facts +12 +3 ", ran.stdout, re.MULTILINE)
    assert "rows     12 done, 0 failed, 0 filtered out" in ran.stdout
    assert re.match(r"run review-\w{8}: new, 12 rows\n", ran.stderr)


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    write_checked(tmp_path, 4, bad="")
    assert sundog(tmp_path, "run", "flow.yaml", "--output", "out.csv").exit_code == 0
    written = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.csv").unlink()
    again = sundog(tmp_path, "run", "flow.yaml", "--output", "out.csv")
    assert again.exit_code == 0
    assert "is finished already: 4 rows; --fresh runs them again" in again.stderr
    assert (tmp_path / "out.csv").read_bytes() == written
    assert num_checks(tmp_path) == 4


def test_fresh_runs_everything_again(tmp_path: Path) -> None:
    write_review(tmp_path)
    first = report_of(sundog(tmp_path, "run", "flow.yaml", "--json"))
    fresh = report_of(sundog(tmp_path, "run", "flow.yaml", "--json", "--fresh"))
    assert fresh["run_id"] != first["run_id"]
    assert fresh["num_executed"] == first["num_executed"] > 0


def test_another_run_reuses_what_does_not_depend_on_the_day(tmp_path: Path) -> None:
    write_review(tmp_path)
    sundog(tmp_path, "run", "flow.yaml", "--output", "one.csv")
    second = report_of(sundog(tmp_path, "run", "flow.yaml", "--output", "two.csv", "--json"))
    assert second["num_executed"] == 0
    assert second["num_asked"] > 24
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_changed_rows_are_another_run(tmp_path: Path) -> None:
    write_checked(tmp_path, 2, bad="")
    sundog(tmp_path, "run", "flow.yaml", "--output", "out.csv")
    write_rows(tmp_path, 3)
    assert ": new, 3 rows" in sundog(tmp_path, "run", "flow.yaml", "--output", "out.csv").stderr


def test_limit_and_sample_choose_rows(tmp_path: Path) -> None:
    write_review(tmp_path)
    sundog(tmp_path, "run", "flow.yaml", "--output", "limit.jsonl", "--limit", "5")
    assert [row["id"] for row in lines(tmp_path / "limit.jsonl")] == [0, 1, 2, 3, 4]
    for seed in ("1", "1", "2"):
        sundog(tmp_path, "run", "flow.yaml", "--output", f"s{seed}.jsonl", "--sample", "4", "--seed", seed, "--fresh")
    one, two = ([row["id"] for row in lines(tmp_path / f"s{seed}.jsonl")] for seed in (1, 2))
    assert len(one) == len(two) == 4
    assert one == sorted(one) != two


def test_an_input_comes_from_elsewhere(tmp_path: Path) -> None:
    write_review(tmp_path)
    write_rows(tmp_path, 2, "other.jsonl")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    ran = sundog(folder, "run", "../flow.yaml", "--input", "rows=../other.jsonl", "--output", "out.jsonl")
    assert ran.exit_code == 0, ran.stderr
    assert len(lines(folder / "out.jsonl")) == 2


def test_json_is_one_object_on_stdout_and_lines_on_stderr(tmp_path: Path) -> None:
    write_review(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", "--json")
    assert report_of(ran)["num_done"] == 12
    assert [json.loads(line)["event"] for line in ran.stderr.splitlines()] == ["note"]


def test_quiet_says_nothing(tmp_path: Path) -> None:
    write_review(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", "--quiet", "--output", "out.csv")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", "")
    assert (tmp_path / "out.csv").is_file()


def test_bad_rows_go_to_the_errors_file_and_the_others_on(tmp_path: Path) -> None:
    write_checked(tmp_path, 4, bad="1 3")
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    assert ran.exit_code == 1
    assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == [0, 2]
    errors = lines(tmp_path / "out.jsonl.errors.jsonl")
    assert [(error["row"], error["node"], error["attempts"]) for error in errors] == [(1, "check", 1), (3, "check", 1)]
    assert "row 1 is bad" in errors[0]["cause"]
    assert "errors   out.jsonl.errors.jsonl" in ran.stdout


def test_without_an_output_the_failures_are_told(tmp_path: Path) -> None:
    write_checked(tmp_path, 2, bad="1")
    assert "row 1 failed in check: " in sundog(tmp_path, "run", "flow.yaml").stderr


@pytest.mark.parametrize(
    ("bad", "options", "code"),
    [
        ("", [], 0),
        ("0", [], 1),
        ("0", ["--max-errors", "1"], 0),
        ("0 1", ["--max-errors", "1"], 1),
        ("0 1 2", [], 1),
        ("0 1 2", ["--max-errors", "3"], 1),
    ],
)
def test_rows_that_failed_are_in_the_exit_code_unless_so_many_are_allowed(
    tmp_path: Path, bad: str, options: list[str], code: int
) -> None:
    write_checked(tmp_path, 3, bad=bad)
    command = ["run", "flow.yaml", "--output", "out.csv", *options]
    assert [sundog(tmp_path, *command).exit_code for _ in range(2)] == [code, code]


def test_failed_rows_are_tried_again_when_asked(tmp_path: Path) -> None:
    write_checked(tmp_path, 4, bad="1 3")
    sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    (tmp_path / "bad").write_text("")
    assert num_checks(tmp_path) == 4
    sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    assert num_checks(tmp_path) == 4, "a finished run is not run again by itself"
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    assert ran.stdout.splitlines()[-1].startswith("failed   ")
    assert "; --retry-failed (in Python retry_failed=True) tries them again" in ran.stdout
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl", "--retry-failed")
    assert "failed   " not in ran.stdout
    assert ran.exit_code == 0
    assert num_checks(tmp_path) == 6
    assert [row["found"] for row in lines(tmp_path / "out.jsonl")] == [0, 2, 4, 6]
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()


@pytest.mark.parametrize(("options", "allowed"), [(["--fail-fast"], 0), (["--max-errors", "2"], 2)])
def test_too_many_failures_stop_the_run_and_keep_what_is_finished(
    tmp_path: Path, options: list[str], allowed: int
) -> None:
    write_checked(tmp_path, 40, bad=" ".join(map(str, range(0, 40, 2))))
    command = ["run", "flow.yaml", "--output", "out.csv", "--max-rows-in-flight", "1", *options]
    ran = sundog(tmp_path, *command)
    assert ran.exit_code == 1
    assert f"error: {allowed + 1} rows failed, more than the {allowed} allowed\n" in ran.stderr
    told = re.search(r"see them: sundog (show \S+ --errors);", ran.stderr)
    assert told is not None
    assert len(sundog(tmp_path, *told[1].split()).stdout.splitlines()) == allowed + 1
    assert not (tmp_path / "out.csv").exists()
    assert len(lines(tmp_path / "out.csv.errors.jsonl")) == allowed + 1
    num_done = num_checks(tmp_path)
    assert num_done < 40
    assert sundog(tmp_path, *command).exit_code == 1
    assert num_checks(tmp_path) == num_done, "nothing is called when too many have failed before"
    (tmp_path / "bad").write_text("")
    assert sundog(tmp_path, *command, "--retry-failed").exit_code == 0
    assert num_checks(tmp_path) == 40 + allowed + 1


def test_json_tells_of_a_stopped_run_too(tmp_path: Path) -> None:
    write_checked(tmp_path, 1, bad="0")
    ran = sundog(tmp_path, "run", "flow.yaml", "--json", "--fail-fast")
    assert ran.exit_code == 1
    assert report_of(ran)["state"] == "unfinished"
    assert "1 rows failed" in report_of(ran)["error"]


USER_ERRORS = {
    "unknown input": (
        ["--input", "row=x.csv"],
        "error: flow.yaml: the flow has no input 'row'\n  did you mean 'rows'?",
    ),
    "no pair": (["--input", "rows"], "error: --input 'rows' is not of the form name=path"),
    "twice": (["--input", "rows=a", "--input", "rows=b"], "error: --input rows= is given twice"),
    "missing file": (["--input", "rows=gone.csv"], "error: input 'rows': there is no file"),
    "policy": (["--policy", "fifo"], "error: unknown policy set 'fifo'"),
    "format": (["--output", "out.txt"], "error: cannot tell the format of the output 'out.txt'"),
    "folder": (["--output", "no/out.csv"], "error: the folder of the output is not there"),
    "contradiction": (["--fail-fast", "--max-errors", "3"], "error: --fail-fast and --max-errors contradict"),
    "usage": (["--max-errors", "many"], "Invalid value for '--max-errors'"),
    "unknown option": (["--outptu", "x"], "No such option: --outptu"),
}


@pytest.mark.parametrize("case", USER_ERRORS)
def test_the_users_mistakes_end_with_2(tmp_path: Path, case: str) -> None:
    options, message = USER_ERRORS[case]
    write_review(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", *options)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_a_mistake_in_the_flow_has_its_place(tmp_path: Path) -> None:
    write_review(tmp_path)
    text = (tmp_path / "flow.yaml").read_text()
    (tmp_path / "flow.yaml").write_text(text.replace("facts.text", "fact.text"))
    ran = sundog(tmp_path, "run", "flow.yaml")
    assert ran.exit_code == 2
    assert re.search(r"^error: flow\.yaml:11:\d+: ", ran.stderr)


def test_a_column_that_is_not_there_is_found_before_anything_runs(tmp_path: Path) -> None:
    write_review(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "topics": "x"}\n')
    ran = sundog(tmp_path, "run", "flow.yaml")
    assert ran.exit_code == 2
    assert "the input has no column 'topic'\n  did you mean 'topics'?" in ran.stderr


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flow that a bug meets when it runs."""

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("nothing is left")

    monkeypatch.setattr(local_work, "EventLog", fail)
    write_review(tmp_path)
    return tmp_path


def test_a_bug_is_one_line_unless_debug_is_asked_for(broken: Path) -> None:
    ran = sundog(broken, "run", "flow.yaml")
    assert ran.exit_code == 1
    assert "error: this is a bug in sundog: ZeroDivisionError: nothing is left" in ran.stderr
    assert "--debug" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Traceback" in sundog(broken, "run", "flow.yaml", "--debug").stderr


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_no_error_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debug: list[str]) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError(f"refused: {read_config().secrets.reveal('${env:OUR_TOKEN}')}")

    monkeypatch.setenv("OUR_TOKEN", "tok-93c1f7")
    monkeypatch.setattr(local_work, "EventLog", fail)
    write_review(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", *debug)
    assert "refused: ${env:OUR_TOKEN}" in ran.stderr
    assert "tok-93c1f7" not in ran.stderr


def test_a_users_mistake_has_a_traceback_with_debug(tmp_path: Path) -> None:
    ran = sundog(tmp_path, "run", "flow.yaml", "--debug")
    assert ran.exit_code == 2
    assert "Traceback" in ran.stderr
    assert "error: flow.yaml: the flow cannot be read: No such file or directory" in ran.stderr


def test_a_run_with_which_no_row_can_succeed_calls_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    write_checked(tmp_path, 3, bad="")
    flow = tmp_path / "flow.yaml"
    flow.write_text(
        flow.read_text()
        .replace("outputs:", "  ask:\n    http: {url: 'http://127.0.0.1:1/${env:NO_SUCH_KEY}/{{ check }}'}\noutputs:")
        .replace('"{{ check }}"', '"{{ ask.text }}"')
    )
    ran = sundog(tmp_path, "run", "flow.yaml")
    assert ran.exit_code == 2
    assert "step 'ask': no row can succeed, so nothing was called: the environment variable NO_SUCH_KEY" in ran.stderr
    assert not (tmp_path / "calls").exists()
    assert "NO_SUCH_KEY" not in sundog(tmp_path, "runs").stdout
    assert not list((tmp_path / ".sundog" / "runs").glob("*")), "nothing of it is kept"
    shown = sundog(tmp_path, "explain", "flow.yaml")
    assert shown.exit_code == 0
    assert "no row can succeed, and a run would stop here\n└── step 'ask': the environment variable" in shown.stdout
    assert json.loads(sundog(tmp_path, "explain", "flow.yaml", "--format", "json").stdout)["warnings"] == [
        {
            "place": "step 'ask'",
            "what": "the environment variable NO_SUCH_KEY is not set",
            "hint": "export NO_SUCH_KEY=... and run again",
            "is_fatal": True,
        }
    ]
    assert "No row can succeed" in sundog(tmp_path, "explain", "flow.yaml", "--format", "html").stdout


def test_a_folder_where_the_errors_file_goes_is_found_before_anything_runs(tmp_path: Path) -> None:
    write_checked(tmp_path, 3, bad="")
    (tmp_path / "out.jsonl.errors.jsonl").mkdir()
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    assert ran.exit_code == 2
    assert "out.jsonl.errors.jsonl, which is a folder" in ran.stderr
    assert not (tmp_path / "calls").exists()


def test_what_fails_for_some_rows_is_a_warning(tmp_path: Path) -> None:
    write_review(tmp_path, 4)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"id": 4, "topic": null}\n')
    ran = sundog(tmp_path, "run", "flow.yaml", "--json")
    assert ran.exit_code == 0
    (warning,) = report_of(ran)["warnings"]
    assert warning.startswith("step 'facts': null reaches the prompt, as empty text: row.topic in 1 of 5 rows")
    assert "warning: step 'facts'" in ran.stderr
    again = report_of(sundog(tmp_path, "run", "flow.yaml", "--json"))
    assert again["warnings"] == [], "a finished run calls nothing, and nothing is looked at"


def test_limits_stop_a_run_which_a_larger_one_continues(tmp_path: Path) -> None:
    write_review(tmp_path)
    flow = (tmp_path / "flow.yaml").read_text()
    (tmp_path / "flow.yaml").write_text(flow.replace("prompt:", "max_tokens: 50, prompt:"))
    command = ("run", "flow.yaml", "--output", "out.jsonl", "--json", "--max-tokens")
    stopped = sundog(tmp_path, *command, "300")
    assert stopped.exit_code == 1
    told = json.loads(stopped.stdout)
    assert told["state"] == "unfinished"
    assert "max_tokens of the run" in told["error"]
    assert json.loads(sundog(tmp_path, "runs", "--json").stdout)[0]["state"] == "unfinished"
    whole = report_of(sundog(tmp_path, *command, "30000"))
    assert (whole["run_id"], whole["num_done"]) == (told["run_id"], 12)
    assert sundog(tmp_path, *command[:4], "--fresh", "--deadline", "soon").exit_code == 2
    assert sundog(tmp_path, *command[:4], "--fresh", "--max-usd", "1").exit_code == 2, "nothing has a price"
