"""Files of all formats through `sundog run`: what is refused before the first call, and what a bad row costs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.flows import sundog

FLOW = """
name: data
inputs: {{rows: {rows}}}
nodes: {{{nodes}}}
outputs: {{v: "{{{{ {value} }}}}"}}
"""


def write_flow(folder: Path, rows: str = "rows.jsonl", nodes: str = "", name: str = "flow.yaml") -> None:
    (folder / name).write_text(FLOW.format(rows=rows, nodes=nodes, value="one" if nodes else "row.v"))


@pytest.mark.parametrize("output", ["rows.jsonl", "link.jsonl", "flow.json", "shop.duckdb#t"])
def test_an_output_that_is_read_is_refused_before_anything_runs(tmp_path: Path, output: str) -> None:
    step = 'one: {python: {call: "made:up"}}'
    write_flow(tmp_path, nodes=step, name="flow.json")
    (tmp_path / "made.py").write_text("def up():\n    raise SystemExit('called')\n")
    (tmp_path / "rows.jsonl").write_text('{"v": 1}\n')
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "rows.jsonl")
    if output == "shop.duckdb#t":
        (tmp_path / "rows.jsonl").rename(tmp_path / "shop.duckdb.t.errors.jsonl")
        write_flow(tmp_path, rows="shop.duckdb.t.errors.jsonl", nodes=step, name="flow.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    ran = sundog(tmp_path, "run", "flow.json", "--output", output)
    assert ran.exit_code == 2
    assert "it would be replaced" in ran.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_bad_row_is_in_the_errors_file_and_the_others_are_done(tmp_path: Path) -> None:
    write_flow(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"v": 1}\n{"v": "\\ud800"}\n{"v": 3}\n')
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.json")
    assert ran.exit_code == 1, ran.stderr
    assert json.loads((tmp_path / "out.json").read_text()) == [{"v": 1}, {"v": 3}]
    (failed,) = (tmp_path / "out.json.errors.jsonl").read_text().splitlines()
    assert json.loads(failed)["row"] == 1
    assert json.loads(failed)["node"] == "inputs"
    assert "half a surrogate pair" in json.loads(failed)["cause"]


def test_values_that_become_null_are_told_by_explain_and_the_report(tmp_path: Path) -> None:
    write_flow(tmp_path, rows="rows.parquet")
    pq.write_table(pa.table({"v": [0.5, float("nan"), float("inf")]}), tmp_path / "rows.parquet")
    told = "input 'rows': 2 values of column 'v' are NaN or infinite, and become null"
    assert told in sundog(tmp_path, "explain", "flow.yaml").stdout
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    assert told in ran.stdout + ran.stderr
    assert (tmp_path / "out.jsonl").read_text() == '{"v":0.5}\n{"v":null}\n{"v":null}\n'


def test_rows_come_from_a_place_in_a_document_and_go_into_a_table(tmp_path: Path) -> None:
    write_flow(tmp_path, rows="{path: rows.json, at: items.rows}")
    (tmp_path / "rows.json").write_text('{"items": {"rows": [{"v": 1}, {"v": 2}]}}')
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.duckdb#answers")
    assert ran.exit_code == 0, ran.stderr
    with duckdb.connect(str(tmp_path / "out.duckdb"), read_only=True) as database:
        assert database.execute("select v from answers").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("selct name frm item", 'sqlite: near "selct": syntax error'),
        ("select nix from item", "sqlite: no such column: nix"),
        ("select * from itme", "tables of shop.db: item"),
    ],
)
def test_a_statement_that_cannot_run_stops_the_run_before_its_first_call(tmp_path: Path, query: str, told: str) -> None:
    write_flow(tmp_path, nodes=f'one: {{sql: {{database: "sqlite:///shop.db", query: "{query}"}}}}')
    (tmp_path / "rows.jsonl").write_text('{"v": 1}\n')
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table item (id int)")
    explained = sundog(tmp_path, "explain", "flow.yaml")
    assert explained.exit_code == 0
    assert told in explained.stdout
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl")
    assert ran.exit_code == 2
    assert told in ran.stderr
    assert not (tmp_path / "out.jsonl").exists()
