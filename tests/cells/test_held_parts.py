"""The books of a cell: what has begun and ended of its parts, and where one can be cut."""

from __future__ import annotations

import pytest

from sundog.cells.held_parts import PIECE_ROWS, HeldPart, HeldParts
from sundog.cells.messages import WorkPart
from sundog.cluster.lease_events import LeasePart, PartKey
from sundog.ir.row_ids import RowRef
from sundog.runtime.buckets.files import BucketFile, pack_rows

GROUPS = [bytes([number // 10]) * 16 for number in range(40)]
"""Four groups of ten rows."""


def work(start: int = 0, stop: int = 40, *, is_split: bool = False) -> WorkPart:
    return WorkPart(LeasePart("c", 1, PartKey(0, start), stop), "t", "object", is_split)


@pytest.fixture
def file() -> BucketFile:
    return BucketFile(pack_rows([((number,), {"n": number}) for number in range(40)], GROUPS))


@pytest.mark.parametrize(
    ("begun", "at", "is_split", "cut"),
    [
        (0, 20, False, 20),  # a group begins there
        (0, 21, False, 30),  # the next one
        (0, 31, False, 40),  # no group begins behind it
        (25, 12, False, 30),  # those rows have begun
        (0, 0, False, 10),  # one row at least stays
        (0, 21, True, 21),  # other cells have rows of its group in any case
        (40, 20, True, 40),  # all have begun
    ],
)
def test_rows_are_given_up_where_a_group_begins(
    file: BucketFile, begun: int, at: int, cut: int, *, is_split: bool
) -> None:
    part = HeldPart(work(is_split=is_split), 40, begun)
    assert part.split(at, file) == cut
    assert part.num_left == max(0, cut - begun)


def test_rows_begin_a_few_at_a_time_up_to_an_end_that_moves(file: BucketFile) -> None:
    part = HeldPart(work(5), 40, 5)
    pieces = part.pieces(file)
    assert [row_id for row_id, _ in next(pieces)] == [(number,) for number in range(5, 5 + PIECE_ROWS)]
    assert part.begun == 5 + PIECE_ROWS
    part.split(25, file)
    assert [row for _, row in next(pieces)] == [{"n": number} for number in range(5 + PIECE_ROWS, 30)]
    assert list(pieces) == []


def test_a_part_ends_with_its_last_row(file: BucketFile) -> None:
    parts = HeldParts()
    part = parts.add(work(0, 2))
    assert parts.beat() == ((PartKey(0, 0), 0),)
    ids = [row_id for row_id, _ in next(part.pieces(file))]
    parts.begin(part, iter(ids))
    assert not parts.is_split(RowRef("t", (0,)))
    assert parts.ended("t", (0,)) is None
    assert parts.ended("t", (1,), is_awaited=True) is part
    assert part.awaited == [(1,)]
    assert parts.objects() == {"object"}
    parts.drop(part.key)
    assert (parts.beat(), parts.num_left, parts.objects()) == ((), 0, set())
