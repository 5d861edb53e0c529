"""Candidate pairs by vectors: rows whose vectors point in about one direction.

Owns the rule of a block and its SQL. Every vector is compared with every other one; ties are broken by row ids. A row
without a vector, or with one of the length 0, is no candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sundog.ir.sql_types import sql_name


class VectorRule(BaseModel):
    """The pairs whose vectors are near."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: A column of vectors of one length, as `types` gives the result of an embed step.
    column: str = Field(min_length=1)
    #: The least cosine similarity.
    at_least: float | None = Field(default=None, ge=-1, le=1)
    #: How many of the nearest each one is paired with; of equally near ones the earlier row.
    top: int | None = Field(default=None, ge=1, le=1000)
    #: A SQL condition over `l` and `r`; only pairs for which it holds are compared.
    on: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _is_of_a_column(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or {"engine", "text"} & value.keys():
            raise ValueError("names a column of vectors, as in {column: vector, top: 5}: an embed step makes it before")
        return value

    @model_validator(mode="after")
    def _has_a_bound(self) -> VectorRule:
        if self.at_least is None and self.top is None:
            raise ValueError("has 'at_least', 'top' or both")
        return self


class Compared(NamedTuple):
    """One side of a comparison."""

    #: The rows as they stand in a `from`: a table or a select in parentheses.
    rows: str
    #: The columns with the row's number and its vector.
    id: str
    vector: str


def near_pairs(left: Compared, right: Compared, rule: VectorRule, *, once: bool) -> str:
    """Return a select of `left_id` and `right_id`. With `once` both sides are the same rows, and each pair of two rows
    comes once, the smaller id on the left."""
    conditions = [] if rule.on is None else [f"({rule.on})"]
    if once:
        conditions.append(f"l.{left.id} {'<' if rule.top is None else '<>'} r.{right.id}")
    compared = (
        f"select l.{left.id} as a, r.{right.id} as b,"
        f" array_cosine_similarity(l.{sql_name(left.vector)}, r.{sql_name(right.vector)}) as likeness"
        f" from {left.rows} l join {right.rows} r on {' and '.join(conditions) or 'true'}"
    )
    bound = "" if rule.at_least is None else f" and c.likeness >= {rule.at_least!r}"
    near = f"from ({compared}) c where not isnan(c.likeness){bound}"
    if rule.top is None:
        return f"select c.a as left_id, c.b as right_id {near}"
    # The greatest few of a group are kept, where a window would sort all pairs.
    best = (
        f"select c.a, max(struct_pack(likeness := c.likeness, other := -c.b), {rule.top}) as best {near} group by c.a"
    )
    other = "-u.one.other"
    ids = (f"least(t.a, {other})", f"greatest(t.a, {other})") if once else ("t.a", other)
    distinct = "distinct " if once else ""
    return f"select {distinct}{ids[0]} as left_id, {ids[1]} as right_id from ({best}) t, unnest(t.best) as u(one)"
