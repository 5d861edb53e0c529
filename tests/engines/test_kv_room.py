from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.embedded.kv_room import KVRoom


def test_who_comes_first_has_room_first() -> None:
    room = KVRoom(4)
    assert room.take(0, [], 3)
    assert not room.take(1, [], 2)
    assert room.take(2, [], 1)
    room.leave(0)
    assert room.take(1, [], 2)


def test_who_is_alone_has_room_whatever_it_needs() -> None:
    room = KVRoom(4)
    assert room.take(0, [], 9)
    assert not room.take(1, [], 1)


def test_blocks_in_common_count_once_when_they_are_computed() -> None:
    room = KVRoom(10)
    assert room.take(0, [1, 2, 3], 4)
    assert room.take(1, [1, 2, 3], 4), "nobody has computed them: it needs its own"
    assert not room.take(2, [1, 2, 3], 4)
    room.compute(0)
    assert room.take(2, [1, 2, 3], 4), "one block more than the three in common"


def test_blocks_in_common_stay_for_the_last_who_reads_them() -> None:
    room = KVRoom(6)
    assert room.take(0, [1, 2, 3], 4)
    room.compute(0)
    assert room.take(1, [1, 2, 9], 4), "two in common"
    room.leave(0)
    assert not room.take(2, [], 3)
    assert room.take(2, [1, 2], 4)


def test_a_prefix_in_common_ends_where_the_first_block_differs() -> None:
    room = KVRoom(5)
    assert room.take(0, [1, 2, 3], 3)
    room.compute(0)
    assert not room.take(1, [9, 2, 3], 3)


@given(st.lists(st.tuples(st.lists(st.sampled_from([(1,), (1, 2), (1, 2, 3), (7, 8)]), max_size=1), st.integers(0, 3))))
def test_what_has_left_leaves_nothing(asked: Sequence[tuple[list[tuple[int, ...]], int]]) -> None:
    room, inside = KVRoom(12), []
    for number, (prefixes, num_more) in enumerate(asked):
        keys = prefixes[0] if prefixes else ()
        if room.take(number, keys, len(keys) + num_more):
            inside.append(number)
            if number % 3:
                room.compute(number)
        elif inside:
            room.leave(inside.pop(0))
    for number in inside:
        room.leave(number)
    assert room.take(-1, [], 12)
    assert not room.take(-2, [], 1), "as much as at the beginning, and no more"
