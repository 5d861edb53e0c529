"""The order in which a run reads its rows.

Owns the decision whether the plan's order is worth it for these rows. The order itself is optimizer.prefix's.
"""

from __future__ import annotations

from sundog.ir.logical import Table
from sundog.ir.templates.template import Path
from sundog.optimizer.prefix import reading_order
from sundog.runtime.rows.inputs import RowSource


def reading_order_of(table: Table, source: RowSource, max_rows_in_flight: int) -> tuple[Path, ...]:
    """Return the values to read the rows of `source` by; none, and so as they come, where all fit in flight (the
    scheduler sees them all) or where no value repeats. InputError from reading the rows once."""
    if not table.row_order or source.count() <= max_rows_in_flight:
        return ()
    statistics = source.statistics({frozenset({key.path}) for key in table.row_order})
    return tuple(key.path for key in reading_order(table.row_order, statistics))
