"""The form of a query, as far as it decides how many rows it gives: no text, no columns.

Owns the data only. The room `queries` reads it off a query; `cost.tables` makes a range of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class SetKind(Enum):
    """How the branches of a query come together."""

    ALL = "all"  # the rows of all branches
    DISTINCT = "distinct"  # the same, equal rows once
    SOME = "some"  # rows of the first branch that the others have, or have not


@dataclass(frozen=True, slots=True)
class JoinedForm:
    """The source behind a join."""

    source: str | QueryForm
    #: It says which rows belong together.
    is_conditioned: bool
    #: No row of what stands before it is lost.
    keeps_left: bool
    #: It gives no row more than there are before it (semi and anti joins).
    only_judges: bool


@dataclass(frozen=True, slots=True)
class QueryForm:
    """One query."""

    #: The relation or query behind `from`; several are the branches of a set operation, none is one row.
    sources: tuple[str | QueryForm, ...] = ()
    sets: SetKind = SetKind.ALL
    joins: tuple[JoinedForm, ...] = ()
    #: Lists whose elements become rows.
    num_unnested: int = 0
    #: Rows are left out that do not meet a condition.
    is_conditioned: bool = False
    #: Equal rows become one, or rows become groups.
    is_grouped: bool = False
    #: All rows become one.
    is_single: bool = False
    limit: int | None = None
