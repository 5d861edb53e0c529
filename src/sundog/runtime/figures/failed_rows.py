"""The failed rows of a run, as an errors file and the user hear of them.

Owns their form. Never decides what a failure means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any

from sundog.execution.row_way import KNOWN, MADE_OF
from sundog.ir.row_ids import spell_row_id
from sundog.store.store import MISSING, RowState, Store


def failed_rows(store: Store, run_id: str, tables: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield {row, node, cause, attempts} of each failed row, table by table, each in its order. In a flow of several
    tables `row` is the id as text, with the `table` before it; else the number in the input. Rows that were not run are
    among them, with `because_of`: of those that are made of each other the last."""
    within = set(_made_of(store, run_id, tables))
    for table in tables:
        states: tuple[RowState, ...] = ("failed",) if table in within else MISSING
        for row_id, body in merge(*(store.rows(run_id, table, state) for state in states)):
            place = {"table": table, "row": spell_row_id(row_id)} if table else {"row": row_id[0]}
            failure = store.decoded(body)
            for name in (KNOWN, MADE_OF):
                failure.pop(name, None)
            yield {**place, **failure}


def num_told(store: Store, run_id: str, tables: Sequence[str]) -> int:
    """Return how many rows `failed_rows` yields."""
    within, counts = set(_made_of(store, run_id, tables)), store.count_rows(run_id)
    told = [(table, state) for table in tables for state in MISSING if state == "failed" or table not in within]
    return sum(counts.get(one, 0) for one in told)


def _made_of(store: Store, run_id: str, tables: Sequence[str]) -> Iterator[str]:
    """Yield the tables of whose rows others are made that were not run: the rows of a table are all made of one."""
    for table in tables:
        for _, body in islice(store.rows(run_id, table, "not_run"), 1):
            yield store.decoded(body)[MADE_OF]
