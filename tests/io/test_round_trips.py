"""Rows -> file -> rows, for any rows the format can hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sundog.ir.logical import InputSource
from sundog.ir.values.canonical import canonical_json
from sundog.runtime.rows.inputs import open_rows
from sundog.runtime.rows.outputs import write_output

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
COLUMN = {
    "number": st.integers(-(2**63), 2**63 - 1),
    "ratio": FLOATS,
    "flag": st.booleans(),
    "note": TEXT,
    "tags": st.lists(TEXT | st.none(), max_size=3),
    "at": st.fixed_dictionaries({"x": st.integers(0, 9) | st.none(), "y": st.lists(FLOATS, max_size=2)}),
}
TYPED_ROWS = st.lists(
    st.fixed_dictionaries({name: values | st.none() for name, values in COLUMN.items()}), min_size=1, max_size=20
)
# A CSV field can hold no carriage return, which readers may take for the end of a line, and no zero byte.
CSV_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=20)
CSV_ROWS = st.lists(
    st.fixed_dictionaries({"id": st.integers(), "note": CSV_TEXT | st.none(), "other": CSV_TEXT}),
    min_size=1, max_size=20,
)  # fmt: skip

# Every example overwrites the same file.
same_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)


def _source(folder: Path, name: str, types: dict[str, str]) -> InputSource:
    if "#" not in name:
        return InputSource("rows", path=name, types=types)
    # No input reads a database: its table goes by way of a file.
    with duckdb.connect(str(folder / name.partition("#")[0])) as database:
        database.execute(f"copy {name.partition('#')[2]} to '{folder / 'table.parquet'}'")
    return InputSource("rows", path="table.parquet")


@pytest.fixture
def trip(tmp_path: Path) -> Callable[..., list[Any]]:
    def write_and_read(name: str, rows: list[dict[str, Any]], types: dict[str, str] | None = None) -> list[Any]:
        bodies = [((index,), canonical_json(row)) for index, row in enumerate(rows)]
        warnings = write_output(tmp_path / name, list(rows[0]), lambda: iter(bodies))
        assert not [warning for warning in warnings if "as formulas" not in warning]
        source = open_rows([_source(tmp_path, name, types or {})], base_dir=tmp_path, snapshot_dir=None)
        return [row for batch in source.batches(batch_size=2) for _, row in batch]

    return write_and_read


@same_file
@given(st.lists(st.fixed_dictionaries({"a": JSON, "b c": JSON}), min_size=1, max_size=20))
def test_jsonl_keeps_any_row(trip: Callable[..., list[Any]], rows: list[dict[str, Any]]) -> None:
    assert trip("rows.jsonl", rows) == rows
    assert trip("rows.json", rows) == rows


@same_file
@given(TYPED_ROWS)
def test_parquet_keeps_typed_rows(trip: Callable[..., list[Any]], rows: list[dict[str, Any]]) -> None:
    assert trip("rows.parquet", rows) == rows


@same_file
@given(TYPED_ROWS)
def test_a_table_keeps_typed_rows(trip: Callable[..., list[Any]], rows: list[dict[str, Any]]) -> None:
    assert trip("rows.duckdb#answers", rows) == rows


@same_file
@given(CSV_ROWS)
def test_csv_keeps_text(trip: Callable[..., list[Any]], rows: list[dict[str, Any]]) -> None:
    types = dict.fromkeys(rows[0], "VARCHAR")
    assert trip("rows.csv", rows, types) == [{**row, "id": str(row["id"])} for row in rows]


@same_file
@given(
    st.lists(st.fixed_dictionaries({"n": st.integers(-(10**15) + 1, 10**15 - 1), "x": FLOATS | st.none()}), min_size=1)
)
def test_csv_keeps_numbers(trip: Callable[..., list[Any]], rows: list[dict[str, Any]]) -> None:
    found = trip("rows.csv", rows, {"x": "DOUBLE"})
    assert found == rows
