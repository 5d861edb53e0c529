"""Good input files: what their rows become, in which order, and how little is read for a shape and a count."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sundog.execution.input_row import BadRow
from sundog.ir.logical import InputSource
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar
from sundog.runtime.rows.duck import stream
from sundog.runtime.rows.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]
Read = Callable[..., list[Any]]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.csv", "id,note\n1,x\n2,\n", [{"id": 1, "note": "x"}, {"id": 2, "note": None}]),
        ("crlf.csv", "id,note\r\n1,x\r\n", [{"id": 1, "note": "x"}]),
        ("mark.csv", "\ufeffid\n1\n", [{"id": 1}]),
        ("semicolon.csv", 'a;"b;,,,c"\n1;"x,y"\n', [{"a": 1, "b;,,,c": "x,y"}]),
        ("tabs.tsv", "a,b\tc\n1\t2\n", [{"a,b": 1, "c": 2}]),
        ("quoted.csv", 'a,b\n"say ""yes""","two\nlines"\n"",1\n', [
            {"a": 'say "yes"', "b": "two\nlines"}, {"a": "", "b": "1"},
        ]),
        ("no_end.csv", "a\n1", [{"a": 1}]),
        ("header_only.csv", "a,b\n", []),
        ("case.csv", "a,A\n1,2\n", [{"a": 1, "A": 2}]),
        ("odd name [1] it's.csv", "a\n1\n", [{"a": 1}]),
        ("a.jsonl", '{"a": 1}\n\n{"b": {"c": [1, "2"]}}\n', [{"a": 1, "b": None}, {"a": None, "b": {"c": [1, "2"]}}]),
        ("dates.jsonl", '{"a": "2024-01-02", "b": 1.0, "c": 12345678901234567890123}\n',
         [{"a": "2024-01-02", "b": 1.0, "c": 12345678901234567890123}]),
        ("mark.ndjson", '\ufeff{"a": true}\n{"a": null}', [{"a": True}, {"a": None}]),
    ],
)  # fmt: skip
def test_a_file_gives_its_rows(put: Put, read: Read, name: str, content: str, rows: list[Any]) -> None:
    put(name, content)
    assert read(name) == rows
    put(f"{name}.gz", gzip.compress(content.encode()))
    assert read(f"{name}.gz") == rows


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "-20", "0", ""], [1, -20, 0, None]),
        (["007", "12"], ["007", "12"]),
        (["-01", "12"], ["-01", "12"]),
        (["+1", "12"], ["+1", "12"]),
        (["1", "2.50"], [1.0, 2.5]),
        (["1e3", "-1.5E-2"], [1000.0, -0.015]),
        (["0.30000000000000004", "1e300"], [0.30000000000000004, 1e300]),
        (["0.12345678901234567890", "1"], ["0.12345678901234567890", "1"]),
        (["12345678901234.123456"], ["12345678901234.123456"]),
        (["1e999", "1.5"], ["1e999", "1.5"]),
        (["00.5", "1"], ["00.5", "1"]),
        (["123456789012345678"], [123456789012345678]),
        (["12345678901234567890"], ["12345678901234567890"]),
        (["1234567890123456", "0.5"], ["1234567890123456", "0.5"]),
        (["nan", "1"], ["nan", "1"]),
        (["inf"], ["inf"]),
        (["true", "False", ""], [True, False, None]),
        (["true", "1"], ["true", "1"]),
        (["yes", "no"], ["yes", "no"]),
        (["2024-01-02", "2024-02-30"], ["2024-01-02", "2024-02-30"]),
        (["1", " 2"], ["1", " 2"]),
        (["1,5"], ["1,5"]),
        (["", ""], [None, None]),
    ],
)
def test_a_csv_column_is_a_number_only_where_that_loses_nothing(
    put: Put, read: Read, texts: list[str], values: list[Any]
) -> None:
    put("a.csv", "n;value\n" + "".join(f"1;{text}\n" for text in texts))
    found = [row["value"] for row in read("a.csv")]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_a_late_value_decides_a_csv_column_as_much_as_an_early_one(put: Put, read: Read) -> None:
    put("a.csv", "zip\n" + "12345\n" * 30_000 + "01234\n")
    rows = read("a.csv")
    assert rows[0] == {"zip": "12345"}
    assert rows[-1] == {"zip": "01234"}


def test_given_types_win(put: Put, read: Read) -> None:
    put("a.csv", "a,b,c,d\n1,2024-01-02,1.10,2\n,,,\n")
    source = InputSource("rows", path="a.csv", types={"a": "VARCHAR", "b": "DATE", "c": "DECIMAL(9,2)"})
    assert read(source) == [
        {"a": "1", "b": "2024-01-02", "c": "1.10", "d": 2},
        {"a": None, "b": None, "c": None, "d": None},
    ]


def test_a_csv_column_of_doubles_tells_what_becomes_null(put: Put, open_at: Open, read: Read) -> None:
    put("a.csv", "x,y\nnan,nan\n1.5,1\n-inf,\n")
    source = InputSource("rows", path="a.csv", types={"x": "DOUBLE"})
    assert read(source) == [{"x": None, "y": "nan"}, {"x": 1.5, "y": "1"}, {"x": None, "y": None}]
    assert open_at(source).notes() == (("rows", "2 values of column 'x' are NaN or infinite, and become null"),)
    put("b.csv", "x\n1.5\n")
    assert open_at(InputSource("rows", path="b.csv", types={"x": "DOUBLE"})).notes() == ()


def test_a_quoted_number_is_a_number_and_an_empty_one_null(put: Put, read: Read) -> None:
    put("a.csv", 'a,b\n"1",""\n"",""\n')
    assert read("a.csv") == [{"a": 1, "b": ""}, {"a": None, "b": ""}]


def test_globs_are_read_in_the_order_of_names(put: Put, read: Read) -> None:
    for name in ("b/2.csv", "a/10.csv", "a/1.csv", ".hidden/0.csv"):
        put(name, f"name\n{name}x\n")
    assert [row["name"] for row in read("**/*.csv")] == ["a/1.csvx", "a/10.csvx", "b/2.csvx"]
    put("a/0.jsonl", '{"a": 1}\n')
    put("b/0.jsonl", '{"b": 2}\n')
    assert read("*/*.jsonl") == [{"a": 1, "b": None}, {"a": None, "b": 2}]


def test_a_file_whose_name_looks_like_a_pattern_is_read_alone(put: Put, read: Read) -> None:
    for name in ("a[12].csv", "a1.csv", "b*.csv", "bb.csv", "c?.csv", "cc.csv"):
        put(name, f"name\n{name}\n")
    for name in ("a[12].csv", "b*.csv", "c?.csv"):
        assert read(name) == [{"name": name}]
    assert len(read("*.csv")) == 6


def test_an_absolute_path_and_one_from_the_flows_folder_are_the_same(put: Put, read: Read) -> None:
    path = put("a.csv", "a\n1\n")
    assert read(str(path)) == read("a.csv")


def test_parquet_values_become_json_values(tmp_path: Path, open_at: Open) -> None:
    when = datetime.datetime(2024, 1, 2, 3, 4, 5, 500_000)
    zone = datetime.timezone(datetime.timedelta(hours=2))
    columns: dict[str, Any] = {
        "whole": pa.array([1, None]),
        "big": pa.array([decimal.Decimal(10**30), None], pa.decimal128(38, 0)),
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "ratio": pa.array([0.5, float("nan")]),
        "flag": pa.array([True, None]),
        "kind": pa.array(["a", None]).dictionary_encode(),
        "day": pa.array([when.date(), None]),
        "time": pa.array([when, None]),
        "zoned": pa.array([when.replace(tzinfo=zone), None]),
        "blob": pa.array([b"\x00\xff", None]),
        "list": pa.array([[1, None], []]),
        "record": pa.array([{"a": {"b": [1.5, float("inf")]}}, None]),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(2),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    source = open_at("a.parquet")
    first, second = (row for batch in source.batches() for _, row in batch)
    assert first == {
        "whole": 1,
        "big": 10**30,
        "price": "1.50",
        "ratio": 0.5,
        "flag": True,
        "kind": "a",
        "day": "2024-01-02",
        "time": "2024-01-02T03:04:05.5",
        "zoned": "2024-01-02T01:04:05.5+00",
        "blob": "AP8=",
        "list": [1, None],
        "record": {"a": {"b": [1.5, None]}},
        "map": {"k": 1},
        "nothing": None,
    }
    assert second == dict.fromkeys(columns) | {"list": []}
    assert source.notes() == (
        ("rows", "1 values of column 'ratio' are NaN or infinite, and become null"),
        ("rows", "1 values of column 'record' are NaN or infinite, and become null"),
    )
    shape = source.shape
    assert isinstance(shape, Record)
    shapes = dict(shape.fields)
    assert list(shapes) == list(columns)
    assert shapes.pop("list") == ListOf(Scalar())
    assert shapes.pop("record") == Record.of(a=Record.of(b=ListOf(Scalar())))
    assert shapes.pop("map") == Anything()
    assert set(shapes.values()) == {Scalar()}


def test_a_uuid_is_text(tmp_path: Path, read: Read) -> None:
    one = uuid.UUID(int=5)
    pq.write_table(pa.table({"a": pa.array([one.bytes], pa.uuid())}), tmp_path / "a.parquet")
    assert read("a.parquet") == [{"a": str(one)}]


def test_parquet_files_read_together_are_widened_and_matched_by_name(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["y"], "a": [0.5]}), tmp_path / "2.parquet")
    assert read("*.parquet") == [{"a": 1.0, "b": "x"}, {"a": 0.5, "b": "y"}]


def test_a_folder_name_with_an_equals_sign_adds_no_column(put: Put, tmp_path: Path, read: Read) -> None:
    (tmp_path / "year=2024").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "year=2024" / "1.parquet")
    assert read("year=2024/*.parquet") == [{"a": 1}]
    put("year=2024/1.csv", "a\n1\n")
    assert read("year=2024/1.csv") == [{"a": 1}]


def test_the_shape_of_jsonl_joins_what_the_first_rows_show(put: Put, open_at: Open) -> None:
    put(
        "a.jsonl",
        '{"id": 1, "who": null, "tags": [], "at": {"x": 1}, "any": 1}\n'
        '{"id": 2, "who": {"name": "A"}, "tags": ["t"], "at": {"y": 1}, "any": [1]}\n',
    )
    assert open_at("a.jsonl").shape == Record.of(
        id=Scalar(), who=Record.of(name=Scalar()), tags=ListOf(Anything()), at=Anything(), any=Anything()
    )


def test_a_column_that_only_a_late_line_has_is_null_before(put: Put, read: Read) -> None:
    put("a.jsonl", '{"a": 1}\n' * 20_000 + '{"b": 2}\n')
    rows = read("a.jsonl")
    assert rows[0] == {"a": 1, "b": None}
    assert rows[-1] == {"a": None, "b": 2}


@pytest.fixture
def thousand(put: Put) -> str:
    put("a.csv", "id\n" + "".join(f"{number}\n" for number in range(1000)))
    return "a.csv"


def numbers(source: RowSource, **options: Any) -> list[int]:
    batches = source.batches(**options)
    found = [(index, row["id"]) for batch in batches for index, row in batch if not isinstance(row, BadRow)]
    assert all(index == number for index, number in found)
    return [number for _, number in found]


def test_rows_are_numbered_and_restart_anywhere(thousand: str, open_at: Open) -> None:
    source = open_at(thousand)
    assert [len(batch) for batch in source.batches(batch_size=300)] == [300, 300, 300, 100]
    assert numbers(source) == list(range(1000))
    for start in (0, 1, 299, 300, 301, 999, 1000, 5000):
        assert numbers(source, start_row=start, batch_size=300) == list(range(start, 1000))


def test_limit_takes_the_first_rows(thousand: str, open_at: Open) -> None:
    for limit in (0, 1, 7, 1000, 2000):
        source = open_at(thousand, limit=limit)
        assert source.count() == min(limit, 1000)
        assert numbers(source, batch_size=7) == list(range(min(limit, 1000)))


def test_a_sample_is_chosen_by_its_seed_and_keeps_order_and_numbers(thousand: str, open_at: Open) -> None:
    chosen = numbers(open_at(thousand, sample=10, seed=1))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 10
    assert chosen == numbers(open_at(thousand, sample=10, seed=1), batch_size=3)
    assert chosen != numbers(open_at(thousand, sample=10, seed=2))
    assert open_at(thousand, sample=10).count() == 10
    middle = chosen[5]
    assert numbers(open_at(thousand, sample=10, seed=1), start_row=middle) == chosen[5:]
    assert numbers(open_at(thousand, sample=5000)) == list(range(1000))
    assert max(numbers(open_at(thousand, limit=20, sample=10))) < 20


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were fetched so far."""
    sizes: list[int] = []

    def counting(*arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
        for rows in stream(*arguments):
            sizes.append(len(rows))
            yield rows

    monkeypatch.setattr("sundog.runtime.rows.inputs.stream", counting)
    return sizes


def test_rows_are_fetched_as_they_are_taken(thousand: str, open_at: Open, fetched: list[int]) -> None:
    batches = open_at(thousand).batches(batch_size=10)
    for taken in range(1, 6):
        next(batches)
        assert fetched == [10] * taken


def test_long_rows_are_decoded_in_smaller_batches(put: Put, open_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    put("long.jsonl", "".join(json.dumps({"id": number, "text": "x" * 100 * number}) + "\n" for number in range(6)))
    monkeypatch.setattr("sundog.runtime.rows.inputs.MAX_BATCH_CHARACTERS", 500)
    batches = list(open_at("long.jsonl").batches())
    assert [[number for number, _ in batch] for batch in batches] == [[0, 1, 2], [3], [4], [5]]
    assert [row["id"] for batch in batches for _, row in batch if not isinstance(row, BadRow)] == list(range(6))


def test_a_limit_stops_the_reading(thousand: str, open_at: Open, fetched: list[int]) -> None:
    assert numbers(open_at(thousand, limit=25), batch_size=10) == list(range(25))
    assert sum(fetched) <= 40


def test_the_shape_of_a_csv_file_is_known_from_its_header(put: Put, open_at: Open) -> None:
    put("a.csv", 'a,b\n1,"not closed\n')
    assert open_at("a.csv").shape == Record.of(a=Scalar(), b=Scalar())


def test_equal_rows_have_equal_identities(put: Put, open_at: Open) -> None:
    put("a.csv", "a\n1\n")
    put("b.csv", "a\n1\n")
    put("c.csv", "a\n2\n")
    base = open_at("a.csv").content_identity()
    assert base == open_at("b.csv").content_identity()
    others = [
        open_at("c.csv").content_identity(),
        open_at("a.csv", limit=1).content_identity(),
        open_at("a.csv", sample=1).content_identity(),
        open_at("a.csv", sample=1, seed=1).content_identity(),
        open_at(InputSource("rows", path="a.csv", types={"a": "VARCHAR"})).content_identity(),
        open_at(InputSource("rows", query="from 'a.csv'")).content_identity(),
        open_at(InputSource("rows", call="m:f")).content_identity(),
        open_at(InputSource("rows", call="m:f", args={"n": 1})).content_identity(),
    ]
    assert all(one != other for index, one in enumerate([base, *others]) for other in [base, *others][index + 1 :])


def test_the_seed_does_not_matter_without_a_sample(put: Put, open_at: Open) -> None:
    put("a.csv", "a\n1\n")
    assert open_at("a.csv", seed=1).content_identity() == open_at("a.csv", seed=2).content_identity()


def test_nothing_is_left_behind(put: Put, open_at: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    put("flow/a.csv", "a\n1\n")
    source = open_at(InputSource("rows", query="from 'flow/a.csv'"))
    assert source.count() == 1
    assert list(scratch.iterdir())
    source.close()
    assert not list(scratch.iterdir())
    assert [path.name for path in (tmp_path / "flow").iterdir()] == ["a.csv"]
