"""The sample of one table: its rows, or rows like those that it will have, and their calls.

Owns these records, and how rows that nobody can know yet are stood for. What they come to is plan_estimate's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sundog.cost.estimate import NOTHING, Estimate, total_of
from sundog.cost.gaps import fill_gaps
from sundog.cost.node_cost import RowSample
from sundog.cost.plan_sample import ONCE, PlannedCall, sample_plan
from sundog.cost.pools import Known
from sundog.cost.prompt_sample import Upstream, signature_of
from sundog.ir.physical import Exec, TableExec, calls_of

MAX_UNKNOWN_ROWS = 20
"""Rows that are not known are all alike."""
NumberedRows = Sequence[tuple[int, Mapping[str, Any] | Upstream]]


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a table, as far as they are known before it is made."""

    rows: NumberedRows
    sample: RowSample
    num_rows: Estimate
    #: How many rows there will be for each of `sample.num_rows`.
    chance: Estimate = ONCE
    #: The values of the rows are known; else steps make them.
    is_known: bool = True


def known_rows(rows: NumberedRows, num_rows: int) -> TableRows:
    return TableRows(rows, RowSample(len(rows), num_rows), Estimate.exactly(num_rows))


def rows_to_come(table: str, num_rows: Estimate) -> TableRows:
    """Return rows that stand for those that a table will have; no two are taken to be equal."""
    number = max(1, round(num_rows.expected))
    stand_ins = [
        (place, Upstream(signature_of([table, str(place)]), None)) for place in range(number)[:MAX_UNKNOWN_ROWS]
    ]
    if num_rows.high == 0.0:
        stand_ins, number = [], 0
    chance = num_rows * (1 / number) if number else ONCE
    return TableRows(stand_ins, RowSample(len(stand_ins), number), num_rows, chance, is_known=False)


@dataclass(frozen=True, slots=True)
class SampledTable:
    """The sample on which the estimate of one table rests."""

    name: str
    nodes: tuple[Exec, ...]
    #: The tables that have ended when it begins.
    waits_for: tuple[str, ...]
    #: The table whose rows become its own as they end, None where the rows are all there when it begins.
    stream_of: str | None
    #: The calls of the sampled rows, row by row, with the tokens of their gaps in place.
    calls: tuple[PlannedCall, ...]
    #: The numbers of all sampled rows, also of those without a call.
    rows: tuple[int, ...]
    sample: RowSample
    num_rows: Estimate
    #: The rows that end with an output, if no call fails.
    num_done: Estimate
    is_known: bool = True

    @property
    def sources(self) -> tuple[str, ...]:
        """The tables before it, whether they must have ended or not."""
        return self.waits_for if self.stream_of is None else (*self.waits_for, self.stream_of)


def sampled_table(table: TableExec, constants: Mapping[str, Any], found: TableRows, known: Known) -> SampledTable:
    """Return the sample of a table, whose rows are `found`."""
    walked = sample_plan(table.nodes, constants, found.rows, known, found.chance)
    return SampledTable(
        table.name,
        tuple(table.nodes),
        table.waits_for,
        table.stream_of,
        _filled(table.nodes, walked.calls, known),
        tuple(number for number, _ in found.rows),
        found.sample,
        found.num_rows,
        _in_all(walked.num_done, found.sample),
        found.is_known,
    )


def _filled(nodes: Sequence[Exec], calls: Sequence[PlannedCall], known: Known) -> tuple[PlannedCall, ...]:
    planned = {node.name: node for node in calls_of(nodes)}
    by_node: dict[str, list[int]] = defaultdict(list)
    for place, call in enumerate(calls):
        by_node[call.node].append(place)
    filled = list(calls)
    for name, places in by_node.items():
        some = fill_gaps([calls[place] for place in places], known.record(name, planned[name].pool))
        for place, call in zip(places, some, strict=True):
            filled[place] = call
    return tuple(filled)


def _in_all(sampled: Iterable[Estimate], sample: RowSample) -> Estimate:
    """Return the sum over all rows of what the sampled ones come to."""
    ends = [(one.low, one.expected, one.high) for one in sampled]
    if not ends:
        return NOTHING
    low, expected, high = (total_of(end, sample.num_rows) for end in zip(*ends, strict=True))
    return Estimate(low.low, expected.expected, high.high)


@dataclass(frozen=True, slots=True)
class TableEstimate:
    """The estimate of one table's rows."""

    name: str
    sample: RowSample
    num_rows: Estimate
    num_done: Estimate
    is_known: bool
