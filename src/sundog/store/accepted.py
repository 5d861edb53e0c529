"""The accepted requests of live runs: rows that somebody was promised an answer for.

Owns their table. A request is accepted when its commit is on the disk; its rows end as those of any run do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from sundog.ir.row_ids import RowId, decode_row_id, encode_row_id
from sundog.store.statements import StoreStatement
from sundog.store.store import RowState, Store

RequestEnd = Literal["completed", "cancelled"]
_PUT = StoreStatement("put_accepted", "insert into accepted values {}")
_END = StoreStatement("end_accepted", "update accepted set ended = ? where request_id = ?")
_COLUMNS = "request_id, run_id, number, principal, idempotency_key, digest, body, accepted_at, ended"


@dataclass(frozen=True, slots=True)
class Accepted:
    """One accepted request."""

    request_id: str
    #: The live run that it belongs to.
    run_id: str
    #: Its place among the requests of that run, from 0; its rows have the ids (number, place in the request).
    number: int
    #: The one who sent it: the id of a key, "" without keys.
    principal: str
    #: The header Idempotency-Key, None where there was none.
    idempotency_key: str | None
    #: Equal for equal bodies.
    digest: bytes
    #: Its rows and terms as JSON.
    body: bytes
    #: Seconds since the epoch.
    accepted_at: float
    #: None while a row of it has not ended.
    ended: RequestEnd | None = None


class AcceptedRequests:
    """This class keeps the accepted requests of a state folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def next_number(self, run_id: str) -> int:
        """Return the number of the next request of a live run."""
        ((last,),) = self._store.select("select max(number) from accepted where run_id = ?", (run_id,))
        return 0 if last is None else int(last) + 1

    def put(self, request: Accepted) -> asyncio.Future[None]:
        """Accept a request; it is, once the future is set."""
        one = request
        values = (one.request_id, one.run_id, one.number, one.principal, one.idempotency_key, one.digest, one.body)
        return self._store.write((_PUT, (*values, one.accepted_at, one.ended)))

    def end(self, request_id: str, how: RequestEnd) -> asyncio.Future[None]:
        """Say that all rows of a request have ended."""
        return self._store.write((_END, (how, request_id)))

    def find(self, run_id: str, request_id: str) -> Accepted | None:
        """Return a request of a live run."""
        return self._first("where run_id = ? and request_id = ?", (run_id, request_id))

    def find_key(self, run_id: str, principal: str, idempotency_key: str) -> Accepted | None:
        """Return the request of a live run that somebody has sent with this key."""
        rest = "where run_id = ? and principal = ? and idempotency_key = ?"
        return self._first(rest, (run_id, principal, idempotency_key))

    def unended(self, run_id: str) -> Iterator[Accepted]:
        """Yield the requests of a live run that have not ended, in their order. One is read at a time."""
        number = -1
        rest = "where run_id = ? and ended is null and number > ? order by number"
        while (found := self._first(rest, (run_id, number))) is not None:
            yield found
            number = found.number

    def rows(self, request: Accepted, table: str) -> list[tuple[RowId, RowState, bytes]]:
        """Return the rows of a request that have ended, in their order, each with its state and body."""
        begin, end = encode_row_id((request.number, 0)), encode_row_id((request.number + 1, 0))
        query = (
            "select row_id, state, body from rows where run_id = ? and table_name = ? and row_id >= ? and row_id < ?"
            " order by row_id"
        )
        found = self._store.select(query, (request.run_id, table, begin, end))
        return [(decode_row_id(row_id), cast(RowState, state), body) for row_id, state, body in found]

    def _first(self, rest: str, values: tuple[Any, ...]) -> Accepted | None:
        found = self._store.select(f"select {_COLUMNS} from accepted {rest} limit 1", values)
        return Accepted(*found[0]) if found else None
