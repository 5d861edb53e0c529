"""A simulated owner with cells that ask it, over a network that loses, doubles and reorders."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from sundog.cluster.asking import OwnerAsker, OwnerReply
from sundog.cluster.owner_events import (
    AnswerBatch,
    AppendValue,
    AskerBeat,
    AskerGone,
    BatchAsked,
    KeyAnswer,
    KeyFailed,
    NewsAsked,
    OwnerAction,
    OwnerEvent,
    TellNews,
    ValueLogged,
    ValuesFound,
    WakeListener,
)
from sundog.cluster.owners import OwnerBook
from sundog.errors import CallError

State = Literal["waits", "leads", "made"]


class AskingCell:
    """A cell with what it wants. Each of its calls gives another value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asker = OwnerAsker(name)
        self.wanted: dict[bytes, State] = {}
        self.has: dict[bytes, bytes] = {}
        self.paused = False

    def keys(self, state: State) -> list[bytes]:
        return [key for key, one in self.wanted.items() if one == state]

    def want(self, key: bytes) -> None:
        if key not in self.wanted:
            self.wanted[key] = "waits"
            self.asker.claim(key)

    def drop(self, key: bytes) -> None:
        del self.wanted[key]
        self.asker.release(key)

    def hear(self, reply: OwnerReply) -> None:
        for key, answer in self.asker.hear(reply):
            if isinstance(answer, bytes):
                assert self.wanted.pop(key) != "leads", "a call that is made hears of no value"
                self.has[key] = answer
            elif isinstance(answer, KeyFailed):
                assert self.wanted.pop(key) == "waits", "whoever makes a call hears of no failure"
                assert str(answer.error) == f"{key!r} failed", "a failure is of another call"
            else:
                assert self.wanted[key] == "waits"
                self.wanted[key] = "leads" if answer == "lead" else "waits"


class OwnerWorld:
    """Everything around one owner; each method is a thing that may happen."""

    def __init__(self, num_cells: int) -> None:
        self.now_s = 0.0
        self.num_owners = 0
        self.book = self.new_book()
        #: What is committed, and that of it which outlives the owner.
        self.store: dict[bytes, bytes] = {}
        self.log: dict[bytes, bytes] = {}
        self.cells = {f"c{number}": AskingCell(f"c{number}") for number in range(num_cells)}
        self.num_calls = 0
        self.to_owner: list[OwnerEvent] = []
        self.to_cells: list[tuple[str, OwnerReply]] = []
        self.disk: list[AppendValue] = []

    def new_book(self) -> OwnerBook:
        self.num_owners += 1
        return OwnerBook(f"owner {self.num_owners}")

    def tell(self, event: OwnerEvent) -> None:
        if isinstance(event, BatchAsked):
            keys = [*event.claims, *(key for key, _ in event.puts)]
            self.handle(ValuesFound(0.0, {key: self.store[key] for key in keys if key in self.store}))
        self.handle(event)

    def handle(self, event: OwnerEvent) -> None:
        actions = self.book.handle(replace(event, time_s=self.now_s))
        self.book.check()
        for action in actions:
            self.see(action)
            if isinstance(action, AppendValue):
                self.disk.append(action)
            elif not isinstance(action, WakeListener):  # all listen all the time
                assert isinstance(event, BatchAsked | NewsAsked | AskerBeat), (
                    "who speaks has an answer, and nobody else"
                )
                self.to_cells.append((event.cell, action))

    def see(self, action: OwnerAction) -> None:
        shown: list[tuple[bytes, KeyAnswer]] = []
        if isinstance(action, AnswerBatch):
            shown += action.claims
        elif isinstance(action, TellNews):
            shown += [(news.key, news.answer) for news in action.news]
        for key, answer in shown:
            assert not isinstance(answer, bytes) or self.log[key] == answer, "a value is seen that the log has not"

    def work_of_disk(self, choice: int) -> None:
        """A value is committed, and later it lies in the log."""
        if not self.disk:
            return
        work = self.disk[choice % len(self.disk)]
        if work.key not in self.store:
            self.commit(work)
            return
        self.disk.remove(work)
        self.log[work.key] = work.value
        self.tell(ValueLogged(0.0, work.key, work.value))

    def commit(self, work: AppendValue) -> None:
        assert work.key not in self.store, "a key has two values"
        self.store[work.key] = work.value

    def restart_owner(self, choice: int) -> None:
        """A new owner reads the log, which has some of what the old one was appending. The words of others remain."""
        for number, work in enumerate(self.disk):
            if choice >> number & 1:
                self.log[work.key] = work.value
        self.disk.clear()
        self.store = dict(self.log)
        self.book = self.new_book()

    def cell(self, choice: int) -> AskingCell:
        return list(self.cells.values())[choice % len(self.cells)]

    def want(self, choice: int) -> None:
        self.cell(choice).want(b"k%d" % (choice // 7 % 5))

    def make_call(self, choice: int) -> None:
        cell = self.cell(choice)
        for key in cell.keys("leads")[:1]:
            self.num_calls += 1
            cell.wanted[key] = "made"
            cell.asker.put(key, key + f" {cell.name} {self.num_calls}".encode())

    def fail_call(self, choice: int) -> None:
        cell = self.cell(choice)
        for key in cell.keys("leads")[:1]:
            if choice // 2 % 2:
                del cell.wanted[key]
                cell.asker.fail(key, KeyFailed(CallError(f"{key!r} failed")))
            else:
                cell.drop(key)
            if choice % 2:
                cell.want(key)

    def give_up(self, choice: int) -> None:
        """A row that waits has ended otherwise, or nobody waits for the row whose call it was."""
        cell = self.cell(choice)
        for key in (cell.keys("waits") + cell.keys("made"))[:1]:
            cell.drop(key)

    def replace_cell(self, choice: int, *, is_told: bool) -> None:
        """A cell dies, and one of another name wants what it wanted."""
        old = self.cell(choice)
        del self.cells[old.name]
        new = self.cells[f"{old.name}'"] = AskingCell(f"{old.name}'")
        for key in old.wanted:
            new.want(key)
        if is_told:
            self.tell(AskerGone(0.0, old.name))

    def pause(self, choice: int) -> None:
        cell = self.cell(choice)
        cell.paused = not cell.paused

    def speak(self) -> None:
        for cell in self.cells.values():
            if not cell.paused:
                batch = cell.asker.next_batch()
                self.to_owner += [cell.asker.beat(), cell.asker.listening(), *([batch] if batch is not None else [])]

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

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
            name, reply = self.to_cells[place] if copies == 2 else self.to_cells.pop(place)
            cell = self.cells.get(name)
            if copies and cell is not None and not cell.paused:
                cell.hear(reply)

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
