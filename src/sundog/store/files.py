"""The files of clients of a server: those that they have sent, and those that their batches make.

Owns their table. The bytes of a sent file lie in the state folder, those of a batch are the ends of its lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sundog.store.statements import StoreStatement
from sundog.store.store import Store

PUT_FILE = StoreStatement("put_file", "insert or ignore into files values (null, ?, ?, ?, ?, ?, ?, ?, ?)")
_DELETE = StoreStatement("drop_file", "delete from files where file_id = ?")
_EXPIRE = StoreStatement("expire_file", "update files set expires_at = ? where file_id = ?")
_SIZE = StoreStatement("resize_file", "update files set num_bytes = ? where file_id = ?")
_COLUMNS = "file_id, principal, purpose, filename, num_bytes, created_at, expires_at, batch_id"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """One file."""

    file_id: str
    #: The one whose it is: the id of a key, "" without keys.
    principal: str
    purpose: str
    filename: str
    num_bytes: int
    #: Seconds since the epoch.
    created_at: float
    #: None for a file without an end.
    expires_at: float | None = None
    #: The batch whose lines it holds, None for a file that a client has sent.
    batch_id: str | None = None

    def values(self) -> tuple[Any, ...]:
        """Return what PUT_FILE takes."""
        of = (self.file_id, self.principal, self.purpose, self.filename, self.num_bytes)
        return (*of, self.created_at, self.expires_at, self.batch_id)


class FileBook:
    """This class keeps the files of a state folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, file: KeptFile) -> asyncio.Future[None]:
        """Keep a file; it is there, once the future is set."""
        return self._store.write((PUT_FILE, file.values()))

    def find(self, principal: str, file_id: str, now: float) -> KeptFile | None:
        """Return a file of somebody that has not expired."""
        rest = "where file_id = ? and principal = ? and (expires_at is null or expires_at > ?)"
        return next(iter(self._select(rest, (file_id, principal, now))), None)

    def page(
        self, principal: str, now: float, *, purpose: str | None, after: str | None, limit: int, is_ascending: bool
    ) -> list[KeptFile]:
        """Return at most `limit` files of somebody in the order in which they came, or the newest first; those behind
        the file `after`."""
        rest, values = "where principal = ? and (expires_at is null or expires_at > ?)", [principal, now]
        order, beyond = ("asc", ">") if is_ascending else ("desc", "<")
        if purpose is not None:
            rest, values = f"{rest} and purpose = ?", [*values, purpose]
        if after is not None:
            rest, values = f"{rest} and number {beyond} (select number from files where file_id = ?)", [*values, after]
        return self._select(f"{rest} order by number {order} limit ?", (*values, limit))

    def expired(self, now: float, after: str, limit: int) -> list[KeptFile]:
        """Return at most `limit` files whose time is over, in the order of their ids, those behind `after`."""
        return self._select("where expires_at <= ? and file_id > ? order by file_id limit ?", (now, after, limit))

    def num_bytes(self, principal: str, but: Collection[str] = ()) -> int:
        """Return how many bytes the files of somebody have, also those whose time is over and that are there still.
        `but`: the ids of files that do not count."""
        query = "select coalesce(sum(num_bytes), 0) from files where principal = ?"
        if but:
            query += f" and file_id not in ({', '.join('?' * len(but))})"
        ((found,),) = self._store.select(query, (principal, *but))
        return int(found)

    def is_kept(self, file_id: str) -> bool:
        """Return whether a file has this id, whosever it is."""
        return bool(self._store.select("select 1 from files where file_id = ?", (file_id,)))

    def resize(self, file_id: str, num_bytes: int) -> asyncio.Future[None]:
        """Keep how long a file has become."""
        return self._store.write((_SIZE, (num_bytes, file_id)))

    def expire(self, file_id: str, now: float) -> asyncio.Future[None]:
        """Say that the time of a file is over: nobody finds it any more."""
        return self._store.write((_EXPIRE, (now, file_id)))

    def delete(self, file_id: str) -> asyncio.Future[None]:
        """Forget a file, of which nothing else is left."""
        return self._store.write((_DELETE, (file_id,)))

    def _select(self, rest: str, values: tuple[Any, ...]) -> list[KeptFile]:
        found = self._store.select(f"select {_COLUMNS} from files {rest}", values)
        return [KeptFile(*row) for row in found]
