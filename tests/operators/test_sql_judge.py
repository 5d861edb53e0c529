"""The judgement of statements, dialect by dialect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlglot import exp

from sundog.operators.sql import functions as sql_functions
from sundog.operators.sql.judge import Reach, judge, judge_anew

READ, VOLATILE, WRITE = Reach.READ, Reach.VOLATILE, Reach.WRITE
LITE, PG, MY = "sqlite", "postgresql", "mysql"

STATEMENTS = [
    # queries
    (LITE, "select body from filing where id = :id", READ),
    (LITE, "SELECT * FROM t WHERE id IN :ids ORDER BY id LIMIT 3", READ),
    (LITE, "select a from t union all select b from u", READ),
    (LITE, "with x as (select 1 as a) select * from x", READ),
    (LITE, "with recursive c(x) as (select 1 union all select x + 1 from c limit 9) select x from c", READ),
    (LITE, "values (1, 2)", READ),
    (
        LITE,
        "select case when a then b else c end, count(*) filter (where d), a || b from t left join u using (id)",
        READ,
    ),
    (LITE, "select row_number() over (partition by a order by b), lag(c) over (order by d) from t", READ),
    (LITE, "select json_extract(a, '$.x'), a ->> '$.y', group_concat(b), ifnull(a, b), printf('%d', 1) from t", READ),
    (LITE, "select t.x from t, json_each(t.list) as e where e.value = :v", READ),
    (LITE, "select date(day), strftime('%Y', day) from t", READ),
    (LITE, "select 'delete from t; drop table t' as text -- update t", READ),
    (PG, "select body from filing where id = :id and day > date '2020-01-01'", READ),
    (PG, "select a::int, x ->> 'k', a #>> '{b}' from t where e ilike :p and b = any(:ids)", READ),
    (PG, "select date_trunc('day', d), extract(year from d), d at time zone 'utc', string_agg(a, ',') from t", READ),
    (PG, "select jsonb_array_elements(x), split_part(a, ',', 1), age(a, b) from t", VOLATILE),
    (PG, "select percentile_cont(0.5) within group (order by x) from t", READ),
    (PG, "select distinct on (a) a, b from t order by a, b desc", READ),
    (PG, "select x from generate_series(1, 3) as x", READ),
    (PG, "select * from a except select * from b", READ),
    (PG, "select to_tsvector(a) @@ plainto_tsquery(:q) from t", READ),
    (PG, "select a::regclass, a::regclass::text from t", READ),
    (PG, "select a ? 'k', a ?| array['k'], a ?& array['k'], a @? '$.k', a #- '{k}' from t", READ),
    (PG, "select jsonb_agg(a), make_date(a, b, 1), make_time(1, 2, 3), jsonb_set(a, b, c), num_nulls(a) from t", READ),
    (PG, "select a::my_schema.kind from t", READ),
    (MY, "select date_format(d, '%Y'), if(a, b, c), concat_ws(',', a, b) from t", READ),
    (MY, "select * from t where id in :ids and a = :b limit 5", READ),
    (MY, "select json_extract(a, '$.b'), group_concat(a order by b separator ',') from t", READ),
    (MY, "select date_add(d, interval 1 day), datediff(a, b), year(d) from t", READ),
    ("mariadb", "select a from t where id = :id", READ),
    # read-only, but different each time
    (LITE, "select random()", VOLATILE),
    (LITE, 'select "random"()', VOLATILE),
    (LITE, "select * from t order by random() limit 1", VOLATILE),
    (LITE, "select hex(randomblob(16))", VOLATILE),
    (LITE, "select datetime('now')", VOLATILE),
    (LITE, "select * from t where day > date(' NOW ', '-1 day')", VOLATILE),
    (LITE, "select strftime('%s', 'now')", VOLATILE),
    (LITE, "select julianday()", VOLATILE),
    (LITE, "select unixepoch()", VOLATILE),
    (LITE, "select date(:day)", VOLATILE),
    (LITE, "select current_timestamp", VOLATILE),
    (LITE, "select * from t where a in (select current_date)", VOLATILE),
    (LITE, "select changes(), last_insert_rowid()", VOLATILE),
    (LITE, "select my_function(a) from t", VOLATILE),
    (PG, "select now()", VOLATILE),
    (PG, "select current_date, localtime", VOLATILE),
    (PG, "select clock_timestamp()", VOLATILE),
    (PG, "select gen_random_uuid()", VOLATILE),
    (PG, "select uuid_generate_v4()", VOLATILE),
    (PG, "select age(d) from t", VOLATILE),
    (PG, "select 'today'::date", VOLATILE),
    (PG, "select * from t where d > timestamp 'yesterday'", VOLATILE),
    (PG, "select cast(:day as date)", VOLATILE),
    (PG, "select * from t tablesample system (1)", VOLATILE),
    (PG, "select current_user", VOLATILE),
    (MY, "select uuid(), rand()", VOLATILE),
    (MY, "select curdate(), sysdate(), utc_timestamp()", VOLATILE),
    (MY, "select @@session.sql_mode", VOLATILE),
    (MY, "select connection_id()", VOLATILE),
    # writes
    (LITE, "insert into t values (1)", WRITE),
    (LITE, "insert or replace into t values (1)", WRITE),
    (LITE, "replace into t values (1)", WRITE),
    (LITE, "update t set a = 1", WRITE),
    (LITE, "delete from t", WRITE),
    (LITE, "with x as (select 1) insert into t select * from x", WRITE),
    (LITE, "insert into t values (1) returning id", WRITE),
    (LITE, "create table t (a)", WRITE),
    (LITE, "create temp table t as select 1", WRITE),
    (LITE, "drop table t", WRITE),
    (LITE, "alter table t add column b", WRITE),
    (LITE, "pragma user_version = 3", WRITE),
    (LITE, "pragma table_info(t)", WRITE),
    (LITE, "attach 'x.db' as x", WRITE),
    (LITE, "vacuum", WRITE),
    (LITE, "select 1; delete from t", WRITE),
    (PG, "select * from t for update", WRITE),
    (PG, "select * from t where id = :id for share skip locked", WRITE),
    (PG, "with gone as (delete from t returning *) select * from gone", WRITE),
    (PG, "select * from (select 1) x where exists (select nextval('s'))", WRITE),
    (PG, "select nextval('s')", WRITE),
    (PG, "select setval('s', 1)", WRITE),
    (PG, "select pg_advisory_lock(1)", WRITE),
    (PG, "select my_function(a) from t", WRITE),
    (PG, "select my_schema.lower(a), my_schema.to_json(a) from t", WRITE),
    (PG, "select my_schema.to_json(a) from t", WRITE),
    (PG, "select to_json(a) from t", READ),
    (PG, "select * into b from a", WRITE),
    (PG, "copy t to '/x'", WRITE),
    (PG, "explain analyze delete from t", WRITE),
    (PG, "call p()", WRITE),
    (PG, "do $$ begin delete from t; end $$", WRITE),
    (PG, "lock table t", WRITE),
    (PG, "truncate t", WRITE),
    (PG, "merge into t using u on t.a = u.a when matched then delete", WRITE),
    (PG, "refresh materialized view v", WRITE),
    (PG, "set search_path to x", WRITE),
    (PG, "listen x", WRITE),
    (PG, "grant select on t to u", WRITE),
    (MY, "select * from t lock in share mode", WRITE),
    (MY, "select a from t into outfile '/x'", WRITE),
    (MY, "select get_lock('a', 1)", WRITE),
    (MY, "select sleep(1)", WRITE),
    (MY, "select 1 /*! into outfile '/x' */", WRITE),
    (MY, "insert into t values (1) on duplicate key update a = 1", WRITE),
    (MY, "load data infile 'x' into table t", WRITE),
    ("mariadb", "select 1 /*M! , sleep(1) */", WRITE),
    # not understood
    (LITE, "selec * from t", WRITE),
    (LITE, "", WRITE),
    ("oracle", "select 1 from dual", WRITE),
]


@pytest.mark.parametrize(("backend", "query", "reach"), STATEMENTS)
def test_judgement(backend: str, query: str, reach: Reach) -> None:
    found = judge(query, backend)
    assert found.reach is reach, found.reason
    assert found.reason


def test_statements_are_counted() -> None:
    counts = [judge(query, LITE).num_statements for query in ("", "select 1;", "select 1; select 2")]
    assert counts == [0, 1, 2]


def test_only_a_silent_write_has_no_rows() -> None:
    queries = ("insert into t values (1)", "insert into t values (1) returning a", "select 1", "pragma user_version")
    assert [judge(query, LITE).has_rows for query in queries] == [False, None, None, None]


@pytest.mark.parametrize(
    ("backend", "query", "reason"),
    [
        (PG, "explain analyze delete from t", "explain is no query"),
        (PG, "set role x", "set is no query"),
        (PG, "truncate t", "truncate is no query"),
        (LITE, "begin", "begin is no query"),
        (LITE, "with x as (select 1) delete from t", "delete is no query"),
        (PG, "select x -> 'a', jsonb_delete(x) from t", "jsonb_delete() is not known and might write"),
    ],
)
def test_a_reason_names_what_was_written(backend: str, query: str, reason: str) -> None:
    assert judge(query, backend).reason.startswith(reason)


@pytest.mark.parametrize("opening", ["char(", "(date ", "int(decimal("])
@pytest.mark.parametrize("backend", [LITE, PG, "duckdb"])
def test_a_statement_is_read_in_a_bounded_number_of_steps(backend: str, opening: str) -> None:
    closing = ")" * opening.count("(")
    found = judge_anew(f"select {opening * 25}1{closing * 25}", backend)
    assert found.reach is WRITE
    assert found.complaint == "it takes too many steps to read"


def test_nested_casts_are_judged_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0
    walk = exp.Expression.walk

    def counted(node: exp.Expression, *args: Any, **more: Any) -> Iterator[exp.Expr]:
        nonlocal looked_at
        for found in walk(node, *args, **more):
            looked_at += 1
            yield found

    monkeypatch.setattr(exp.Expression, "walk", counted)
    assert judge_anew("select :day" + "::date" * 500, PG).reach is VOLATILE
    assert looked_at < 5_000


def test_the_listed_types_are_sqlglots() -> None:
    for listed in (sql_functions.PURE_TYPES, sql_functions.CLOCK_TYPES, sql_functions.VOLATILE_TYPES):
        assert {name for name in listed if not hasattr(exp, name)} == set()


def test_no_function_is_on_two_lists() -> None:
    assert not sql_functions.PURE_TYPES & sql_functions.VOLATILE_TYPES
    assert not sql_functions.PURE_NAMES & sql_functions.VOLATILE_NAMES
    assert sql_functions.CLOCK_TYPES <= sql_functions.PURE_TYPES
    assert sql_functions.CLOCK_NAMES <= sql_functions.PURE_NAMES


def test_judging_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for backend, query in ((LITE, "vacuum full x y"), (LITE, "select * from t for update"), (PG, "call nothing()")):
        judge(query, backend)
    assert capfd.readouterr() == ("", "")
