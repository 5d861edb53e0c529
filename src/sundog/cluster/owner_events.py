"""The events (past participles) and actions (imperatives) between an owner of call keys and those who ask it.

Never decides. Times are seconds on the owner's monotonic clock, taken when a message came. Messages between an owner
and its cells may be lost, doubled, late or in another order; its store and its clock are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sundog.errors import CallError


@dataclass(frozen=True, slots=True)
class KeyFailed:
    """The call of a key has failed. Those hear it who wait for it; whoever asks later makes the call again."""

    error: CallError


KeyAnswer = bytes | KeyFailed | Literal["lead", "later"]
"""The answer about a key: its value; that its call has failed; `lead`, make the call and put its value; `later`,
another cell makes it: there will be news."""


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
    #: Keys that it wants. Of those that another cell makes it hears when there is news.
    claims: tuple[bytes, ...] = ()
    #: Keys of calls that it makes already, as an owner before this one has said. They are not answered.
    leads: tuple[bytes, ...] = ()
    #: Keys of calls that it has made, with their values. It is told of each which value stays.
    puts: tuple[tuple[bytes, bytes], ...] = ()
    #: Keys that it does not want any more, as their rows have ended. They end before the claims begin.
    releases: tuple[bytes, ...] = ()
    #: Keys of calls that it has made and that failed. They end, too, before the claims begin.
    failures: tuple[tuple[bytes, KeyFailed], ...] = ()
    #: The owner whose answers it has heard in this epoch, empty for none.
    owner: str = ""


@dataclass(frozen=True, slots=True)
class NewsAsked:
    """A cell waits for news. Those that it has heard are forgotten, all others told again."""

    time_s: float
    cell: str
    epoch: int
    #: The number of the last news that it has heard in this epoch, 0 for none.
    heard: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class AskerBeat:
    """A cell lives. Told each second."""

    time_s: float
    cell: str
    epoch: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class AskerGone:
    """A cell is known to have ended; without this its silence says so."""

    time_s: float
    cell: str


@dataclass(frozen=True, slots=True)
class ValuesFound:
    """The store has these values among the claims and puts of the batch that is told next, with nothing between the
    look at the store and that. It may have values that do not lie in the log yet."""

    time_s: float
    values: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class ValueLogged:
    """AppendValue is done: this value of the key lies in the log for good. It is another one than was appended where
    the store had that before."""

    time_s: float
    key: bytes
    value: bytes


OwnerEvent = BatchAsked | NewsAsked | AskerBeat | AskerGone | ValuesFound | ValueLogged


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Answer a batch: what it claimed, in its order. It is answered at once, whatever others do."""

    epoch: int
    number: int
    claims: tuple[tuple[bytes, KeyAnswer], ...]
    owner: str


@dataclass(frozen=True, slots=True)
class KeyNews:
    """News of a key that a cell has claimed or put: the value, that the call has failed, or that it leads now. A cell
    that has asked about the key in a later batch than `number` takes no lead and no failure from it."""

    #: The cell's last batch when this was said.
    number: int
    key: bytes
    answer: KeyAnswer


@dataclass(frozen=True, slots=True)
class TellNews:
    """Tell a cell all news that it has not heard, in their order."""

    epoch: int
    #: The number of the first of them within the epoch, from 1.
    first: int
    news: tuple[KeyNews, ...]
    owner: str


@dataclass(frozen=True, slots=True)
class WakeListener:
    """There is news for a cell: let it ask anew if it waits."""

    cell: str


@dataclass(frozen=True, slots=True)
class RefuseEpoch:
    """Tell a cell that its epoch is over: it was silent for too long, or this owner does not know of it. It leads and
    awaits nothing, and asks with a higher one."""

    epoch: int


@dataclass(frozen=True, slots=True)
class AppendValue:
    """Commit a value, and report ValueLogged when it lies in the log. Nobody sees the value before."""

    key: bytes
    value: bytes


OwnerAction = AnswerBatch | TellNews | WakeListener | RefuseEpoch | AppendValue
