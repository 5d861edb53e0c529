"""Relations of a run: inputs and ended tables as queries read them, and the rows that queries give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sundog.errors import FlowError, InputError, RunError
from sundog.ir.logical import InputSource, Table
from sundog.ir.sql_types import ListType, PlainType, StructType, spell_type
from sundog.ir.tables import QueryRows
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.inputs import ALL_ROWS
from sundog.runtime.rows.row_choice import RowChoice
from sundog.runtime.tables.made import made_rows, make
from sundog.runtime.tables.relations import Relations

BIGINT, TEXT, DOUBLE = PlainType("BIGINT"), PlainType("VARCHAR"), PlainType("DOUBLE")


def table_of(sql: str, **more: Any) -> Table:
    return Table("t", QueryRows(sql, parse_query(sql).reads), (), (), **more)


class Bench:
    """Relations over files of a folder."""

    def __init__(self, folder: Path, choice: RowChoice = ALL_ROWS, constants: dict[str, Any] | None = None) -> None:
        inputs = [
            InputSource(path.stem, path=path.name)
            for path in sorted(folder.iterdir())
            if path.suffix in (".csv", ".jsonl", ".json", ".parquet")
        ]
        self.folder = folder
        self.relations = Relations(inputs, folder, None, choice, constants or {})

    def rows(self, sql: str, **more: Any) -> list[Any]:
        table = table_of(sql, **more)
        make(table, self.relations, self.folder / "made")
        source = made_rows(table, self.folder / "made")
        found = [row for batch in source.batches() for _, row in batch]
        source.close()
        (self.folder / "made" / "t.jsonl").unlink()
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "visits.csv").write_text("id,day,mg,ok\n1,2024-01-02,1.5,true\n2,2024-01-03,,false\n3,,7,true\n")
    (tmp_path / "drugs.jsonl").write_text(
        '{"name":"x","codes":[1,2],"maker":{"city":"Rome"}}\n{"name":"y","codes":[],"big":12345678901234567890}\n'
    )
    columns = {"price": pa.array(["1.10", "2.20"]).cast(pa.decimal128(9, 2)), "blob": pa.array([b"a", None])}
    pq.write_table(pa.table(columns), tmp_path / "prices.parquet")
    bench = Bench(tmp_path, constants={"least": 2, "names": ["x"]})
    for name in ("visits", "drugs", "prices"):
        bench.relations.load_input(name)
    yield bench
    bench.relations.close()


def test_inputs_have_the_types_that_their_values_show(bench: Bench) -> None:
    def types(name: str) -> dict[str, str]:
        return {column: spell_type(type) for column, type in bench.relations.columns_of(name)}

    assert types("visits") == {"id": "BIGINT", "day": "VARCHAR", "mg": "DOUBLE", "ok": "BOOLEAN"}
    assert types("drugs") == {
        "name": "VARCHAR", "codes": "HUGEINT[]", "maker": 'STRUCT("city" VARCHAR)', "big": "HUGEINT",
    }  # fmt: skip
    # A blob becomes text in a row, and so it is text in the next query.
    assert types("prices") == {"price": "DECIMAL(9,2)", "blob": "VARCHAR"}


def test_rows_of_a_query_are_those_of_json(bench: Bench) -> None:
    assert bench.rows("select id, mg from visits where ok") == [{"id": 1, "mg": 1.5}, {"id": 3, "mg": 7.0}]
    assert bench.rows("select d.name, u.code from drugs d, unnest(d.codes) as u(code)") == [
        {"name": "x", "code": 1},
        {"name": "x", "code": 2},
    ]
    assert bench.rows("select price, day::date as day from prices, visits where id = 1") == [
        {"price": "1.10", "day": "2024-01-02"},
        {"price": "2.20", "day": "2024-01-02"},
    ]
    assert bench.rows("select big from drugs where big is not null") == [{"big": 12345678901234567890}]


def test_constants_are_parameters(bench: Bench) -> None:
    assert bench.rows("select id from visits where id >= $least") == [{"id": 2}, {"id": 3}]
    assert bench.rows("select name from drugs where list_contains($names, name)") == [{"name": "x"}]


def test_rows_come_in_the_order_of_their_sources(bench: Bench) -> None:
    assert [row["id"] for row in bench.rows("select id from visits order by mg desc nulls last")] == [3, 1, 2]
    joined = "select v.id, d.name from visits v left join drugs d on v.id = length(d.name)"
    assert bench.rows(joined) == [
        {"id": 1, "name": "x"}, {"id": 1, "name": "y"}, {"id": 2, "name": None}, {"id": 3, "name": None},
    ]  # fmt: skip
    grouped = "select ok, count(*) as n from visits group by ok"
    assert bench.rows(grouped) == [{"ok": True, "n": 2}, {"ok": False, "n": 1}]


def test_a_made_table_is_used_as_it_is(bench: Bench) -> None:
    folder = bench.folder / "made"
    folder.mkdir()
    (folder / "t.jsonl").write_text('{"id": 77}\n')
    make(table_of("select id from visits"), bench.relations, folder)
    assert (folder / "t.jsonl").read_text() == '{"id": 77}\n'


def test_tables_that_have_ended_are_read_with_their_types(bench: Bench) -> None:
    drug = StructType((("name", TEXT), ("mg", DOUBLE)))
    columns = (("visit", BIGINT), ("drugs", ListType(drug)), ("note", PlainType("JSON")))
    bench.relations.declare("extracted", columns)
    sql = "select e.visit, d.name, d.mg * 2 as twice, e.note from extracted e, unnest(e.drugs) as u(d)"
    found = bench.relations.describe(table_of(sql), parse_query(sql))
    assert [(name, spell_type(type)) for name, type in found] == [
        ("visit", "BIGINT"), ("name", "VARCHAR"), ("twice", "DOUBLE"), ("note", "JSON"),
    ]  # fmt: skip
    lines = [
        {"visit": 7, "drugs": [{"name": "x", "mg": 1.5}, {"name": "y", "mg": None}], "note": {"a": [1]}},
        {"visit": 8, "drugs": [], "note": None},
        {"visit": 9, "drugs": [{"name": "z", "mg": 2}], "note": "text"},
    ]
    bench.relations.load("extracted", columns, (json.dumps(line).encode() for line in lines))
    assert bench.rows(sql) == [
        {"visit": 7, "name": "x", "twice": 3.0, "note": {"a": [1]}},
        {"visit": 7, "name": "y", "twice": None, "note": {"a": [1]}},
        {"visit": 9, "name": "z", "twice": 4.0, "note": "text"},
    ]


def test_what_only_types_show_to_be_wrong_is_told_before_any_row(bench: Bench) -> None:
    bench.relations.declare("extracted", (("visit", BIGINT), ("id", BIGINT)))
    for sql, what, hint in [
        ("select e.visit,\n e.visits as x from extracted e", "(its line 2)", 'columns near that name: "visit"'),
        ("select id from extracted e join visits v on e.visit = v.id", 'Ambiguous reference to column name "id"', None),
        ("select sum(day) as s from visits", "No function matches", None),
    ]:
        with pytest.raises(FlowError) as raised:
            bench.relations.describe(table_of(sql), parse_query(sql))
        assert what in raised.value.what
        assert hint is None or hint in (raised.value.hint or "")


@pytest.mark.parametrize(
    "sql",
    [
        "select a.*, b.* from visits a join visits b on a.id = b.id",
        "select v.*, 1 as id from visits v",
        'select v.*, 1 as "ID" from visits v',
        "select * from visits v, (select 'x' as ID)",
    ],
)
def test_a_column_that_a_star_gives_again_is_refused(bench: Bench, sql: str) -> None:
    with pytest.raises(FlowError, match=r"the column '(?i:id)' twice"):
        bench.relations.describe(table_of(sql), parse_query(sql))


def test_a_query_that_fails_or_never_ends_leaves_no_table(bench: Bench) -> None:
    with pytest.raises(RunError, match=r"the query of the table 't' \(its line 1\) failed: Could not convert"):
        bench.rows("select day::bigint as n from visits")
    with pytest.raises(RunError, match="gives more than 5 rows"):
        bench.rows("select a.id, b.id as other from visits a, visits b", max_rows=5)
    assert list((bench.folder / "made").iterdir()) == []


def test_the_choice_of_rows_is_that_of_the_first_input(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("id\n" + "".join(f"{number}\n" for number in range(10)))
    for choice, chosen in [(RowChoice(limit=3), 3), (RowChoice(limit=8, sample=4), 4), (RowChoice(sample=99), 10)]:
        bench = Bench(tmp_path, choice)
        bench.relations.load_input("a")
        bench.relations.load_input("b")
        found = [row["id"] for row in bench.rows("select id from a")]
        picked = choice.chosen(choice.num_candidates(10))
        assert found == (list(range(chosen)) if picked is None else sorted(picked))
        assert len(bench.rows("select id from b")) == 10
        bench.relations.close()


def test_an_input_with_bad_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": "\\ud800"}\n')
    with pytest.raises(InputError, match="1 rows of input 'a' hold what no value can be"):
        Bench(tmp_path).relations.load_input("a")
