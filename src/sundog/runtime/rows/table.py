"""One input as DuckDB sees it: what every format has to say about its rows.

Owns the contract of a table. The formats are in csv_table, json_table and parquet_table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sundog.errors import SundogError
from sundog.ir.schemas.shape import Shape
from sundog.runtime.rows.paths import InputFiles

if TYPE_CHECKING:
    import duckdb

InputRow = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lacks:
    """This class tells what a row lacks that is made of rows of which some are missing."""

    #: The table of these rows.
    table: str
    #: The tables in which rows failed, for which these are missing.
    failed_in: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is there and holds what no value can be."""

    #: A sentence that says what and where.
    reason: str
    #: The columns that are known all the same.
    known: Mapping[str, Any] = field(default_factory=dict, compare=False)
    #: The way to mend it, None where the row itself has to be.
    hint: str | None = field(default=None, compare=False)
    #: It is bad because rows are missing that it is made of; None for any other reason.
    lacks: Lacks | None = field(default=None, compare=False)


RowBatch = list[tuple[int, InputRow | BadRow]]
"""Rows by their numbers in the input."""
Decode = Callable[[Sequence[tuple[Any, ...]]], list[InputRow | BadRow]]


@dataclass(frozen=True, slots=True)
class Scan:
    """One input as a query."""

    #: SQL whose columns are c0, c1, ... (`width` of them), in the order of the file.
    select: str
    width: int
    #: Turns rows of that SQL into rows of JSON types.
    decode: Decode


@dataclass(frozen=True, slots=True)
class JoinKey:
    """A column to join by: an expression over the columns of the scan."""

    expression: str
    #: Only keys of equal kind can match; None is a column that holds nothing but nulls.
    kind: str | None


class InputTable(Protocol):
    """This class reads the files of one input. `shape` looks at a header or at the first rows only. `count` reads what
    it must to know that every row can be read, and counts them; `scan` and `key` may do the same work first. `notes`
    says what changes on the way in, a sentence each. `explain` turns DuckDB's error about this table into one for the
    user. All raise InputError."""

    files: InputFiles

    def shape(self) -> Shape: ...

    def count(self) -> int: ...

    def scan(self) -> Scan: ...

    def key(self, column: str) -> JoinKey: ...

    def value(self, path: Sequence[str]) -> str:
        """Return an expression over the columns of the scan: the text of what stands at `path`, a column and then what
        lies in it; null where nothing does."""
        ...

    def relation(self) -> str:
        """Return a select of all rows that are not bad, in order, whose columns have the names and the types of the
        input."""
        ...

    def described(self) -> str:
        """Return a select with the columns of `relation`, of whose rows nothing is said; no row is kept for it."""
        ...

    def num_bad(self) -> int:
        """Return how many rows hold what no value can be."""
        ...

    def notes(self) -> tuple[str, ...]: ...

    def explain(self, error: duckdb.Error) -> SundogError: ...
