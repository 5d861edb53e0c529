"""A simulated owner with cells that ask it, over a network that loses, doubles and reorders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

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
from sundog.cluster.owners import OwnerBook

State = Literal["new", "waits", "leads", "made"]


@dataclass
class AskingCell:
    """A cell as the events ask for it to be. Each of its calls gives another value."""

    name: str
    epoch: int = 1
    number: int = 0
    answered: int = 0
    wanted: dict[str, State] = field(default_factory=dict)
    made: dict[str, bytes] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    has: dict[str, bytes] = field(default_factory=dict)
    releases: list[str] = field(default_factory=list)
    batch: BatchAsked | None = None
    paused: bool = False

    def keys(self, state: State) -> tuple[str, ...]:
        return tuple(key for key, one in self.wanted.items() if one == state)

    def next_batch(self) -> BatchAsked | None:
        if self.batch is None:
            claims, waits = self.keys("new"), self.keys("waits")
            puts = tuple((key, self.made[key]) for key in self.keys("made"))
            if claims or waits or puts or self.releases:
                self.number += 1
                self.batch = BatchAsked(
                    0.0, self.name, self.epoch, self.number, claims, puts, tuple(self.releases), waits
                )
                self.asked.update(dict.fromkeys([*claims, *waits, *(key for key, _ in puts)], self.number))
                self.releases = []
        return self.batch

    def beat(self) -> AskerBeat:
        wants = frozenset(key for key, state in self.wanted.items() if state != "new")
        return AskerBeat(0.0, self.name, self.epoch, self.answered, wants)

    def hear(self, action: AnswerBatch | AnswerKey | RefuseEpoch) -> None:
        if action.epoch != self.epoch:
            return
        match action:
            case RefuseEpoch():
                self.epoch += 1
                self.number = self.answered = 0
                self.batch = None
                self.releases, self.asked = [], {}
                self.wanted.update(dict.fromkeys(self.keys("waits"), "new"))
            case AnswerBatch(number=number, claims=claims) if self.batch is not None and number == self.number:
                self.batch, self.answered = None, number
                for key, answer in claims:
                    if self.wanted.get(key) == "new":
                        self.learn(key, answer)
            case AnswerKey(number=number, key=key, answer=answer) if key in self.wanted:
                is_lead = self.wanted[key] == "waits" and number >= self.asked.get(key, 0)
                if isinstance(answer, bytes) or is_lead:
                    self.learn(key, answer)

    def learn(self, key: str, answer: KeyAnswer) -> None:
        if isinstance(answer, bytes):
            self.has[key] = answer
            del self.wanted[key]
        else:
            self.wanted[key] = "leads" if answer == "lead" else "waits"


class OwnerWorld:
    """Everything around one owner; each method is a thing that may happen."""

    def __init__(self, num_cells: int, max_bytes: int = 30) -> None:
        self.now_s = 0.0
        self.max_bytes = max_bytes
        self.book = OwnerBook(max_bytes)
        self.log: dict[str, bytes] = {}
        self.places: dict[str, tuple[int, int]] = {}
        self.cells = {f"c{number}": AskingCell(f"c{number}") for number in range(num_cells)}
        self.num_calls = 0
        self.to_owner: list[OwnerEvent] = []
        self.to_cells: list[AnswerBatch | AnswerKey | RefuseEpoch] = []
        self.disk: list[AppendValue | ReadValue] = []

    def tell(self, event: OwnerEvent) -> None:
        actions = self.book.handle(replace(event, time_s=self.now_s))
        self.book.check()
        for action in actions:
            if isinstance(action, AppendValue | ReadValue):
                self.disk.append(action)
            else:
                self.see(action)
                self.to_cells.append(action)

    def see(self, action: OwnerAction) -> None:
        shown: list[tuple[str, KeyAnswer]] = []
        if isinstance(action, AnswerBatch):
            shown += action.claims
        elif isinstance(action, AnswerKey):
            shown.append((action.key, action.answer))
        for key, answer in shown:
            assert not isinstance(answer, bytes) or self.log[key] == answer, "a value is seen that the log has not"

    def work_of_disk(self, choice: int) -> None:
        if not self.disk:
            return
        work = self.disk.pop(choice % len(self.disk))
        if isinstance(work, AppendValue):
            self.append(work)
            self.tell(ValueLogged(0.0, work.key, self.places[work.key]))
        else:
            self.tell(ValueRead(0.0, work.key, self.log[work.key]))

    def append(self, work: AppendValue) -> None:
        assert work.key not in self.log, "a key has two values"
        self.places[work.key] = (0, len(self.log))
        self.log[work.key] = work.value

    def restart_owner(self, choice: int) -> None:
        """A new owner reads the log, which has some of what the old one was appending. The words of others remain."""
        for number, work in enumerate(self.disk):
            if isinstance(work, AppendValue) and choice >> number & 1:
                self.append(work)
        self.disk.clear()
        self.book = OwnerBook(self.max_bytes, self.places)

    def cell(self, choice: int) -> AskingCell:
        return list(self.cells.values())[choice % len(self.cells)]

    def want(self, choice: int) -> None:
        cell, key = self.cell(choice), f"k{choice // 7 % 5}"
        cell.wanted.setdefault(key, "new")

    def make_call(self, choice: int) -> None:
        cell = self.cell(choice)
        for key in cell.keys("leads")[:1]:
            self.num_calls += 1
            cell.made[key] = f"{key} {cell.name} {self.num_calls}".encode()
            cell.wanted[key] = "made"

    def fail_call(self, choice: int) -> None:
        cell = self.cell(choice)
        for key in cell.keys("leads")[:1]:
            cell.releases.append(key)
            cell.wanted[key] = "new"
            if cell.batch is not None:
                del cell.wanted[key]

    def give_up(self, choice: int) -> None:
        """A row that waits has ended otherwise; only the beat tells."""
        cell = self.cell(choice)
        for key in cell.keys("waits")[:1]:
            del cell.wanted[key]

    def replace_cell(self, choice: int, *, is_told: bool) -> None:
        """A cell dies, and one of another name wants what it wanted."""
        old = self.cell(choice)
        del self.cells[old.name]
        new = AskingCell(f"{old.name}'")
        new.wanted = dict.fromkeys(old.wanted, "new")
        self.cells[new.name] = new
        if is_told:
            self.tell(AskerGone(0.0, old.name))

    def pause(self, choice: int) -> None:
        cell = self.cell(choice)
        cell.paused = not cell.paused

    def speak(self) -> None:
        for cell in self.cells.values():
            if not cell.paused:
                batch = cell.next_batch()
                self.to_owner += [cell.beat(), *([batch] if batch is not None else [])]

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.tell(OwnerTimePassed(0.0))

    def deliver(self, choice: int, *, copies: int) -> None:
        """One message of those on the way arrives, is lost (0 copies), or arrives and stays on the way (2)."""
        num_messages = len(self.to_owner) + len(self.to_cells)
        place = choice % max(1, num_messages)
        if place < len(self.to_owner):
            event = self.to_owner[place] if copies == 2 else self.to_owner.pop(place)
            if copies:
                self.tell(event)
        elif num_messages:
            place -= len(self.to_owner)
            action = self.to_cells[place] if copies == 2 else self.to_cells.pop(place)
            cell = self.cells.get(action.cell)
            if copies and cell is not None and not cell.paused:
                cell.hear(action)

    def finish(self) -> None:
        """No fault any more: all messages arrive, calls end. Each cell gets all that it wants."""
        for cell in self.cells.values():
            cell.paused = False
        for _ in range(60):
            if not any(cell.wanted for cell in self.cells.values()):
                return
            self.pass_time(1.0)
            self.speak()
            while self.to_owner or self.to_cells or self.disk:
                self.deliver(0, copies=1)
                self.work_of_disk(0)
            for number in range(len(self.cells)):
                self.make_call(number)
        raise AssertionError("a cell waits for ever")

    def check(self) -> None:
        for cell in self.cells.values():
            assert all(self.log[key] == value for key, value in cell.has.items()), "a key has two values"
