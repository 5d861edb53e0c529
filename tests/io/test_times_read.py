"""The times that explaining a flow, or running it, goes through its csv file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

import sundog as sd
from sundog.runtime.rows import inputs
from sundog.runtime.rows.duck import connect_duckdb
from sundog.runtime.rows.formats import kept_rows

NUM_ROWS = 3_000


class Reads:
    """This class counts the bytes that DuckDB reads of files, by its own log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._connections: list[duckdb.DuckDBPyConnection] = []
        monkeypatch.setattr(inputs, "connect_duckdb", self._connect)

    def _connect(self, scratch_dir: Path) -> duckdb.DuckDBPyConnection:
        connection = connect_duckdb(scratch_dir)
        connection.execute("CALL enable_logging('FileSystem')")
        self._connections.append(connection)
        return connection

    def times(self, path: Path) -> list[float]:
        """Return how often each connection has read the bytes of `path`."""
        return [self._num_bytes(connection, path) / path.stat().st_size for connection in self._connections]

    def _num_bytes(self, connection: duckdb.DuckDBPyConnection, path: Path) -> int:
        logged = connection.execute("SELECT message FROM duckdb_logs WHERE type = 'FileSystem'").fetchall()
        done: list[dict[str, Any]] = [json.loads(message) for (message,) in logged]
        return sum(int(one["bytes"]) for one in done if one["op"] == "READ" and one["path"] == str(path))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def flow_over(path: Path) -> sd.Flow:
    """A flow that asks for all that explain reads rows for: the selectivity of two filters, the order of the rows, a
    sample, advice on a prompt, and warnings."""
    rows = [{"number": number, "topic": f"topic {number % 7}", "text": f"text {number}"} for number in range(NUM_ROWS)]
    if path.suffix == ".csv":
        path.write_text("number,topic,text\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flow = sd.Flow("read", base_dir=path.parent)
    flow.engine("local", kind="null", output_tokens=3)
    row = flow.input("rows", path.name)
    flow.filter("late", row.number > 100)
    flow.filter("seen", row.topic != "topic 3")
    flow.llm("say", engine="local", prompt=f"{row.text} is about {row.topic}, say more")
    flow.output(text="{{ say.text }}")
    return flow


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_explain_reads_a_file_once(tmp_path: Path, reads: Reads, name: str) -> None:
    path = tmp_path / name
    shown = flow_over(path).explain(state=tmp_path / "state", max_rows_in_flight=100)
    assert "read by row.topic" in shown
    assert reads.times(path) == [1.0]


def test_a_large_file_is_opened_once_and_read_again_for_each_question(
    tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its types; a sample for the filters; rows that all steps' estimates share; the order; advice; a look for what is
    wrong. A copy that spares these would fill memory or the disk."""
    path = tmp_path / "rows.csv"
    flow = flow_over(path)
    kept = flow.explain(state=tmp_path / "state", max_rows_in_flight=100)
    monkeypatch.setattr(kept_rows, "MAX_KEPT_BYTES", path.stat().st_size - 1)
    assert flow.explain(state=tmp_path / "state", max_rows_in_flight=100) == kept
    assert reads.times(path) == [1.0, 6.0]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_run_reads_a_file_for_its_plan_and_for_its_rows(tmp_path: Path, reads: Reads, name: str) -> None:
    """The rewrites decide the columns of the rows, so that they are opened anew once the plan is made."""
    path = tmp_path / name
    flow_over(path).run(state=tmp_path / "state", max_rows_in_flight=100, progress=False)
    assert reads.times(path) == [1.0, 1.0]


@pytest.mark.parametrize("max_kept_bytes", [0, kept_rows.MAX_KEPT_BYTES])
def test_a_bad_line_is_told_alike_whether_rows_are_kept_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_kept_bytes: int
) -> None:
    monkeypatch.setattr(kept_rows, "MAX_KEPT_BYTES", max_kept_bytes)
    path = tmp_path / "rows.csv"
    flow = flow_over(path)
    with path.open("a") as lines:
        lines.write("1,2\n")
    with pytest.raises(sd.errors.InputError) as told:
        flow.explain(state=tmp_path / "state")
    assert told.value.what == "2 fields where the header names 3: '1,2'"
    assert str(told.value.where) == f"rows.csv:{NUM_ROWS + 2}"
