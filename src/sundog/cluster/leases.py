"""The lease book of a run's driver: each part of a bucket is leased to one cell at a time, until it has ended once.

Owns parts and the cells' lives. A part leaves its cell when it has ended, or when the cell is gone: then whoever gets
it reads the sealed logs of all that are gone and have held rows of its bucket. Losing what a cell is told costs time
only: the book repeats leases and requests when a cell's beat does not show them.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sundog.cluster.lease_events import (
    BucketAdded,
    CellAsked,
    CellBeat,
    CellGone,
    CellJoined,
    CountRows,
    DropPart,
    LeaseAction,
    LeaseEnded,
    LeaseEvent,
    LeasePart,
    LeaseTimePassed,
    PartKey,
    PartSplit,
    SealLog,
    SplitPart,
)
from sundog.cluster.stealing import Holding, seconds_left, split_of_slowest

DEAD_AFTER_S = 5.0


@dataclass(slots=True)
class _Part:
    """A part that has not ended."""

    key: PartKey
    stop: int
    #: The cell that holds it, None while nobody does.
    holder: str | None = None
    #: The holder's question that the lease has answered.
    number: int = 0
    begun: int = 0
    #: The place of a split that was asked for and is not answered.
    split_at: int | None = None


@dataclass(slots=True)
class _Cell:
    last_heard_s: float
    parts: set[PartKey] = field(default_factory=set)
    #: The question that waits for rows.
    waiting: int | None = None
    #: The time of its first lease, and rows that it has begun since, of parts that have left it.
    first_lease_s: float | None = None
    num_begun_before: int = 0


class LeaseBook:
    """One instance leases all rows of one run."""

    def __init__(self, dead_after_s: float = DEAD_AFTER_S) -> None:
        """A cell is dead when `dead_after_s` seconds have passed without a beat of it."""
        self._dead_after_s = dead_after_s
        self._now_s = 0.0
        self._parts: dict[PartKey, _Part] = {}
        self._cells: dict[str, _Cell] = {}
        self._free: list[tuple[int, PartKey]] = []
        #: By bucket, the cells that are gone and have held rows of it.
        self._gone: defaultdict[int, list[str]] = defaultdict(list)
        self._handlers: dict[type, Callable[[Any, list[LeaseAction]], None]] = {
            BucketAdded: self._bucket_added,
            CellJoined: self._cell_joined,
            CellBeat: self._cell_beat,
            CellAsked: self._cell_asked,
            PartSplit: self._part_split,
            LeaseEnded: self._lease_ended,
            CellGone: self._cell_gone,
            LeaseTimePassed: self._time_passed,
        }

    def handle(self, event: LeaseEvent) -> list[LeaseAction]:
        """Return what is to be done now that this has happened, in order. Nothing is told of a cell after its end."""
        actions: list[LeaseAction] = []
        self._now_s = max(self._now_s, event.time_s)
        self._handlers[type(event)](event, actions)
        self._serve_waiting(actions)
        return actions

    def check(self) -> None:
        """Raise AssertionError where the books contradict themselves. For tests."""
        held = {key: name for name, cell in self._cells.items() for key in cell.parts}
        assert sum(len(cell.parts) for cell in self._cells.values()) == len(held), "a part has two holders"
        assert held == {key: part.holder for key, part in self._parts.items() if part.holder is not None}
        free = [key for _, key in self._free]
        assert len(free) == len(set(free)), "a part is free twice"
        assert self._parts.keys() == held.keys() | set(free), "an open part is held or free"
        assert not held.keys() & set(free), "a held part is free"

    def _bucket_added(self, event: BucketAdded, actions: list[LeaseAction]) -> None:
        self._add(_Part(PartKey(event.bucket, 0), event.num_rows))

    def _add(self, part: _Part) -> None:
        assert part.key not in self._parts, f"{part.key} is there already"
        assert part.stop > part.key.start, f"{part.key} has no rows"
        self._parts[part.key] = part
        self._give_back(part)

    def _give_back(self, part: _Part) -> None:
        part.holder = part.split_at = None
        heapq.heappush(self._free, (part.key.start - part.stop, part.key))

    def _cell_joined(self, event: CellJoined, actions: list[LeaseAction]) -> None:
        assert event.cell not in self._cells, f"cell {event.cell} is there already"
        self._cells[event.cell] = _Cell(self._now_s)

    def _cell_beat(self, event: CellBeat, actions: list[LeaseAction]) -> None:
        cell = self._cells[event.cell]
        cell.last_heard_s = self._now_s
        for key, begun in event.begun:
            if key not in cell.parts:
                actions.append(DropPart(event.cell, key))
                continue
            part = self._parts[key]
            part.begun = max(part.begun, min(begun, part.stop))
            if part.split_at is not None:
                actions.append(SplitPart(event.cell, key, part.split_at))
        told = {key for key, _ in event.begun}
        actions += [self._told(event.cell, self._parts[key]) for key in sorted(cell.parts - told)]

    def _told(self, cell: str, part: _Part) -> LeasePart:
        """Return what tells a holder of its lease, for the first time or again."""
        return LeasePart(cell, part.number, part.key, part.stop, tuple(self._gone.get(part.key.bucket, ())))

    def _cell_asked(self, event: CellAsked, actions: list[LeaseAction]) -> None:
        self._cells[event.cell].waiting = event.number

    def _part_split(self, event: PartSplit, actions: list[LeaseAction]) -> None:
        if event.part not in self._cells[event.cell].parts:
            # It ended while it was asked for.
            return
        part = self._parts[event.part]
        if part.split_at is not None and event.at > part.split_at:
            part.begun = max(part.begun, min(event.at, part.stop))
        part.split_at = None
        assert event.at > part.key.start, f"{part.key} keeps no row"
        if event.at < part.stop:
            self._add(_Part(PartKey(part.key.bucket, event.at), part.stop))
            part.stop = event.at
            part.begun = min(part.begun, event.at)

    def _lease_ended(self, event: LeaseEnded, actions: list[LeaseAction]) -> None:
        cell, part = self._cells[event.cell], self._parts.pop(event.part)
        num_rows = part.stop - part.key.start
        cell.parts.remove(part.key)
        cell.num_begun_before += num_rows
        # Its beat tells of the part still, and is answered with DropPart.
        actions.append(CountRows(event.cell, part.key, num_rows))

    def _cell_gone(self, event: CellGone, actions: list[LeaseAction]) -> None:
        self._bury(event.cell, actions)

    def _time_passed(self, event: LeaseTimePassed, actions: list[LeaseAction]) -> None:
        silent_since_s = self._now_s - self._dead_after_s
        for name in [name for name, cell in self._cells.items() if cell.last_heard_s <= silent_since_s]:
            self._bury(name, actions)

    def _bury(self, name: str, actions: list[LeaseAction]) -> None:
        for key in sorted(self._cells.pop(name).parts):
            gone = self._gone[key.bucket]
            if name not in gone:
                gone.append(name)
            self._give_back(self._parts[key])
        actions.append(SealLog(name))

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
            self._parts[holding.part].split_at = at
            actions.append(SplitPart(holding.cell, holding.part, at))

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
        part.holder, part.number, part.begun = name, cell.waiting, part.key.start
        cell.waiting = None
        if cell.first_lease_s is None:
            cell.first_lease_s = self._now_s
        cell.parts.add(part.key)
        return self._told(name, part)
