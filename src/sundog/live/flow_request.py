"""One request of a served flow while this process works on it: its rows, and what its readers hear.

Owns the order of what is told. Never runs a row.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from sundog.execution.row_way import RowEnd
from sundog.store.accepted import Accepted

KEPT = "kept"
"""The epoch of requests that had ended before this process worked on them: what is told of them is always the same."""
ToldKind = Literal["step", "row", "end"]
"""A step has ended; a row has, and its end is committed; the request has, and nothing follows."""
OnEnd = Callable[["FlowRequest"], Awaitable[None]]
"""Called when all rows of a request have ended, before anybody hears of that."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that readers of a request hear of, in its place among all of that request."""

    number: int
    kind: ToldKind
    #: The place of the row in the request, 0 for the end of the request.
    row: int = 0
    #: The name of the step.
    step: str = ""
    #: The value of the step.
    value: Any = None


async def _nothing(request: FlowRequest) -> None:
    """Nobody has to hear of it."""


class FlowRequest:
    """This class holds one request. `is_single`: its sender sent one row and not a list. `keeps_steps`: somebody wants
    to hear of steps, whose values are kept until it ends."""

    def __init__(
        self,
        accepted: Accepted,
        num_rows: int,
        on_end: OnEnd = _nothing,
        *,
        is_single: bool = False,
        keeps_steps: bool = False,
    ) -> None:
        self.accepted = accepted
        self.num_rows = num_rows
        self.is_single = is_single
        self.keeps_steps = keeps_steps
        #: The numbers of what is told count within it; another process, which has other steps to tell, has another.
        self.epoch = uuid.uuid4().hex[:8]
        #: By place, the rows that have ended.
        self.ends: dict[int, RowEnd] = {}
        self.is_cancelled = False
        #: The tasks of rows that may be cancelled.
        self.running: set[asyncio.Task[None]] = set()
        self._on_end = on_end
        self._told: list[Told] = []
        self._changed = asyncio.Event()
        self._has_ended = asyncio.Event()

    @classmethod
    def kept(cls, accepted: Accepted, num_rows: int, ends: Mapping[int, RowEnd], *, is_single: bool) -> Self:
        """Return a request that has ended before, with its rows."""
        request = cls(accepted, num_rows, is_single=is_single)
        request.epoch = KEPT
        request.is_cancelled = accepted.ended == "cancelled"
        for place, end in ends.items():
            request.ends[place] = end
            request._tell("row", place)
        request._has_ended.set()
        request._tell("end")
        return request

    @property
    def has_ended(self) -> bool:
        return self._has_ended.is_set()

    def step_ended(self, row: int, step: str, value: Any) -> None:
        self._tell("step", row, step, value)

    async def row_ended(self, place: int, end: RowEnd) -> None:
        """A row has ended, and its end is on the disk."""
        self.ends[place] = end
        self._tell("row", place)
        if len(self.ends) == self.num_rows:
            await self._on_end(self)
            self._has_ended.set()
            self._tell("end")

    async def ended(self) -> None:
        """Return when the request has ended."""
        await self._has_ended.wait()

    async def told(self, after: int = -1) -> AsyncIterator[Told]:
        """Yield all that was told behind the number `after`, then what follows, up to the end. A slow reader costs
        nothing but its place in the list."""
        place = min(after + 1, len(self._told))
        while True:
            while place < len(self._told):
                one = self._told[place]
                place += 1
                yield one
            if self._told and self._told[-1].kind == "end":
                return
            self._changed.clear()
            await self._changed.wait()

    def _tell(self, kind: ToldKind, row: int = 0, step: str = "", value: Any = None) -> None:
        self._told.append(Told(len(self._told), kind, row, step, value))
        self._changed.set()
