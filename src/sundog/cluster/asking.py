"""The side of a cell that asks an owner: which keys it wants, makes and has put, and what it says next.

Owns the batches, their repetition, and epochs. One batch at a time is on its way; what comes meanwhile is in the next.
What was asked is asked anew when the owner refuses an epoch, or is another one than before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sundog.cluster.owner_events import (
    AnswerBatch,
    AskerBeat,
    BatchAsked,
    KeyAnswer,
    KeyFailed,
    NewsAsked,
    RefuseEpoch,
    TellNews,
)

OwnerReply = AnswerBatch | TellNews | RefuseEpoch


@dataclass(slots=True)
class _WantedKey:
    """`asks`: it wants the value, or to lead. `leads`: it makes the call. `puts`: it wants to know which value
    stays."""

    state: Literal["asks", "leads", "puts"] = "asks"
    #: The batch in which it was last claimed or put, 0 for none yet.
    number: int = 0
    value: bytes = b""
    #: Nobody here wants to know which value stays.
    is_left: bool = False


class OwnerAsker:
    """One instance asks one owner for one cell."""

    def __init__(self, cell: str) -> None:
        self.cell = cell
        self.epoch = 1
        self._number = 0
        self._heard = 0
        self._owner = ""
        self._batch: BatchAsked | None = None
        self._wanted: dict[bytes, _WantedKey] = {}
        #: Keys of which the next batch tells.
        self._unsaid: dict[bytes, None] = {}
        self._releases: dict[bytes, None] = {}
        self._failures: dict[bytes, KeyFailed] = {}

    def claim(self, key: bytes) -> None:
        """Want the value of a key, or to lead. At most one at a time wants it here."""
        one = self._wanted.get(key)
        if one is None:
            self._wanted[key] = _WantedKey()
            self._unsaid[key] = None
        else:
            assert one.is_left, f"{key!r} is wanted already"
            one.is_left = False

    def put(self, key: bytes, value: bytes) -> None:
        """Tell the value of a key that is led."""
        one = self._wanted[key]
        assert one.state == "leads", f"nobody leads {key!r} here"
        one.state, one.value = "puts", value
        self._unsaid[key] = None

    def release(self, key: bytes) -> None:
        """Want a key no more, where it is wanted. A value that was put is told all the same."""
        one = self._wanted.get(key)
        if one is None:
            return
        if one.state == "puts":
            one.is_left = True
            return
        del self._wanted[key]
        self._unsaid.pop(key, None)
        if one.number:
            self._releases[key] = None

    def fail(self, key: bytes, failed: KeyFailed) -> None:
        """Tell that the call of a key that is led has failed, and want it no more."""
        assert self._wanted[key].state == "leads", f"nobody leads {key!r} here"
        del self._wanted[key]
        self._unsaid.pop(key, None)
        self._failures[key] = failed

    def next_batch(self) -> BatchAsked | None:
        """Return the batch on its way, else the next one; None where there is nothing to say."""
        if self._batch is None and (self._unsaid or self._releases or self._failures):
            self._number += 1
            claims, leads, puts = [], [], []
            for key in self._unsaid:
                one = self._wanted[key]
                one.number = self._number
                if one.state == "puts":
                    puts.append((key, one.value))
                elif one.state == "leads":
                    leads.append(key)
                else:
                    claims.append(key)
            ended = (tuple(self._releases), tuple(self._failures.items()))
            said = (tuple(claims), tuple(leads), tuple(puts), *ended)
            self._batch = BatchAsked(0.0, self.cell, self.epoch, self._number, *said, self._owner)
            self._unsaid, self._releases, self._failures = {}, {}, {}
        return self._batch

    def unsettled(self) -> dict[bytes, bytes]:
        """Return the values by key that were put, and of which nobody has said that they are safe."""
        return {key: one.value for key, one in self._wanted.items() if one.state == "puts"}

    def beat(self) -> AskerBeat:
        """Return the sign of life."""
        return AskerBeat(0.0, self.cell, self.epoch, self._owner)

    def listening(self) -> NewsAsked:
        """Return the question for news."""
        return NewsAsked(0.0, self.cell, self.epoch, self._heard, self._owner)

    def hear(self, reply: OwnerReply) -> list[tuple[bytes, KeyAnswer]]:
        """Return what is new of keys that are wanted: `lead` once, `later` at most, then a value or a failure once."""
        if reply.epoch != self.epoch:
            return []
        if isinstance(reply, RefuseEpoch) or reply.owner != (self._owner or reply.owner):
            self._begin_anew()
            return []
        self._owner = reply.owner
        return list(self._news_of_batch(reply) if isinstance(reply, AnswerBatch) else self._news(reply))

    def _news_of_batch(self, reply: AnswerBatch) -> Iterator[tuple[bytes, KeyAnswer]]:
        if self._batch is None or reply.number != self._number:
            return
        self._batch = None
        for key, answer in reply.claims:
            one = self._wanted.get(key)
            if one is not None and one.number == reply.number:
                yield from self._learn(key, one, answer)

    def _news(self, reply: TellNews) -> Iterator[tuple[bytes, KeyAnswer]]:
        self._heard = max(self._heard, reply.first + len(reply.news) - 1)
        for news in reply.news:
            one = self._wanted.get(news.key)
            is_of_now = one is not None and 0 < one.number <= news.number
            if one is not None and (is_of_now or isinstance(news.answer, bytes)):
                yield from self._learn(news.key, one, news.answer)

    def _learn(self, key: bytes, one: _WantedKey, answer: KeyAnswer) -> Iterator[tuple[bytes, KeyAnswer]]:
        # Whoever makes a call hears of another value when it has put its own.
        if one.state == "leads":
            return
        if isinstance(answer, bytes):
            del self._wanted[key]
            self._unsaid.pop(key, None)
        elif one.state == "puts":
            return
        elif isinstance(answer, KeyFailed):
            del self._wanted[key]
            self._unsaid.pop(key, None)
        elif answer == "lead":
            one.state = "leads"
        if not one.is_left:
            yield key, answer

    def _begin_anew(self) -> None:
        """Ask in the next epoch for all that is wanted, led and put."""
        self.epoch += 1
        self._number = self._heard = 0
        self._owner = ""
        self._batch = None
        self._unsaid, self._releases, self._failures = dict.fromkeys(self._wanted), {}, {}
