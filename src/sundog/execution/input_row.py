"""A row as the steps of its table begin with it.

Owns the data. Where rows come from is the affair of whoever hands them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.ir.row_ids import RowId

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


IdentifiedRows = list[tuple[RowId, InputRow | BadRow]]
"""Rows of a table by their ids."""
