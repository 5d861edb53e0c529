"""The meaning of a failed row for the tables that read it.

Owns the rule that none vanishes without a word: a run stops before a query that lacks rows, or the query marks what
they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge

from pydantic_core import to_json

from sundog.errors import RunStopped
from sundog.ir.logical import Table
from sundog.ir.physical import PhysicalPlan, TableExec
from sundog.ir.row_ids import spell_row_id
from sundog.runtime.figures.failed_rows import KNOWN
from sundog.store.store import Store


def check_failures(plan: PhysicalPlan, table: TableExec, sources: Sequence[str], store: Store, run_id: str) -> None:
    """Raise RunStopped where rows failed that `table`, which does not go without them, may not lack: a row that failed
    may belong to any group or pair. Rows of `sources` that flow out of another table lack those that failed there."""
    if table.table.failed_rows == "leave_out":
        return
    counts = store.count_rows(run_id)
    for name in sources:
        for place in _fed_by(plan, name):
            num_failed = counts.get((place, "failed"), 0)
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


def with_failed(source: Table, store: Store, run_id: str, reader: str) -> Iterator[tuple[bytes, bool]]:
    """Yield the rows of `source` in their order: the columns that are known of each, as JSON, and whether it failed.
    RunStopped for one of which nobody knows where it belongs."""
    done = ((row_id, body, False) for row_id, body in store.rows(run_id, source.name, "done"))
    failed = ((row_id, body, True) for row_id, body in store.rows(run_id, source.name, "failed"))
    for row_id, body, has_failed in merge(done, failed, key=lambda row: row[0]):
        known = store.decoded(body).get(KNOWN, {}) if has_failed else {}
        if missing := [name for name in source.untouched if has_failed and name not in known]:
            raise RunStopped(
                f"row {spell_row_id(row_id)} of '{source.name}' failed before its column '{missing[0]}' was known, so "
                f"that '{reader}' cannot mark what it belongs to",
                hint="mend that row, or write `failed_rows: leave_out`",
            )
        yield to_json(known) if has_failed else body, has_failed
