"""A bucket's file gives the very rows that were written into it."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.execution.input_row import BadRow, IdentifiedRows, InputRow, Lacks
from sundog.ir.values.normal_form import normal_form
from sundog.runtime.buckets.files import MAX_PIECE_ROWS, BucketFile, pack_rows, unpack_rows

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.decimals(allow_nan=False, allow_infinity=False).map(normal_form)
    | st.binary(max_size=9).map(normal_form)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)
ROWS: st.SearchStrategy[InputRow] = st.dictionaries(TEXTS, VALUES, max_size=5)
BAD_ROWS = st.builds(
    BadRow,
    TEXTS,
    st.dictionaries(TEXTS, SCALARS, max_size=3),
    st.none() | TEXTS,
    st.none() | st.builds(Lacks, TEXTS, st.lists(TEXTS, max_size=3).map(tuple)),
)
ROW_IDS = st.lists(st.integers(0, 2**70), min_size=1, max_size=3).map(tuple)
TABLES = st.lists(st.tuples(ROW_IDS, ROWS | BAD_ROWS), max_size=12)


def exactly(rows: IdentifiedRows) -> list[tuple[Any, ...]]:
    """The rows with the type of each value, and all that a bad row says: 1, 1.0 and True are not the same."""
    return [
        (row_id, repr((row.reason, dict(row.known), row.hint, row.lacks) if isinstance(row, BadRow) else row))
        for row_id, row in rows
    ]


@given(TABLES)
def test_rows_are_read_as_they_were_written(rows: IdentifiedRows) -> None:
    assert exactly(unpack_rows(pack_rows(rows))) == exactly(rows)


@given(TABLES, st.integers(0, 12), st.integers(0, 12))
def test_some_of_the_rows_are_read(rows: IdentifiedRows, start: int, stop: int) -> None:
    assert exactly(unpack_rows(pack_rows(rows), start, stop)) == exactly(rows[start:stop])


@pytest.mark.parametrize(
    "value", [-0.0, 5e-324, 1e16, 2**64, 10**4299, "\ue000bad row\ue001", [{}], {"": []}, 0.1 + 0.2]
)
def test_values_at_the_borders_are_read_as_they_were_written(value: Any) -> None:
    rows: IdentifiedRows = [((0,), {"value": value})]
    assert exactly(unpack_rows(pack_rows(rows))) == exactly(rows)


def test_no_more_is_decoded_than_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: IdentifiedRows = [((number,), {"n": number}) for number in range(3 * MAX_PIECE_ROWS)]
    data = pack_rows(rows)
    read: list[int] = []
    read_row_group = pq.ParquetFile.read_row_group

    def heard(file: pq.ParquetFile, number: int, **options: Any) -> Any:
        read.append(number)
        return read_row_group(file, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", heard)
    asked = slice(MAX_PIECE_ROWS + 1, MAX_PIECE_ROWS + 3)
    assert unpack_rows(data, asked.start, asked.stop) == rows[asked]
    assert read == [1]


def test_long_rows_lie_in_groups_of_few() -> None:
    rows: IdentifiedRows = [((number,), {"text": str(number) * 2**20}) for number in range(9)]
    file = BucketFile(pack_rows(rows))
    assert [len(piece) for piece in file.rows()] == [4, 4, 1]


def test_the_places_where_groups_begin() -> None:
    keys = [b"a" * 16, b"a" * 16, b"b" * 16, None, None, b"a" * 16]
    rows: IdentifiedRows = [((number,), {}) for number in range(6)]
    file = BucketFile(pack_rows(rows, keys))
    assert list(file.group_starts()) == [0, 2, 3, 4, 5]
    assert list(file.group_starts(1, 4)) == [1, 2, 3]
    assert list(BucketFile(pack_rows(rows)).group_starts(4)) == [4, 5]


def test_the_same_rows_make_the_same_bytes() -> None:
    rows: IdentifiedRows = [((number,), {"text": "x" * number}) for number in range(100)]
    assert pack_rows(rows) == pack_rows(rows)


def test_an_empty_bucket_is_a_file_too() -> None:
    assert unpack_rows(pack_rows([])) == []
