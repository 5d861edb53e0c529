"""The sources of tables: where the rows come from on which a table's steps run.

Owns the data only. Queries are read by the room `queries` and run by `runtime.tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sundog.errors import suggest

MAX_ROWS = 10_000_000
"""A query that gives more rows ends the run, where the table says nothing else: mostly a join lacks its condition."""
MAX_GROUP_ROWS = 100_000
"""A group of more rows fails, where the table says nothing else: its list is held in memory as one value."""


@dataclass(frozen=True, slots=True)
class InputRows:
    """Each row of an input is a row of the table."""

    input: str
    #: Inputs that are joined to it by their keys; their columns are `row.<name>.<column>`.
    joined: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input, *self.joined)


@dataclass(frozen=True, slots=True)
class QueryRows:
    """Each row of a DuckDB `select` is a row of the table."""

    sql: str
    #: The inputs and tables that it reads, in the order in which it names them first.
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CollectedRows:
    """The rows of a `select` that are equal in some columns become one row, with a list of them."""

    sql: str
    reads: tuple[str, ...]
    #: The columns that are equal in a group.
    by: tuple[str, ...]
    #: The column that holds the list: one mapping of the other columns for each row, in the order of the query.
    as_: str
    #: A group of more rows is a failed row.
    max_group_rows: int = MAX_GROUP_ROWS
    #: The column of whole numbers that orders the rows and is not in the lists; None where the query orders them.
    order_by: str | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """The columns of the query that are not in the lists."""
        return self.by if self.order_by is None else (*self.by, self.order_by)

    def mistake_over(self, columns: Sequence[str]) -> tuple[str, str | None] | None:
        """Return what is wrong, and what to do about it, where the query gives `columns`; None where nothing is."""
        for name in self.by:
            if name not in columns:
                return f"the query gives no column '{name}' to collect by", suggest(name, columns)
            if self.by.count(name) > 1:
                return f"the column '{name}' is named twice in 'by'", None
        if self.order_by is not None and self.order_by not in columns:
            return f"the query gives no column '{self.order_by}' to order by", suggest(self.order_by, columns)
        if not set(columns) - set(self.left_out):
            return "the query gives no column beside those of 'by'", "select what the lists shall hold, too"
        if self.as_.lower() in map(str.lower, self.by):
            return f"'as' and 'by' both name a column '{self.as_}'", "choose another name for the list"
        return None


@dataclass(frozen=True, slots=True)
class ComponentRows:
    """The connected components of a graph: one row (`id`, `component`) for each node, by id. A component is known by
    its smallest id."""

    #: A `select` of one column: ids, whole numbers, each once.
    nodes: str
    #: A `select` of two columns: the ids of two nodes that belong together.
    edges: str
    reads: tuple[str, ...]
    #: A larger component ends the run, None for none.
    max_nodes: int | None = None


TableSource = InputRows | QueryRows | CollectedRows | ComponentRows


PAIRS, COMPARED = "sundog__pairs", "sundog__compared"
"""The names by which `Candidates` reads the pairs of its table, and the first relation that the table reads. This one
has a column NUMBER more, which counts its rows from 0."""
NUMBER = "sundog__number"


@dataclass(frozen=True, slots=True)
class Candidates:
    """This class says what a run tells of the pairs of a table before it judges the first of them."""

    #: A select over PAIRS and COMPARED of blocks, each a text and how many pairs are in it; None where all rows are
    #: pairs and no block is larger than another.
    blocks: str | None
    #: The columns of the pairs that it reads.
    columns: tuple[str, ...]
    #: The column of vectors, in what the table reads, that lets pairs through.
    vector: str | None
    #: Says what has a vector, in the plural.
    compared: str


@dataclass(frozen=True, slots=True)
class FirstRows:
    """Only the first rows of a table are wanted, where each of them must end with an output."""

    num_rows: int
    #: Columns of the row by which rows come first, each with True where larger values come first, nulls last; each is
    #: an output too, untouched. Rows that are equal there come in their order.
    order_by: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class MatchingRows:
    """Only the rows of a table for which all conditions hold are wanted."""

    #: In DuckDB's words, over the columns of `alias`.
    conditions: tuple[str, ...]
    alias: str
    #: The columns that the conditions read, each with the column of the row that it is, untouched.
    columns: tuple[tuple[str, str], ...]
