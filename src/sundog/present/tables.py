"""The tables of a flow with several, as explain shows them: where their rows come from and how many there are.

Owns their documents and lines. A flow whose only table its user never names has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sundog.cost.estimate import Estimate
from sundog.cost.tables.sampled_table import TableEstimate
from sundog.ir.physical import PhysicalPlan, TableExec
from sundog.ir.tables import CollectedRows, ComponentRows, InputRows, QueryRows
from sundog.present.figures import Shown, show_actual, show_estimate

HEAD = ("table", "rows", "done")
STATES = {"done": "done", "failed": "failed", "not_run": "not run", "dropped": "dropped"}
"""Heads of columns by the states of rows; `not_run` has one where there are such rows."""
LEFT_RANGE = "left its range"


@dataclass(frozen=True, slots=True)
class TableDocument:
    """One table."""

    name: str
    #: Input, query, collect or components.
    kind: str
    #: The input, or the query as written.
    source: str
    #: The inputs and tables that it reads.
    reads: tuple[str, ...]
    #: The table whose rows become its own as they end; None where its rows are all there when it begins.
    streams_with: str | None
    #: The tables that must have ended before.
    waits_for: tuple[str, ...]
    #: A phrase that says why, as in "it groups its rows"; empty where it does not wait.
    why_it_waits: str
    is_result: bool
    #: Rows of its sources that failed are left out.
    leaves_out_failed: bool
    #: Groups with a row that failed are failed rows.
    marks_failed: bool
    steps: tuple[str, ...]
    columns: tuple[str, ...]
    num_rows: Estimate
    #: The rows that end with an output, if no call fails.
    num_done: Estimate
    #: By state, how many rows a run has ended; None where there was none.
    actual: Mapping[str, int] | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The tables before it."""
        return self.waits_for if self.streams_with is None else (self.streams_with, *self.waits_for)

    @property
    def num_actual(self) -> int:
        return sum((self.actual or {}).values())


def table_documents(plan: PhysicalPlan, estimates: Sequence[TableEstimate]) -> tuple[TableDocument, ...]:
    """Return the documents of a plan's tables, in its order."""
    if [table.name for table in plan.tables] == [""]:
        return ()
    return tuple(_document(*pair, plan) for pair in zip(plan.tables, estimates, strict=True))


def with_rows(tables: Sequence[TableDocument], rows: Mapping[str, Mapping[str, int]]) -> tuple[TableDocument, ...]:
    """Return the documents with what a run did. `rows`: by table and state."""
    return tuple(replace(table, actual=rows.get(table.name, {})) for table in tables)


def way_of(table: TableDocument) -> str:
    """Return how the rows of a table come, as in "waits for words because it groups its rows"."""
    parts = [] if table.streams_with is None else [f"streams with {table.streams_with}"]
    if table.waits_for:
        why = f" because {table.why_it_waits}" if table.why_it_waits else ""
        parts.append(f"waits for {', '.join(table.waits_for)}{why}")
    if table.leaves_out_failed:
        parts.append("leaves failed rows out")
    if table.marks_failed:
        parts.append("fails groups with a failed row")
    return ", ".join(parts) or f"reads {', '.join(table.reads)}"


def rows_shown(table: TableDocument) -> Shown:
    return show_estimate(table.num_rows, "num_rows")


def left_rows(table: TableDocument) -> bool:
    """Return whether a run has ended another number of rows than was expected."""
    return table.actual is not None and not table.num_rows.low - 0.5 <= table.num_actual <= table.num_rows.high + 0.5


def table_lines(tables: Sequence[TableDocument]) -> Iterator[str]:
    """Yield the rows of the tables, a line for each; with those of a run where there was one."""
    actual = [table.actual for table in tables if table.actual is not None]
    states = [state for state in STATES if state != "not_run" or any(one.get(state) for one in actual)]
    head = (*HEAD, "actual rows", *(STATES[state] for state in states), "") if actual else HEAD
    lines = [head, *(_cells(table, states if actual else ()) for table in tables)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cells(table: TableDocument, states: Sequence[str]) -> tuple[str, ...]:
    name = f"{table.name} (result)" if table.is_result else table.name
    expected = (name, str(rows_shown(table)), str(show_estimate(table.num_done, "num_rows")))
    if not states:
        return expected
    numbers = [show_actual((table.actual or {}).get(state, 0), "num_rows") for state in states]
    mark = LEFT_RANGE if left_rows(table) else ""
    return (*expected, show_actual(table.num_actual, "num_rows"), *numbers, mark)


def _document(table: TableExec, estimate: TableEstimate, plan: PhysicalPlan) -> TableDocument:
    kind, source = _source(table)
    return TableDocument(
        table.name,
        kind,
        source,
        table.table.reads,
        table.stream_of,
        table.waits_for,
        table.why_it_waits,
        table.name in plan.logical.results,
        table.table.failed_rows == "leave_out",
        table.table.failed_rows == "mark",
        tuple(node.name for node in table.nodes),
        tuple(name for name, _ in table.table.outputs),
        estimate.num_rows,
        estimate.num_done,
    )


def _source(table: TableExec) -> tuple[str, str]:
    match table.table.source:
        case InputRows(input=name):
            return "input", name
        case QueryRows(sql=sql):
            return "query", sql
        case CollectedRows(sql=sql):
            return "collect", sql
        case ComponentRows(nodes=nodes):
            return "components", nodes
