"""`explain --on ray`: how a plan is spread over many machines, without any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import ConfigError
from sundog.ir.logical import InputSource
from sundog.runtime.buckets.cutting import Border, BucketCutter, BucketSizes, GroupKeys
from sundog.runtime.rows.inputs import open_rows
from tests.cli.flows import sundog
from tests.present.test_documents import Page

FLOW = """
name: manuals
engines:
  served: {kind: openai, model: m, base_url: "http://models:8000/v1"}
inputs:
  rows: {path: rows.jsonl}
nodes:
  context:
    sql: {database: "sqlite:///parts.db", query: "select * from p where id = :m", params: {m: "{{ row.manual }}"}}
  notes:
    when: "{{ context }}"
    llm: {engine: served, prompt: "{{ row.manual }}\\n\\nQuestion: {{ row.question }}"}
  triage:
    llm: {engine: served, prompt: "Sort: {{ notes.text }}", output: {kind: str}}
  send:
    http: {method: POST, url: "https://example.com/kinds", json: {kind: "{{ triage.kind }}"}}
outputs: {kind: "{{ triage.kind }}"}
"""
TABLES = """
name: tables
engines:
  local: {kind: "null", workers: boxes}
workers: {boxes: {count: 2}}
inputs:
  rows: {path: rows.jsonl}
tables:
  read:
    from: rows
    nodes:
      gist: {llm: {engine: local, prompt: "{{ row.manual }}"}}
    outputs: {manual: "{{ row.manual }}", gist: "{{ gist.text }}"}
  checked:
    query: select manual, gist from read where gist <> ''
    nodes:
      check: {llm: {engine: local, prompt: "Check {{ row.manual }}"}}
    outputs: {check: "{{ check.text }}"}
  counted:
    query: select manual, count(*) as number from read group by manual
    nodes:
      name: {llm: {engine: local, prompt: "{{ row.manual }}", max_tokens: 8}}
      note:
        sql: {database: "sqlite:///n.db", query: "insert into n values (:m)", params: {m: "{{ row.manual }}"}}
    outputs: {name: "{{ name.text }}"}
results: [checked, counted]
"""
COMMAND = ("explain", "flow.yaml", "--on", "ray", "--max-rows-in-flight", "100")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    large = "The large manual " * 9
    manuals = [None if number % 4 == 0 else large if number % 2 else f"Manual {number % 14}" for number in range(600)]
    rows = [{"manual": manual, "question": f"q{number % 9}"} for number, manual in enumerate(manuals)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def cluster(folder: Path, *options: str) -> Any:
    ran = sundog(folder, *COMMAND, *options, "--format", "json")
    assert ran.exit_code == 0, ran.stderr
    return json.loads(ran.stdout)["cluster"]


def part(text: str) -> str:
    """Return what is said of the cluster."""
    begin = text.index("on ray, ")
    return text[begin : text.index("\nestimate, from")]


def test_a_plan_on_many_machines(folder: Path, check_golden: Callable[[str, str], None]) -> None:
    ran = sundog(folder, *COMMAND, "--cells", "2")
    assert ran.exit_code == 0
    check_golden("explain/cluster.txt", part(ran.stdout))


def test_tables_on_many_machines(folder: Path, check_golden: Callable[[str, str], None]) -> None:
    (folder / "flow.yaml").write_text(TABLES)
    ran = sundog(folder, *COMMAND, "--cells", "2", "--state", (folder / "shared").as_uri())
    assert ran.exit_code == 0, ran.stderr
    check_golden("explain/cluster_tables.txt", part(ran.stdout).replace(str(folder), ""))


def test_buckets_and_hot_groups_are_those_that_a_run_cuts(folder: Path) -> None:
    (table,) = cluster(folder, "--cells", "3")["tables"]
    source = open_rows([InputSource("rows", path="rows.jsonl")], base_dir=folder, snapshot_dir=None)
    keys, cutter = GroupKeys([("row", "manual")]), BucketCutter(BucketSizes.for_cells(600, 3))
    borders = [cutter.border(keys.key(row)) for batch in source.batches(order=[("row", "manual")]) for _, row in batch]
    assert table["num_buckets"] == sum(border is not Border.NONE for border in borders)
    split = [one["num_buckets"] - 1 for one in table["hot_groups"]]
    assert sum(split) == borders.count(Border.SPLIT)
    assert [(one["value"], one["num_rows"], one["share"]) for one in table["hot_groups"]] == [
        (("The large manual " * 9)[:60], 300, 0.5),
        (None, 150, 0.25),
    ]


def test_more_cells_have_smaller_buckets(folder: Path) -> None:
    num_buckets = [cluster(folder, "--cells", str(number))["tables"][0]["num_buckets"] for number in (1, 2, 4)]
    assert num_buckets == sorted(num_buckets)
    assert num_buckets[0] < num_buckets[-1]


def test_without_a_value_every_shared_call_asks(folder: Path) -> None:
    (table,) = cluster(folder, "--max-rows-in-flight", "600")["tables"]
    assert (table["partition"], table["partition_reason"]) == (None, "all are in flight at once")
    assert {one["meeting"] for one in table["meetings"]} == {"owner", "alone"}
    assert table["num_buckets"] == 60


def test_the_page_tells_the_same(folder: Path) -> None:
    page = Page(sundog(folder, *COMMAND, "--cells", "2", "--format", "html").stdout)
    text = " ".join(" ".join(page.texts).split())
    assert "On many machines" in text
    assert "null: 150 rows (25%), split into" in text
    assert "A run would not begin: the state .sundog is a folder of this machine" in text
    assert "triage owner its calls do not hold row.manual itself" in text


def test_nothing_is_said_unless_it_is_asked(folder: Path) -> None:
    assert "cluster" not in json.loads(sundog(folder, "explain", "flow.yaml", "--format", "json").stdout)


def test_the_api_explains_alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = sd.explain("flow.yaml", format="json", on="ray", cells=2, max_rows_in_flight=100)
    assert json.loads(found)["cluster"] == cluster(folder, "--cells", "2")
    wrong: Any = "dask"
    with pytest.raises(ConfigError, match="nothing runs on 'dask'"):
        sd.load("flow.yaml").explain(on=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cells", "2"), "cells are the processes of a run on a cluster\n  say which: on ray"),
        (("--on", "ray", "--analyze"), "--analyze runs the flow in this process"),
    ],
)
def test_options_that_mean_nothing_together(folder: Path, options: tuple[str, ...], message: str) -> None:
    ran = sundog(folder, "explain", "flow.yaml", *options)
    assert ran.exit_code == 2
    assert message in ran.stderr
