"""Rules by which a table runs its steps for some of its rows only, as its one reader looks at no others.

Owns what such rules share: which tables may run for fewer rows as far as these tables tell, the way up to the tables
that their rows come from, and which columns are those of the row. Which rows are wanted is the rules' own affair, and
for these rows nothing changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sundog.ir.logical import LogicalPlan, Table, steps_of
from sundog.ir.tables import FirstRows, InputRows, MatchingRows, QueryRows
from sundog.ir.templates.reads import DICT_METHODS
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.tables.readers import queries_of, readers_of
from sundog.queries.parsed import Query

WantedRows = FirstRows | MatchingRows


class TakeRule(ABC):
    """A rule that gives a table the rows that it takes."""

    name: str

    @abstractmethod
    def takes_of(self, plan: LogicalPlan, table: Table, reader: Table, query: Query) -> Sequence[WantedRows]:
        """Return what `query`, that of the only reader of `table`, looks at of its rows: those that are in each of the
        takes returned, which is all rows where there is none."""

    @abstractmethod
    def above(self, plan: LogicalPlan, table: Table, take: WantedRows, query: Query) -> tuple[Table, WantedRows] | None:
        """Return the table that the rows of `table`, whose query is `query`, come from, and the rows of it that are
        enough where `table` takes some; None where it may need any."""

    def apply(self, context: Context) -> RuleResult | None:
        plan, notes = context.plan, list[str]()
        for name in [table.name for table in plan.tables]:
            for place, take in self._found(plan, plan.table(name), context.facts).items():
                plan = plan.with_table(replace(plan.table(place), take=take))
                whose = "its reader" if place == name else f"the reader of {name}"
                notes.append(f"{place} runs for {_spelled(take, whose)}")
        return RuleResult(plan, tuple(notes)) if notes else None

    def _found(self, plan: LogicalPlan, table: Table, facts: PlanFacts) -> dict[str, WantedRows]:
        """Return the tables that need not run for all rows as the reader of `table` looks at some only, each with the
        rows that it runs for."""
        reader, query = _only_reader(plan, table)
        if reader is None or query is None or not _may_spare_rows(plan, table, facts):
            return {}
        found: dict[str, WantedRows] = {}
        for one in self.takes_of(plan, table, reader, query):
            place, take = self._furthest_up(plan, table, one, facts)
            if place is not None:
                found[place] = _both(found[place], take) if place in found else take
        return {place: take for place, take in found.items() if plan.table(place).take is None}

    def _furthest_up(
        self, plan: LogicalPlan, table: Table, take: WantedRows, facts: PlanFacts
    ) -> tuple[str | None, WantedRows]:
        """Return the table furthest up that need not run for all rows, and the rows that it runs for; None where that
        spares no step, or has been done."""
        num_steps = len(steps_of(table.nodes))
        while True:
            queries = queries_of(table)
            moved = (
                self.above(plan, table, take, queries[0]) if len(queries) == 1 and is_numberless(queries[0]) else None
            )
            if moved is None or not _may_spare_rows(plan, moved[0], facts) or _only_reader(plan, moved[0])[0] != table:
                break
            if moved[0].take is not None:
                if _is_covered(moved[1], moved[0].take):
                    return None, take
                break
            table, take = moved
            num_steps += len(steps_of(table.nodes))
        return table.name if num_steps else None, take


def _both(one: WantedRows, other: WantedRows) -> WantedRows:
    """Return the rows that are in both of two takes, of which each has conditions."""
    assert isinstance(one, MatchingRows)
    assert isinstance(other, MatchingRows)
    columns = tuple(dict.fromkeys((*one.columns, *other.columns)))
    return replace(one, conditions=(*one.conditions, *other.conditions), columns=columns)


def _is_covered(take: WantedRows, by: WantedRows) -> bool:
    """Return whether the rows that `by` takes are some of those of `take`, as far as their words tell."""
    if isinstance(take, MatchingRows) and isinstance(by, MatchingRows):
        return take.alias == by.alias and {*take.conditions} <= {*by.conditions} and {*take.columns} <= {*by.columns}
    return take == by


def is_numberless(query: Query) -> bool:
    """Return whether a query does not read the numbers of rows, which those of expansions may: they would be others."""
    return "rowid" not in query.sql.lower()


def _only_reader(plan: LogicalPlan, table: Table) -> tuple[Table | None, Query | None]:
    """Return the one table that reads `table`, by one query, and the query."""
    readers = readers_of(plan, table.name)
    queries = queries_of(readers[0]) if len(readers) == 1 else ()
    return (readers[0], queries[0]) if len(queries) == 1 and is_numberless(queries[0]) else (None, None)


def _may_spare_rows(plan: LogicalPlan, table: Table, facts: PlanFacts) -> bool:
    """Return whether a table may run for some of its rows only, as far as it alone tells: it is no result, and nothing
    outside comes of it."""
    is_of_rows = isinstance(table.source, InputRows | QueryRows) and table.failed_rows != "mark"
    return is_of_rows and table.name not in plan.results and not any(map(facts.is_ordered, steps_of(table.nodes)))


def columns_of_row(table: Table) -> Mapping[str, str]:
    """Return by output, in small letters, the column of the row that it is, untouched and of the same type."""
    return {
        name.lower(): column
        for name, column in table.untouched.items()
        if not (name in table.types or column in DICT_METHODS or column in table.joined)
    }


def _spelled(take: WantedRows, whose: str) -> str:
    if isinstance(take, MatchingRows):
        return f"rows where {' and '.join(take.conditions)}: {whose} takes no others"
    order = ", ".join(f"{column}{' desc' if is_descending else ''}" for column, is_descending in take.order_by)
    return f"the first {take.num_rows:,} rows{f' by {order}' if order else ''}: {whose} takes no more"
