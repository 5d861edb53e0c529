"""The events (past participles) and actions (imperatives) between the lease book of a run's driver and its cells.

Never decides. Times are seconds on the driver's monotonic clock, taken when a message came. All messages between the
driver and its cells may be lost, doubled, late or in another order, but for CellJoined and CellGone, which the driver
tells itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class PartKey(NamedTuple):
    """The name of a part of a bucket, under which its log stands: it never changes, while the end of a part may."""

    bucket: int
    #: The place in the bucket of the part's first row, from 0.
    start: int


@dataclass(frozen=True, slots=True)
class BucketAdded:
    """Rows [start, stop) of a bucket are there to be worked on: a whole bucket, or what a log shows of an earlier
    driver's parts."""

    time_s: float
    part: PartKey
    stop: int
    #: The last epoch that the part's log has, 0 for an empty log.
    epoch: int = 0
    #: The cell that has sealed that epoch; it keeps its lease where it has joined. None for an empty log.
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class CellJoined:
    """A cell was started. Its name is new: a cell that starts again has another one."""

    time_s: float
    cell: str


@dataclass(frozen=True, slots=True)
class CellBeat:
    """A cell lives. It tells of each part that it holds (part, epoch) the place of the first row not begun; a part
    whose end is not confirmed is held still. Leases that it does not tell of are told to it again."""

    time_s: float
    cell: str
    begun: tuple[tuple[PartKey, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CellAsked:
    """A cell has slots for more rows than it holds. It repeats the number until it has a lease of that number."""

    time_s: float
    cell: str
    #: The number of the question, from 1, one more for each.
    number: int


@dataclass(frozen=True, slots=True)
class PartSplit:
    """A cell answers SplitPart: it will begin no row from `at` on, its log has none of them, and has this cut. The
    place is the one that was asked for, or a later one where rows behind that have begun or are in the log."""

    time_s: float
    cell: str
    part: PartKey
    epoch: int
    at: int


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The log of a part has the end of its rows [start, stop). The cell repeats it until ConfirmEnd or DropPart. `stop`
    is less than what the lease says where the log's last holder has answered a split that the driver never heard of."""

    time_s: float
    cell: str
    part: PartKey
    epoch: int
    stop: int


@dataclass(frozen=True, slots=True)
class LeaseVoid:
    """A cell does not take a lease: it could not seal the part's log, which has this epoch or a later one, since an
    earlier driver has leased it too; or another lease of the same number came first. Told anew until DropPart."""

    time_s: float
    cell: str
    part: PartKey
    epoch: int
    log_epoch: int


@dataclass(frozen=True, slots=True)
class CellGone:
    """A cell is known to have ended; without this its silence says so."""

    time_s: float
    cell: str


@dataclass(frozen=True, slots=True)
class LeaseTimePassed:
    """Time has passed, and nothing else. Told each second."""

    time_s: float


LeaseEvent = (
    BucketAdded | CellJoined | CellBeat | CellAsked | PartSplit | LeaseEnded | LeaseVoid | CellGone | LeaseTimePassed
)


@dataclass(frozen=True, slots=True)
class LeasePart:
    """Answer a question: the cell may work on rows [part.start, stop), or fewer where the part's log has a cut. It
    seals the log for this epoch first, and goes on after what the log has. A lease of a number that it has
    seen says nothing new where it holds the part, and is void otherwise."""

    cell: str
    number: int
    part: PartKey
    stop: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SplitPart:
    """Ask a cell to begin no row from `at` on; it answers with PartSplit."""

    cell: str
    part: PartKey
    epoch: int
    at: int


@dataclass(frozen=True, slots=True)
class ConfirmEnd:
    """Tell a cell that the end of its part is known."""

    cell: str
    part: PartKey
    epoch: int


@dataclass(frozen=True, slots=True)
class DropPart:
    """Tell a cell that this epoch of a part is not its own: it stops working on it, and nothing of it counts."""

    cell: str
    part: PartKey
    epoch: int


@dataclass(frozen=True, slots=True)
class StopCell:
    """Tell a cell that it is taken for dead, or that no row is left: it ends."""

    cell: str


LeaseAction = LeasePart | SplitPart | ConfirmEnd | DropPart | StopCell
