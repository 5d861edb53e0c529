"""How many rows a query gives whose rows nobody can know yet, since steps decide them.

Owns the rules. What earlier runs tell is better: `cost.history.children_per_row`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sundog.cost.estimate import Estimate, sum_of
from sundog.cost.plan_sample import ONCE, UNKNOWN_ITEMS
from sundog.ir.query_forms import JoinedForm, QueryForm, SetKind

UNKNOWN_SHARE = Estimate(0.0, 0.5, 1.0)
MAX_PARTNERS = 10
"""A row is taken to have at most as many partners in a join as a list has elements."""


def rows_of_query(form: QueryForm, num_rows: Mapping[str, Estimate]) -> Estimate:
    """Return how many rows a query gives. `num_rows`: of each relation that it reads.

    >>> rows_of_query(QueryForm(("parts",), is_grouped=True), {"parts": Estimate.exactly(10_000.0)})
    Estimate(low=100.0, expected=1000.0, high=10000.0)
    """
    found = _united(form, [_rows(one, num_rows) for one in form.sources])
    for join in form.joins:
        found = _joined(found, _rows(join.source, num_rows), join)
    for _ in range(form.num_unnested):
        found = found * UNKNOWN_ITEMS
    if form.is_conditioned:
        found = found * UNKNOWN_SHARE
    if form.is_grouped:
        found = grouped(found)
    if form.is_single:
        found = ONCE
    return found if form.limit is None else found.at_most(Estimate.exactly(form.limit))


def grouped(num_rows: Estimate) -> Estimate:
    """Return how many groups, or different rows, so many rows have: from the square root to all, in the middle by its
    logarithm."""
    low, expected, high = (min(end, end**power) for end, power in zip(_ends(num_rows), (0.5, 0.75, 1.0), strict=True))
    return Estimate(low, max(low, expected), max(high, expected))


def _united(form: QueryForm, branches: Sequence[Estimate]) -> Estimate:
    if not branches:
        return ONCE
    if form.sets is SetKind.SOME:
        return branches[0] * UNKNOWN_SHARE
    found = sum_of(branches)
    return grouped(found) if form.sets is SetKind.DISTINCT else found


def _joined(left: Estimate, right: Estimate, join: JoinedForm) -> Estimate:
    if join.only_judges:
        return left * UNKNOWN_SHARE
    pairs = left * right
    if not join.is_conditioned:
        return pairs
    low = left.low if join.keeps_left else 0.0
    # With a key of either side, each row of the other has one partner.
    larger = Estimate(0.0, max(left.expected, right.expected), max(left.high, right.high) * MAX_PARTNERS)
    found = larger.at_most(pairs)
    expected = max(found.expected, left.expected if join.keeps_left else 0.0)
    return Estimate(low, max(low, expected), max(low, expected, found.high))


def _rows(one: str | QueryForm, num_rows: Mapping[str, Estimate]) -> Estimate:
    return rows_of_query(one, num_rows) if isinstance(one, QueryForm) else num_rows[one]


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.low, estimate.expected, estimate.high
