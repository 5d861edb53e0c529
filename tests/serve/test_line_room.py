"""The room of batches: lines come in the order in which they ask, and no more than there is room for."""

from __future__ import annotations

import asyncio

from sundog.serve.batches.room import LinePlace, LineRoom
from sundog.serve.batches.turns import BatchTurn, TurnPlace


async def entering(room: LineRoom, entered: list[str], name: str, num_bytes: int = 1) -> asyncio.Task[None]:
    """Begin to ask for room; what is granted at once is in `entered` when this returns."""

    async def enter() -> None:
        await room.enter(num_bytes)
        entered.append(name)

    task = asyncio.ensure_future(enter())
    await asyncio.sleep(0)
    return task


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_lines_wait_for_room_in_their_order() -> None:
    async def test() -> None:
        room, entered = LineRoom(max_lines=2), list[str]()
        tasks = [await entering(room, entered, name) for name in "abcd"]
        assert entered == ["a", "b"]
        room.leave(1)
        await turn()
        assert entered == ["a", "b", "c"]
        room.leave(1)
        room.leave(1)
        await asyncio.gather(*tasks)
        assert (entered, room.num_lines) == (["a", "b", "c", "d"], 1)

    asyncio.run(test())


def test_large_lines_take_more_of_the_room_and_the_largest_goes_alone() -> None:
    async def test() -> None:
        room, entered = LineRoom(max_lines=9, max_bytes=10), list[str]()
        tasks = [await entering(room, entered, str(size), size) for size in (6, 4, 99, 1)]
        assert entered == ["6", "4"], "who comes later does not pass by"
        room.leave(6)
        await turn()
        assert entered == ["6", "4"]
        room.leave(4)
        await turn()
        assert entered == ["6", "4", "99"]
        room.leave(99)
        await asyncio.gather(*tasks)
        assert entered[-1] == "1"

    asyncio.run(test())


def test_who_leaves_while_it_waits_takes_no_room() -> None:
    async def test() -> None:
        room, entered = LineRoom(max_lines=1), list[str]()
        await entering(room, entered, "a")
        gone, granted, last = [await entering(room, entered, name) for name in ("gone", "granted", "last")]
        gone.cancel()
        await turn()
        room.leave(1)
        # It has room from now on, and hears of it too late.
        granted.cancel()
        await turn()
        await last
        assert (entered, room.num_lines) == (["a", "last"], 1)

    asyncio.run(test())


def test_a_line_that_waits_to_be_tried_again_leaves_its_place_to_others() -> None:
    async def test() -> None:
        room, entered = LineRoom(max_lines=1), list[str]()
        await entering(room, entered, "a")
        place = LinePlace(room, 1, TurnPlace(BatchTurn(asyncio.Semaphore(1))))
        waiting = asyncio.ensure_future(place.wait(0.0))
        await entering(room, entered, "b")
        await turn()
        assert (entered, waiting.done(), room.num_lines) == (["a", "b"], False, 1)
        room.leave(1)
        await waiting
        assert room.num_lines == 1
        gone = asyncio.ensure_future(place.wait(60.0))
        await turn()
        gone.cancel()
        await turn()
        place.leave()
        assert room.num_lines == 0, "it had no place any more"

    asyncio.run(test())


def test_a_batch_has_its_turn_while_one_of_it_works() -> None:
    async def test() -> None:
        turns = asyncio.Semaphore(1)
        one, other = BatchTurn(turns), BatchTurn(turns)
        reader, line, of_other = TurnPlace(one), TurnPlace(one), TurnPlace(other)
        await reader.enter()
        await line.enter()
        await line.enter()
        reader.leave()
        waiting = asyncio.ensure_future(of_other.enter())
        await turn()
        assert (one.is_held, waiting.done()) == (True, False)
        line.leave()
        line.leave()
        await waiting
        assert (one.is_held, other.is_held) == (False, True)
        back = [asyncio.ensure_future(place.enter()) for place in (reader, line)]
        await turn()
        assert not any(task.done() for task in back)
        back[0].cancel()
        await turn()
        of_other.leave()
        await back[1]
        line.leave()
        assert not turns.locked(), "whoever gives up holds nothing"

    asyncio.run(test())
