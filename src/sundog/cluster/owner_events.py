"""The events (past participles) and actions (imperatives) between an owner of call keys and those who ask it.

Never decides. Times are seconds on the owner's monotonic clock, taken when a message came. Messages between an owner
and its cells may be lost, doubled, late or in another order; its log and its clock are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KeyAnswer = bytes | Literal["lead", "later"]
"""The answer about a key: its value; `lead`, make the call and put its value; `later`, another cell makes it, or the
value is being read: wait for it."""


@dataclass(frozen=True, slots=True)
class BatchAsked:
    """A cell asks about many keys at once. It sends its next batch when this one is answered, and repeats it, with its
    number, until then."""

    time_s: float
    cell: str
    #: The epoch of the cell at this owner, from 1. A cell that was refused goes on with a higher one.
    epoch: int
    #: The number of the batch within the epoch, from 1, one more for each.
    number: int
    #: Keys about which it wants to know at once.
    claims: tuple[str, ...] = ()
    #: Keys of calls that it has made, with their values. It is told of each which value stays.
    puts: tuple[tuple[str, bytes], ...] = ()
    #: Keys whose value it does not want any more: the call failed, or its row has ended.
    releases: tuple[str, ...] = ()
    #: Keys of which it wants to hear when there is news. It repeats these and puts in later batches until it hears.
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AskerBeat:
    """A cell lives. It tells all keys that it wants still, and what is not among them is released: a lead, for one,
    whose answer it has never taken. Told each second."""

    time_s: float
    cell: str
    epoch: int
    #: The last batch of which it has the answer, 0 for none. Where the owner has seen a later one, nothing is released.
    number: int
    #: The keys that it leads, has put or waits for.
    wants: frozenset[str]


@dataclass(frozen=True, slots=True)
class AskerGone:
    """A cell is known to have ended; without this its silence says so."""

    time_s: float
    cell: str


@dataclass(frozen=True, slots=True)
class ValueLogged:
    """AppendValue is done: the value lies in the log for good."""

    time_s: float
    key: str
    #: The segment of the log, and the offset there.
    place: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ValueRead:
    """ReadValue is done."""

    time_s: float
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class OwnerTimePassed:
    """Time has passed, and nothing else. Told each second."""

    time_s: float


OwnerEvent = BatchAsked | AskerBeat | AskerGone | ValueLogged | ValueRead | OwnerTimePassed


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Answer a batch: what it claimed, in its order. It is answered at once, whatever others do."""

    cell: str
    epoch: int
    number: int
    claims: tuple[tuple[str, KeyAnswer], ...]


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """Tell a cell of a key that it waits for or has put: the value, or that it leads now. A cell that has asked about
    the key in a later batch than `number` takes no lead from it."""

    cell: str
    epoch: int
    #: The cell's last batch when this was said.
    number: int
    key: str
    answer: KeyAnswer


@dataclass(frozen=True, slots=True)
class RefuseEpoch:
    """Tell a cell that its epoch is over: it was silent for too long and leads nothing. It asks with a higher one."""

    cell: str
    epoch: int


@dataclass(frozen=True, slots=True)
class AppendValue:
    """Append a value to the log, and report ValueLogged when it is there for good. Nobody sees the value before."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ReadValue:
    """Read a value from the log, and report ValueRead."""

    key: str
    place: tuple[int, int]


OwnerAction = AnswerBatch | AnswerKey | RefuseEpoch | AppendValue | ReadValue
