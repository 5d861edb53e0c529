"""Bad inputs: each one is an InputError that says what, where and what to do."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sundog.errors import InputError, Location, RunError
from sundog.ir.logical import InputSource
from sundog.runtime.rows.failures import explained, explained_of_table
from sundog.runtime.rows.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]

BAD_CSV = [
    (
        "a,b\n1,2\n3\n",
        "rows.csv:3: 1 fields where the header names 2: '3'\n"
        "  a field that holds the delimiter or a line end stands in double quotes",
    ),
    (
        'a,b\n1,"x\ny\nz"\n2,3,4\n',
        "rows.csv:5: 3 fields where the header names 2: '2,3,4'\n"
        "  a field that holds the delimiter or a line end stands in double quotes",
    ),
    (
        "a,b\n1," + "x" * 200 + ",2\n",
        "rows.csv:2: 3 fields where the header names 2: '1," + "x" * 75 + "...'\n"
        "  a field that holds the delimiter or a line end stands in double quotes",
    ),
    (
        'a,b\n1,"2\n3,4\n',
        "rows.csv:2: a quoted field does not end as it should (unexpected end of data)\n"
        '  a quote inside a quoted field is written twice: "say ""yes"""',
    ),
    (
        'a,b\n1,2\n1,"2"x\n',
        "rows.csv:3: a quoted field does not end as it should (',' expected after '\"')\n"
        '  a quote inside a quoted field is written twice: "say ""yes"""',
    ),
    (b"a,b\n1,caf\xe9\n", "rows.csv:2: this line is not UTF-8 text\n  save the file as UTF-8"),
    (b"a,caf\xe9\n1,2\n", "rows.csv:1: this line is not UTF-8 text\n  save the file as UTF-8"),
    (
        "a,b\r\n1,2\n3,4\r\n",
        "rows.csv: the lines do not all end in the same way, or a quote stands where none may be\n"
        "  write it again with one kind of line end, and quotes only around whole fields",
    ),
    ("a,b,a\n1,2,3\n", "rows.csv:1: the column 'a' is there twice\n  rename one of them"),
    ("a,,b\n1,2,3\n", "rows.csv:1: column 2 has no name\n  the first line names the columns"),
    ("\n1,2\n", "rows.csv:1: the first line is blank\n  the first line names the columns"),
]

BAD_JSONL = [
    (
        '{"a": 1}\n\n{"a": 2,}\n',
        "rows.jsonl:3: this line is not JSON (trailing comma at column 9): '{\"a\": 2,}'\n"
        '  each line is one whole JSON object: {"column": value, ...}',
    ),
    (
        '{"a": 1}\n{"a": 2\n{"a": 3}\n',
        "rows.jsonl:2: this line is not JSON (EOF while parsing an object at column 0): '{\"a\": 2'\n"
        '  each line is one whole JSON object: {"column": value, ...}',
    ),
    (
        '{"a": 1}{"a": 2}\n',
        'rows.jsonl:1: this line is not JSON (trailing characters at column 9): \'{"a": 1}{"a": 2}\'\n'
        '  each line is one whole JSON object: {"column": value, ...}',
    ),
    (
        '{"a": NaN}\n',
        "rows.jsonl:1: this line is not JSON (expected value at column 7): '{\"a\": NaN}'\n"
        '  each line is one whole JSON object: {"column": value, ...}',
    ),
    (
        '{"a": 1}\n[1, 2]\n',
        "rows.jsonl:2: this line is not a JSON object: '[1, 2]'\n"
        '  each line is one whole JSON object: {"column": value, ...}',
    ),
]


def complaint(source: RowSource) -> str:
    with pytest.raises(InputError) as caught:
        source.count()
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(("content", "message"), BAD_CSV)
def test_bad_csv(put: Put, open_at: Open, content: str | bytes, message: str) -> None:
    put("rows.csv", content)
    assert complaint(open_at("rows.csv")) == message


@pytest.mark.parametrize(("content", "message"), BAD_JSONL)
def test_bad_jsonl(put: Put, open_at: Open, content: str | bytes, message: str) -> None:
    put("rows.jsonl", content)
    assert complaint(open_at("rows.jsonl")) == message


def test_a_csv_line_without_end(put: Put, open_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("formats.csv_table", "failures"):
        monkeypatch.setattr(f"sundog.runtime.rows.{module}.MAX_LINE_BYTES", 2**20)
    put("rows.csv", "a\n1\n" + "x" * 2**22 + "\n2\n")
    assert complaint(open_at("rows.csv")) == (
        "rows.csv:3: this line is longer than 1 MiB\n"
        "  keep such texts in files of their own, or write the rows as parquet"
    )
    put("rows.csv", "a\n1\n" + "x" * 1_000_000 + "\n")
    assert open_at("rows.csv").count() == 2


def test_a_json_line_without_end(put: Put, open_at: Open) -> None:
    put("rows.jsonl", '{"a": 1}\n{"a": "' + "x" * (34 * 2**20) + '"}\n')
    assert complaint(open_at("rows.jsonl")).startswith("rows.jsonl:2: this line is longer than 16 MiB\n")


def test_the_bad_one_of_several_files_is_named(put: Put, open_at: Open) -> None:
    for name in ("1", "2", "3"):
        put(f"{name}.csv", "a,b\n1,2\n" + "3\n" * (name == "2"))
        put(f"{name}.jsonl", '{"a": 1}\n' + "{\n" * (name == "2"))
    assert complaint(open_at("*.csv")).startswith("2.csv:3: 1 fields")
    assert complaint(open_at("*.jsonl")).startswith("2.jsonl:2: this line is not JSON")


def test_a_bad_line_is_found_before_the_first_row(put: Put, open_at: Open) -> None:
    put("a.jsonl", '{"a": 1}\n' * 3000 + "{\n")
    put("a.csv", "a,b\n" + "1,2\n" * 3000 + "3\n")
    with pytest.raises(InputError, match=r"a\.jsonl:3001"):
        next(open_at("a.jsonl").batches())
    with pytest.raises(InputError, match=r"a\.csv:3002"):
        next(open_at("a.csv").batches())


def test_damaged_gzip_files(put: Put, open_at: Open) -> None:
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    put("plain.csv.gz", b"a,b\n1,2\n")
    put("cut.csv.gz", whole[:-20])
    put("cut.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    assert complaint(open_at("plain.csv.gz")) == (
        "plain.csv.gz: cannot read the file: Not a gzipped file (b'a,')\n  it may be damaged; write it again"
    )
    assert complaint(open_at("cut.csv.gz")).startswith("cut.csv.gz: cannot read the file: Compressed file ended")
    assert complaint(open_at("cut.jsonl.gz")).startswith("cut.jsonl.gz: cannot read on after line ")


def test_a_gzip_file_with_a_flipped_byte(put: Put, open_at: Open) -> None:
    for name, content in (("a.csv.gz", b"a,b\n" + b"1,2\n" * 9), ("a.jsonl.gz", b'{"a": 1}\n' * 9)):
        whole = bytearray(gzip.compress(content))
        whole[10] ^= 0xFF
        put(name, bytes(whole))
        assert "Error -3 while decompressing" in complaint(open_at(name))
        assert "it may be damaged" in complaint(open_at(name))


def test_a_gzip_file_that_is_damaged_and_no_text(put: Put, open_at: Open) -> None:
    whole = bytearray(gzip.compress(b"a,b\n1,caf\xe9"))
    whole[-8] ^= 0xFF
    put("a.csv.gz", bytes(whole))
    assert complaint(open_at("a.csv.gz")).startswith("a.csv.gz")


def test_damaged_parquet_files(put: Put, tmp_path: Path, open_at: Open) -> None:
    put("text.parquet", "PAR1 no")
    assert complaint(open_at("text.parquet")).startswith(
        "text.parquet: this is not a readable parquet file\n  it may be half written or of another format (ArrowInvalid"
    )
    path = tmp_path / "page.parquet"
    pq.write_table(pa.table({"a": range(10_000)}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4000:6000] = b"\xff" * 2000
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(open_at("page.parquet").batches())
    assert str(caught.value).startswith("page.parquet: cannot read the rows of input 'rows': Failed to read file")
    assert "damaged" in str(caught.value)
    put("ids.csv", "a\n1\n")
    joined = open_at(InputSource("ids", path="ids.csv"), InputSource("rows", path="page.parquet", key=("a", "a")))
    with pytest.raises(InputError, match=r"^page.parquet: "):
        list(joined.batches())


def test_parquet_columns_that_differ_only_in_case(tmp_path: Path, open_at: Open) -> None:
    pq.write_table(pa.table({"id": [1], "ID": [2]}), tmp_path / "a.parquet")
    assert complaint(open_at("a.parquet")).startswith("a.parquet: the column 'id' is there twice")


def test_files_read_together_have_the_same_columns(put: Put, tmp_path: Path, open_at: Open) -> None:
    put("1.csv", "a,b\n1,2\n")
    put("2.csv", "b,a\n1,2\n")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "2.parquet")
    assert complaint(open_at("*.csv")) == (
        "2.csv: its columns (b, a) are not those of 1.csv (a, b)\n"
        "  files read together have the same columns; use `query:` to unite different ones"
    )
    assert complaint(open_at("*.parquet")).startswith("2.parquet: its columns (a, b) are not those of 1.parquet (a)")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("question.csv", "there is no file 'question.csv'\n  did you mean 'questions.csv'?"),
        (
            "zzz.jsonl",
            "there is no file 'zzz.jsonl'\n  data files in {folder}: empty.csv, questions.csv",
        ),
        ("nowhere/a.csv", "there is no file 'nowhere/a.csv'\n  there is no folder {folder}/nowhere"),
        ("*.parquet", "no file matches '*.parquet'\n  looked in {folder}"),
        ("folder/", "'folder/' is a folder\n  name its files: folder/*.csv"),
        ("csvs", "'csvs' is a folder\n  name its files: csvs/*.csv"),
        (
            "pipe.csv",
            "'pipe.csv' is a pipe or a device\n  what can be read only once has no rows to count first: "
            "write it into a file",
        ),
        ("link.csv", "'link.csv' is a link to 'gone.csv', which is not there\n  mend the link"),
        ("~/a.csv", "there is no file '~/a.csv'\n  `~` is not expanded: write the whole path"),
        (
            "s3://b/a.csv",
            "there is no file 's3://b/a.csv'\n  sundog reads files: download it first, or read it with "
            "`call:` (Python)",
        ),
        ("empty.csv", "'empty.csv' is empty\n  write its rows first, or name another file"),
        (
            "notes.txt",
            "cannot tell the format of 'notes.txt' from its name\n  sundog reads .csv, .csv.gz, .tsv, .tsv.gz, "
            ".json, .json.gz, .jsonl, .jsonl.gz, .ndjson, .ndjson.gz, .parquet; read other files with "
            "`query:` (DuckDB SQL) or `call:` (Python)",
        ),
        (
            "folder/*",
            "'folder/*' matches files of different formats: csv, jsonl\n  end the pattern with one suffix: "
            "folder/*.parquet",
        ),
    ],
)
def test_bad_paths(put: Put, tmp_path: Path, open_at: Open, path: str, message: str) -> None:
    for name in ("questions.csv", "folder/a.csv", "folder/a.jsonl", "csvs/a.csv", "notes.txt"):
        put(name, "a\n1\n")
    if path == "pipe.csv":
        os.mkfifo(tmp_path / path)
    if path == "link.csv":
        (tmp_path / path).symlink_to("gone.csv")
    put("empty.csv", "")
    source = InputSource("rows", path=path, location=Location("flow.yaml", 3, 5))
    assert complaint(open_at(source)) == "flow.yaml:3:5: " + message.format(folder=tmp_path)
    assert complaint(open_at(path)).startswith("input 'rows': ")


def test_a_file_that_may_not_be_read(put: Put, open_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("a.csv", "a\n1\n")
    plain = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert complaint(open_at("a.csv")) == (
        "input 'rows': cannot read 'a.csv': Permission denied\n  check its permissions"
    )


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"idd": "VARCHAR"}, "a.csv:1: `types` names 'idd', which is no column\n  did you mean 'id'?"),
        (
            {"id": "STRNG"},
            "a.csv:1: `types` gives 'id' the type 'STRNG', which DuckDB does not know\n"
            "  types are VARCHAR, BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP and the like",
        ),
        (
            {"day": "DATE"},
            "a.csv:5: '2024-13-01' in column 'day' is not of type DATE\n"
            "  correct the line, or give the column a wider type: types: {day: VARCHAR}",
        ),
        (
            {"day": "DECIMAL(9,2)"},
            "a.csv:2: '2024-01-01' in column 'day' is not of type DECIMAL(9,2)\n"
            "  correct the line, or give the column a wider type: types: {day: VARCHAR}",
        ),
    ],
)
def test_bad_types(put: Put, open_at: Open, types: dict[str, str], message: str) -> None:
    put("a.csv", 'id,day\n"1\n\n",2024-01-01\n2,2024-13-01\n')
    assert complaint(open_at(InputSource("rows", path="a.csv", types=types))) == message


def test_types_are_for_csv_only(put: Put, open_at: Open) -> None:
    put("a.jsonl", '{"a": 1}\n')
    source = open_at(InputSource("rows", path="a.jsonl", types={"a": "VARCHAR"}))
    assert complaint(source).startswith("input 'rows' has `types`, but a jsonl file has its own\n")


def test_a_flow_without_inputs(open_at: Open) -> None:
    assert complaint(open_at()).startswith("the flow has no inputs\n")


@pytest.mark.parametrize(
    "error",
    [
        duckdb.OutOfMemoryException("Out of Memory Error: could not allocate"),
        duckdb.IOException("IO Error: Could not write file: No space left on device"),
        duckdb.IOException("IO Error: Could not write file: Disk quota exceeded"),
    ],
)
def test_lack_of_room_is_no_fault_of_the_input(error: duckdb.Error) -> None:
    with pytest.raises(RunError, match="TMPDIR") as caught, explained(lambda error: InputError("bad")):
        raise error
    assert caught.value.exit_code == 1
    assert str(error).split(": ", 1)[1].lower() in str(caught.value).lower(), "its numbers are those that hold"


def test_what_takes_less_memory_is_told_of_where_the_rows_are() -> None:
    error = duckdb.OutOfMemoryException("Out of Memory Error: could not allocate")
    hints = []
    for told in (explained, explained_of_table):
        with pytest.raises(RunError) as caught, told(lambda error: InputError("bad")):
            raise error
        hints.append(str(caught.value.hint))
    of_input, of_table = hints
    assert "--no-rule hoist_prefix" in of_input
    assert of_table.endswith("or let the query sort or join fewer or narrower columns")


def test_decimals_that_would_be_rounded_are_refused(tmp_path: Path, open_at: Callable[..., RowSource]) -> None:
    exact = pa.array([Decimal("1.00000000000000000000000000000000000000001")], pa.decimal256(50, 41))
    for column in (exact, pa.array([[exact[0].as_py()]], pa.list_(pa.decimal256(50, 41)))):
        pq.write_table(pa.table({"n": [1], "x": column}), tmp_path / "wide.parquet")
        with pytest.raises(InputError, match="column 'x' holds decimals of more than 38 digits"):
            open_at("wide.parquet").count()
    pq.write_table(pa.table({"x": pa.array([Decimal("1.5")], pa.decimal256(38, 2))}), tmp_path / "narrow.parquet")
    assert [row for batch in open_at("narrow.parquet").batches() for _, row in batch] == [{"x": "1.50"}]
