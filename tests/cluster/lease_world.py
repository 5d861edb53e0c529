"""A simulated cluster around lease books: a driver as `cells.hub` is one, cells with one log each, lines that lose.

What a cell says comes in its order until its line is cut; words to it come late, twice, in any order, or never. A row
counts when a log has its end. Whoever is taken for dead may go on, as it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
from sundog.cluster.leases import LeaseBook

MAX_SEATS = 6


@dataclass
class Log:
    """All that one cell has done, as others see it."""

    rows: set[int] = field(default_factory=set)
    is_sealed: bool = False


@dataclass
class Held:
    """A part in the hands of a cell: `rows` are those of its bucket."""

    key: PartKey
    stop: int
    begun: int
    rows: list[int]
    open: set[int] = field(default_factory=set)
    is_told: bool = False


class Cell:
    """A cell as `cells.cell` is one. It makes its log, looks whether its driver holds the run, and then works."""

    def __init__(self, name: str, world: World, driver: Driver) -> None:
        self.name, self.world, self.driver = name, world, driver
        self.has_looked = self.is_paused = self.is_cut = self.has_ended = False
        self.held: dict[PartKey, Held] = {}
        #: Rows that have ended as far as it knows; those of its own that its log lacks.
        self.store: set[int] = set()
        self.unsent: set[int] = set()
        self.num_asked = self.num_answered = 0
        self.says: list[LeaseEvent] = []

    def works(self) -> bool:
        return not self.is_paused and not self.has_ended and self.has_looked

    def start(self) -> None:
        if self.name not in self.world.logs:
            self.world.logs[self.name] = Log()
        else:
            self.has_looked = True
            self.has_ended = self.driver is not self.world.driver

    def hear(self, word: LeaseAction) -> None:
        match word:
            case LeasePart() if word.number > self.num_answered:
                for gone in word.gone:
                    assert self.world.logs[gone].is_sealed, "a lease is told before a log is sealed"
                    self.store |= self.world.logs[gone].rows
                rows = self.driver.buckets[word.part.bucket]
                self.held[word.part] = Held(word.part, word.stop, word.part.start, rows)
                self.num_answered = word.number
            case SplitPart() if word.part in self.held:
                held = self.held[word.part]
                at = max(word.at, held.begun, held.key.start + 1)
                # Rows stay together by twos in every third bucket.
                at += at % 2 if held.key.bucket % 3 == 0 else 0
                held.stop = min(at, held.stop)
                self.says.append(PartSplit(0.0, self.name, word.part, held.stop))
            case DropPart():
                self.held.pop(word.part, None)

    def begin_rows(self) -> None:
        num_running = sum(len(held.open) for held in self.held.values())
        for held in self.held.values():
            while held.begun < held.stop and num_running < self.world.num_slots:
                row = held.rows[held.begun]
                held.begun += 1
                if row not in self.store:
                    held.open.add(row)
                    num_running += 1
                    self.world.num_begun += 1

    def end_row(self, choice: int) -> None:
        running = [(row, held) for held in self.held.values() for row in sorted(held.open)]
        if running:
            row, held = running[choice % len(running)]
            held.open.discard(row)
            self.store.add(row)
            self.unsent.add(row)
        if len(self.unsent) == self.world.batch_rows:
            self.commit()

    def commit(self) -> None:
        """Write to the log; a cell whose log is sealed ends."""
        log = self.world.logs[self.name]
        if log.is_sealed and self.unsent:
            self.has_ended = True
        elif self.unsent:
            assert not self.world.counted & self.unsent, "a row is done by two, and both count"
            self.world.counted |= self.unsent
            log.rows |= self.unsent
            self.unsent.clear()

    def tick(self) -> None:
        """Commit, tell the ends of parts, ask, and beat."""
        if self.has_looked:
            self.commit()
            for held in self.held.values():
                if held.begun == held.stop and not held.open and not held.is_told and not self.has_ended:
                    held.is_told = True
                    self.says.append(LeaseEnded(0.0, self.name, held.key))
            num_left = sum(held.stop - held.begun for held in self.held.values())
            if self.num_asked == self.num_answered and num_left < self.world.num_slots:
                self.num_asked += 1
                self.says.append(CellAsked(0.0, self.name, self.num_asked))
        if not self.has_ended:
            self.says.append(CellBeat(0.0, self.name, tuple((key, held.begun) for key, held in self.held.items())))


class Driver:
    """A driver: it cuts the rows that have not ended, and does what its book says."""

    def __init__(self, world: World, bucket_sizes: list[int]) -> None:
        self.world = world
        self.book = LeaseBook()
        self.store = set[int]()
        for log in world.logs.values():
            log.is_sealed = True
            self.store |= log.rows
        self.buckets: list[list[int]] = []
        self.seats = set[str]()
        self.sealing: list[str] = []
        self.words: list[LeaseAction] = []
        self.num_open = 0
        left = [row for row in range(world.num_rows) if row not in self.store]
        for size in bucket_sizes:
            rows, left = left[:size], left[size:]
            if rows:
                self.buckets.append(rows)
                self.num_open += len(rows)
                self.tell(BucketAdded(0.0, len(self.buckets) - 1, len(rows)))

    def tell(self, event: LeaseEvent) -> None:
        actions = self.book.handle(replace(event, time_s=self.world.now_s))
        self.book.check()
        for action in actions:
            assert action.cell in self.seats, "the book speaks of a cell that is gone"
            if isinstance(action, SealLog):
                self.seats.remove(action.cell)
                self.sealing.append(action.cell)
            elif isinstance(action, CountRows):
                begin = action.part.start
                counted = self.buckets[action.part.bucket][begin : begin + action.num_rows]
                assert self.store.issuperset(counted), "rows count that no log has"
                self.num_open -= action.num_rows
            else:
                self.words.append(action)

    def hear(self, said: LeaseEvent, cell: Cell) -> None:
        if isinstance(said, LeaseEnded):
            self.store |= self.world.logs[cell.name].rows
        if cell.name in self.seats:
            self.tell(said)

    def seal(self, choice: int) -> None:
        """One log is sealed and read."""
        if self.sealing:
            name = self.sealing.pop(choice % len(self.sealing))
            # A cell that had not come so far makes its log, and finds that it is sealed.
            log = self.world.logs.setdefault(name, Log())
            log.is_sealed = True
            self.store |= log.rows

    def sent(self) -> list[LeaseAction]:
        """The words on the way; leases of rows whose logs are being sealed have not been told."""
        return [
            word for word in self.words if not isinstance(word, LeasePart) or not set(word.gone) & set(self.sealing)
        ]


class World:
    """Everything around the books; each method is a thing that may happen."""

    def __init__(self, buckets: list[int], num_cells: int, num_slots: int = 3, batch_rows: int = 2) -> None:
        self.now_s = 0.0
        self.bucket_sizes = buckets
        self.num_rows = sum(buckets)
        self.num_slots, self.batch_rows = num_slots, batch_rows
        self.logs: dict[str, Log] = {}
        self.cells: dict[str, Cell] = {}
        #: Rows whose end some log has, and how often any row has begun.
        self.counted: set[int] = set()
        self.num_begun = 0
        #: All that do not know better hold the run; the last one does.
        self.drivers = [Driver(self, buckets)]
        for _ in range(num_cells):
            self.join()

    @property
    def driver(self) -> Driver:
        return self.drivers[-1]

    def join(self, choice: int = 0) -> None:
        """A driver starts a cell, the last one mostly."""
        driver = self.driver if choice % 4 else self.drivers[choice // 4 % len(self.drivers)]
        if len(driver.seats) < MAX_SEATS or choice == 0:
            name = f"c{len(self.cells)}"
            self.cells[name] = Cell(name, self, driver)
            driver.seats.add(name)
            driver.tell(CellJoined(0.0, name))

    def cell(self, choice: int) -> Cell:
        """One that lives, where one does."""
        cells = [cell for cell in self.cells.values() if not cell.has_ended] or list(self.cells.values())
        return cells[choice % len(cells)]

    def living(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if not cell.is_paused and not cell.has_ended]

    def say(self, choice: int) -> None:
        """A driver hears the next thing that one of its cells has said."""
        speaking = [cell for cell in self.cells.values() if cell.says]
        if speaking:
            cell = speaking[choice % len(speaking)]
            said = cell.says.pop(0)
            if not cell.is_cut and cell.driver in self.drivers:
                cell.driver.hear(said, cell)

    def deliver(self, choice: int, *, copies: int) -> None:
        """One word arrives, is lost (0 copies), or arrives and stays on the way (2)."""
        words = [(word, driver) for driver in self.drivers for word in driver.sent()]
        if words:
            word, driver = words[choice % len(words)]
            if copies < 2:
                driver.words.remove(word)
            cell = self.cells[word.cell]
            if copies and not cell.is_cut and cell.works():
                cell.hear(word)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        for driver in self.drivers:
            driver.tell(LeaseTimePassed(0.0))
        for cell in self.living():
            cell.tick()

    def start_cells(self) -> None:
        for cell in self.living():
            if not cell.has_looked:
                cell.start()

    def begin_rows(self) -> None:
        for cell in self.living():
            cell.begin_rows()

    def end_rows(self, choice: int) -> None:
        for cell in self.living():
            cell.end_row(choice)

    def kill(self, choice: int, *, is_told: bool) -> None:
        cell = self.cell(choice)
        cell.has_ended = True
        if is_told and cell.name in cell.driver.seats:
            cell.driver.tell(CellGone(0.0, cell.name))

    def seal(self, choice: int) -> None:
        self.drivers[choice % len(self.drivers)].seal(choice)

    def pause(self, choice: int) -> None:
        """A cell stands still, or goes on after it has."""
        cell = self.cell(choice)
        cell.is_paused = not cell.is_paused

    def cut(self, choice: int) -> None:
        """The network loses a cell, which works on."""
        self.cell(choice).is_cut = True

    def restart_driver(self) -> None:
        """A new driver takes the run and seals all logs that are there. It has cells of its own; the old one stood
        still only, and goes on with its cells until it finds out."""
        self.drivers.append(Driver(self, self.bucket_sizes))
        self.join()

    def finish(self) -> None:
        """No fault any more: all that is said arrives, cells work. Everything must end."""
        self.drivers = [self.driver]
        for cell in self.cells.values():
            cell.is_paused = False
        self.join()
        for _ in range(60 + 4 * self.num_rows):
            if self.driver.num_open == 0:
                return
            self.pass_time(1.0)
            self.exchange()
            self.start_cells()
            self.begin_rows()
            self.end_rows(0)
            self.end_rows(1)
        raise AssertionError("the run does not end")

    def exchange(self) -> None:
        """All that is said arrives, and all logs are sealed that are to be."""
        while self.driver.sealing or self.driver.words or any(cell.says for cell in self.cells.values()):
            self.driver.seal(0)
            self.say(0)
            self.deliver(0, copies=1)

    def check_all_ended(self) -> None:
        """Each row counts, and rows began twice that were in the slots of cells that were lost, or in their batches."""
        assert self.driver.store == self.counted == set(range(self.num_rows))
        lost = [cell for cell in self.cells.values() if cell.name not in self.driver.seats]
        uncounted = sum(len(cell.unsent) + sum(len(held.open) for held in cell.held.values()) for cell in lost)
        assert self.num_begun - self.num_rows == uncounted
        assert uncounted <= len(lost) * (self.num_slots + self.batch_rows)
