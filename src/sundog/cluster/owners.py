"""The owner of a range of call keys: which cell makes a call that several want, and the one value that all get.

Owns the leads and those who wait; values that are there lie in its host's store. A claim is answered at once and never
waits, so that two cells that wait for each other's calls still make their own. The first value that is put stays; it
is seen by nobody before it lies in the log. A lead ends with the value, with a failure, which those hear who wait, with
a release, or with the life of its cell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.cluster.leases import DEAD_AFTER_S
from sundog.cluster.owner_events import (
    AnswerBatch,
    AppendValue,
    AskerBeat,
    AskerGone,
    BatchAsked,
    KeyAnswer,
    KeyFailed,
    KeyNews,
    NewsAsked,
    OwnerAction,
    OwnerEvent,
    RefuseEpoch,
    TellNews,
    ValueLogged,
    ValuesFound,
    WakeListener,
)


@dataclass(slots=True)
class _Asker:
    cell: str
    epoch: int
    last_heard_s: float
    #: The last batch, and its answer in case that it was lost.
    number: int = 0
    answer: AnswerBatch | None = None
    leads: set[bytes] = field(default_factory=set)
    waits: set[bytes] = field(default_factory=set)
    #: The news that it has not heard yet, as far as is known, and how many were said before these.
    news: deque[KeyNews] = field(default_factory=deque)
    num_heard: int = 0


@dataclass(slots=True)
class _OpenKey:
    """A key that somebody leads, or whose value is on its way to the log; or that somebody wants of an owner that has
    not settled."""

    leader: str | None = None
    is_put: bool = False
    #: The cells that wait, the first one first.
    waiting: dict[str, None] = field(default_factory=dict)


class OwnerBook:
    """One instance owns one range of keys."""

    def __init__(self, name: str, num_cells: int = 0, settled_at_s: float = 0.0) -> None:
        """`name`: another one for each instance, as an owner that was started again knows nothing of what was said
        before. Until so many cells have told what they lead, and before `settled_at_s` at the latest, nobody leads who
        did not do so under the owner before, since it may be that another cell does. A cell is dead when DEAD_AFTER_S
        seconds have passed without a word of it."""
        self.name = name
        self._open: dict[bytes, _OpenKey] = {}
        self._askers: dict[str, _Asker] = {}
        #: By cell, the highest epoch that is over.
        self._over: dict[str, int] = {}
        self._found: Mapping[bytes, bytes] = {}
        self._num_cells = num_cells
        self._settled_at_s = settled_at_s
        self._is_settled = settled_at_s == 0.0
        self._now_s = 0.0
        #: No cell can have been silent for too long before this time.
        self._all_live_until_s = 0.0
        self._handlers: dict[type, Callable[[Any], Iterator[OwnerAction]]] = {
            BatchAsked: self._batch_asked,
            NewsAsked: self._news_asked,
            AskerBeat: self._beat,
            AskerGone: self._gone,
            ValuesFound: self._values_found,
            ValueLogged: self._logged,
        }

    def handle(self, event: OwnerEvent) -> list[OwnerAction]:
        """Return what is to be done now that this has happened, in order."""
        self._now_s = max(self._now_s, event.time_s)
        actions: list[OwnerAction] = []
        if self._now_s >= self._all_live_until_s:
            actions += self._bury_silent()
        if not self._is_settled and self._now_s >= self._settled_at_s:
            actions += self._settle()
        actions += self._handlers[type(event)](event)
        if not self._is_settled and sum(asker.number > 0 for asker in self._askers.values()) >= self._num_cells:
            actions += self._settle()
        return actions

    def check(self) -> None:
        """Raise AssertionError where the books contradict themselves. For tests."""
        leads = {key: asker.cell for asker in self._askers.values() for key in asker.leads}
        assert sum(len(asker.leads) for asker in self._askers.values()) == len(leads), "a key has two leaders"
        assert leads == {key: one.leader for key, one in self._open.items() if one.leader is not None}
        waits = {(key, asker.cell) for asker in self._askers.values() for key in asker.waits}
        assert waits == {(key, cell) for key, one in self._open.items() for cell in one.waiting}
        for key, one in self._open.items():
            is_unsettled = not self._is_settled and one.leader is None and bool(one.waiting)
            assert (one.leader is not None) != one.is_put or is_unsettled, f"news of {key!r} comes from one side"
            assert one.leader not in one.waiting, f"a leader waits for {key!r}"

    def _begun(self, cell: str, epoch: int, owner: str) -> Iterator[OwnerAction]:
        """Let a cell's epoch begin or go on, and end its earlier one; refuse it where it is over."""
        asker = self._askers.get(cell)
        is_over = epoch <= self._over.get(cell, 0) or (asker is not None and epoch < asker.epoch)
        if is_over or owner not in ("", self.name):
            yield RefuseEpoch(epoch)
            return
        if asker is not None and asker.epoch < epoch:
            yield from self._bury(asker)
            asker = None
        if asker is None:
            asker = self._askers[cell] = _Asker(cell, epoch, self._now_s)
        asker.last_heard_s = self._now_s

    def _asker(self, cell: str, epoch: int, owner: str) -> _Asker | None:
        """Return who asks in this epoch; None where that was refused."""
        asker = self._askers.get(cell)
        return asker if asker is not None and asker.epoch == epoch and owner in ("", self.name) else None

    def _beat(self, event: AskerBeat) -> Iterator[OwnerAction]:
        yield from self._begun(event.cell, event.epoch, event.owner)

    def _values_found(self, event: ValuesFound) -> Iterator[OwnerAction]:
        self._found = event.values
        yield from ()

    def _batch_asked(self, event: BatchAsked) -> Iterator[OwnerAction]:
        found, self._found = self._found, {}
        yield from self._begun(event.cell, event.epoch, event.owner)
        asker = self._asker(event.cell, event.epoch, event.owner)
        if asker is None:
            return
        if event.number > asker.number:
            asker.number = event.number
            for key in event.releases:
                yield from self._release(asker, key)
            for key, failed in event.failures:
                yield from self._fail(asker, key, failed)
            for key in event.leads:
                self._lead_on(asker, key, found)
            for key, value in event.puts:
                yield from self._put(asker, key, value, found)
            claims = tuple((key, self._claim(asker, key, found)) for key in event.claims)
            asker.answer = AnswerBatch(asker.epoch, asker.number, claims, self.name)
        if event.number == asker.number and asker.answer is not None:
            yield asker.answer

    def _news_asked(self, event: NewsAsked) -> Iterator[OwnerAction]:
        yield from self._begun(event.cell, event.epoch, event.owner)
        asker = self._asker(event.cell, event.epoch, event.owner)
        if asker is None:
            return
        while asker.news and asker.num_heard < event.heard:
            asker.news.popleft()
            asker.num_heard += 1
        if asker.news:
            yield TellNews(asker.epoch, asker.num_heard + 1, tuple(asker.news), self.name)

    def _claim(self, asker: _Asker, key: bytes, found: Mapping[bytes, bytes]) -> KeyAnswer:
        one = self._open.get(key)
        if one is None:
            # Where the key is open, what the store has of it need not lie in the log.
            if key in found:
                return found[key]
            one = self._open[key] = _OpenKey()
            if self._is_settled:
                one.leader = asker.cell
                asker.leads.add(key)
        if one.leader == asker.cell:
            return "lead"
        self._wait(asker, key, one)
        return "later"

    def _lead_on(self, asker: _Asker, key: bytes, found: Mapping[bytes, bytes]) -> None:
        """Let a cell lead that makes the call already, where nobody else does; else it hears when it puts its value."""
        one = self._open.get(key)
        if one is None and key not in found:
            one = self._open[key] = _OpenKey()
        if one is not None and one.leader is None and not one.is_put:
            one.leader = asker.cell
            asker.leads.add(key)

    def _settle(self) -> Iterator[OwnerAction]:
        """Let the first one who waits lead, of each key that nobody leads."""
        self._is_settled = True
        for key, one in list(self._open.items()):
            if one.leader is None and not one.is_put:
                yield from self._pass_on(key, one)

    def _wait(self, asker: _Asker, key: bytes, one: _OpenKey) -> None:
        one.waiting[asker.cell] = None
        asker.waits.add(key)

    def _tell(self, asker: _Asker, key: bytes, answer: KeyAnswer) -> WakeListener:
        asker.news.append(KeyNews(asker.number, key, answer))
        return WakeListener(asker.cell)

    def _put(self, asker: _Asker, key: bytes, value: bytes, found: Mapping[bytes, bytes]) -> Iterator[OwnerAction]:
        one = self._open.get(key)
        if one is None and key in found:
            yield self._tell(asker, key, found[key])
            return
        if one is None:
            one = self._open[key] = _OpenKey()
        if not one.is_put:
            if one.leader is not None:
                self._askers[one.leader].leads.remove(key)
                one.leader = None
            one.is_put = True
            yield AppendValue(key, value)
        self._wait(asker, key, one)

    def _release(self, asker: _Asker, key: bytes) -> Iterator[OwnerAction]:
        one = self._open.get(key)
        if one is None:
            return
        one.waiting.pop(asker.cell, None)
        asker.waits.discard(key)
        if one.leader == asker.cell:
            asker.leads.remove(key)
            yield from self._pass_on(key, one)
        else:
            self._forget_unwanted(key, one)

    def _fail(self, asker: _Asker, key: bytes, failed: KeyFailed) -> Iterator[OwnerAction]:
        one = self._open.get(key)
        if one is None or one.leader != asker.cell:
            # Others wait for another one's call, of which this says nothing.
            yield from self._release(asker, key)
            return
        asker.leads.remove(key)
        del self._open[key]
        for cell in one.waiting:
            waiting = self._askers[cell]
            waiting.waits.remove(key)
            yield self._tell(waiting, key, failed)

    def _forget_unwanted(self, key: bytes, one: _OpenKey) -> None:
        """Forget a key that nobody leads, has put or waits for."""
        if one.leader is None and not one.is_put and not one.waiting:
            del self._open[key]

    def _pass_on(self, key: bytes, one: _OpenKey) -> Iterator[OwnerAction]:
        """Let the first one who waits lead, or forget the key."""
        one.leader = next(iter(one.waiting), None) if self._is_settled else None
        if one.leader is None:
            self._forget_unwanted(key, one)
            return
        asker = self._askers[one.leader]
        del one.waiting[one.leader]
        asker.waits.remove(key)
        asker.leads.add(key)
        yield self._tell(asker, key, "lead")

    def _logged(self, event: ValueLogged) -> Iterator[OwnerAction]:
        one = self._open.pop(event.key)
        assert one.is_put, f"nobody has put {event.key!r}"
        for cell in one.waiting:
            asker = self._askers[cell]
            asker.waits.remove(event.key)
            yield self._tell(asker, event.key, event.value)

    def _gone(self, event: AskerGone) -> Iterator[OwnerAction]:
        if event.cell in self._askers:
            yield from self._bury(self._askers[event.cell])

    def _bury_silent(self) -> Iterator[OwnerAction]:
        for asker in [one for one in self._askers.values() if one.last_heard_s + DEAD_AFTER_S <= self._now_s]:
            yield from self._bury(asker)
        first_s = min((one.last_heard_s for one in self._askers.values()), default=self._now_s)
        self._all_live_until_s = first_s + DEAD_AFTER_S

    def _bury(self, asker: _Asker) -> Iterator[OwnerAction]:
        del self._askers[asker.cell]
        self._over[asker.cell] = asker.epoch
        for key in asker.waits:
            del self._open[key].waiting[asker.cell]
            self._forget_unwanted(key, self._open[key])
        for key in sorted(asker.leads):
            yield from self._pass_on(key, self._open[key])
