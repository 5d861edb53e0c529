"""Rows of queries and functions: made once, kept, and the same for a resumed run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError, InputError, Location
from sundog.execution.input_row import BadRow
from sundog.flow.python.rows import register_rows
from sundog.ir.logical import InputSource
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar
from sundog.runtime.rows import snapshot
from sundog.runtime.rows.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]
Read = Callable[..., list[Any]]

HALF = "the value is text with half a surrogate pair, which is no Unicode character"
NULLED = "1 values of column 'a' are NaN or infinite, and become null"
MODULE = """
import datetime, decimal
calls = 0
def rows(num=3):
    global calls
    calls += 1
    for n in range(num):
        yield {"n": n, "call": calls}
def ragged():
    return [{"a": 1}, {"b": float("nan"), "c": {1}}, {"a": datetime.date(2024, 1, 2)}]
def none(): return []
def early(): raise ValueError("no source today")
def late():
    yield {"a": 1}
    raise KeyError("x")
def no_dict(): return [{"a": 1}, [1]]
def bad_key(): return [{1: 1}]
def bad_value(): return [{"a": 1, "b": 2}, {"a": 1, "b": object()}]
def bad_text(): return [{"a": "\\ud800"}]
def no_rows(): return 5
def not_finite(): return [{"x": float("nan")}, {"x": {"y": [float("inf"), 1.5]}}]
def exact():
    price = decimal.Decimal("1.10")
    more = {"b": [b"\\xfb\\xff"], "d": price}
    yield {"b": b"\\xfb\\xff", "d": decimal.Decimal("12345678901234567890.12"), "more": more}
"""


@pytest.fixture(autouse=True)
def module(put: Put, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    put("source_of_rows.py", MODULE)
    yield
    sys.modules.pop("source_of_rows", None)


def call(function: str, **args: Any) -> InputSource:
    return InputSource("rows", call=f"source_of_rows:{function}", args=args, location=Location("flow.yaml", 2, 3))


def query(sql: str) -> InputSource:
    return InputSource("rows", query=sql, location=Location("flow.yaml", 2, 3))


def test_a_call_is_made_once_and_its_rows_are_kept(tmp_path: Path, open_at: Open, read: Read) -> None:
    kept = tmp_path / "state" / "inputs"
    first = open_at(call("rows", num=2), snapshot_dir=kept)
    assert not kept.exists()
    assert first.count() == 2
    assert first.shape == Record.of(n=Scalar(), call=Scalar())
    expected = [{"n": 0, "call": 1}, {"n": 1, "call": 1}]
    assert read(call("rows", num=2), snapshot_dir=kept) == expected
    assert read(call("rows", num=2), snapshot_dir=kept) == expected
    assert [path.name for path in kept.iterdir()] == ["rows.jsonl"]
    assert read(call("rows", num=2))[0]["call"] == 2


def test_rows_of_a_call_have_the_union_of_the_keys(read: Read, open_at: Open) -> None:
    assert read(call("ragged")) == [
        {"a": 1, "b": None, "c": None},
        {"a": None, "b": None, "c": [1]},
        {"a": "2024-01-02", "b": None, "c": None},
    ]
    assert open_at(call("ragged")).shape == Record.of(a=Scalar(), b=Anything(), c=ListOf(Scalar()))


@pytest.mark.parametrize("source", [call("none"), query("select 1 as a where false")])
def test_no_rows_are_no_error(open_at: Open, source: InputSource) -> None:
    opened = open_at(source)
    assert opened.count() == 0
    assert opened.shape == Anything()
    assert list(opened.batches()) == []


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("early", "{0} failed after 0 rows: ValueError: no source today"),
        ("late", "{0} failed after 1 rows: KeyError: 'x'"),
        ("no_rows", "{0} failed after 0 rows: TypeError: 'int' object is not iterable"),
        ("no_dict", "row 2 of input 'rows' is not a dict with text keys but list"),
        ("bad_key", "row 1 of input 'rows' is not a dict with text keys but dict"),
    ],
)
def test_a_bad_call_leaves_no_snapshot(tmp_path: Path, open_at: Open, function: str, what: str) -> None:
    kept = tmp_path / "inputs"
    with pytest.raises(InputError) as caught:
        open_at(call(function), snapshot_dir=kept).count()
    assert caught.value.what == what.format(f"the function 'source_of_rows:{function}' of input 'rows'")
    assert str(caught.value.where) == "flow.yaml:2:3"
    assert caught.value.hint
    assert list(kept.iterdir()) == []


def test_a_value_without_a_json_form_is_its_rows_failure(read: Read) -> None:
    assert read(call("bad_value")) == [{"a": 1, "b": 2}, BadRow("column 'b': the value is of type object")]
    half = "column 'a': the value is text with half a surrogate pair, which is no Unicode character"
    assert read(call("bad_text")) == [BadRow(half)]


def test_values_that_become_null_are_counted_once_and_told_with_the_snapshot(tmp_path: Path, open_at: Open) -> None:
    note = "2 values of column 'x' are NaN or infinite, and become null"
    for source in (call("not_finite"), query("select unnest([{'y': 'nan'::float}, {'y': 'inf'::float}]) as x")):
        for _ in range(2):
            opened = open_at(source, snapshot_dir=tmp_path / "state" / str(source.call is None))
            assert opened.count() == 2
            assert opened.notes() == (("rows", note),)


def test_bytes_and_decimals_of_a_query_and_a_call_are_the_same_text(read: Read) -> None:
    expected = [{"b": "+/8=", "d": "12345678901234567890.12", "more": {"b": ["+/8="], "d": "1.10"}}]
    assert read(call("exact")) == expected
    row = (
        "select '\\xFB\\xFF'::blob as b, 12345678901234567890.12::decimal(22, 2) as d,"
        " {'b': ['\\xFB\\xFF'::blob], 'd': 1.10::decimal(3, 2)} as more"
    )
    assert read(query(row)) == expected


@pytest.mark.parametrize(
    ("value", "read_as", "notes"),
    [
        (float("nan"), {"a": None}, [("rows", NULLED)]),
        ({"x": [float("inf")]}, {"a": {"x": [None]}}, [("rows", NULLED)]),
        (
            "\ud800",
            BadRow("column 'a': the value is text with half a surrogate pair, which is no Unicode character"),
            [],
        ),
        (object(), BadRow("column 'a': the value is of type object"), []),
        (b"\xfb\xff", {"a": "+/8="}, []),
    ],
)
def test_rows_given_directly_change_with_a_word(
    read: Read, open_at: Open, value: Any, read_as: Any, notes: list[Any]
) -> None:
    source = InputSource("rows", call=register_rows("rows", [{"a": 1}, {"a": value}]))
    assert read(source) == [{"a": 1}, read_as]
    assert list(open_at(source).notes()) == notes


def test_an_unknown_function(open_at: Open) -> None:
    with pytest.raises(FlowError):
        open_at(call("rowz")).count()


def test_a_query_reads_files_of_the_flows_folder(
    put: Put, tmp_path: Path, read: Read, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("flow/a.csv", "a\n1\n2\n")
    put("elsewhere/a.csv", "a\n5\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    source = query("select sum(a) as total, list(a order by a desc) as every, 1.5 as rate from 'flow/a.csv';")
    assert read(source) == [{"total": 3, "every": [2, 1], "rate": "1.5"}]
    assert open_at(source).shape == Record.of(total=Scalar(), every=ListOf(Scalar()), rate=Scalar())
    assert Path.cwd() == tmp_path / "elsewhere"


def test_a_query_keeps_its_order_and_its_snapshot(put: Put, tmp_path: Path, read: Read) -> None:
    source = query("select n from range(5000) t(n) order by n % 7, n desc -- the last word")
    expected = sorted(range(5000), key=lambda n: (n % 7, -n))
    assert [row["n"] for row in read(source)] == expected
    put("a.csv", "a\n1\n")
    kept = tmp_path / "inputs"
    assert read(query("from 'a.csv'"), snapshot_dir=kept) == [{"a": 1}]
    put("a.csv", "a\n2\n")
    assert read(query("from 'a.csv'"), snapshot_dir=kept) == [{"a": 1}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "selec 1",
            "the query of input 'rows' failed (line 1 of the query): syntax error at or near \"selec\"\n"
            "  file names count from the flow's folder",
        ),
        (
            "select\n  totl\nfrom 'a.csv'",
            "the query of input 'rows' failed (line 2 of the query): Referenced column \"totl\" not found in FROM "
            'clause!\n  columns near that name: "total"',
        ),
        (
            "from 'b.csv'",
            "the query of input 'rows' failed: No files found that match the pattern \"b.csv\"\n"
            "  file names count from the flow's folder",
        ),
        (
            "select\n total / 'x' as a from 'a.csv'",
            "the query of input 'rows' failed (line 2 of the query): Could not convert string 'x' to DOUBLE",
        ),
        (
            "select 1 as a, 2 as a",
            "the query of input 'rows' gives the column 'a' twice\n  name one of them otherwise: ... AS another_name",
        ),
        ("select 1; select 2", "the query of input 'rows' is not one SELECT\n"),
        ("copy (select 1) to 'out.csv'", "the query of input 'rows' is not one SELECT\n"),
        ("create table t (a int)", "the query of input 'rows' is not one SELECT\n"),
        ("", "the query of input 'rows' is not one SELECT\n"),
    ],
)
def test_bad_queries(put: Put, tmp_path: Path, open_at: Open, sql: str, message: str) -> None:
    put("a.csv", "total\n1\n")
    with pytest.raises(InputError) as caught:
        open_at(query(sql)).count()
    assert str(caught.value).startswith("flow.yaml:2:3: " + message)
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "source_of_rows.py"}


def test_a_query_sees_no_python_variable(open_at: Open) -> None:
    for name in ("source", "cursor", "relation"):
        with pytest.raises(InputError, match=f"Table with name {name} does not exist"):
            open_at(query(f"from {name}")).count()


def test_a_query_may_be_joined(put: Put, read: Read) -> None:
    put("a.csv", "id\n2\n1\n")
    joined = InputSource("n", query="select n, n * 10 as ten from range(2) t(n)", key=("n", "id"))
    assert read(InputSource("rows", path="a.csv"), joined) == [
        {"id": 2, "n": None},
        {"id": 1, "n": {"n": 1, "ten": 10}},
    ]


def test_many_rows_are_kept_in_several_files(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_PIECE_BYTES", 40)
    kept = tmp_path / "state" / "inputs"
    kept.mkdir(parents=True)
    # A process that was killed before all rows were written may have left some.
    (kept / "rows.99.jsonl").write_text('{"n": 99}\n')
    rows = [{"n": n, "call": 1} for n in range(30)]
    for _ in range(2):
        assert read(call("rows", num=30), snapshot_dir=kept) == rows
    files = sorted(kept.glob("*.jsonl"))
    assert len(files) == 10
    assert max(file.stat().st_size for file in files) < 60
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
