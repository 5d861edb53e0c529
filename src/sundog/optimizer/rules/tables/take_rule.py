"""Rules by which a table runs its steps for some of its rows only, as its one reader looks at no others.

Owns what such rules share: which tables may run for fewer rows as far as these tables tell, and which of their columns
are those of the row. Which rows are wanted is the rules' own affair, and for these rows nothing changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from sundog.ir.logical import LogicalPlan, Table, steps_of
from sundog.ir.tables import FirstRows, InputRows, MatchingRows, QueryRows
from sundog.ir.templates.reads import DICT_METHODS
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.tables.readers import queries_of, readers_of
from sundog.queries.parsed import Query


class TakeRule(ABC):
    """A rule that gives a table the rows that it takes."""

    name: str

    @abstractmethod
    def take_of(self, plan: LogicalPlan, table: Table, reader: Table, query: Query) -> FirstRows | MatchingRows | None:
        """Return the rows of `table` that `query`, that of its only reader, looks at; None where it may look at any."""

    def apply(self, context: Context) -> RuleResult | None:
        plan, notes = context.plan, list[str]()
        for table in plan.tables:
            readers = readers_of(plan, table.name)
            queries = queries_of(readers[0]) if len(readers) == 1 else ()
            # The numbers of rows, which queries of expansions may read, would be others.
            if (
                not _may_spare_rows(plan, table, context.facts)
                or len(queries) != 1
                or "rowid" in queries[0].sql.lower()
            ):
                continue
            take = self.take_of(plan, table, readers[0], queries[0])
            if take is not None:
                plan = plan.with_table(replace(table, take=take))
                notes.append(f"{table.name} runs for {_spelled(take)}")
        return RuleResult(plan, tuple(notes)) if notes else None


def _may_spare_rows(plan: LogicalPlan, table: Table, facts: PlanFacts) -> bool:
    """Return whether a table that runs steps for rows of inputs may run them for some of these rows only, as far as it
    alone tells: it is no result, and nothing outside comes of it."""
    if table.take is not None or table.name in plan.results or not isinstance(table.source, InputRows | QueryRows):
        return False
    steps = steps_of(table.nodes)
    is_first = table.failed_rows != "mark" and {one.name for one in plan.tables}.isdisjoint(table.reads)
    return is_first and bool(steps) and not any(map(facts.is_ordered, steps))


def columns_of_row(table: Table) -> Mapping[str, str]:
    """Return by output, in small letters, the column of the row that it is, untouched and of the same type."""
    return {
        name.lower(): column
        for name, column in table.untouched.items()
        if not (name in table.types or column in DICT_METHODS or column in table.joined)
    }


def _spelled(take: FirstRows | MatchingRows) -> str:
    if isinstance(take, MatchingRows):
        return f"rows where {' and '.join(take.conditions)}: its reader takes no others"
    order = ", ".join(f"{column}{' desc' if is_descending else ''}" for column, is_descending in take.order_by)
    return f"the first {take.num_rows:,} rows{f' by {order}' if order else ''}: its reader takes no more"
