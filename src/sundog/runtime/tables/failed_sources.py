"""The meaning of a failed row for the tables that read it.

Owns the rule that none vanishes without a word: a run stops before a query that lacks rows, or the query marks what
they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge

from pydantic_core import to_json

from sundog.errors import RunStopped
from sundog.execution.row_way import BECAUSE_OF, KNOWN
from sundog.ir.logical import Table
from sundog.ir.physical import PhysicalPlan, TableExec
from sundog.ir.row_ids import RowId, spell_row_id
from sundog.store.store import MISSING, RowState, Store


def check_failures(plan: PhysicalPlan, table: TableExec, sources: Sequence[str], store: Store, run_id: str) -> None:
    """Raise RunStopped where rows failed that `table`, which does not go without them, may not lack: a row that failed
    may belong to any group or pair. Rows of `sources` that flow out of another table lack those that failed there."""
    if table.table.failed_rows == "leave_out":
        return
    missing = store.count_missing(run_id)
    for name in sources:
        for place in _fed_by(plan, name):
            num_failed = missing[place]
            if not num_failed or (place == name and table.table.failed_rows == "mark"):
                continue
            rows = "1 of them" if num_failed == 1 else f"{num_failed:,} of them"
            whose = "" if place == name else f", which flow out of '{place}'"
            raise RunStopped(
                f"the table '{table.name}' needs all rows of '{name}'{whose}, and {rows} failed",
                hint=f"see them: sundog show {run_id} --errors; repeat the command with --retry-failed, or write "
                f"`failed_rows: leave_out` in '{table.table.block}'",
            )


def _fed_by(plan: PhysicalPlan, name: str) -> Iterator[str]:
    """Yield a table, and those that its rows flow out of, up to one that goes without failed rows."""
    place: str | None = name
    while place is not None:
        yield place
        table = plan.table(place)
        place = None if table.table.failed_rows == "leave_out" else table.stream_of


def with_failed(source: Table, store: Store, run_id: str, reader: str) -> Iterator[tuple[bytes, Sequence[str]]]:
    """Yield the rows of `source` in their order: the columns that are known of each, as JSON, and for one that is
    missing the tables in which rows failed for it. RunStopped for one of which nobody knows where it belongs."""

    def of_state(state: RowState) -> Iterator[tuple[RowId, RowState, bytes]]:
        return ((row_id, state, body) for row_id, body in store.rows(run_id, source.name, state))

    for row_id, state, body in merge(*map(of_state, ("done", *MISSING)), key=lambda row: row[0]):
        if state == "done":
            yield body, ()
            continue
        failure = store.decoded(body)
        known = failure.get(KNOWN, {})
        if missing := [name for name in source.untouched if name not in known]:
            raise RunStopped(
                f"row {spell_row_id(row_id)} of '{source.name}' failed before its column '{missing[0]}' was known, so "
                f"that '{reader}' cannot mark what it belongs to",
                hint="mend that row, or write `failed_rows: leave_out`",
            )
        yield to_json(known), failure.get(BECAUSE_OF, (source.name,))
