"""Output rows as the store keeps them, for all formats that write them.

Owns their decoding. Never reads the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sundog.errors import StoreError
from sundog.ir.row_ids import RowId, spell_row_id
from sundog.ir.values.normal_form import decode

SizedRow = tuple[dict[str, Any], int]
"""A row and the bytes of its JSON."""
StoredRows = Callable[[], Iterator[tuple[RowId, bytes]]]
"""Each call gives the rows anew: (row id, JSON of a dict), in their order."""


def parsed(rows: Iterator[tuple[RowId, bytes]]) -> Iterator[SizedRow]:
    """Yield the rows; StoreError for one that is no JSON."""
    for row_id, body in rows:
        try:
            row = decode(body)
        except ValueError as error:
            raise StoreError(
                f"the store is damaged: the output of row {spell_row_id(row_id)} is no JSON",
                hint="move the state folder away or use another --state",
            ) from error
        yield row, len(body)
