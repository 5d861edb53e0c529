"""`sundog run --buckets N`: the rows lie in files of the run's folder, and a continued run reads those."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import ConfigError
from sundog.execution.input_row import IdentifiedRows
from sundog.runtime.buckets import kept
from sundog.runtime.buckets.files import BucketFile
from sundog.runtime.rows.inputs import RowSource
from tests.cli.flows import sundog, working_directory
from tests.cli.test_row_order import BY_DOCUMENT, COMMAND, NUM_ROWS, called, in_groups, output_of, write
from tests.cli.test_tables import write_wards

BUCKETS = (*COMMAND, "--buckets", "4")


def index_of(folder: Path) -> list[Path]:
    return list((folder / ".sundog" / "runs").glob("*/buckets/*/index.json"))


def is_read_in_order(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Return what tells whether the rows of the input have been read in an order since."""
    orders: list[Sequence[Any]] = []
    batches = RowSource.batches

    def heard(self: RowSource, start_row: int = 0, batch_size: int = 1024, order: Sequence[Any] = ()) -> Any:
        orders.append(order)
        return batches(self, start_row, batch_size, order)

    monkeypatch.setattr(RowSource, "batches", heard)
    return lambda: any(orders)


def test_the_output_and_the_calls_are_those_of_a_run_without_buckets(tmp_path: Path) -> None:
    (plain, bucketed) = (tmp_path / "plain", tmp_path / "bucketed")
    for folder, command in ((plain, COMMAND), (bucketed, BUCKETS)):
        folder.mkdir()
        write(folder, bad="4")
        assert sundog(folder, *command).exit_code == 1
    assert called(plain) == called(bucketed)
    for name in ("out.jsonl", "out.jsonl.errors.jsonl"):
        assert (plain / name).read_bytes() == (bucketed / name).read_bytes()


def test_the_buckets_of_a_run_that_has_ended_are_gone(tmp_path: Path) -> None:
    write(tmp_path)
    assert sundog(tmp_path, *BUCKETS).exit_code == 0
    assert not list((tmp_path / ".sundog" / "runs").glob("*/buckets"))
    assert output_of(tmp_path) == list(range(NUM_ROWS))


def test_a_run_goes_on_with_its_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, bad="5")
    assert sundog(tmp_path, *BUCKETS, "--fail-fast").exit_code == 1
    (index,) = index_of(tmp_path)
    files = json.loads(index.read_text())["files"]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in index.parent.iterdir()} == {0o600}
    before, was_read = called(tmp_path), is_read_in_order(monkeypatch)
    assert len(before) < NUM_ROWS
    again = sundog(tmp_path, *COMMAND, "--buckets", "2", "--max-errors", "1")
    assert again.exit_code == 0, again.stderr
    assert not was_read()
    assert in_groups(called(tmp_path)) == BY_DOCUMENT, "no row ran twice, and all in the order of the first time"
    assert output_of(tmp_path) == [number for number in range(NUM_ROWS) if number != 5]


def test_buckets_whose_rows_have_ended_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, bad="11")
    assert sundog(tmp_path, *BUCKETS, "--fail-fast").exit_code == 1
    num_files = len(json.loads(index_of(tmp_path)[0].read_text())["files"])
    num_ended = len(called(tmp_path)) // (NUM_ROWS // num_files)
    assert num_ended, "or the test says nothing"
    read: list[BucketFile] = []
    rows = BucketFile.rows

    def heard(file: BucketFile) -> Iterator[IdentifiedRows]:
        read.append(file)
        return rows(file)

    monkeypatch.setattr(BucketFile, "rows", heard)
    assert sundog(tmp_path, *BUCKETS, "--max-errors", "1").exit_code == 0
    assert len(read) == num_files - num_ended


def test_a_run_may_go_on_without_its_buckets_and_with_them_anew(tmp_path: Path) -> None:
    write(tmp_path, bad="5")
    assert sundog(tmp_path, *BUCKETS, "--fail-fast").exit_code == 1
    (index,) = index_of(tmp_path)
    (index.parent / "00000.parquet").unlink()
    (tmp_path / "bad").write_text("")
    again = sundog(tmp_path, *BUCKETS, "--retry-failed")
    assert again.exit_code == 0, again.stderr
    assert output_of(tmp_path) == list(range(NUM_ROWS))
    assert sorted(called(tmp_path)) == sorted([*range(NUM_ROWS), 5])


def test_failed_rows_of_an_ended_run_are_tried_again(tmp_path: Path) -> None:
    write(tmp_path, bad="5 6")
    assert sundog(tmp_path, *BUCKETS).exit_code == 1
    (tmp_path / "bad").write_text("")
    assert sundog(tmp_path, *BUCKETS, "--retry-failed").exit_code == 0
    assert output_of(tmp_path) == list(range(NUM_ROWS))
    assert sorted(called(tmp_path)) == sorted([*range(NUM_ROWS), 5, 6])


def test_what_a_killed_process_has_written_of_them_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(kept.BucketMaker, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_here(tmp_path)
    (folder,) = (tmp_path / ".sundog" / "runs").glob("*/buckets/rows")
    (folder / "00099.parquet").write_text("left over")
    assert not (tmp_path / "calls").exists()
    run_here(tmp_path)
    assert output_of(tmp_path) == list(range(NUM_ROWS))
    assert in_groups(called(tmp_path)) == BY_DOCUMENT


def run_here(folder: Path) -> None:
    with working_directory(folder):
        sd.load("flow.yaml").run(output="out.jsonl", max_rows_in_flight=1, buckets=4)


def test_a_damaged_bucket_is_told(tmp_path: Path) -> None:
    write(tmp_path, bad="5")
    assert sundog(tmp_path, *BUCKETS, "--fail-fast").exit_code == 1
    (index,) = index_of(tmp_path)
    for path in index.parent.glob("*.parquet"):
        path.write_bytes(b"0" * path.stat().st_size)
    again = sundog(tmp_path, *BUCKETS, "--max-errors", "1")
    assert again.exit_code == 1
    assert "cannot be read\n  remove its folder and repeat the command" in again.stderr


def test_tables_of_queries_have_buckets_too(tmp_path: Path) -> None:
    write_wards(tmp_path)
    outputs = ("--output", "named=named.csv", "--output", "seen=seen.csv")
    assert sundog(tmp_path, "run", "flow.yaml", *outputs).exit_code == 0
    before = [(tmp_path / name).read_bytes() for name in ("named.csv", "seen.csv")]
    ran = sundog(tmp_path, "run", "flow.yaml", *outputs, "--fresh", "--buckets", "2")
    assert ran.exit_code == 0, ran.stderr
    assert [(tmp_path / name).read_bytes() for name in ("named.csv", "seen.csv")] == before


def test_no_buckets_are_none(tmp_path: Path) -> None:
    write(tmp_path)
    assert sundog(tmp_path, *COMMAND, "--buckets", "0").exit_code == 2
    with working_directory(tmp_path), pytest.raises(ConfigError, match="cannot be written into 0 buckets"):
        sd.load("flow.yaml").run(buckets=0)


MADE = """
name: made
inputs: {rows: {path: rows.jsonl}}
tables:
  checked:
    from: rows
    nodes: {check: {python: {call: "checks:check", args: {id: "{{ row.id }}"}}, retries: 0}}
    outputs: {id: "{{ row.id }}", found: "{{ check }}"}
  again:
    query: select id + 100 as id from checked where found >= 0 order by id
    failed_rows: leave_out
    nodes: {look: {python: {call: "checks:check", args: {id: "{{ row.id }}"}}, retries: 0}}
    outputs: {id: "{{ row.id }}", found: "{{ look }}"}
results: [again]
"""


def test_rows_of_a_table_that_is_made_anew_are_written_anew(tmp_path: Path) -> None:
    """Row 4 was missing when the table was made of the others, and its buckets were written."""
    write(tmp_path, bad="4 102")
    (tmp_path / "flow.yaml").write_text(MADE)
    assert sundog(tmp_path, *BUCKETS, "--max-errors", "1").exit_code == 1
    assert len(index_of(tmp_path)) == 2
    (tmp_path / "bad").write_text("")
    again = sundog(tmp_path, *BUCKETS, "--retry-failed")
    assert again.exit_code == 0, again.stderr
    assert output_of(tmp_path) == list(range(100, 100 + NUM_ROWS))
