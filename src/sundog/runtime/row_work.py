"""The means by which the rows of a run are worked on: here, or on many machines.

Owns what a run asks of them, and what it tells them of itself. Never works on a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sundog.cost.history import History
from sundog.execution.coming_replicas import ComingReplicas
from sundog.execution.input_row import IdentifiedRows
from sundog.execution.pool_shares import PoolShares
from sundog.ir.physical import PhysicalPlan
from sundog.ir.templates.template import Path as ValuePath
from sundog.operators.base import Operator
from sundog.runtime.feed import OnRow
from sundog.runtime.figures.run_figures import RunFigures
from sundog.runtime.limits import RunLimits
from sundog.runtime.run_options import RunOptions
from sundog.secrets import Secrets
from sundog.store.runs import RunRecord
from sundog.store.store import Store


class RowFeed(Protocol):
    """This class takes the rows of one table, and sees to it that each ends and is committed."""

    @property
    def num_awaiting(self) -> int:
        """Return how many rows have not ended, since a person has to answer first."""
        ...

    @property
    def num_started(self) -> int:
        """Return how many rows this process has taken up."""
        ...

    @property
    def listeners(self) -> list[asyncio.Event]:
        """Return the events that are set whenever rows have been committed."""
        ...

    def stop(self, reason: BaseException | None = None) -> None:
        """Start nothing more; rows in flight end when their running calls do. The first reason counts."""
        ...

    async def run(self, batches: AsyncIterator[IdentifiedRows], order: Sequence[ValuePath] = ()) -> None:
        """Run all rows that have not ended; raises what stopped the run, if anything did. `order`: the values by which
        they stand side by side."""
        ...


@dataclass(frozen=True, slots=True)
class RowWork:
    """The feeds of an open run, by table."""

    feeds: Mapping[str, RowFeed]
    #: Hears of each table that begins, with the number of its rows that have not ended.
    begin: Callable[[str, int], None]
    #: The limits of its pools; None where other processes make the calls.
    pools: PoolShares | None = None
    #: The servers that come and go; None where other processes make the calls.
    coming: ComingReplicas | None = None


@dataclass(frozen=True, slots=True)
class WorkedRun:
    """A run as it is known where its rows are worked on."""

    plan: PhysicalPlan
    record: RunRecord
    store: Store
    operators: Mapping[str, Operator]
    secrets: Secrets
    options: RunOptions
    #: The folder that its event logs go to.
    folder: Path
    figures: RunFigures
    limits: RunLimits
    #: The record of earlier runs.
    history: History


OpenWork = Callable[[WorkedRun, OnRow | None], AbstractAsyncContextManager[RowWork]]
"""Starts what the rows of a run need, and closes it in the end. The store takes writes meanwhile. The second argument
hears of each row once it is committed."""
