"""Rows that share a document are run side by side, wherever they stand; the output is in row order all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.flows import CHECKS, sundog

FLOW = """
name: grouped
engines:
  local: {kind: "null"}
inputs:
  rows: {path: rows.jsonl}
nodes:
  check:
    python: {call: "checks:check", args: {id: "{{ row.id }}"}}
    retries: 0
  answer:
    llm: {engine: local, system: "Read.", prompt: "{{ row.document }} {{ check }}"}
outputs: {id: "{{ row.id }}", found: "{{ check }}", answer: "{{ answer.text }}"}
"""
NUM_ROWS = 12
BY_DOCUMENT = [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
COMMAND = ("run", "flow.yaml", "--output", "out.jsonl", "--max-rows-in-flight", "1")


def write(folder: Path, bad: str = "") -> None:
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "checks.py").write_text(CHECKS)
    (folder / "bad").write_text(bad)
    rows = ({"id": number, "document": "abc"[number % 3]} for number in range(NUM_ROWS))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def called(folder: Path) -> list[int]:
    return [int(text) for text in (folder / "calls").read_text().split()]


def in_groups(ids: list[int]) -> list[list[int]]:
    """Return as many rows as have a document, side by side; the groups by their first row."""
    return sorted(ids[begin : begin + 4] for begin in range(0, len(ids), 4))


def output_of(folder: Path) -> list[int]:
    return [json.loads(line)["id"] for line in (folder / "out.jsonl").read_text().splitlines()]


def test_rows_of_one_document_run_side_by_side(tmp_path: Path) -> None:
    write(tmp_path)
    assert sundog(tmp_path, *COMMAND).exit_code == 0
    assert in_groups(called(tmp_path)) == BY_DOCUMENT
    assert output_of(tmp_path) == list(range(NUM_ROWS))


@pytest.mark.parametrize("option", [["--no-rule", "hoist_prefix"], ["--naive"]])
def test_without_the_rule_rows_run_as_they_come(tmp_path: Path, option: list[str]) -> None:
    write(tmp_path)
    assert sundog(tmp_path, *COMMAND, *option).exit_code == 0
    assert called(tmp_path) == list(range(NUM_ROWS))


def test_explain_says_by_what_rows_are_read(tmp_path: Path) -> None:
    write(tmp_path)
    explained = sundog(tmp_path, "explain", "flow.yaml", "--max-rows-in-flight", "1")
    assert "rows: 12, at most 1 in flight, read by row.document\n" in explained.stdout
    # The scheduler sees them all.
    explained = sundog(tmp_path, "explain", "flow.yaml", "--max-rows-in-flight", "12")
    assert "rows: 12, at most 12 in flight\n" in explained.stdout


def test_a_run_continues_in_another_order(tmp_path: Path) -> None:
    """Rows are known by number: those that ended are not run again, whatever the order of the process before."""
    write(tmp_path, bad="7")
    assert sundog(tmp_path, *COMMAND, "--fail-fast").exit_code == 1
    before = called(tmp_path)
    assert before[-3:] == [1, 4, 7]
    assert len(before) % 4 == 3, "whole groups, and this one until its failure"
    (tmp_path / "bad").write_text("")
    (tmp_path / "calls").unlink()
    assert sundog(tmp_path, *COMMAND[:-1], str(NUM_ROWS), "--retry-failed").exit_code == 0
    assert sorted([*before, *called(tmp_path)]) == sorted([*range(NUM_ROWS), 7]), "only the failed row is run again"
    assert output_of(tmp_path) == list(range(NUM_ROWS))


def test_explain_advises_where_prompts_could_share_more(tmp_path: Path) -> None:
    write(tmp_path)
    assert "advice" not in sundog(tmp_path, "explain", "flow.yaml").stdout
    rows = ({"id": number, "document": "abc"[number % 3] * 400} for number in range(NUM_ROWS))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "flow.yaml").write_text(
        FLOW.replace("{{ row.document }} {{ check }}", "{{ check }} {{ row.document }}")
    )
    explained = sundog(tmp_path, "explain", "flow.yaml").stdout
    # 12 documents of 100 tokens are computed; 3 would do.
    told = "answer: put row.document before check to save 21% of the prompt tokens, if results have 256"
    assert f"advice, from 12 rows; sundog changes no prompt by itself\n└── {told}\n" in explained
    limited = sundog(tmp_path, "explain", "flow.yaml", "--limit", "3").stdout
    assert "advice" not in limited, "in three rows no document repeats"
