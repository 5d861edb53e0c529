"""Tables that were made without rows that failed, or with marks in their place, and are made anew when these are tried
again.

Owns which tables these are, and the refusal where that would make an effect twice. Never makes one.
"""

from __future__ import annotations

from collections.abc import Iterator

from sundog.errors import ConfigError
from sundog.ir.physical import FilterExec, PhysicalPlan, TableExec, calls_of
from sundog.ir.tables import InputRows
from sundog.store.store import Store


def made_with_marks(plan: PhysicalPlan, store: Store, run_id: str) -> list[str]:
    """Return the tables that marked groups with rows that failed. Their other rows keep their numbers when these are
    mended, so that nothing of them is forgotten."""
    missing = store.count_missing(run_id)
    marking = (table.table for table in plan.tables if table.table.failed_rows == "mark")
    return [table.name for table in marking if any(missing[name] for name in table.reads)]


def made_without_rows(plan: PhysicalPlan, store: Store, run_id: str) -> list[str]:
    """Return the tables whose query ran without rows of a source that failed, and those that are made of them.

    ConfigError where such a table has an effect: its rows would have other numbers than before, and an effect is known
    by the number of its row.
    """
    counts, missing = store.count_rows(run_id), store.count_missing(run_id)
    stale: list[str] = []
    for table in plan.tables:
        if isinstance(table.table.source, InputRows):
            continue
        waited = [name for name in table.table.reads if name != table.stream_of and not _keeps_numbers(plan, table)]
        lacking = (place for name in waited for place in _flows_from(plan, name))
        is_stale = any(missing[place] for place in lacking) or bool(set(stale).intersection(table.table.reads))
        if not is_stale or not any(name == table.name for name, _ in counts):
            continue
        if effects := [call.name for call in calls_of(table.nodes) if call.is_effect]:
            raise ConfigError(
                f"the table '{table.name}' was made without rows that failed; with them its rows would have other "
                f"numbers, and its effects ({', '.join(effects)}) would happen again",
                hint="begin a new run for the failed rows alone, or one with --fresh --repeat-effects",
            )
        stale.append(table.name)
    return stale


def _flows_from(plan: PhysicalPlan, name: str) -> Iterator[str]:
    """Yield a table, and those that its rows flow out of."""
    place: str | None = name
    while place is not None and any(table.name == place for table in plan.tables):
        yield place
        place = plan.table(place).stream_of


def _keeps_numbers(plan: PhysicalPlan, table: TableExec) -> bool:
    """Return whether a table has as many rows when failed ones of its sources are mended: where it marks them, and none
    of them may be dropped then."""
    sources = [plan.table(name) for name in table.waits_for if name in table.table.reads]
    drops = any(isinstance(node, FilterExec) and node.filter.reason is None for one in sources for node in one.nodes)
    return table.table.failed_rows == "mark" and not drops
