"""One input as DuckDB sees it: what every format has to say about its rows.

Owns the contract of a table. The formats are in csv_table, json_table and parquet_table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sundog.errors import SundogError
from sundog.execution.input_row import BadRow, InputRow
from sundog.ir.schemas.shape import Shape
from sundog.runtime.rows.paths import InputFiles

if TYPE_CHECKING:
    import duckdb

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
