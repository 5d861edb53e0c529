"""Output files: their exact bytes, their types, and that they appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sundog.errors import ConfigError, RunError, StoreError
from sundog.ir.row_ids import RowId
from sundog.ir.values.canonical import canonical_json
from sundog.runtime.rows.formats import parquet_file
from sundog.runtime.rows.outputs import (
    STREAMED,
    OutputFormat,
    check_output_path,
    errors_path,
    write_errors,
    write_output,
    write_rows,
)

SUFFIXES = ".csv, .duckdb, .json, .jsonl, .ndjson, .parquet"
IN_FOLDER = "name a file in it: {folder}/dir.csv/rows.parquet, or write {folder}/dir.csv/ for a folder of parts"
FORMATS = ["csv", "json", "jsonl", "parquet"]
ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": "plain", "more": {"z": 1, "a": [1, "x"]}},
    {"id": 2, "text": 'say "yes", no\nnew line', "more": None},
    {"id": None, "text": "", "more": {"a": [], "z": 2}},
]


def stored(rows: list[dict[str, Any]]) -> Callable[[], Iterator[tuple[RowId, bytes]]]:
    return lambda: (((index,), canonical_json(row)) for index, row in enumerate(rows))


def write(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> tuple[str, ...]:
    return write_output(path, columns or list(rows[0]), stored(rows))


def test_csv_bytes(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "plain", "x": 0.1, "flag": True, "more": {"a": [1, "x"]}},
        {"id": None, "text": 'say "yes", no\nnew\r', "x": 1e300, "flag": False, "more": None},
        {"id": -5, "text": "", "x": 100.0, "flag": None, "more": [None]},
    ]
    assert write(path, rows) == ()
    assert path.read_bytes().decode() == (
        "id,text,x,flag,more\n"
        '1,plain,0.1,true,"{""a"":[1,""x""]}"\n'
        ',"say ""yes"", no\nnew\r",1e+300,false,\n'
        '-5,"",100.0,,[null]\n'
    )


def test_a_csv_row_is_never_a_blank_line(tmp_path: Path) -> None:
    assert write(tmp_path / "out.csv", [{"a, b": None}, {"a, b": 1}]) == (
        '1 nulls are written as empty text (""): a blank line is no row of a csv file with one column',
    )
    assert (tmp_path / "out.csv").read_text() == '"a, b"\n""\n1\n'


def test_texts_that_a_spreadsheet_runs_are_written_as_they_are_and_told(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    texts = ["=1+1", "+x", "-x", "@x", "\tx", "-1.5e3", "+1", "-", "a=1", "", None, -1]
    assert write(path, [{"id": 1, "text": text} for text in texts]) == (
        "5 texts begin with = + - or @ (the first in column 'text' of output row 0); they are written as they are, and "
        "a spreadsheet may run them as formulas",
    )
    assert path.read_text().splitlines()[1] == "1,=1+1"


def test_json_bytes(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert write(path, [{"a": "\u2028"}, {"a": None}]) == ()
    assert path.read_text() == '[\n{"a":"\u2028"},\n{"a":null}\n]\n'
    assert write_output(path, ["a"], stored([])) == ()
    assert path.read_text() == "[]\n"
    write(tmp_path / "out.ndjson", [{"a": 1}])
    assert (tmp_path / "out.ndjson").read_text() == '{"a":1}\n'


@pytest.mark.parametrize("format", sorted(STREAMED))
def test_a_stream_gets_what_a_file_gets(tmp_path: Path, format: OutputFormat) -> None:
    path, stream = tmp_path / f"out.{format}", BytesIO()
    assert write_rows(stream, format, list(ROWS[0]), stored(ROWS)) == write(path, ROWS)
    assert stream.getvalue() == path.read_bytes()


def test_jsonl_bytes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert write(path, [{"b": "é\u2028", "a": {"z": 1, "y": None}}, {"b": 10**30, "a": 1.5}]) == ()
    expected = '{"b":"é\u2028","a":{"y":null,"z":1}}\n{"b":1000000000000000000000000000000,"a":1.5}\n'
    assert path.read_bytes().decode() == expected


def test_columns_keep_their_order_and_others_stay_out(tmp_path: Path) -> None:
    for suffix in FORMATS:
        write(tmp_path / f"out.{suffix}", [{"a": 1, "b": 2, "c": 3}], ["c", "a"])
    assert (tmp_path / "out.csv").read_text() == "c,a\n3,1\n"
    assert (tmp_path / "out.jsonl").read_text() == '{"c":3,"a":1}\n'
    assert (tmp_path / "out.json").read_text() == '[\n{"c":3,"a":1}\n]\n'
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["c", "a"]


@pytest.mark.parametrize(
    ("values", "type", "written"),
    [
        ([1, None, 2], pa.int64(), [1, None, 2]),
        ([-(2**63), 2**63 - 1], pa.int64(), [-(2**63), 2**63 - 1]),
        ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
        ([2**53, 0.5], pa.float64(), [2.0**53, 0.5]),
        ([True, None], pa.bool_(), [True, None]),
        (["a", None], pa.string(), ["a", None]),
        ([None, None], pa.string(), [None, None]),
        ([[1], [], None], pa.list_(pa.int64()), [[1], [], None]),
        ([[], []], pa.list_(pa.string()), [[], []]),
        ([[1, 0.5], [None]], pa.list_(pa.float64()), [[1.0, 0.5], [None]]),
        ([{"a": 1}, {"a": None}, None], pa.struct([("a", pa.int64())]), [{"a": 1}, {"a": None}, None]),
        (
            [{"a": 1}, {"b": ["x"]}],
            pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
            [{"a": 1, "b": None}, {"a": None, "b": ["x"]}],
        ),
    ],
)
def test_parquet_types(tmp_path: Path, values: list[Any], type: pa.DataType, written: list[Any]) -> None:
    path = tmp_path / "out.parquet"
    assert write(path, [{"v": value} for value in values]) == ()
    table = pq.read_table(path)
    assert table.schema.field("v").type == type
    assert table["v"].to_pylist() == written


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, "a"], "text and whole numbers"),
        ([True, 1], "truth values and whole numbers"),
        ([[1], {"a": 1}, None], "lists and records"),
        ([2**63, 1], "whole numbers of more than 64 bits"),
        ([2**53 + 1, 0.5], "decimals and whole numbers"),
        ([[1, "a"]], "text and whole numbers"),
        ([{"a": {"b": [1]}}, {"a": {"b": ["x"]}}], "text and whole numbers"),
        ([{}, {}], "records without fields"),
        ([{str(number): 1} for number in range(300)], "more than 256 different fields"),
    ],
)
def test_values_without_a_common_type_become_json_text_and_are_reported(
    tmp_path: Path, values: list[Any], reason: str
) -> None:
    path = tmp_path / "out.parquet"
    rows = [{"v": value, "other": 1} for value in values]
    assert write(path, rows) == (f"column 'v' is written as JSON text: it holds {reason}",)
    table = pq.read_table(path)
    assert table.schema.field("v").type == pa.string()
    assert table.schema.field("other").type == pa.int64()
    assert [text if text is None else json.loads(text) for text in table["v"].to_pylist()] == values


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_stored_row_that_is_no_json_is_told_as_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with pytest.raises(StoreError, match="the store is damaged: the output of row 7 is no JSON"):
        write_output(path, ["a"], lambda: iter([((1,), b'{"a": 1}'), ((7,), b'{"a": "\xff"}')]))
    assert not path.exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
    rows = [{**row, "n": number} for number in range(500) for row in ROWS]
    assert write(one, rows) == write(other, rows)
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    assert write_output(path, ["a", "b"], stored([])) == ()
    assert path.exists()
    if suffix == "parquet":
        assert pq.read_table(path).num_rows == 0
    else:
        assert path.read_text() == {"csv": "a,b\n", "json": "[]\n", "jsonl": ""}[suffix]


def test_row_groups_are_limited_in_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.parquet"
    monkeypatch.setattr(parquet_file, "MAX_GROUP_ROWS", 10)
    write(path, [{"a": "x"}] * 25)
    assert group_sizes(path) == [10, 10, 5]
    monkeypatch.setattr(parquet_file, "MAX_GROUP_BYTES", 100)
    write(path, [{"a": "x" * 50}] * 5)
    assert group_sizes(path) == [2, 2, 1]


def group_sizes(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]


def test_parquet_holds_one_row_group_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = written = 0
    most = 0

    def rows() -> Iterator[tuple[RowId, bytes]]:
        nonlocal taken
        taken = 0
        for index in range(100):
            taken += 1
            yield (index,), b'{"a": 1}'

    def counting(self: pq.ParquetWriter, table: pa.Table, row_group_size: int | None = None) -> None:
        nonlocal written, most
        most = max(most, taken - written)
        written += table.num_rows

    monkeypatch.setattr(parquet_file, "MAX_GROUP_ROWS", 10)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", counting)
    write_output(tmp_path / "out.parquet", ["a"], rows)
    assert written == 100
    assert most == 10


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")

    def rows() -> Iterator[tuple[RowId, bytes]]:
        yield (0,), b'{"a": 1}'
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_output(path, ["a"], rows)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def noise(num_rows: int) -> list[dict[str, Any]]:
    """Rows that no compression makes small."""
    return [{"a": os.urandom(500).hex()} for _ in range(num_rows)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_kernel_refuses_to_write_on(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")
    rows = noise(1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RunError) as caught:
            write(path, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.what == f"cannot write {path}: File too large"
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, code: int) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError) as caught:
        write(path, ROWS)
    assert str(caught.value) == (
        f"cannot write {path}: {os.strerror(code)}\n"
        "  make room and repeat the command: nothing finished is lost, what was there before is unchanged"
    )
    assert caught.value.exit_code == 1
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file or directory"):
        write(tmp_path / "gone" / "out.csv", ROWS)


def test_the_part_file_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".out.csv.part").write_text("half of something longer than the new file" * 100)
    write(tmp_path / "out.csv", [{"a": 1}])
    assert (tmp_path / "out.csv").read_text() == "a\n1\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_an_output_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "out.csv", tmp_path / "far" / "rows.csv"
    link.symlink_to(target)
    for value in (1, 2):
        write(link, [{"a": value}])
        assert link.is_symlink()
        assert target.read_text() == f"a\n{value}\n"
    assert [entry.name for entry in target.parent.iterdir()] == ["rows.csv"]


def test_nothing_is_written_through_a_part_file_that_is_a_link(tmp_path: Path) -> None:
    part, other = tmp_path / ".out.csv.part", tmp_path / "other"
    other.write_text("precious")
    for make in (part.symlink_to, part.hardlink_to, lambda other: os.mkfifo(part)):
        make(other)
        with pytest.raises(RunError, match="is a link, or no file"):
            write(tmp_path / "out.csv", [{"a": 1}])
        assert other.read_text() == "precious"
        assert not (tmp_path / "out.csv").exists()
        part.unlink()


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    part = tmp_path / ".out.csv.part"
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is writing"):
            write(tmp_path / "out.csv", ROWS)
        assert part.exists()
    write(tmp_path / "out.csv", ROWS)


def test_a_file_that_another_writer_has_just_finished_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, part, lock = tmp_path / "out.csv", tmp_path / ".out.csv.part", fcntl.flock

    def late(*arguments: Any) -> None:
        part.write_text("whole")
        part.replace(out)
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(RunError, match="another process is writing"):
        write(out, ROWS)
    assert out.read_text() == "whole"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xlsx", f"{{unknown}} 'out.xlsx' from its name\n  known here: {SUFFIXES}"),
        ("out.parqet", "{unknown} 'out.parqet' from its name\n  did you mean '.parquet'?"),
        ("out", f"{{unknown}} 'out' from its name\n  end it with one of: {SUFFIXES}"),
        ("gone/out.csv", "the folder of the output is not there: {folder}/gone\n  mkdir -p {folder}/gone"),
        ("~/out.csv", "the folder of the output is not there: {folder}/~\n  mkdir -p {folder}/~"),
        ("x" * 240 + ".csv", "the name of the output is too long: " + "x" * 40 + "...\n  name a shorter one"),
        ("dir.csv", f"the output {{folder}}/dir.csv is a folder\n  {IN_FOLDER}"),
    ],
)  # fmt: skip
def test_bad_output_paths(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(ConfigError) as caught:
        check_output_path(tmp_path / name)
    assert str(caught.value) == message.format(folder=tmp_path, unknown="cannot tell the format of the output")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "the output . is a folder\n  name a file in it: rows.parquet"),
        ("~/out.csv", "`~` is not expanded here: write the whole path"),
    ],
)
def test_output_paths_as_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_output_path(Path(path))
    assert str(caught.value).endswith(message)


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="cannot write into"):
        check_output_path(tmp_path / "out.csv")


def test_good_output_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("out.csv", "OUT.JSONL", "a.b.parquet"):
        check_output_path(Path(name))
        check_output_path(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_failures_lie_beside_the_output(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    failures = [
        {"row": 2, "node": "a", "cause": "é", "attempts": 3},
        {"row": 5, "node": "b", "cause": "y", "attempts": 1},
    ]
    path = write_errors(output, iter(failures))
    assert path == errors_path(output) == tmp_path / "out.csv.errors.jsonl"
    assert path.read_text(encoding="utf-8") == (
        '{"row":2,"node":"a","cause":"é","attempts":3}\n{"row":5,"node":"b","cause":"y","attempts":1}\n'
    )
    assert write_errors(output, []) is None
    assert list(tmp_path.iterdir()) == []
    assert write_errors(output, []) is None
