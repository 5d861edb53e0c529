"""The document of a flow with several tables, in three forms, before and after a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.flows import sundog
from tests.present.test_documents import Page, left

FLOW = """
name: clinic
engines:
  local: {kind: "null", output_tokens: 6}
inputs:
  visits: {path: visits.jsonl}
tables:
  read:
    from: visits
    nodes:
      ask: {llm: {engine: local, prompt: "{{ row.note }}", max_tokens: 8}}
      keep: {filter: "{{ row.id != 3 }}"}
    outputs: {id: "{{ row.id }}", text: "{{ ask.text }}"}
  words:
    query: "select r.id, w as word from read r, unnest(string_split(r.text, ' ')) as u(w)"
    nodes:
      judge: {llm: {engine: local, prompt: "Is {{ row.word }} a word?", max_tokens: 4}}
    outputs: {word: "{{ row.word }}", verdict: "{{ judge.text }}"}
  groups:
    query: "select word, count(verdict) as n from words group by word"
    nodes:
      say: {llm: {engine: local, prompt: "{{ row.word }} {{ row.n }}", max_tokens: 4}}
    outputs: {word: "{{ row.word }}", said: "{{ say.text }}"}
results: [groups]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    rows = (json.dumps({"id": number, "note": f"note {number % 5}"}) + "\n" for number in range(12))
    (tmp_path / "visits.jsonl").write_text("".join(rows))
    return tmp_path


def test_tables_are_told_in_all_forms(folder: Path, check_golden: Callable[[str, str], None]) -> None:
    text = sundog(folder, "explain", "flow.yaml").stdout
    check_golden("explain/tables.txt", text[text.index("physical plan") :])
    found = json.loads(sundog(folder, "explain", "flow.yaml", "--format", "json").stdout)
    read, words, groups = found["tables"]
    assert (read["kind"], read["source"]) == ("input", "visits")
    assert (read["num_rows"]["high"], read["num_done"]["expected"]) == (12, 11)
    assert (words["streams_with"], words["waits_for"], words["num_rows"]["low"]) == ("read", [], 0)
    assert (groups["waits_for"], groups["why_it_waits"], groups["is_result"]) == (["words"], "it groups its rows", True)
    assert [table["steps"] for table in found["tables"]] == [["keep", "ask"], ["judge"], ["say"]]


def test_the_picture_has_a_band_for_each_table(folder: Path) -> None:
    page = Page(sundog(folder, "explain", "flow.yaml", "--format", "html").stdout)
    names = {text.strip() for text in page.texts}
    assert page.tags.count("rect") == 9, "three tables, their four steps, the inputs and the results"
    assert {"read", "words", "groups", "waits for words because it groups its rows", "results"} <= names
    assert any("The table words streams with read. judge (llm) waits for nothing." in text for text in names)


def test_analyze_puts_the_rows_of_each_table_beside_the_estimate(
    folder: Path, check_golden: Callable[[str, str], None]
) -> None:
    command = ("explain", "flow.yaml", "--analyze", "--output", "out.jsonl")
    ran = sundog(folder, *command)
    assert ran.exit_code == 0, ran.stderr
    check_golden("explain/tables_analyzed.txt", ran.stdout[ran.stdout.index("estimate and actual") :])
    again = json.loads(sundog(folder, *command, "--fresh", "--format", "json").stdout)
    assert again["tables"][0]["actual"] == {"done": 11, "dropped": 1}
    for table in again["tables"]:
        rows = table["num_rows"]
        assert rows["low"] <= sum(table["actual"].values()) <= rows["high"]
    assert not left(sundog(folder, *command, "--fresh").stdout)


def test_a_flow_that_names_no_table_has_none_in_its_document(folder: Path) -> None:
    (folder / "one.yaml").write_text(
        "name: one\ninputs: {v: {path: visits.jsonl}}\nnodes: {}\noutputs: {a: '{{ row.id }}'}\n"
    )
    found = sundog(folder, "explain", "one.yaml", "--format", "json")
    assert found.exit_code == 0, found.stderr
    assert "tables" not in json.loads(found.stdout)


def test_the_list_of_runs_has_the_rows_of_all_tables(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--output", "out.jsonl")
    (listed,) = json.loads(sundog(folder, "runs", "--json").stdout)
    assert listed["rows"] == listed["done"] + listed["dropped"] == 12 + 22 + 6


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--arrivals", "poisson:5/s", "come from each other, not over time"),
        ("--log", "last", "its log does not tell when each began"),
    ],
)
def test_loads_that_several_tables_cannot_have_are_refused(folder: Path, option: str, value: str, what: str) -> None:
    sundog(folder, "run", "flow.yaml", "--output", "out.jsonl")
    ran = sundog(folder, "simulate", "flow.yaml", option, value)
    assert (ran.exit_code, what in ran.stderr) == (2, True), ran.stderr


def test_a_simulation_has_the_rows_of_all_tables(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--output", "out.jsonl")
    found = json.loads(sundog(folder, "simulate", "flow.yaml", "--format", "json").stdout)
    (variant,) = found["variants"]
    assert (variant["num_rows"], variant["num_asked"]) == (40, 39)
