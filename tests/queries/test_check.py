"""Refused queries: sentence, hint and place of each refusal. `^` marks the place in the text."""

from __future__ import annotations

import pytest

from sundog.queries.check import complaints_of
from sundog.queries.parsed import UnreadableQuery, parse_query

KNOWN = ("visits", "extracted", "drugs")
CONSTANTS = ("since",)
ANY_ROWS = "limit takes any rows of a set that has no order"
SAY_ORDER = "say which rows come first: order by"
NOT_A_SELECT = "a table's query is one select, and this is none: "
ONLY_TABLES = "a query reads inputs and tables, and not what {}() gives"
NAME_THE_FILE = "name the file under inputs, and read the input"
NO_TIME = "write the time as a constant of the flow"
NO_NAME = "write $NAME, where NAME is a constant of the flow"
NAMES = "known here: drugs, extracted, visits"
UNORDERED = "{}() depends on the order of rows, and here they have none"
TWICE = "give one of them another name: ... as NAME"
PIVOT = "write sum(x) filter (where kind = 'a') as a for each column"


def placed(marked: str) -> tuple[str, int]:
    sql = marked.replace("^", "", 1)
    return sql, marked.index("^")


@pytest.mark.parametrize(
    ("marked", "what", "hint"),
    [
        ("^", "the query is empty", "write a select"),
        ("^ -- nothing", "the query is empty", "write a select"),
        ("select 1 as x^; select 2 as y", "a table's query is one select, and these are 2 statements",
         "make a table of each"),
        ("^insert into visits values (1) returning id", f"{NOT_A_SELECT}it writes rows", None),
        ("^with v as (select 1 as id) insert into visits from v", f"{NOT_A_SELECT}it writes rows", None),
        ("^copy visits to 'x.csv'", f"{NOT_A_SELECT}it writes a file", None),
        ("^pragma version", f"{NOT_A_SELECT}it changes a setting", None),
        ("^attach 'x.db'", f"{NOT_A_SELECT}it opens a database", None),
        ("^create table x as select 1", f"{NOT_A_SELECT}it makes a table", None),
        ("^drop table visits", f"{NOT_A_SELECT}it drops a table", None),
        ("^describe visits", f"{NOT_A_SELECT}it begins with 'describe'", None),
        ("^explain select 1", f"{NOT_A_SELECT}it begins with 'explain'", None),
        ("^values (1), (2)", f"{NOT_A_SELECT}it begins with 'values'", None),
        ("^pivot visits on x using sum(y)", f"{NOT_A_SELECT}the columns of a pivot depend on the rows", None),
        ("^selec id from visits", f"{NOT_A_SELECT}it begins with 'selec'", None),
        ("select id frm ^visits where x", "the query cannot be read: 'visits' is not expected here", None),
        ("select id,\n  é ü ^w from visits", "the query cannot be read: 'w' is not expected here", None),
        ("select id from visits where ^(", "the query cannot be read: something is missing at '('", None),
        ("^select 'id from visits", "the query cannot be split into words: a quote or a comment is not closed", None),
        ("^select " + 3000 * "(" + "1" + 3000 * ")", "the query is nested too deeply", "split it into tables"),
    ],
)  # fmt: skip
def test_what_is_no_single_select_is_refused(marked: str, what: str, hint: str | None) -> None:
    sql, offset = placed(marked)
    with pytest.raises(UnreadableQuery) as caught:
        parse_query(sql)
    assert (caught.value.what, caught.value.hint, caught.value.offset) == (what, hint, offset)


@pytest.mark.parametrize(
    ("marked", "what", "hint"),
    [
        ("select id from ^extractd", "there is no table or input 'extractd'", "did you mean 'extracted'?"),
        ("select id from visits where id in (select id from ^zzz)", "there is no table or input 'zzz'", NAMES),
        ("select id from ^Visits", "there is no table or input 'Visits'", "did you mean 'visits'?"),
        ("select id from ^s.visits", "'s.visits' is outside of the flow", "a query reads inputs and tables only"),
        ("select id from ^'x.csv'", "there is no table or input 'x.csv'", NAME_THE_FILE),
        ("select * from ^read_csv('x.csv')", ONLY_TABLES.format("read_csv"), NAME_THE_FILE),
        ("select * from ^glob('*') as g", ONLY_TABLES.format("glob"), NAME_THE_FILE),
        ("select * from visits, ^query_table('drugs') as g", ONLY_TABLES.format("query_table"), NAME_THE_FILE),
        ("with ^visits as (select 1 as a) select a from visits",
         "'visits' is a part of the query, and a table or input of the flow too", "give the part another name"),
        ("with recursive ^t as (select 1 as a union all select a + 1 from t) select a from t",
         "a query does not call itself (recursive)", "write the levels out; closures are what `resolve` makes"),
        ("select id, ^random() as r from visits", "random() may give another table each time",
         "order by hash(id) for a mixed order that stays the same"),
        ("select id, ^\"random\"() as r from visits", "random() may give another table each time",
         "order by hash(id) for a mixed order that stays the same"),
        ("select id, main.^random() as r from visits", "random() may give another table each time",
         "order by hash(id) for a mixed order that stays the same"),
        ("select ^nextval('s') as n from visits", "nextval() may give another table each time", "leave it out"),
        ("select id from visits where ^uuid() = id", "uuid() may give another table each time", "leave it out"),
        ("select ^getvariable('x') as x from visits", "getvariable() may give another table each time", "leave it out"),
        ("select ^now() as t from visits", "now reads the clock", NO_TIME),
        ("select ^current_date as t from visits", "current_date reads the clock", NO_TIME),
        ("select 1 as x from visits where t > ^CURRENT_TIMESTAMP", "current_timestamp reads the clock", NO_TIME),
        ("select age(t, u) as a, ^age(t) as b from visits", "age reads the clock", NO_TIME),
        ("select id from visits using sample ^10%", "a sample is another one each time",
         "where hash(id) % 100 < 5 takes five of a hundred rows, the same ones each time"),
        ("select id from visits tablesample ^5%", "a sample is another one each time",
         "where hash(id) % 100 < 5 takes five of a hundred rows, the same ones each time"),
        ("select v.id from visits v join drugs d on v.id = d.id limit ^3", ANY_ROWS, SAY_ORDER),
        ("select v.id from visits v, unnest(v.l) as u(x) limit ^3", ANY_ROWS, SAY_ORDER),
        ("select distinct id from visits limit ^3", ANY_ROWS, SAY_ORDER),
        ("select id from visits union select id from drugs limit ^3", ANY_ROWS, SAY_ORDER),
        ("select id from visits except select id from drugs limit ^3", ANY_ROWS, SAY_ORDER),
        ("select id, count(*) as n from visits group by id limit ^3", ANY_ROWS, SAY_ORDER),
        ("select id, count(*) as n from visits group by id offset ^3", ANY_ROWS, SAY_ORDER),
        ("with t as (select id from visits) select id from t limit ^3", ANY_ROWS, SAY_ORDER),
        ("select id from (select distinct id from visits limit ^3) as t", ANY_ROWS, SAY_ORDER),
        ("select distinct on (^id) id, t from visits", "distinct on keeps any row of those that are equal",
         "say which row is kept: order by"),
        ("select ^list(v.id) as l from visits v join drugs d on v.id = d.id", UNORDERED.format("list"),
         "write list(... order by ...)"),
        ("select ^string_agg(v.id, ',') as l from visits v, drugs d", UNORDERED.format("string_agg"),
         "write string_agg(... order by ...)"),
        ("select ^arg_max(v.id, d.x) as l from visits v, drugs d", UNORDERED.format("arg_max"),
         "write arg_max(... order by ...)"),
        ("select ^first(x) as l from (select distinct x from visits) as t", UNORDERED.format("first"),
         "write first(... order by ...)"),
        ("select d.x.^list() as l from visits v, drugs d", UNORDERED.format("list"), "write list(... order by ...)"),
        ("select ^any_value(v.id) over (partition by v.k) as g from visits v, drugs d", UNORDERED.format("any_value"),
         "write any_value(... order by ...)"),
        ("select ^rowid from visits", "rowid is no column of a table",
         "give the rows a number of your own: row_number() over (order by ...)"),
        ("select t as a from visits v where ^v.rowid = 3", "rowid is no column of a table",
         "give the rows a number of your own: row_number() over (order by ...)"),
        ("select ^id as __k0 from visits", "names that begin with __ are reserved: '__k0'", "rename it"),
        ("select id, ^count(*) from visits group by id", "column 2 of the query has no name",
         "write ... as NAME, as what DuckDB calls it may change"),
        ("select ^? as x from visits", "the parameter '?' has no name", NO_NAME),
        ("select ^$1 as x from visits", "the parameter '$1' has no name", NO_NAME),
        ("select $since as x, ^$sinc as y from visits", "there is no constant 'sinc'", "did you mean 'since'?"),
        ("^select id from visits for update", "a query locks nothing (lock)", "a query only selects"),
        ("select * from (pivot ^visits on x using sum(y))", "the columns of a pivot depend on the rows", PIVOT),
        ("select * from visits pivot (^sum(y) for x in ('a'))", "the columns of a pivot depend on the rows", PIVOT),
        ("select * from (summarize ^visits)", "'summarize' is no table", "select from inputs and tables"),
        ("select * from (describe ^visits)", "'describe' is no table", "select from inputs and tables"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(marked: str, what: str, hint: str) -> None:
    sql, offset = placed(marked)
    found = [(one.what, one.hint, one.offset) for one in complaints_of(parse_query(sql), KNOWN, CONSTANTS)]
    assert found == [(what, hint, offset)]


@pytest.mark.parametrize("sql", ["select id, id from visits", "select id, t as ID from visits union all from drugs"])
def test_a_column_that_is_given_twice_is_told_twice(sql: str) -> None:
    found = complaints_of(parse_query(sql), KNOWN)
    assert [(one.what.lower(), one.hint) for one in found] == [("the query gives the column 'id' twice", TWICE)] * 2


def test_all_mistakes_are_told_in_the_order_of_the_text() -> None:
    sql = "select random() as r, now() as t, ? as p from zzz"
    found = complaints_of(parse_query(sql), KNOWN)
    assert [one.what.split()[0] for one in found] == ["random()", "now", "the", "there"]


@pytest.mark.parametrize(
    "sql",
    [
        "select v.id, d.name from extracted v, unnest(v.drugs) as u(d) where d.mg > $since",
        "from visits select id",
        "select id from visits limit 3",
        "select max(id) as m from visits limit 1",
        "select id from visits union all select id from drugs limit 3",
        "select id from (select id from visits order by t) as s limit 3",
        "select v.id from visits v join drugs d on v.id = d.id order by v.id limit 3",
        "select distinct on (id) id, t from visits order by id, t",
        "select list(v.id order by v.id) as l, max(d.x) as m from visits v, drugs d",
        "select list(id) as l from visits",
        "select first_value(v.id) over (partition by v.x order by v.y) as f from visits v, drugs d",
        "select v.current_date as now, age(t, u) as age from visits v",
        "select x from range(3) as r(x), (values (1), (2)) as v(y)",
        "select id from visits semi join drugs on visits.id = drugs.id",
        "select * from visits unpivot (x for n in (a, b))",
        "select * exclude (id), unnest(l) from visits",
        "with t as (select * from visits) select t.id from t, T as u order by 1",
        "select id from visits; -- done",
    ],
)
def test_what_means_the_same_each_time_is_accepted(sql: str) -> None:
    assert complaints_of(parse_query(sql), KNOWN, CONSTANTS) == []


def test_a_query_of_this_program_may_say_rowid() -> None:
    assert complaints_of(parse_query("select rowid as __id from visits"), KNOWN, is_made=True) == []


def test_a_query_tells_what_it_reads() -> None:
    query = parse_query(
        "with t as (select id from visits where x = $b)\nselect 'é' as e, t.id from t join drugs on $a = $b"
        " where exists (select 1 from visits as v where v.id = t.id);;"
    )
    assert query.reads == ("visits", "drugs")
    assert query.parameters == ("b", "a")
    assert query.sql.endswith("v.id = t.id)")
