"""Queries of every shape: each question of this room has an answer, and a tangle of words is no reason to fail."""

from __future__ import annotations

import pytest

from sundog.queries.check import complaints_of
from sundog.queries.columns import columns_read, origin
from sundog.queries.movement import pull_filter, pull_limit
from sundog.queries.order import with_keys
from sundog.queries.parsed import parse_query
from sundog.queries.removal import split_where, without_columns
from sundog.queries.row_wise import why_not_row_wise

ODD = (
    "select",
    "from e",
    "select *",
    "select 1 as x",
    "select id from e order by 1.5, 'x', 99 limit 0",
    "select id from e group by 1.5, 0, 99",
    "select id from e where id between 1 and 2 and id not between 3 and 4 or true",
    "((select id from e))",
    "(select id from e) limit 3",
    "(select id from e order by 1) union all (from e) except select 1 order by 1 limit 2",
    "with e as (select * from e) select e.id from e",
    "with t as (with u as (select 1 as z) select z from u) select z from t, u",
    'select "from" as "select", "a""b" as "where" from "group" as "order" where "from" = \'from\'',
    "select id /* from */ -- from e\n from e -- where\n where 'where' = id",
    "select case when id > 1 then case when k = 1 then 'from' end else 'and' end as c from e where k = 1",
    "select {'from': id, 'to': [1, 2]}['from'] as c, l[1:2] as d, l[-1] as f from e",
    "select e.id, u.unnest from e, unnest([1, 2, 3]) u, unnest([{'a': 1}]) with ordinality",
    "select * from e, unnest(e.l), unnest(e.l) as u(v), lateral (select u.v + 1 as w) as x",
    "select * from e, range(10) as r(x), generate_series(1, e.k), (values (1, 2)) as v(a, b)",
    "select * from (e join b using (k)) left join c on true",
    "select * from e natural full join b positional join c",
    "select * exclude (id) replace (k + 1 as k) rename (n as m) from e",
    "select columns(*) + 1, columns('x.*'), columns(c -> c like 'x%') from e",
    "select count(*) filter (where k > 1) as c, sum(k order by id) as s, count(distinct k) as d from e",
    "select sum(k) over w as s, lag(k, 1) ignore nulls over (w rows 2 preceding) as p from e window w as (order by id)",
    "select n, grouping(n) as g from e group by cube(n), grouping sets ((n), ())",
    "select distinct on (n, k) * from e order by all desc",
    "select * from e where exists (from b where b.k = e.k) and k = any (select k from b) and (k, n) in (select 1, 'a')",
    "select a.b.c.d.e as x, a.b().c().d as y, (a).b as z, [x for x in [y for y in l]] as w from e",
    "select id from e where id = $x and k = $y::int and n like $z escape '$'",
    "select 'it''s' as a, e'\\n' as b, $$dollar$$ as c, 1_000 as f, .5e-3 as h from e",
    "select id from e unpivot (v for n in (k, id)) pivot (sum(v) for n in ('k'))",
    "select id from e fetch first 3 rows only",
    "select id from e using sample reservoir(50 rows) repeatable (1)",
    "select id as a, a + 1 as b, b + 1 as c from e where c > 1 group by all having b > 1 qualify rank() over () = 1",
    "select " + ", ".join(f"k + {number} as c{number}" for number in range(500)) + " from e",
    "select id from e where " + " and ".join(f"k <> {number}" for number in range(3000)),
    "select id from e" + " union all select k from e" * 100,
)


@pytest.mark.parametrize("sql", ODD, ids=[sql[:60] for sql in ODD])
def test_every_question_has_an_answer(sql: str) -> None:
    query = parse_query(sql)
    schema = {"e": ("id", "k", "n", "l"), "b": ("k", "m")}
    assert all(0 <= one.offset <= len(sql) and one.what and one.hint for one in complaints_of(query, ["e", "b"]))
    assert why_not_row_wise(query, "e", ["b"]) != ""
    assert parse_query(with_keys(query).sql).reads == query.reads
    for known in (schema, {}):
        origin(query, "id", known)
        columns_read(query, "e", known)
        pull_filter(query, frozenset({"id"}), known)
        pull_limit(query, known)
        split_where(query, "e", known)
    without_columns(query, frozenset({"id", "c1"}))
