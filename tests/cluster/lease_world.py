"""A simulated cluster around a lease book: cells, logs that fence, a network that loses, doubles and reorders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise

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
from sundog.cluster.leases import LeaseBook


@dataclass
class Log:
    """The log of a part: it takes appends of the epoch that has sealed it last, and of no other."""

    epoch: int = 0
    holder: str | None = None
    rows: set[int] = field(default_factory=set)
    cut: int | None = None
    ended: bool = False


@dataclass
class Held:
    epoch: int
    stop: int
    begun: int
    running: set[int] = field(default_factory=set)


class Cell:
    """A cell as the events ask for it to be."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world
        self.held: dict[PartKey, Held] = {}
        self.refused: dict[PartKey, int] = {}
        self.number, self.seen = 1, 0
        self.paused = self.stopped = False

    def log(self, key: PartKey, held: Held) -> Log | None:
        """The log where it is still this cell's, else None, and the part is dropped: an append has failed."""
        log = self.world.logs[key]
        if log.epoch == held.epoch:
            return log
        self.held.pop(key, None)
        return None

    def hear(self, action: LeaseAction) -> None:
        match action:
            case StopCell():
                self.stopped = True
            case LeasePart(number=number):
                if number > self.seen:
                    self.take(action)
                elif action.part not in self.held:
                    self.refuse(action)
                self.seen = max(self.seen, number)
                self.number = self.seen + 1
            case SplitPart(part=key, epoch=epoch, at=at) if key in self.held and self.held[key].epoch == epoch:
                held = self.held[key]
                log = self.log(key, held)
                if log is not None and not log.ended:
                    held.stop = log.cut = min(held.stop, max(at, held.begun))
                    self.say(PartSplit(0.0, self.name, key, epoch, held.stop))
            case ConfirmEnd(part=key, epoch=epoch) | DropPart(part=key, epoch=epoch):
                if key in self.held and self.held[key].epoch == epoch:
                    del self.held[key]
                if self.refused.get(key) == epoch:
                    del self.refused[key]

    def take(self, lease: LeasePart) -> None:
        log = self.world.logs.setdefault(lease.part, Log())
        if log.epoch >= lease.epoch:
            self.refuse(lease)
            return
        log.epoch, log.holder = lease.epoch, self.name
        stop = lease.stop if log.cut is None else min(log.cut, lease.stop)
        begun = max(log.rows, default=lease.part.start - 1) + 1
        self.held[lease.part] = Held(lease.epoch, stop, begun, set(range(lease.part.start, begun)) - log.rows)

    def refuse(self, lease: LeasePart) -> None:
        self.refused[lease.part] = lease.epoch
        self.say(
            LeaseVoid(0.0, self.name, lease.part, lease.epoch, self.world.logs.setdefault(lease.part, Log()).epoch)
        )

    def begin_row(self) -> None:
        for held in self.held.values():
            if held.begun < held.stop:
                held.running.add(held.begun)
                held.begun += 1
                return

    def end_row(self, choice: int) -> None:
        for key, held in list(self.held.items()):
            if held.running:
                row = sorted(held.running)[choice % len(held.running)]
                held.running.discard(row)
                log = self.log(key, held)
                if log is not None:
                    log.rows.add(row)
                    self.world.rows_ended[key.bucket, row] += 1
                return

    def tick(self) -> None:
        """The cell beats, asks when it has no row to begin, and reports parts that have ended."""
        for key, held in list(self.held.items()):
            log = self.log(key, held)
            if log is not None and held.begun == held.stop and not held.running:
                log.ended, log.cut = True, held.stop
                self.say(LeaseEnded(0.0, self.name, key, held.epoch, held.stop))
        for key, epoch in self.refused.items():
            self.say(LeaseVoid(0.0, self.name, key, epoch, self.world.logs[key].epoch))
        self.say(CellBeat(0.0, self.name, tuple((key, one.epoch, one.begun) for key, one in self.held.items())))
        if all(held.begun == held.stop for held in self.held.values()):
            self.say(CellAsked(0.0, self.name, self.number))

    def say(self, event: LeaseEvent) -> None:
        self.world.to_driver.append(event)


class World:
    """Everything around one book; each method is a thing that may happen."""

    def __init__(self, buckets: list[int], num_cells: int) -> None:
        self.now_s = 0.0
        self.buckets = buckets
        self.logs: dict[PartKey, Log] = {}
        self.rows_ended: Counter[tuple[int, int]] = Counter()
        self.epochs_that_ended: dict[PartKey, set[int]] = {}
        self.cells: dict[str, Cell] = {}
        self.num_joined = 0
        self.to_driver: list[LeaseEvent] = []
        self.to_cells: list[LeaseAction] = []
        self.book = LeaseBook()
        for bucket, size in enumerate(buckets):
            self.tell(BucketAdded(0.0, PartKey(bucket, 0), size))
        for _ in range(num_cells):
            self.join()

    def tell(self, event: LeaseEvent) -> None:
        actions = self.book.handle(replace(event, time_s=self.now_s))
        self.book.check()
        for one in actions:
            if isinstance(one, ConfirmEnd):
                self.epochs_that_ended.setdefault(one.part, set()).add(one.epoch)
        self.to_cells += actions

    def join(self) -> None:
        self.num_joined += 1
        name = f"c{self.num_joined}"
        self.cells[name] = Cell(name, self)
        self.tell(CellJoined(0.0, name))

    def deliver(self, choice: int, *, copies: int) -> None:
        """One message of those on the way arrives, is lost (0 copies), or arrives and stays on the way (2)."""
        num_messages = len(self.to_driver) + len(self.to_cells)
        place = choice % max(1, num_messages)
        if place < len(self.to_driver):
            event = self.to_driver[place] if copies == 2 else self.to_driver.pop(place)
            if copies:
                self.tell(event)
        elif num_messages:
            place -= len(self.to_driver)
            action = self.to_cells[place] if copies == 2 else self.to_cells.pop(place)
            cell = self.cells[action.cell]
            if copies and not cell.paused and not cell.stopped:
                cell.hear(action)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.tell(LeaseTimePassed(self.now_s))
        for cell in self.running():
            cell.tick()

    def running(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if not cell.paused and not cell.stopped]

    def begin_rows(self) -> None:
        for cell in self.running():
            cell.begin_row()

    def end_rows(self, choice: int) -> None:
        for cell in self.running():
            cell.end_row(choice)

    def kill(self, choice: int, *, is_told: bool) -> None:
        cell = list(self.cells.values())[choice % len(self.cells)]
        cell.stopped = True
        if is_told:
            self.tell(CellGone(0.0, cell.name))

    def pause(self, choice: int) -> None:
        """A cell stands still, or goes on after it has."""
        cell = list(self.cells.values())[choice % len(self.cells)]
        cell.paused = not cell.paused

    def restart_driver(self) -> None:
        """A new driver reads the logs. Cells that run are known to it; messages to the old one are not."""
        self.to_driver.clear()
        self.book = LeaseBook()
        for cell in self.cells.values():
            if not cell.stopped:
                self.tell(CellJoined(0.0, cell.name))
        for bucket, size in enumerate(self.buckets):
            keys = {key.start for key in self.logs if key.bucket == bucket}
            cuts = {log.cut for key, log in self.logs.items() if key.bucket == bucket and log.cut is not None}
            places = sorted({0, size} | keys | cuts)
            for start, stop in pairwise(places):
                log = self.logs.get(PartKey(bucket, start), Log())
                if not log.ended:
                    self.tell(BucketAdded(self.now_s, PartKey(bucket, start), stop, log.epoch, log.holder))

    def finish(self) -> None:
        """No fault any more: all messages arrive, cells work. Everything must end."""
        for cell in self.cells.values():
            cell.paused = False
        self.join()
        for _ in range(40 + 4 * sum(self.buckets)):
            if self.book.num_open_parts == 0:
                return
            self.pass_time(1.0)
            while self.to_driver or self.to_cells:
                self.deliver(0, copies=1)
            for cell in self.running():
                cell.begin_row()
                cell.begin_row()
                cell.end_row(0)
                cell.end_row(1)
        raise AssertionError("the run does not end")

    def check(self) -> None:
        assert all(count == 1 for count in self.rows_ended.values()), "a row has ended twice"
        assert all(len(epochs) == 1 for epochs in self.epochs_that_ended.values()), "a part has ended twice"

    def check_all_ended(self) -> None:
        self.check()
        expected = {(bucket, row) for bucket, size in enumerate(self.buckets) for row in range(size)}
        assert self.rows_ended.keys() == expected
