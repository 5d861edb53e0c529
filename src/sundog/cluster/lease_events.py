"""The events (past participles) and actions (imperatives) between the lease book of a run's driver and its cells.

Never decides. Times are seconds on the driver's clock, taken when a message came. What a cell says comes whole and in
its order, until nothing of it comes any more. What it is told may be lost, doubled, late or in another order. All that
a cell has done lies in its one log; nobody gets rows of a cell that is gone before that log is sealed and read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class PartKey(NamedTuple):
    """The name of a part of a bucket: it never changes, while the end of a part may."""

    bucket: int
    #: The place in the bucket of the part's first row, from 0.
    start: int


@dataclass(frozen=True, slots=True)
class BucketAdded:
    """The rows at the places [0, num_rows) of a bucket are there to be worked on."""

    time_s: float
    #: Its number, which no other one has.
    bucket: int
    #: 1 or more.
    num_rows: int


@dataclass(frozen=True, slots=True)
class CellJoined:
    """A cell was started. Its name is new: a cell that starts again has another one."""

    time_s: float
    cell: str


@dataclass(frozen=True, slots=True)
class CellBeat:
    """A cell lives. It tells of each part that it holds the place of the first row that has not begun; a part whose end
    it has told is held until it is to drop it. Leases that it does not tell of are told to it again."""

    time_s: float
    cell: str
    begun: tuple[tuple[PartKey, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CellAsked:
    """A cell has slots for more rows than it holds. It asks again when it has a lease of this number."""

    time_s: float
    cell: str
    #: The number of the question, from 1, one more for each.
    number: int


@dataclass(frozen=True, slots=True)
class PartSplit:
    """A cell answers SplitPart: it will begin no row from `at` on. The place is the one that was asked for, or a later
    one, up to the part's end: where rows behind that have begun, or a group of rows begins that stay together."""

    time_s: float
    cell: str
    part: PartKey
    at: int


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The last row of a part has ended, and the driver has read that in the cell's log; rows that wait for a person
    count as ended."""

    time_s: float
    cell: str
    part: PartKey


@dataclass(frozen=True, slots=True)
class CellGone:
    """A cell is known to have ended; without this its silence says so."""

    time_s: float
    cell: str


@dataclass(frozen=True, slots=True)
class LeaseTimePassed:
    """Time has passed: cells that were silent for too long are dead. Told twice a second."""

    time_s: float


LeaseEvent = BucketAdded | CellJoined | CellBeat | CellAsked | PartSplit | LeaseEnded | CellGone | LeaseTimePassed


@dataclass(frozen=True, slots=True)
class LeasePart:
    """Answer a question: the cell may work on rows [part.start, stop). It hears so once the logs of the cells `gone`
    are sealed, and reads these before it begins: what they have is not done again. A lease of a number that it has
    seen says nothing new."""

    cell: str
    number: int
    part: PartKey
    stop: int
    #: The cells that are gone and have held rows of the bucket.
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitPart:
    """Ask a cell to begin no row from `at` on; it answers with PartSplit."""

    cell: str
    part: PartKey
    at: int


@dataclass(frozen=True, slots=True)
class DropPart:
    """Answer a beat that tells of a part whose end is known: the cell forgets the part."""

    cell: str
    part: PartKey


@dataclass(frozen=True, slots=True)
class CountRows:
    """Count the rows of a part, which a cell has ended. Said once for each part."""

    cell: str
    part: PartKey
    num_rows: int


@dataclass(frozen=True, slots=True)
class SealLog:
    """Seal the log of a cell that is gone or taken for dead, so that it can write nothing more, and read it to its end.
    Nothing that the cell says is told any more."""

    cell: str


LeaseAction = LeasePart | SplitPart | DropPart | CountRows | SealLog
