"""A session's plan on many machines, as explain shows it: buckets, hot groups, where equal calls meet, refusals.

Owns gathering it. The rules are those of a run: optimizer.exchange, runtime.buckets, runtime.preflight. Connects to no
cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest

from sundog.deployment import default_cells
from sundog.ir.physical import TableExec
from sundog.ir.tables import InputRows
from sundog.ir.templates.template import Path as ValuePath
from sundog.optimizer.exchange import exchange_of
from sundog.optimizer.facts import PlanFacts
from sundog.present.cluster.cluster_plan import (
    ClusterPlan,
    HotGroupDocument,
    MeetingDocument,
    RefusalDocument,
    SpreadTable,
)
from sundog.runtime.buckets.counts import bucket_counts
from sundog.runtime.buckets.cutting import BucketSizes
from sundog.runtime.preflight.many_machines import check_many_machines
from sundog.runtime.row_order import reading_order_of
from sundog.runtime.rows.inputs import RowSource
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.session.machines import OnCluster
from sundog.session.planned_flow import PlannedFlow

MAX_HOT_GROUPS = 10
"""So many of the largest are shown."""


def cluster_plan(flow: PlannedFlow, inputs: FlowInputs, asked: OnCluster) -> ClusterPlan:
    """Return how the plan of `flow` is spread. Reads the inputs; InputError where they cannot be read."""
    num_cells = asked.num_cells or default_cells(flow.plan, 1)
    found = check_many_machines(flow.plan, flow.operators, asked.state)
    sources = {table.name: source for table, source in inputs.sources()}
    facts = PlanFacts(flow.plan.logical, flow.operators)
    return ClusterPlan(
        asked.on,
        num_cells,
        tuple(_table(flow, table, sources.get(table.name), num_cells, facts) for table in flow.plan.tables),
        tuple(RefusalDocument(str(one.where or ""), one.what, one.hint) for one in found.refusals),
        found.notes,
    )


def _table(
    flow: PlannedFlow, table: TableExec, source: RowSource | None, num_cells: int, facts: PlanFacts
) -> SpreadTable:
    is_counted = source is not None and isinstance(table.table.source, InputRows) and table.table.take is None
    partition, reason = _partition(flow, table, source if is_counted else None)
    exchange = exchange_of(flow.plan, table.name, partition, facts)
    meetings = tuple(MeetingDocument(one.step, one.meeting.value, one.reason) for one in exchange.steps.values())
    if source is None or not is_counted:
        return SpreadTable(table.name, partition, reason, None, None, (), 0, meetings)
    num_rows = source.count()
    sizes = BucketSizes.for_cells(num_rows, num_cells)
    if partition is None:
        return SpreadTable(table.name, None, reason, num_rows, -(-num_rows // sizes.target_rows), (), 0, meetings)
    num_buckets = num_hot = 0
    hot: list[HotGroupDocument] = []
    for group, num_begun in _groups(source, partition, sizes, num_rows):
        num_buckets += num_begun
        if group is not None:
            num_hot += 1
            hot = nlargest(MAX_HOT_GROUPS, [*hot, group], key=lambda one: one.num_rows)
    return SpreadTable(table.name, partition, reason, num_rows, num_buckets, tuple(hot), num_hot, meetings)


def _groups(
    source: RowSource, partition: ValuePath, sizes: BucketSizes, num_rows: int
) -> Iterator[tuple[HotGroupDocument | None, int]]:
    """Yield how many buckets begin in each group, with the group where it is a hot one."""
    found = list(source.group_sizes(partition, sizes.hot_rows))
    counts = bucket_counts(sizes, (size for size, _ in found))
    for (size, shown), (num_begun, num_buckets) in zip(found, counts, strict=True):
        is_hot = num_buckets > 1
        yield HotGroupDocument(shown, size, size / num_rows, num_buckets) if is_hot else None, num_begun


def _partition(flow: PlannedFlow, table: TableExec, source: RowSource | None) -> tuple[ValuePath | None, str]:
    """Return the value by which the rows of a table are cut into buckets, and a phrase on it."""
    keys = table.table.row_order
    if table.stream_of is not None:
        return None, f"they come as those of {table.stream_of} end"
    if not keys:
        return None, "no value of theirs leads a prompt"
    if source is None:
        return keys[0].path, "if its values repeat, which is seen when the rows are there"
    most = flow.plan.max_rows_in_flight
    order = reading_order_of(table.table, source, most)
    if order:
        return order[0], ""
    return None, "all are in flight at once" if source.count() <= most else "no value of theirs repeats enough"
