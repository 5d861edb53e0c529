"""The failed rows of a run, as an errors file and the user hear of them.

Owns their form. Never decides what a failure means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sundog.ir.row_ids import spell_row_id
from sundog.store.store import Store

KNOWN = "known"
"""The key in the body of a failed row with the columns that it has all the same."""


def failed_rows(store: Store, run_id: str, tables: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield {row, node, cause, attempts} of each failed row, table by table, each in its order. In a flow of several
    tables `row` is the id as text, with the `table` before it; else the number in the input."""
    for table in tables:
        for row_id, body in store.rows(run_id, table, "failed"):
            place = {"table": table, "row": spell_row_id(row_id)} if table else {"row": row_id[0]}
            failure = store.decoded(body)
            failure.pop(KNOWN, None)
            yield {**place, **failure}
