"""Answers that equal calls share, whole and as streams: who makes them, who leaves, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.base import Usage
from sundog.errors import EngineUnavailable, LimitReached
from sundog.live.shared_answers import EqualCall, SharedAnswers
from sundog.live.shared_streams import SharedStream
from sundog.store.store import Store

KEY = b"k" * 16
CALL = EqualCall(KEY, "m")
ANSWER = {"said": "abc"}


def over_a_store(path: Path, main: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    """Run `main` with a store that is open."""

    async def run() -> None:
        store = Store(path)
        store.open_writer()
        try:
            await main(store)
        finally:
            store.close()

    asyncio.run(run())


class Reader:
    """This class notes what it reads. `hold`: waited for after each piece."""

    def __init__(self, hold: Callable[[], Awaitable[Any]] = lambda: asyncio.sleep(0)) -> None:
        self.read: list[object] = []
        self._hold = hold

    @property
    def has_begun(self) -> bool:
        return bool(self.read)

    async def read_whole(self, answer: object) -> None:
        self.read.append(answer)

    async def read_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            self.read.append(piece)
            await self._hold()

    @property
    def text(self) -> bytes:
        return b"".join(piece for piece in self.read if isinstance(piece, bytes))


class Maker:
    """This class makes streams that go on one piece at a time, when told to."""

    def __init__(self, answer: object | None = ANSWER, error: Exception | None = None) -> None:
        self.num_begun = self.num_ended = 0
        self.may_go = asyncio.Semaphore(0)
        self._answer = answer
        self._error = error

    async def make(self, stream: SharedStream) -> tuple[object | None, Usage | None]:
        self.num_begun += 1
        try:
            for piece in (b"a", b"b", b"c"):
                await self.may_go.acquire()
                stream.add(piece)
            if self._error is not None:
                raise self._error
        finally:
            self.num_ended += 1
        return self._answer, None

    def go(self, number: int = 3) -> None:
        for _ in range(number):
            self.may_go.release()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.002)


async def never() -> tuple[object, Usage | None]:
    raise AssertionError("an equal call is there")


def test_equal_streams_are_made_once_and_kept(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, maker = SharedAnswers(store, "gateway"), Maker()
        first, second, later = Reader(), Reader(), Reader()
        leading = asyncio.ensure_future(shared.stream(CALL, maker.make, first))
        maker.go(1)
        await turns()
        following = asyncio.ensure_future(shared.stream(CALL, maker.make, second))
        whole = asyncio.ensure_future(shared.answer(CALL, never))
        await turns()
        assert (first.text, second.text) == (b"a", b"a"), "who comes later reads from the beginning, as it comes"
        maker.go(2)
        assert await whole == ANSWER
        await asyncio.gather(leading, following)
        assert (first.text, second.text, maker.num_begun) == (b"abc", b"abc", 1)
        await shared.stream(CALL, maker.make, later)
        assert later.read == [ANSWER] == [await shared.answer(CALL, never)]
        assert shared.num_reused == 4

    over_a_store(tmp_path, main)


def test_a_stream_that_equals_a_whole_call_in_flight_gets_its_answer(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, reader, may_go = SharedAnswers(store, "gateway"), Reader(), asyncio.Event()

        async def make() -> tuple[object, Usage | None]:
            await may_go.wait()
            return ANSWER, None

        leading = asyncio.ensure_future(shared.answer(CALL, make))
        await turns()
        following = asyncio.ensure_future(shared.stream(CALL, Maker().make, reader))
        await turns()
        may_go.set()
        await asyncio.gather(leading, following)
        assert reader.read == [ANSWER]

    over_a_store(tmp_path, main)


def test_who_leaves_first_harms_nobody_and_who_leaves_last_ends_the_call(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, maker = SharedAnswers(store, "gateway"), Maker()
        reader = Reader()
        leading = asyncio.ensure_future(shared.stream(CALL, maker.make, Reader()))
        await turns()
        following = asyncio.ensure_future(shared.stream(CALL, maker.make, reader))
        maker.go(1)
        await turns()
        leading.cancel()
        await turns()
        maker.go(2)
        await following
        assert (reader.text, maker.num_begun) == (b"abc", 1)

        other, alone = EqualCall(b"o" * 16, "m"), Maker()
        asked = asyncio.ensure_future(shared.stream(other, alone.make, Reader()))
        await turns()
        asked.cancel()
        await turns()
        assert (alone.num_begun, alone.num_ended) == (1, 1)
        again = asyncio.ensure_future(shared.stream(other, alone.make, Reader()))
        alone.go()
        await again
        assert alone.num_begun == 2, "nobody joins what was left"

    over_a_store(tmp_path, main)


def test_who_leaves_before_the_call_has_begun_ends_it_in_order(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, maker = SharedAnswers(store, "gateway"), Maker()
        stream = shared._begin(CALL, maker.make)
        stream.give_up()
        await turns()
        assert (maker.num_begun, maker.num_ended) == (1, 1)

    over_a_store(tmp_path, main)


def test_a_slow_reader_holds_up_nobody(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, maker, may_read = SharedAnswers(store, "gateway"), Maker(), asyncio.Event()
        slow, quick = Reader(may_read.wait), Reader()
        first = asyncio.ensure_future(shared.stream(CALL, maker.make, slow))
        await turns()
        second = asyncio.ensure_future(shared.stream(CALL, maker.make, quick))
        maker.go(1)
        await turns()
        maker.go(2)
        await second
        assert (slow.text, quick.text) == (b"a", b"abc")
        may_read.set()
        await first
        assert slow.text == b"abc"

    over_a_store(tmp_path, main)


def test_a_failure_is_that_of_all_and_is_not_kept(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, maker = SharedAnswers(store, "gateway"), Maker(error=EngineUnavailable("gone"))
        readers = [Reader(), Reader()]
        asked = [asyncio.ensure_future(shared.stream(CALL, maker.make, one)) for one in readers]
        await turns()
        maker.go()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in found] == [EngineUnavailable] * 2
        assert (maker.num_begun, await store.get(KEY)) == (1, None)

    over_a_store(tmp_path, main)


def test_limits_are_those_of_whoever_came_first(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, poor, rich = SharedAnswers(store, "gateway"), asyncio.Event(), Maker()

        async def refused(stream: SharedStream) -> tuple[object | None, Usage | None]:
            await poor.wait()
            raise LimitReached("no money")

        first = asyncio.ensure_future(shared.stream(CALL, refused, Reader()))
        await turns()
        reader = Reader()
        second = asyncio.ensure_future(shared.stream(CALL, rich.make, reader))
        await turns()
        poor.set()
        rich.go()
        await second
        with pytest.raises(LimitReached):
            await first
        assert reader.text == b"abc"

    over_a_store(tmp_path, main)


def test_a_stream_that_nobody_can_say_whole_is_shared_and_not_kept(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, maker = SharedAnswers(store, "gateway"), Maker(answer=None)
        reader = Reader()
        leading = asyncio.ensure_future(shared.stream(CALL, maker.make, reader))
        await turns()

        async def make() -> tuple[object, Usage | None]:
            return ANSWER, None

        whole = asyncio.ensure_future(shared.answer(CALL, make))
        maker.go()
        assert await whole == ANSWER
        await leading
        assert reader.text == b"abc"

    over_a_store(tmp_path, main)


def test_what_has_come_whole_is_kept_though_its_reader_has_left(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, maker, put = SharedAnswers(store, "gateway"), Maker(), store.put
        may_put = asyncio.Event()

        async def late(*parts: Any) -> Any:
            await may_put.wait()
            return await put(*parts)

        store.put = late  # type: ignore[method-assign,assignment]  # a slow disk
        asked = asyncio.ensure_future(shared.stream(CALL, maker.make, Reader()))
        maker.go()
        await turns()
        asked.cancel()
        await turns()
        may_put.set()
        await shared.settle()
        found = await store.get(KEY)
        assert found is not None
        assert found.value == ANSWER

    over_a_store(tmp_path, main)


def test_nobody_waits_for_an_equal_call_of_another_tier(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        shared, of_batch, live = SharedAnswers(store, "gateway"), asyncio.Event(), Maker()

        async def make() -> tuple[object, Usage | None]:
            await of_batch.wait()
            return {"said": "later"}, None

        waiting = asyncio.ensure_future(shared.answer(EqualCall(KEY, "m", "batch"), make))
        await turns()
        live.go()
        reader = Reader()
        await asyncio.wait_for(shared.stream(EqualCall(KEY, "m", "default"), live.make, reader), 5)
        assert reader.text == b"abc"
        of_batch.set()
        assert await waiting == ANSWER, "the first one that is kept is that of all"
        assert live.num_begun == 1

    over_a_store(tmp_path, main)
