"""The talk of a cell with one owner: batches, news and beats over a line that loses, until the cell leaves.

Owns when something is said, and when again: the next batch goes soon after the last one is answered, and has all that
has come meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from sundog.cells.owning.line import LineLost, OwnerLine
from sundog.cluster.asking import OwnerAsker, OwnerReply
from sundog.cluster.owner_events import KeyAnswer, KeyFailed
from sundog.errors import CallError, StoreError

BEAT_EVERY_S = 1.0
LISTEN_S = 10.0
ANSWER_S = 10.0
"""What has no reply for so long was lost."""
AGAIN_AFTER_S = 0.2
GATHER_S = 0.1
"""What is said within this time after a batch was answered goes in one batch, and so do the news: little beside a call
of a model, and a message costs both sides more than the keys in it."""
AWAY_AFTER_S = 2.0
"""The cell keeps itself what it tells an owner that has said nothing for so long: with its driver an owner is gone for
good, and cells of other machines work on for a while."""
PATIENCE_S = 300.0
"""The cell ends where its owner is away for so long."""
KeepValues = Callable[[Mapping[bytes, bytes]], Awaitable[None]]
"""Keeps values by key in the cell's own log. StoreError where it cannot."""


class OwnerTalk:
    """One cell with one owner. A key has one claim or put at a time."""

    def __init__(self, cell: str, line: OwnerLine, keep: KeepValues) -> None:
        self._line = line
        self._keep = keep
        self._asker = OwnerAsker(cell)
        self._has_said = asyncio.Event()
        self._waiting: dict[bytes, asyncio.Future[bytes | None]] = {}
        self._on_wait: dict[bytes, Callable[[], None]] = {}
        self._heard_at_s = 0.0
        #: The keys that were kept here since the owner was last heard.
        self._kept: set[bytes] = set()
        self._error: Exception | None = None

    async def claim(self, key: bytes, on_wait: Callable[[], None]) -> bytes | None:
        """Return the value of a key once there is one; None where this cell leads. `on_wait`: called where another
        one does; CallError where the call of that one fails."""
        self._asker.claim(key)
        self._on_wait[key] = on_wait
        try:
            return await self._awaited(key)
        except BaseException:
            self.release(key)
            raise
        finally:
            del self._on_wait[key], self._waiting[key]

    def put(self, key: bytes, value: bytes) -> Awaitable[bytes]:
        """Tell the value of a key that this cell leads; gives the value that stays, once it is safe."""
        self._asker.put(key, value)
        return self._stays(key, self._awaited(key))

    def release(self, key: bytes) -> None:
        """Let others lead."""
        self._asker.release(key)
        self._has_said.set()

    def fail(self, key: bytes, error: CallError) -> None:
        """Let those who wait for a key that this cell leads have its failure."""
        self._asker.fail(key, KeyFailed(error))
        self._has_said.set()

    async def run(self) -> None:
        """Talk until this is cancelled. An owner that fails, or does not answer, fails all that wait for it."""
        self._heard_at_s = self._now_s()
        tasks = [asyncio.ensure_future(one()) for one in (self._ask, self._listen, self._beat, self._bridge)]
        try:
            await asyncio.gather(*tasks)
        except Exception as error:  # nobody else would hear of it, and they would wait for ever
            self._error = error
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(error)
        finally:
            for task in tasks:
                task.cancel()

    def _awaited(self, key: bytes) -> asyncio.Future[bytes | None]:
        waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._error is not None:
            waiting.set_exception(self._error)
        self._has_said.set()
        return waiting

    async def _stays(self, key: bytes, waiting: asyncio.Future[bytes | None]) -> bytes:
        try:
            value = await waiting
        finally:
            del self._waiting[key]
        assert value is not None, "whoever has put a value does not lead"
        return value

    async def _ask(self) -> None:
        while True:
            batch = self._asker.next_batch()
            if batch is None:
                self._has_said.clear()
                await self._has_said.wait()
                continue
            await self._hear(partial(self._line.ask, batch), ANSWER_S)
            await asyncio.sleep(AGAIN_AFTER_S if self._asker.next_batch() is batch else GATHER_S)

    async def _listen(self) -> None:
        while True:
            has_heard = await self._hear(
                partial(self._line.listen, self._asker.listening(), LISTEN_S), LISTEN_S + ANSWER_S
            )
            await asyncio.sleep(GATHER_S if has_heard else AGAIN_AFTER_S)

    async def _beat(self) -> None:
        while True:
            await self._hear(partial(self._line.beat, self._asker.beat()), ANSWER_S)
            await asyncio.sleep(BEAT_EVERY_S)

    async def _bridge(self) -> None:
        """Keep here what the owner does not take, until it is heard again."""
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            if self._now_s() - self._heard_at_s < AWAY_AFTER_S:
                self._kept.clear()
                continue
            values = {key: value for key, value in self._asker.unsettled().items() if key not in self._kept}
            if values:
                await self._keep(values)
                self._kept.update(values)

    async def _hear(self, say: Callable[[], Awaitable[Sequence[OwnerReply]]], within_s: float) -> bool:
        """Say something and take the reply in; gives False where one of them was lost."""
        try:
            async with asyncio.timeout(within_s):
                replies = await say()
        except (LineLost, TimeoutError) as error:
            if self._now_s() - self._heard_at_s > PATIENCE_S:
                raise StoreError(
                    f"an owner of calls has not answered for {PATIENCE_S:.0f} seconds",
                    hint="look at the machine that it ran on; then repeat the command: it continues the run",
                ) from error
            return False
        self._heard_at_s = self._now_s()
        for reply in replies:
            for key, answer in self._asker.hear(reply):
                self._learn(key, answer)
        if replies:
            self._has_said.set()
        return True

    def _learn(self, key: bytes, answer: KeyAnswer) -> None:
        waiting = self._waiting.get(key)
        if waiting is None or waiting.done():
            return
        if answer == "later":
            self._on_wait[key]()
        elif isinstance(answer, KeyFailed):
            waiting.set_exception(answer.error)
        else:
            waiting.set_result(None if answer == "lead" else answer)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
