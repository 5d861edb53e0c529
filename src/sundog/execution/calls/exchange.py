"""The exchange of results with other processes of one run, so that a call that several want is made by one of them.

Owns what a dispatcher asks of it. Without an exchange a process is the only one that works on its run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sundog.engines.base import Usage
from sundog.errors import CallError
from sundog.ir.physical import CallExec
from sundog.ir.row_ids import RowRef
from sundog.operators.base import BoundCall
from sundog.store.store import Store, Stored


class CallExchange(Protocol):
    """A process claims a key once at a time, and ends each claim that it was given with `put`, `fail` or `release`."""

    def asks(self, node: CallExec, call: BoundCall, row: RowRef) -> bool:
        """Return whether other processes may want the same call of this node, which is no effect."""
        ...

    async def claim(self, node: CallExec, key: bytes, on_wait: Callable[[], None]) -> Stored | None:
        """Return the committed result of a key, once there is one; None where this process makes the call now.
        `on_wait` is called where another one makes it. CallError where it fails there, StoreError where no result can
        be had any more."""
        ...

    def put(
        self, key: bytes, run_id: str, node_name: str, body: bytes, usage: Usage, *, call_s: float
    ) -> Awaitable[Stored | None]:
        """Commit the result of a claimed key, encoded, in place of the store. Where one was committed before, that one
        stays and is what this gives; None where this one stays. The value is committed too where nobody waits for
        that."""
        ...

    def release(self, key: bytes) -> None:
        """Let another process make the call: nobody wants it here any more."""
        ...

    def fail(self, key: bytes, error: CallError) -> None:
        """Let those who wait for the call have its failure, as here; whoever asks later makes it again."""
        ...


@dataclass(frozen=True, slots=True)
class ResultPlaces:
    """The places where a dispatcher looks results up and commits them."""

    store: Store
    #: With other processes that work on the same run; None where there are none.
    exchange: CallExchange | None = None
