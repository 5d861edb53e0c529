"""Tables that were made without rows that failed, and are made anew when these are tried again.

Owns which tables these are, and the refusal where that would make an effect twice. Never makes one.
"""

from __future__ import annotations

from sundog.errors import ConfigError
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.tables import InputRows
from sundog.store.store import Store


def made_without_rows(plan: PhysicalPlan, store: Store, run_id: str) -> list[str]:
    """Return the tables whose query ran without rows of a source that failed, and those that are made of them.

    ConfigError where such a table has an effect: its rows would have other numbers than before, and an effect is known
    by the number of its row.
    """
    counts = store.count_rows(run_id)
    stale: list[str] = []
    for table in plan.tables:
        if isinstance(table.table.source, InputRows):
            continue
        waited = [name for name in table.table.reads if name != table.stream_of]
        is_stale = any(counts.get((name, "failed")) for name in waited) or bool(
            set(stale).intersection(table.table.reads)
        )
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
