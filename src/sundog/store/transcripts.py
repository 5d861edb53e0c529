"""The transcripts that runs have kept: which rows have some, and what they hold.

Owns reading them. They are written with the rows, by store.store.
"""

from __future__ import annotations

from collections.abc import Sequence

from sundog.ir.conversations.transcript import Answered, RowTranscripts, unpack_transcripts
from sundog.ir.row_ids import RowRef, decode_row_id, encode_row_id
from sundog.store.schema import damaged
from sundog.store.store import Store


class KeptTranscripts:
    """This class reads the transcripts of one run."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id

    def __len__(self) -> int:
        ((number,),) = self._store.select("select count(*) from transcripts where run_id = ?", (self._run_id,))
        return int(number)

    def get(self, row: RowRef) -> RowTranscripts | None:
        """Return what was said in a row; None where nothing is kept of it."""
        query = "select body from transcripts where run_id = ? and table_name = ? and row_id = ?"
        found = self._store.select(query, (self._run_id, row.table, encode_row_id(row.row_id)))
        if not found:
            return None
        try:
            return unpack_transcripts(found[0][0])
        except ValueError as error:
            raise damaged(self._store.path, error) from error

    def some_rows(self, limit: int) -> list[RowRef]:
        """Return at most `limit` rows in their order: first of all one for each way in which conversations ended."""
        order = "table_name, row_id"
        query = (
            "select table_name, row_id from"
            f" (select *, row_number() over (partition by ended order by {order}) as place from transcripts"
            f" where run_id = ?) order by place > 1, {order} limit ?"
        )
        found = self._store.select(query, (self._run_id, limit))
        return sorted(RowRef(table, decode_row_id(row_id)) for table, row_id in found)

    def answered(self, keys: Sequence[str]) -> dict[str, Answered]:
        """Return who answered the questions of some keys, in hexadecimal digits, where that is known."""
        found: dict[str, Answered] = {}
        for key in keys:
            query = "select answered_by, answered_at from answered where key = ?"
            for by, at in self._store.select(query, (bytes.fromhex(key),)):
                found[key] = Answered(by, at)
        return found
