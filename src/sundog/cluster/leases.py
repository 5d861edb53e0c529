"""The lease book of a run's driver: each part of a bucket is leased to one cell at a time, until it has ended once.

Owns parts, their epochs and the cells' lives. The epoch of a part grows with each lease, and its log takes no other, so
that a cell that was taken for dead and is not can write nothing. Losing any message costs time only: cells repeat
their questions and reports, and the book repeats leases and requests when a cell's beat does not show them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sundog.cluster.lease_events import (
    BucketAdded,
    CellAsked,
    CellBeat,
    CellGone,
    CellJoined,
    ConfirmEnd,
    DropPart,
    LeaseAction,
    LeaseEnded,
    LeaseEvent,
    LeasePart,
    LeaseTimePassed,
    LeaseVoid,
    PartKey,
    PartSplit,
    SplitPart,
    StopCell,
)
from sundog.cluster.stealing import Holding, seconds_left, split_of_slowest

DEAD_AFTER_S = 5.0


@dataclass(slots=True)
class _Part:
    key: PartKey
    stop: int
    epoch: int
    #: The cell that holds it, None while nobody does.
    holder: str | None = None
    #: The holder's question that the lease has answered.
    number: int = 0
    begun: int = 0
    #: The place of a split that was asked for and is not answered.
    split_at: int | None = None
    has_ended: bool = False


@dataclass(slots=True)
class _Cell:
    last_heard_s: float
    parts: set[PartKey] = field(default_factory=set)
    #: The last question that was answered, and that which waits for rows.
    answered: int = 0
    waiting: int | None = None
    #: The time of its first lease, and rows that it has begun since, of parts that have left it.
    first_lease_s: float | None = None
    num_begun_before: int = 0


class LeaseBook:
    """One instance leases all rows of one run."""

    def __init__(self, dead_after_s: float = DEAD_AFTER_S) -> None:
        """A cell is dead when `dead_after_s` seconds have passed without a word of it."""
        self._dead_after_s = dead_after_s
        self._now_s = 0.0
        self._parts: dict[PartKey, _Part] = {}
        self._cells: dict[str, _Cell] = {}
        self._free: list[tuple[int, PartKey]] = []
        self._num_open = 0
        self._handlers: dict[type, Callable[[Any, list[LeaseAction]], None]] = {
            BucketAdded: self._bucket_added,
            CellJoined: self._cell_joined,
            CellBeat: self._cell_beat,
            CellAsked: self._cell_asked,
            PartSplit: self._part_split,
            LeaseEnded: self._part_ended,
            LeaseVoid: self._lease_void,
            CellGone: self._cell_gone,
            LeaseTimePassed: self._time_passed,
        }

    @property
    def num_open_parts(self) -> int:
        """Parts that have not ended; 0 when all rows that were added have."""
        return self._num_open

    @property
    def living_cells(self) -> list[str]:
        return list(self._cells)

    def handle(self, event: LeaseEvent) -> list[LeaseAction]:
        """Return what is to be done now that this has happened, in order."""
        actions: list[LeaseAction] = []
        self._now_s = max(self._now_s, event.time_s)
        silent_since_s = self._now_s - self._dead_after_s
        for name in [name for name, cell in self._cells.items() if cell.last_heard_s <= silent_since_s]:
            self._bury(name, actions)
        speaker = getattr(event, "cell", None)
        if speaker in self._cells:
            self._cells[speaker].last_heard_s = self._now_s
        if speaker is None or speaker in self._cells or isinstance(event, CellJoined | CellGone):
            self._handlers[type(event)](event, actions)
        else:
            actions.append(StopCell(speaker))
        self._serve_waiting(actions)
        return actions

    def check(self) -> None:
        """Raise AssertionError where the books contradict themselves. For tests."""
        held = {key: name for name, cell in self._cells.items() for key in cell.parts}
        assert sum(len(cell.parts) for cell in self._cells.values()) == len(held), "a part has two holders"
        assert held == {key: part.holder for key, part in self._parts.items() if part.holder is not None}
        free = [key for _, key in self._free]
        assert len(free) == len(set(free)), "a part is free twice"
        open_parts = {key for key, part in self._parts.items() if not part.has_ended}
        assert open_parts == held.keys() | set(free), "an open part is held or free"
        assert not held.keys() & set(free), "a held part is free"
        assert self._num_open == len(open_parts)

    def _bucket_added(self, event: BucketAdded, actions: list[LeaseAction]) -> None:
        assert event.part not in self._parts, f"{event.part} is there already"
        holder = event.holder if event.holder in self._cells else None
        self._add(_Part(event.part, event.stop, event.epoch, holder, begun=event.part.start))

    def _add(self, part: _Part) -> None:
        assert part.stop > part.key.start, f"{part.key} has no rows"
        self._parts[part.key] = part
        self._num_open += 1
        if part.holder is None:
            self._give_back(part)
            return
        cell = self._cells[part.holder]
        cell.parts.add(part.key)
        cell.first_lease_s = self._now_s

    def _give_back(self, part: _Part) -> None:
        part.holder = part.split_at = None
        heapq.heappush(self._free, (part.key.start - part.stop, part.key))

    def _cell_joined(self, event: CellJoined, actions: list[LeaseAction]) -> None:
        assert event.cell not in self._cells, f"cell {event.cell} is there already"
        self._cells[event.cell] = _Cell(self._now_s)

    def _cell_beat(self, event: CellBeat, actions: list[LeaseAction]) -> None:
        for key, epoch, begun in event.begun:
            part = self._parts.get(key)
            if part is None or part.has_ended or not self._holds(event.cell, part, epoch):
                actions.append(DropPart(event.cell, key, epoch))
                continue
            part.begun = max(part.begun, min(begun, part.stop))
            if part.split_at is not None:
                actions.append(SplitPart(event.cell, key, epoch, part.split_at))
        told = {key for key, _, _ in event.begun}
        actions += [self._told(self._parts[key]) for key in sorted(self._cells[event.cell].parts - told)]

    @staticmethod
    def _told(part: _Part) -> LeasePart:
        """Return what tells a holder of its lease, for the first time or again."""
        assert part.holder is not None
        return LeasePart(part.holder, part.number, part.key, part.stop, part.epoch)

    def _holds(self, cell: str, part: _Part, epoch: int) -> bool:
        return part.holder == cell and part.epoch == epoch

    def _cell_asked(self, event: CellAsked, actions: list[LeaseAction]) -> None:
        cell = self._cells[event.cell]
        if event.number > cell.answered:
            cell.waiting = event.number
        held = [self._parts[key] for key in cell.parts]
        actions += [self._told(part) for part in held if part.number == event.number]

    def _part_split(self, event: PartSplit, actions: list[LeaseAction]) -> None:
        part = self._held(event, actions)
        if part is None:
            return
        if part.split_at is not None and event.at > part.split_at:
            part.begun = max(part.begun, min(event.at, part.stop))
        part.split_at = None
        self._cut(part, event.at)

    def _cut(self, part: _Part, at: int) -> None:
        """Make the rows from `at` on, if there are any, a part of their own, which is free."""
        assert at > part.key.start, f"{part.key} keeps no row"
        if at < part.stop:
            self._add(_Part(PartKey(part.key.bucket, at), part.stop, epoch=0))
            part.stop = at
            part.begun = min(part.begun, at)

    def _part_ended(self, event: LeaseEnded, actions: list[LeaseAction]) -> None:
        known = self._parts.get(event.part)
        if known is not None and known.has_ended and known.epoch == event.epoch:
            actions.append(ConfirmEnd(event.cell, event.part, event.epoch))
            return
        part = self._held(event, actions)
        if part is None:
            return
        assert event.stop <= part.stop, f"cell {event.cell} has ended rows of {event.part} that are not its own"
        self._cut(part, event.stop)
        cell = self._cells[event.cell]
        cell.parts.remove(part.key)
        cell.num_begun_before += part.stop - part.key.start
        part.holder = part.split_at = None
        part.has_ended = True
        self._num_open -= 1
        actions.append(ConfirmEnd(event.cell, event.part, event.epoch))

    def _lease_void(self, event: LeaseVoid, actions: list[LeaseAction]) -> None:
        part = self._held(event, actions)
        if part is not None:
            part.epoch = max(part.epoch, event.log_epoch)
            self._cells[event.cell].parts.remove(part.key)
            self._give_back(part)
            actions.append(DropPart(event.cell, event.part, event.epoch))

    def _held(self, event: PartSplit | LeaseEnded | LeaseVoid, actions: list[LeaseAction]) -> _Part | None:
        """Return the part that an event is about, or tell its cell that it is not its own."""
        part = self._parts.get(event.part)
        if part is not None and not part.has_ended and self._holds(event.cell, part, event.epoch):
            return part
        actions.append(DropPart(event.cell, event.part, event.epoch))
        return None

    def _cell_gone(self, event: CellGone, actions: list[LeaseAction]) -> None:
        if event.cell in self._cells:
            self._bury(event.cell, actions)

    def _time_passed(self, event: LeaseTimePassed, actions: list[LeaseAction]) -> None:
        """Only the silence of cells matters, which each event has looked at."""

    def _bury(self, name: str, actions: list[LeaseAction]) -> None:
        for key in self._cells.pop(name).parts:
            self._give_back(self._parts[key])
        actions.append(StopCell(name))

    def _serve_waiting(self, actions: list[LeaseAction]) -> None:
        """Lease free parts, the largest first, to those who wait, the first one first; then ask for splits."""
        waiting = [name for name, cell in self._cells.items() if cell.waiting is not None]
        for name in waiting[: len(self._free)]:
            _, key = heapq.heappop(self._free)
            actions.append(self._lease(name, self._parts[key]))
        num_idle = sum(cell.waiting is not None for cell in self._cells.values())
        if num_idle == 0:
            return
        held = [self._parts[key] for cell in self._cells.values() for key in cell.parts]
        for _ in range(num_idle - sum(part.split_at is not None for part in held)):
            found = split_of_slowest(self._holdings())
            if found is None:
                return
            holding, at = found
            part = self._parts[holding.part]
            part.split_at = at
            actions.append(SplitPart(holding.cell, part.key, part.epoch, at))

    def _holdings(self) -> Iterator[Holding]:
        """The parts of cells that do not wait themselves, and of which no split is asked for."""
        for name, cell in self._cells.items():
            if cell.waiting is not None or cell.first_lease_s is None:
                continue
            parts = [self._parts[key] for key in cell.parts]
            num_begun = cell.num_begun_before + sum(part.begun - part.key.start for part in parts)
            num_left = sum(part.stop - part.begun for part in parts)
            left_s = seconds_left(num_left, num_begun, self._now_s - cell.first_lease_s)
            yield from (
                Holding(name, part.key, part.begun, part.stop, left_s) for part in parts if part.split_at is None
            )

    def _lease(self, name: str, part: _Part) -> LeasePart:
        cell = self._cells[name]
        assert cell.waiting is not None
        cell.answered, cell.waiting = cell.waiting, None
        if cell.first_lease_s is None:
            cell.first_lease_s = self._now_s
        cell.parts.add(part.key)
        part.holder, part.number, part.begun = name, cell.answered, part.key.start
        part.epoch += 1
        return self._told(part)
