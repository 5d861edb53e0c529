"""A plan as it is spread over many machines: its buckets, where equal calls meet, what each machine has for itself.

Owns the document and its tree. Computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sundog.ir.templates.template import Path, spell_path
from sundog.present.logical_tree import Tree


@dataclass(frozen=True, slots=True)
class HotGroupDocument:
    """Rows with one partition value that are too many for one bucket."""

    #: The beginning of the value's text, None for null.
    value: str | None
    num_rows: int
    #: The part of all rows of the table, above 0 and at most 1.
    share: float
    num_buckets: int


@dataclass(frozen=True, slots=True)
class MeetingDocument:
    """The place where equal calls of a step meet."""

    step: str
    #: Alone, bucket or owner.
    meeting: str
    #: A phrase.
    reason: str


@dataclass(frozen=True, slots=True)
class SpreadTable:
    """One table on many machines."""

    #: Empty in a flow whose only table its user never names.
    name: str
    #: The value by which the rows are cut into buckets, None where they are cut as they come.
    partition: Path | None
    #: A phrase that says why there is no such value, or what it depends on; empty where there is nothing to say.
    partition_reason: str
    #: None where the rows are known only when the run has come to the table.
    num_rows: int | None
    num_buckets: int | None
    #: The largest ones first.
    hot_groups: tuple[HotGroupDocument, ...]
    #: Hot groups, also those that are not among `hot_groups`.
    num_hot_groups: int
    meetings: tuple[MeetingDocument, ...]

    @property
    def cut(self) -> str:
        """Return how the rows are cut, as in "1,200 rows in 256 buckets by row.manual"."""
        by = "as they come" if self.partition is None else f"by {spell_path(self.partition)}"
        reason = f" ({self.partition_reason})" if self.partition_reason else ""
        if self.num_rows is None or self.num_buckets is None:
            return f"in buckets {by}{reason}"
        rows = f"{self.num_rows:,} row{'' if self.num_rows == 1 else 's'}"
        return f"{rows} in {self.num_buckets:,} bucket{'' if self.num_buckets == 1 else 's'} {by}{reason}"


@dataclass(frozen=True, slots=True)
class RefusalDocument:
    """Something that keeps a run from beginning on many machines."""

    #: The place in the flow's file, empty where there is none.
    where: str
    what: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A plan on many machines."""

    #: The engine of the cluster: ray.
    on: str
    num_cells: int
    tables: tuple[SpreadTable, ...]
    #: With any of these a run does not begin.
    refusals: tuple[RefusalDocument, ...]
    #: Sentences about what each machine, or each cell, has for itself.
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"on {self.on}, {self.num_cells:,} cell{'' if self.num_cells == 1 else 's'}"


def cluster_tree(plan: ClusterPlan) -> Tree:
    """Return a plan on many machines as a tree."""
    refused = tuple(
        Tree(f"{one.where}: {one.what}" if one.where else one.what, (Tree(one.hint),) if one.hint else ())
        for one in plan.refusals
    )
    parts = [*(part for table in plan.tables for part in _table(table))]
    if refused:
        parts.append(Tree("refused: a run would not begin", refused))
    if plan.notes:
        parts.append(Tree("notes", tuple(map(Tree, plan.notes))))
    return Tree(plan.title, tuple(parts))


def shown_group(group: HotGroupDocument) -> str:
    """Return a hot group as a line, as in "'abc': 900 rows (75 %), split into 12 buckets"."""
    value = "null" if group.value is None else repr(group.value)
    return f"{value}: {group.num_rows:,} rows ({group.share:.0%}), split into {group.num_buckets:,} buckets"


def more_groups(table: SpreadTable) -> str:
    """Return what is said of hot groups that are not shown, empty where all are."""
    left = table.num_hot_groups - len(table.hot_groups)
    return f"{left:,} more" if left else ""


def _table(table: SpreadTable) -> Iterator[Tree]:
    hot = [Tree(shown_group(group)) for group in table.hot_groups]
    if more := more_groups(table):
        hot.append(Tree(more))
    parts = [Tree("hot groups, whose calls ask owners", tuple(hot))] if hot else []
    meetings = tuple(Tree(f"{one.step}: {one.meeting} ({one.reason})") for one in table.meetings)
    if table.name:
        yield Tree(
            f"{table.name}: {table.cut}", (*parts, Tree("equal calls meet at", meetings)) if meetings else tuple(parts)
        )
    else:
        yield Tree(table.cut, tuple(parts))
        yield Tree("equal calls meet at", meetings)
