"""The places at which a live host tells of rows and calls to whoever traces them.

Owns these forms. A host that nobody traces has none of them on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sundog.execution.calls.dispatch import CallCounts
from sundog.execution.executor import RowExecutor
from sundog.execution.row_way import OnValue, RowEnd
from sundog.host.driver import Driver
from sundog.host.recorder import Recorder
from sundog.host.waits import Waits
from sundog.ir.physical import PhysicalPlan
from sundog.ir.row_ids import RowRef
from sundog.live.engines import LiveEngines
from sundog.live.terms import Terms
from sundog.sched.core import SchedulerCore


class RowRuns(Protocol):
    """This class runs rows, as RowExecutor does."""

    async def run(
        self, ref: RowRef, row: Mapping[str, Any], position: int = 0, on_value: OnValue | None = None
    ) -> RowEnd: ...


class LiveTracing(Protocol):
    """This class traces what one host does."""

    def driver(self, core: SchedulerCore, recorder: Recorder, waits: Waits, engines: LiveEngines) -> Driver:
        """Return a driver whose requests are calls of a trace."""
        ...

    def serves(self, plan: PhysicalPlan) -> None:
        """The host serves this plan from now on."""
        ...

    def rows(self, flow: str, executor: RowExecutor, terms: Mapping[int, Terms]) -> RowRuns:
        """Return what runs rows, each in a trace. `terms`: by the number of a request."""
        ...

    def counts(self, counts: CallCounts) -> CallCounts:
        """Return what counts calls, and traces those that are answered without being made."""
        ...

    def model_call(
        self, operation: str, headers: Mapping[str, str], program: str, on_trace: Callable[[str], None]
    ) -> AbstractContextManager[None]:
        """Trace the call that is made while the context lasts. `headers`: of its client; `program`: "" for a call on
        its own; `on_trace` hears of the trace's id."""
        ...
