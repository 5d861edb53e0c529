"""The calls of a cell that it asks the owners for: which those are, row by row.

Owns that question for the rows that the cell holds. The answer is optimizer.exchange's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sundog.ir.physical import CallExec, PhysicalPlan
from sundog.ir.row_ids import RowRef
from sundog.ir.templates.template import Path
from sundog.operators.base import BoundCall, Operator
from sundog.optimizer.exchange import TableExchange, exchange_of
from sundog.optimizer.facts import PlanFacts


class AskedCalls:
    """Tells for each call whether other cells may make an equal one. `is_split`: gives for a row that is held whether
    rows with its partition value may lie in another cell."""

    def __init__(
        self, plan: PhysicalPlan, operators: Mapping[str, Operator], is_split: Callable[[RowRef], bool]
    ) -> None:
        self._plan = plan
        self._facts = PlanFacts(plan.logical, operators)
        self._is_split = is_split
        self._tables: dict[str, TableExchange] = {}

    def know(self, table: str, partition: Path | None) -> None:
        """Learn by which value the rows of a table are cut into buckets."""
        if table not in self._tables:
            self._tables[table] = exchange_of(self._plan, table, partition, self._facts)

    def asks(self, node: CallExec, call: BoundCall, row: RowRef) -> bool:
        """Return whether a call has to be asked for."""
        return self._tables[row.table].asks_owner(node.name, call.payload, is_split=self._is_split(row))
