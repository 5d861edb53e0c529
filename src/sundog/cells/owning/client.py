"""The exchange of a cell: each key is asked for at the owner of its range.

Owns the ranges, and what a value is to a dispatcher. Values that were heard are kept, as a cell asks for some again and
again and has them in no store of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from sundog.cells.owning.line import OwnerLine
from sundog.cells.owning.packing import pack_result, sent_failure, stored_of, unpack_result
from sundog.cells.owning.talk import KeepValues, OwnerTalk
from sundog.cluster.kept_values import KeptValues
from sundog.engines.base import Usage
from sundog.errors import CallError
from sundog.ir.physical import CallExec
from sundog.ir.row_ids import RowRef
from sundog.operators.base import BoundCall
from sundog.store.store import Store, Stored
from sundog.store.writer import PUT_RESULT

MAX_KEPT_BYTES = 64 * 2**20
_PREFIX_BYTES = 8
AsksOwner = Callable[[CallExec, BoundCall, RowRef], bool]
"""Says whether a call of a row has to be asked for."""


def range_of_key(key: bytes, num_owners: int) -> int:
    """Return the number of the owner that has a key, by its first 8 bytes; all cells of a run have the same owners.

    >>> [range_of_key(bytes([first]) * 16, 4) for first in (0, 63, 64, 255)]
    [0, 0, 1, 3]
    """
    return int.from_bytes(key[:_PREFIX_BYTES], "big") * num_owners >> 8 * _PREFIX_BYTES


def keeping_in(store: Store) -> KeepValues:
    """Return what keeps values in a store and its log, but for those that it has. They are not counted as executed: an
    owner that comes back does that."""

    async def keep(values: Mapping[bytes, bytes]) -> None:
        known = {row[0] for row in store.result_rows([*values])}
        rows = [unpack_result(key, value) for key, value in values.items() if key not in known]
        await store.write(*((PUT_RESULT, row) for row in rows), awaits_log=True)

    return keep


class ExchangeClient:
    """A CallExchange of one cell with the owners of its run."""

    def __init__(
        self,
        cell: str,
        lines: Sequence[OwnerLine],
        asks: AsksOwner,
        keep: KeepValues,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        """`cell`: a name that no other process of the run has had. `lines`: one for each owner, in their order.
        `asks`: says which calls other cells may want. `keep`: keeps what an owner that is away does not take.
        `max_kept_bytes`: of values in memory."""
        self._asks = asks
        self._talks = [OwnerTalk(cell, line, keep) for line in lines]
        self._kept = KeptValues(max_kept_bytes)

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """Talk with the owners inside."""
        tasks = [asyncio.ensure_future(talk.run()) for talk in self._talks]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def asks(self, node: CallExec, call: BoundCall, row: RowRef) -> bool:
        """Return whether other cells may want a call."""
        return self._asks(node, call, row)

    async def claim(self, node: CallExec, key: bytes, on_wait: Callable[[], None]) -> Stored | None:
        """Return the value of a key, or None where this cell makes the call, as CallExchange says."""
        value = self._kept.get(key)
        if value is None:
            value = await self._talk(key).claim(key, on_wait)
            if value is None:
                return None
            self._keep(key, value)
        return stored_of(value)

    def put(
        self, key: bytes, run_id: str, node_name: str, body: bytes, usage: Usage, *, call_s: float
    ) -> Awaitable[Stored | None]:
        """Let all cells have the result of a key that this cell leads, as CallExchange says."""
        tokens = (usage.num_prompt_tokens, usage.num_cached_tokens or 0, usage.num_output_tokens)
        packed = pack_result((key, run_id, node_name, body, *tokens, call_s))
        return self._first(key, packed, self._talk(key).put(key, packed))

    def release(self, key: bytes) -> None:
        """Let another cell make a call that was claimed here."""
        self._talk(key).release(key)

    def fail(self, key: bytes, error: CallError) -> None:
        """Let other cells that wait for a call of this one have its failure; where that cannot be sent, one of them
        makes the call."""
        sent = sent_failure(error)
        if sent is None:
            self.release(key)
        else:
            self._talk(key).fail(key, sent)

    async def _first(self, key: bytes, packed: bytes, put: Awaitable[bytes]) -> Stored | None:
        value = await put
        self._keep(key, value)
        return None if value == packed else stored_of(value)

    def _keep(self, key: bytes, value: bytes) -> None:
        if self._kept.get(key) is None:
            self._kept.keep(key, value)

    def _talk(self, key: bytes) -> OwnerTalk:
        return self._talks[range_of_key(key, len(self._talks))]
