"""How many rows a query may give, read off its text."""

from __future__ import annotations

import pytest

from sundog.cost.estimate import Estimate
from sundog.cost.tables.query_rows import rows_of_query
from sundog.queries.form import form_of
from sundog.queries.parsed import parse_query

NUM_ROWS = {"a": Estimate(50.0, 100.0, 200.0), "b": Estimate.exactly(10_000.0), "none": Estimate.exactly(0.0)}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select x from a", (50, 100, 200)),
        ("select x from a order by x limit 7", (7, 7, 7)),
        ("select x from a where x > 1", (0, 50, 200)),
        ("select x, y from a, unnest(a.ys) as u(y)", (0, 300, 2_000)),
        ("select x, unnest(ys) from a", (0, 300, 2_000)),
        ("select x, count(*) from b group by x", (100, 1_000, 10_000)),
        ("select distinct x from b", (100, 1_000, 10_000)),
        ("select count(*) from b", (1, 1, 1)),
        ("select count(*) from b where x > 1", (1, 1, 1)),
        ("select * from a union all select * from b", (10_050, 10_100, 10_200)),
        ("select * from b union select * from none", (100, 1_000, 10_000)),
        ("select * from b except select * from a", (0, 5_000, 10_000)),
        ("select * from a, b", (500_000, 1_000_000, 2_000_000)),
        ("select * from a join b using (x)", (0, 10_000, 100_000)),
        ("select * from b left join none using (x)", (10_000, 10_000, 10_000)),
        ("select * from a semi join b using (x)", (0, 50, 200)),
        ("with p as (select * from a limit 3) select * from p", (3, 3, 3)),
        ("select * from (select x from b group by x) s", (100, 1_000, 10_000)),
        ("select * from (values (1), (2)) v(x)", (2, 2, 2)),
        ("select * from none", (0, 0, 0)),
        ("select x, count(*) from none group by x", (0, 0, 0)),
    ],
)
def test_the_form_of_a_query_tells_how_many_rows_it_may_give(sql: str, expected: tuple[float, ...]) -> None:
    found = rows_of_query(form_of(parse_query(sql)), NUM_ROWS)
    assert (found.low, found.expected, found.high) == pytest.approx(expected)
