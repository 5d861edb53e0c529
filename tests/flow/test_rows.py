"""Tables given directly as rows: each value arrives as what it is, and a table that cannot be read is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from sundog.errors import FlowError
from sundog.flow.python.rows import register_rows
from sundog.functions import resolve_function
from sundog.ir.values.normal_form import NoNormalForm, normal_form


def read(rows: Any) -> list[dict[str, Any]]:
    found: Iterator[dict[str, Any]] = resolve_function(register_rows("given", rows), base_dir=None)()
    return [normal_form(row) for row in found]


def test_values_of_a_table_are_what_they_are() -> None:
    pytest.importorskip("pandas", reason="no dependency of sundog")  # Arrow's own times of nanoseconds are pandas'
    table = pa.table(
        {
            "at": pa.array([1577872800123456789], pa.timestamp("ns")),
            "took": pa.array([5], pa.duration("ns")),
            "tags": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "day": pa.array([date(2024, 1, 2)]),
            "when": pa.array([datetime(2024, 1, 2, tzinfo=UTC)]),
        }
    )
    assert read(table) == [
        {
            "at": "2020-01-01T10:00:00.123456789",
            "took": "P0DT0H0M0.000000005S",
            "tags": {"a": 1},
            "day": "2024-01-02",
            "when": "2024-01-02T00:00:00Z",
        }
    ]


def test_a_value_beyond_pythons_own_fails_its_row_alone() -> None:
    table = pa.table({"n": [1, 2], "at": pa.array([2**62, 0], pa.timestamp("us"))})
    first, second = resolve_function(register_rows("given", table), base_dir=None)()
    assert (first["n"], second["n"]) == (1, 2)
    with pytest.raises(NoNormalForm, match="the value cannot be read: OverflowError"):
        normal_form(first["at"])
    assert normal_form(second["at"]) == "1970-01-01T00:00:00"


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(FlowError, match="two columns of the rows are called 'x'"):
        register_rows("given", pa.table([pa.array([1]), pa.array([2])], names=["x", "x"]))


def test_a_column_of_mixed_types_is_told_by_its_name() -> None:
    pandas = pytest.importorskip("pandas", reason="no dependency of sundog")
    with pytest.raises(FlowError, match=r"cannot be read as an Arrow table: .* column x ") as caught:
        register_rows("given", pandas.DataFrame({"x": [1, "a"]}))
    assert "to_dict('records')" in str(caught.value.hint)


def test_numbers_that_stand_for_something_else_are_not_given() -> None:
    pandas = pytest.importorskip("pandas", reason="no dependency of sundog")
    polars = pytest.importorskip("polars", reason="of the extra dev")
    months = pandas.DataFrame({"x": pandas.period_range("2024-01", periods=2, freq="M")})
    objects = polars.DataFrame({"x": polars.Series([object()], dtype=polars.Object)})
    for table in (months, objects):
        with pytest.raises(FlowError, match="column 'x' of the rows has a type that JSON has nothing for"):
            register_rows("given", table)


def test_rows_of_numpy_values_are_known_by_their_content() -> None:
    numpy = pytest.importorskip("numpy", reason="no dependency of sundog")
    assert read([{"n": numpy.int64(3)}]) == [{"n": 3}]
    assert register_rows("given", [{"n": numpy.int64(3)}]) == register_rows("given", [{"n": 3}])


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{1: 2}], "row 0 has the key 1, which is no text but of type int"),
        ([{"a": 1}, "b"], "and this is a list that holds a str"),
        (({"a": 1} for _ in range(2)), "and this is a generator"),
    ],
)
def test_what_is_no_rows_is_told(rows: Any, told: str) -> None:
    with pytest.raises(FlowError, match=told):
        register_rows("given", rows)
