"""The words between the driver of a run and its cells, beside those of `cluster.lease_events`.

Owns their form: values that can be pickled. Never sends one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sundog.cells.handing import SetServers
from sundog.cells.owning.line import OwnerLine
from sundog.cells.run_scaling import ServersTold
from sundog.cells.sharing import SharesTold
from sundog.cluster.lease_events import (
    CellAsked,
    DropPart,
    LeaseEnded,
    LeasePart,
    PartKey,
    PartSplit,
    SplitPart,
)
from sundog.cluster.share_events import SetShare
from sundog.cost.history import History
from sundog.errors import SundogError
from sundog.ir.physical import PhysicalPlan
from sundog.ir.row_ids import RowId
from sundog.ir.templates.template import Path as ValuePath
from sundog.runtime.figures.progress import Progress
from sundog.runtime.figures.told import FiguresTold
from sundog.runtime.run_options import RunOptions
from sundog.store.runs import RunRecord


@dataclass(frozen=True, slots=True)
class CellTask:
    """All that a cell has to know of its run before it starts."""

    #: The URL of the state, which every machine sees.
    state: str
    #: The name of the driver's log, and its epoch there: a cell of an earlier driver does nothing.
    command: str
    driver_epoch: str
    record: RunRecord
    #: The cell's own: with its share of engines and limits.
    plan: PhysicalPlan
    #: The folder in which the flow's files lie, the same on every machine.
    base_dir: Path
    #: The options of the run that count for a row.
    options: RunOptions
    #: The values of the environment that the flow names.
    environment: Mapping[str, str]
    #: The record of earlier runs, which the driver's machine keeps.
    history: History
    #: The cells that work at once.
    num_cells: int
    #: The lines to the owners of call keys, one for each range.
    owners: tuple[OwnerLine, ...] = ()

    @property
    def scratch(self) -> str:
        """Return the folder of the objects that are there while this driver is at work."""
        return f"{self.command}/{self.driver_epoch}"

    def log_of(self, cell: str) -> str:
        """Return the name of a cell's log."""
        return f"{self.command}.{cell}"

    @property
    def probe(self) -> str:
        """Return the object by which a machine finds out whether it sees the state."""
        return f"{self.scratch}/probe"


@dataclass(frozen=True, slots=True)
class WorkPart:
    """Work on a part."""

    lease: LeasePart
    table: str
    #: The name of the bucket's object.
    object: str
    #: The bucket has only a part of a group of equal prefix values.
    is_split: bool
    #: The value by which the rows of the table are cut into buckets, None where they lie anywhere.
    partition: ValuePath | None = None


@dataclass(frozen=True, slots=True)
class StopCell:
    """No row begins any more: the cell ends."""


CellWord = WorkPart | SplitPart | DropPart | StopCell | SetShare | SetServers
"""The words to a cell."""


@dataclass(frozen=True, slots=True)
class RowsAwaited:
    """Rows of a part have not ended, since a person has to answer first."""

    table: str
    row_ids: tuple[RowId, ...]


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A cell has ended; nothing of what it did is missing from its log."""

    #: The failure that ended it and has to end the run, None where it was told to end.
    error: SundogError | None


CellSays = CellAsked | PartSplit | LeaseEnded | RowsAwaited | SharesTold | ServersTold | FiguresTold | CellEnded
"""The words of a cell."""


@dataclass(frozen=True, slots=True)
class CellNews:
    """A cell lives: how it stands, and what has happened since its last news."""

    #: As of CellBeat.
    begun: tuple[tuple[PartKey, int], ...]
    says: tuple[CellSays, ...]
    progress: Progress


class CellLost(Exception):
    """Raised by a line to a cell where the cell is gone; caught by the driver's side, which puts another one in its
    place."""


class CellLine(Protocol):
    """This class carries words to one cell and back. Its methods raise CellLost."""

    async def tell(self, words: tuple[CellWord, ...]) -> None:
        """Return once the cell has the words."""
        ...

    async def news(self) -> CellNews:
        """Return the next news, which come once something happens, and after half a second at the latest."""
        ...

    def end(self) -> None:
        """End the cell at once, if it is there still."""
        ...


class CellStarter(Protocol):
    """This class starts cells on machines."""

    async def watch(self) -> None:
        """Return never; SundogError once no cell can be started any more, however long one waits."""
        ...

    async def start_owners(self, task: CellTask) -> tuple[OwnerLine, ...]:
        """Return the lines to the owners of a run, which are started."""
        ...

    async def start(self, task: CellTask, name: str) -> CellLine:
        """Return the line to a new cell, which does its task under a name that no other has. SundogError where no cell
        can be started."""
        ...

    async def tell_gone(self, name: str) -> None:
        """Let the owners know that a cell is gone."""
        ...

    async def end_owners(self) -> None:
        """Return once the logs of the owners have all that they hold."""
        ...
