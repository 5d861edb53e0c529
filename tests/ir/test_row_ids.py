"""Ids of rows: their order, and the way to bytes and text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.ir.row_ids import RowId, RowRef, decode_row_id, encode_row_id, read_row_ref, spell_row_id

row_ids = st.lists(st.integers(0, 2**40), min_size=1, max_size=4).map(tuple)
few = st.lists(st.sampled_from([0, 1, 255, 256, 65_535, 65_536]), min_size=1, max_size=3).map(tuple)


@given(st.one_of(row_ids, few), st.one_of(row_ids, few))
def test_bytes_have_the_order_of_the_ids(left: RowId, right: RowId) -> None:
    assert (encode_row_id(left) < encode_row_id(right)) == (left < right)
    assert (encode_row_id(left) == encode_row_id(right)) == (left == right)


@given(st.one_of(row_ids, few), st.sampled_from(["", "drugs"]))
def test_an_id_comes_back(row_id: RowId, table: str) -> None:
    assert decode_row_id(encode_row_id(row_id)) == row_id
    assert read_row_ref(str(RowRef(table, row_id))) == RowRef(table, row_id)


def test_users_read_numbers_with_dots() -> None:
    assert spell_row_id((17, 3)) == "17.3"
    assert (str(RowRef("", (17,))), str(RowRef("drugs", (17, 0, 2)))) == ("17", "drugs:17.0.2")
    for text in ("", "x", "drugs:", "1.x"):
        with pytest.raises(ValueError, match="invalid literal"):
            read_row_ref(text)
