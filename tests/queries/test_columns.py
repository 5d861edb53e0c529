"""Columns traced to their sources: which output is a bare column of a relation, and what a query reads of one."""

from __future__ import annotations

import pytest

from sundog.queries.columns import ColumnOrigin, Schema, columns_read, origin
from sundog.queries.parsed import parse_query

SCHEMA: Schema = {"e": ("id", "k", "n", "x", "l"), "b": ("k", "m", "l2")}


@pytest.mark.parametrize(
    ("sql", "column", "expected"),
    [
        ("select id as a from e", "a", ColumnOrigin("e", "id")),
        ("select e.ID from e", "id", ColumnOrigin("e", "ID")),
        ("select k + 1 as j from e", "j", None),
        ("select upper(n) as n from e", "n", None),
        ("select l[1] as v from e", "v", None),
        ("select e.x.y from e", "y", None),
        ("select * from e", "k", ColumnOrigin("e", "k")),
        ("select * from e", "zzz", None),
        ("select * exclude (k) from e", "n", None),
        ("select z.*, m from e as z join b on true", "id", ColumnOrigin("e", "id")),
        ("select * from e join b on true", "m", ColumnOrigin("b", "m")),
        ("select * from e join b on true", "k", None),
        ("select m from e, b", "m", ColumnOrigin("b", "m")),
        ("select k from e, b", "k", None),
        ("select k from e join b using (k)", "k", None),
        ("select m as z from e left join b using (k)", "z", ColumnOrigin("b", "m", may_be_missing=True)),
        ("select a.id from e as a right join b on true", "id", ColumnOrigin("e", "id", may_be_missing=True)),
        ("select u.v from e, unnest(e.l) as u(v)", "v", None),
        ("select id as n, n as z from e", "z", None),
        ("select t.id from (select id from e) as t", "id", None),
        ("select id from e union all select k from b", "id", None),
        ("select n, max(k) as m from e group by n", "n", ColumnOrigin("e", "n")),
        ("select n from e group by rollup(n)", "n", None),
        ("select n from e natural join b", "n", None),
        ("select e as whole from e", "whole", None),
    ],
)
def test_an_output_is_a_bare_column_or_not(sql: str, column: str, expected: ColumnOrigin | None) -> None:
    assert origin(parse_query(sql), column, SCHEMA) == expected


@pytest.mark.parametrize(
    ("sql", "of_e", "of_e_without_schema"),
    [
        ("select id as a from e where x > 1 order by k", {"id", "x", "k"}, {"id", "x", "k"}),
        ("select e.id, m from e join b on e.k = b.k", {"id", "k"}, None),
        ("select e.id, b.m from e join b on e.k = b.k", {"id", "k"}, {"id", "k"}),
        ("select e.id, b.m from e join b using (k)", {"id", "k"}, {"id", "k"}),
        ("select n.upper() as u, count(*) as c from e group by n", {"n"}, {"n"}),
        ("select list_filter(l, lambda z: z > id) as f from e", {"l", "id"}, {"l", "id"}),
        ("select e.x.y as z from e", {"x"}, {"x"}),
        ("select u.v from e, unnest(e.l) as u(v)", {"l"}, {"l"}),
        ("select b.* from e, b", set(), set()),
        ("select * from e", None, None),
        ("select e.* from e, b", None, None),
        ("select e from e", None, None),
        ("select #1 as x from e", None, None),
        ("select columns('i.*') from e", None, None),
        ("select k from e, b", None, None),
        ("select id from e where k in (select k from b)", None, None),
        ("with t as (select id from e) select id from t", None, None),
        ("select id from e natural join b", None, None),
        ("select id from e union all select n from e", {"id", "n"}, {"id", "n"}),
        ("select k from b", set(), set()),
    ],
)
def test_a_query_reads_these_columns(sql: str, of_e: set[str] | None, of_e_without_schema: set[str] | None) -> None:
    query = parse_query(sql)
    assert columns_read(query, "e", SCHEMA) == of_e
    assert columns_read(query, "e", {}) == of_e_without_schema
