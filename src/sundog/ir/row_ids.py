"""Row ids: by what a row of a table is known in the run, in the store and to the user.

Owns their forms. An id follows from the data alone, never from the order in which rows end; ids in their order are the
order of the table's rows.
"""

from __future__ import annotations

from typing import NamedTuple

RowId = tuple[int, ...]
"""Numbers from 0, at least one: that of the row in an input or a query, then its place among those that were made of
one row, and so on."""


class RowRef(NamedTuple):
    """A row of a run."""

    #: The name of its table; "" in a flow of one table.
    table: str
    row_id: RowId

    def __str__(self) -> str:
        """Return it as request ids begin with it: "17", "drugs:17.3"."""
        return f"{self.table}:{spell_row_id(self.row_id)}" if self.table else spell_row_id(self.row_id)


def encode_row_id(row_id: RowId) -> bytes:
    """Return bytes whose order is that of the ids: for each number a byte with its length, then the number."""
    if len(row_id) == 1 and row_id[0] < 256:
        return bytes((1, row_id[0]))
    parts = [(number, max(1, (number.bit_length() + 7) // 8)) for number in row_id]
    return b"".join(bytes((length,)) + number.to_bytes(length, "big") for number, length in parts)


def decode_row_id(data: bytes) -> RowId:
    """Return the id that `encode_row_id` gave as `data`."""
    found: list[int] = []
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        found.append(int.from_bytes(data[at + 1 : end], "big"))
        at = end
    return tuple(found)


def spell_row_id(row_id: RowId) -> str:
    """Return an id as users read it: "17", "17.3"."""
    return ".".join(map(str, row_id))


def read_row_ref(text: str) -> RowRef:
    """Return the row that `str` of it gave as `text`; ValueError for any other text."""
    table, _, row_id = text.rpartition(":")
    return RowRef(table, tuple(int(number) for number in row_id.split(".")))
