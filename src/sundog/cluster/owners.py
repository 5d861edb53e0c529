"""The owner of a range of call keys: which cell makes a call that several want, and the one value that all get.

Owns the leads, those who wait, and the index of the log. A claim is answered at once and never waits, so that two cells
that wait for each other's calls still make their own. The first value that is put stays; it is seen by nobody before it
lies in the log. A lead ends with the value, with a release, or with the life of its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.cluster.kept_values import KeptValues
from sundog.cluster.leases import DEAD_AFTER_S
from sundog.cluster.owner_events import (
    AnswerBatch,
    AnswerKey,
    AppendValue,
    AskerBeat,
    AskerGone,
    BatchAsked,
    KeyAnswer,
    OwnerAction,
    OwnerEvent,
    OwnerTimePassed,
    ReadValue,
    RefuseEpoch,
    ValueLogged,
    ValueRead,
)


@dataclass(slots=True)
class _Asker:
    cell: str
    epoch: int
    last_heard_s: float
    #: The last batch, and its answer in case that it was lost.
    number: int = 0
    answer: AnswerBatch | None = None
    leads: set[str] = field(default_factory=set)
    waits: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _OpenKey:
    """A key of which somebody waits for news."""

    leader: str | None = None
    #: The value that is being appended to the log.
    value: bytes | None = None
    is_read: bool = False
    #: The cells that wait, the first one first.
    waiting: dict[str, None] = field(default_factory=dict)


class OwnerBook:
    """One instance owns one range of keys."""

    def __init__(
        self, max_bytes: int, logged: Mapping[str, tuple[int, int]] | None = None, dead_after_s: float = DEAD_AFTER_S
    ) -> None:
        """Values of `max_bytes` bytes are kept in memory. `logged` tells what an earlier owner's log has."""
        self._values = KeptValues(max_bytes)
        self._places = dict(logged or {})
        self._open: dict[str, _OpenKey] = {}
        self._askers: dict[str, _Asker] = {}
        #: By cell, the highest epoch that is over.
        self._over: dict[str, int] = {}
        self._dead_after_s = dead_after_s
        self._now_s = 0.0
        self._handlers: dict[type, Callable[[Any], Iterator[OwnerAction]]] = {
            BatchAsked: self._batch_asked,
            AskerBeat: self._beat,
            AskerGone: self._gone,
            ValueLogged: self._logged,
            ValueRead: self._read,
            OwnerTimePassed: self._time_passed,
        }

    def handle(self, event: OwnerEvent) -> list[OwnerAction]:
        """Return what is to be done now that this has happened, in order."""
        self._now_s = max(self._now_s, event.time_s)
        actions: list[OwnerAction] = []
        for asker in [one for one in self._askers.values() if one.last_heard_s <= self._now_s - self._dead_after_s]:
            actions += self._bury(asker)
        return actions + list(self._handlers[type(event)](event))

    def check(self) -> None:
        """Raise AssertionError where the books contradict themselves. For tests."""
        leads = {key: asker.cell for asker in self._askers.values() for key in asker.leads}
        assert sum(len(asker.leads) for asker in self._askers.values()) == len(leads), "a key has two leaders"
        assert leads == {key: one.leader for key, one in self._open.items() if one.leader is not None}
        waits = {(key, asker.cell) for asker in self._askers.values() for key in asker.waits}
        assert waits == {(key, cell) for key, one in self._open.items() for cell in one.waiting}
        for key, one in self._open.items():
            states = (one.leader is not None, one.value is not None, one.is_read)
            assert sum(states) == 1, f"{key} has news coming from one side"
            assert one.is_read == (key in self._places), f"{key} is read when it lies in the log"

    def _asker(self, cell: str, epoch: int) -> Iterator[OwnerAction]:
        """Let a cell's epoch begin or go on, and end its earlier one."""
        asker = self._askers.get(cell)
        if asker is not None and asker.epoch < epoch:
            yield from self._bury(asker)
            asker = None
        if asker is None:
            asker = self._askers[cell] = _Asker(cell, epoch, self._now_s)
        asker.last_heard_s = self._now_s

    def _is_over(self, cell: str, epoch: int) -> bool:
        asker = self._askers.get(cell)
        return epoch <= self._over.get(cell, 0) or (asker is not None and epoch < asker.epoch)

    def _beat(self, event: AskerBeat) -> Iterator[OwnerAction]:
        if self._is_over(event.cell, event.epoch):
            yield RefuseEpoch(event.cell, event.epoch)
            return
        yield from self._asker(event.cell, event.epoch)
        asker = self._askers[event.cell]
        if event.number >= asker.number:
            for key in sorted((asker.leads | asker.waits) - event.wants):
                yield from self._release(asker, key)

    def _batch_asked(self, event: BatchAsked) -> Iterator[OwnerAction]:
        if self._is_over(event.cell, event.epoch):
            yield RefuseEpoch(event.cell, event.epoch)
            return
        yield from self._asker(event.cell, event.epoch)
        asker = self._askers[event.cell]
        if event.number > asker.number:
            asker.number = event.number
            for key in event.releases:
                yield from self._release(asker, key)
            for key, value in event.puts:
                yield from self._put(asker, key, value)
            claims = []
            for key in event.claims:
                answer, *reading = self._claim(asker, key)
                claims.append((key, answer))
                yield from reading
            asker.answer = AnswerBatch(asker.cell, asker.epoch, asker.number, tuple(claims))
            for key in event.waits:
                yield from self._wait(asker, key)
        if event.number == asker.number and asker.answer is not None:
            yield asker.answer

    def _claim(self, asker: _Asker, key: str) -> tuple[KeyAnswer, *tuple[OwnerAction, ...]]:
        value = self._values.get(key)
        if value is not None:
            return (value,)
        one = self._open.get(key)
        if one is not None:
            return ("lead" if one.leader == asker.cell else "later",)
        self._open[key] = one = _OpenKey()
        if key in self._places:
            one.is_read = True
            return "later", ReadValue(key, self._places[key])
        self._lead(key, one, asker)
        return ("lead",)

    def _lead(self, key: str, one: _OpenKey, asker: _Asker) -> None:
        one.leader = asker.cell
        asker.leads.add(key)

    def _wait(self, asker: _Asker, key: str) -> Iterator[OwnerAction]:
        answer, *reading = self._claim(asker, key)
        if answer == "later":
            self._open[key].waiting[asker.cell] = None
            asker.waits.add(key)
            yield from reading
        else:
            yield self._tell(asker.cell, key, answer)

    def _tell(self, cell: str, key: str, answer: KeyAnswer) -> AnswerKey:
        asker = self._askers[cell]
        return AnswerKey(cell, asker.epoch, asker.number, key, answer)

    def _put(self, asker: _Asker, key: str, value: bytes) -> Iterator[OwnerAction]:
        one = self._open.get(key)
        if key not in self._places and (one is None or one.value is None):
            one = one or self._open.setdefault(key, _OpenKey())
            if one.leader is not None:
                self._askers[one.leader].leads.remove(key)
                one.leader = None
            one.value = value
            yield AppendValue(key, value)
        yield from self._wait(asker, key)

    def _release(self, asker: _Asker, key: str) -> Iterator[OwnerAction]:
        one = self._open.get(key)
        if one is None:
            return
        one.waiting.pop(asker.cell, None)
        asker.waits.discard(key)
        if one.leader == asker.cell:
            asker.leads.remove(key)
            yield from self._pass_on(key, one)

    def _pass_on(self, key: str, one: _OpenKey) -> Iterator[OwnerAction]:
        """Let the first one who waits lead, or forget the key."""
        one.leader = next(iter(one.waiting), None)
        if one.leader is None:
            del self._open[key]
            return
        asker = self._askers[one.leader]
        del one.waiting[one.leader]
        asker.waits.remove(key)
        asker.leads.add(key)
        yield self._tell(one.leader, key, "lead")

    def _logged(self, event: ValueLogged) -> Iterator[OwnerAction]:
        value = self._open[event.key].value
        assert value is not None, f"nobody has put {event.key}"
        self._places[event.key] = event.place
        yield from self._show(event.key, value)

    def _read(self, event: ValueRead) -> Iterator[OwnerAction]:
        assert self._open[event.key].is_read, f"nobody has asked for {event.key}"
        yield from self._show(event.key, event.value)

    def _show(self, key: str, value: bytes) -> Iterator[OwnerAction]:
        self._values.keep(key, value)
        for cell in self._open.pop(key).waiting:
            self._askers[cell].waits.remove(key)
            yield self._tell(cell, key, value)

    def _gone(self, event: AskerGone) -> Iterator[OwnerAction]:
        if event.cell in self._askers:
            yield from self._bury(self._askers[event.cell])

    def _time_passed(self, event: OwnerTimePassed) -> Iterator[OwnerAction]:
        """Only the silence of cells matters, which each event has looked at."""
        yield from ()

    def _bury(self, asker: _Asker) -> Iterator[OwnerAction]:
        del self._askers[asker.cell]
        self._over[asker.cell] = asker.epoch
        for key in asker.waits:
            del self._open[key].waiting[asker.cell]
        for key in sorted(asker.leads):
            yield from self._pass_on(key, self._open[key])
