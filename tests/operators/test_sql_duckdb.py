"""SQL steps on real DuckDB files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sundog.errors import FlowError, OperatorError
from sundog.ir.physical import Sharing
from sundog.operators.base import Finding, Inspection
from sundog.operators.sql.duckdb_file import DuckDBDatabase
from sundog.operators.sql.judge import Judgement, Reach
from sundog.operators.sql.operator import SQLOperator
from sundog.operators.sql.spec import SQLSpec
from sundog.secrets import Secrets
from tests.operators.calls import fault_of_step, run_step
from tests.operators.conformance import SECRET, SECRET_VALUE, Case, Context, OperatorConformance, Subject

URL = "duckdb:///shop.duckdb"
ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) as n from c"


def spec(query: str, database: str = URL, **fields: Any) -> SQLSpec:
    return SQLSpec.model_validate({"database": database, "query": query, **fields})


def run(folder: Path, step: SQLSpec, scope: Any = None) -> Any:
    return run_step(SQLOperator(folder), step, scope, None)


def fault(folder: Path, step: SQLSpec, context: Context | None = None) -> OperatorError:
    return fault_of_step(SQLOperator(folder), step, context)


def make(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table item (id integer primary key, name varchar unique, price decimal(5, 2))")
        connection.execute("insert into item values (1, 'tea', 2.50), (2, 'milk', null)")
        connection.execute("create sequence numbers")


def names(folder: Path) -> list[str]:
    with duckdb.connect(str(folder / "shop.duckdb"), read_only=True) as connection:
        return [name for (name,) in connection.execute("select name from item order by id").fetchall()]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    make(tmp_path / "shop.duckdb")
    return tmp_path


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self, shop: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
        running: list[None] = []
        execute = DuckDBDatabase.execute

        async def counted(self: DuckDBDatabase, statement: Any, *, timeout_s: float) -> Any:
            running.append(None)
            try:
                return await execute(self, statement, timeout_s=timeout_s)
            finally:
                running.pop()

        monkeypatch.setattr(DuckDBDatabase, "execute", counted)
        (shop / SECRET_VALUE).parent.mkdir()
        make(shop / SECRET_VALUE)
        query = "select name from item where id = :id"
        row = {"row": {"id": 1, "tree": {"a": 1}}}
        return Subject(
            operator=SQLOperator(shop),
            good=Case(spec(query, params={"id": "{{ row.id }}"}), row),
            other=Case(spec(query, params={"id": 2})),
            unbound=(
                Case(spec(query, params={"id": "{{ row.nix }}"}), row),
                Case(spec(query, params={"id": "{{ row.tree }}"}), row),
            ),
            faulty=(
                Case(spec("select * from nowhere")),
                Case(spec("select 1", database="duckdb:///nowhere.duckdb")),
                Case(spec("select 1", database="duckdb:///${env:SUNDOG_UNSET}")),
                Case(spec("selec nonsense")),
                Case(spec("insert into item (id, name) values (3, 'tea')")),
                Case(spec("select * from nowhere", database=f"duckdb:///{SECRET}")),
            ),
            endless=Case(spec(f"insert into item (id) {ENDLESS}")),
            num_running=lambda: len(running),
            secret=Case(spec(query, database=f"duckdb:///{SECRET}", params={"id": 1})),
            effects=(Case(spec("delete from item where id = :id", params={"id": 99})),),
        )


@pytest.mark.parametrize(
    ("query", "params", "value"),
    [
        ("select * from item where id = 1", {}, [{"id": 1, "name": "tea", "price": "2.50"}]),
        ("select price from item where id = 2", {}, [{"price": None}]),
        ("select name from item where id in :ids", {"ids": [2, 9]}, [{"name": "milk"}]),
        ("select name from item where id in :ids", {"ids": []}, []),
        ("select :a as a, :b as b, :a as c", {"a": "x", "b": 1}, [{"a": "x", "b": 1, "c": "x"}]),
        ("select ':a' as a, 'it''s 12:30' as b, 1::int as c", {}, [{"a": ":a", "b": "it's 12:30", "c": 1}]),
        ("select [1, null] as l, {'a': 'x'} as s", {}, [{"l": [1, None], "s": {"a": "x"}}]),
        ("select '\\x00'::blob as b", {}, [{"b": "AA=="}]),
        ("from item select name limit 1", {}, [{"name": "tea"}]),
        ("update item set price = 1", {}, [{"num_rows": 2}]),
        ("insert into item (id, name) values (3, 'rye') returning id", {}, [{"id": 3}]),
        ("delete from item where id = 9 returning id as n", {}, []),
        ("create table other (a int)", {}, [{"num_rows": None}]),
        ("select nextval('numbers') as n", {}, [{"n": 1}]),
    ],
)  # fmt: skip
def test_values(shop: Path, query: str, params: dict[str, Any], value: Any) -> None:
    assert run(shop, spec(query, params=params)) == value


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("interval '1 month'", "is of type INTERVAL, which would be rounded"),
        ("[timestamp_ns '2020-01-01 00:00:00.123456789']", "is of type TIMESTAMP_NS[], which would be rounded"),
        ("'infinity'::date", "holds 9999-12-31, or an infinity"),
        ("{'a': ['-infinity'::timestamp]}", "holds 0001-01-01 00:00:00, or an infinity"),
        ("'infinity'::timestamptz", "or an infinity"),
        ("'nan'::double", "has no JSON form"),
    ],
)
def test_what_the_driver_would_change_is_an_error(shop: Path, value: str, what: str) -> None:
    found = fault(shop, spec(f"select {value} as x"))
    assert what in found.what
    assert found.hint == "cast it to text in the query"


@pytest.mark.parametrize(
    "query",
    [
        "select * from '{folder}/other.csv'",
        "select * from read_text('{folder}/other.csv')",
        "select * from read_csv('https://example.org/a.csv')",
        "select * from step",
        "copy item to '{folder}/new.csv'",
        "attach '{folder}/new.duckdb'",
        "install vss",
        "load vss",
        "set enable_external_access = true",
    ],
)
def test_a_statement_sees_nothing_but_the_file(shop: Path, query: str) -> None:
    (shop / "other.csv").write_text("a\n1\n")
    step = spec(query.format(folder=shop))
    assert fault(shop, step).what.startswith("duckdb: ")
    assert sorted(path.name for path in shop.iterdir()) == ["other.csv", "shop.duckdb"]


def test_a_read_cannot_write_even_if_it_was_misjudged(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.operators.sql.judge.judge", lambda query, backend: Judgement(Reach.READ, "a lie"))
    for query in ("delete from item", "create table x (a int)", "select nextval('numbers')"):
        assert "read-only" in fault(shop, spec(query)).what
    assert names(shop) == ["tea", "milk"]


def test_generated_statements_only_read(shop: Path) -> None:
    step = SQLSpec.model_validate({"database": URL, "generated": "{{ sql }}"})
    assert run(shop, step, {"sql": "select name from item order by id desc"}) == [{"name": "milk"}, {"name": "tea"}]
    for text in ("delete from item", "select nextval('numbers')", "copy item to 'x.csv'"):
        with pytest.raises(OperatorError, match="refused"):
            run(shop, step, {"sql": text})


def test_a_generated_result_has_a_largest_size(shop: Path) -> None:
    for long in ("repeat('x', 11000000)", "range(2000000)", "map {'a': repeat('x', 11000000)}"):
        step = SQLSpec.model_validate({"database": URL, "generated": f"select {long} as a"})
        assert fault(shop, step).what == "the query gave more than 10,000,000 bytes"


def test_what_a_statement_puts_on_the_disk_is_bounded(shop: Path) -> None:
    step = spec("select value from duckdb_settings() where name = 'max_temp_directory_size'")
    assert run(shop, step) == [{"value": "3.7 GiB"}]


def test_reads_and_writes_of_one_file_take_turns(shop: Path) -> None:
    read = spec("select count(*) as n from item")
    write = spec("insert into item (id, name) values (:id, :id)", params={"id": "{{ id }}"})

    async def all_at_once() -> list[Any]:
        operator = SQLOperator(shop)
        calls = [
            operator.bind(step, {"id": number}, {})
            for number in range(10, 40)
            for step in ((read, write) if number % 3 == 0 else (read,))
        ]
        outcomes = await asyncio.gather(*(operator.run(call, Context(max_concurrency=4)) for call in calls))
        await operator.close()
        return [outcome.value for outcome in outcomes]

    values = asyncio.run(all_at_once())
    assert values.count([{"num_rows": 1}]) == 10
    assert len(names(shop)) == 12


@pytest.mark.parametrize("query", [ENDLESS, f"insert into item (id) {ENDLESS}"])
def test_a_statement_past_its_time_is_stopped(shop: Path, query: str) -> None:
    found = fault(shop, spec(query), Context(timeout_s=0.05))
    assert "stopped and nothing committed" in found.what
    assert (found.retryable, found.is_outcome_unknown) == (True, False)
    assert names(shop) == ["tea", "milk"]


def test_a_write_that_waits_for_reads_ends_with_its_time(shop: Path) -> None:
    async def wait() -> None:
        operator = SQLOperator(shop)
        read = asyncio.create_task(operator.run(operator.bind(spec(ENDLESS), {}, {}), Context()))
        await asyncio.sleep(0)
        write = operator.bind(spec("delete from item"), {}, {})
        for _ in range(2):
            with pytest.raises(OperatorError, match="nothing committed") as caught:
                await operator.run(write, Context(timeout_s=0.1))
            assert (caught.value.retryable, caught.value.is_outcome_unknown) == (True, False)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        await operator.close()

    asyncio.run(wait())
    assert names(shop) == ["tea", "milk"]


def test_a_file_that_somebody_writes_to_may_be_tried_again(shop: Path) -> None:
    with duckdb.connect(str(shop / "shop.duckdb")):
        found = fault(shop, spec("select 1"))
    assert (found.retryable, found.hint) == (True, "another program, or another run, may have the file open")


def test_traits(shop: Path) -> None:
    traits = SQLOperator(shop).traits
    read, volatile, write = traits(spec("select 1")), traits(spec("select now()")), traits(spec("delete from item"))
    assert [found.sharing for found in (read, volatile, write)] == [Sharing.RUN, Sharing.NEVER, Sharing.NEVER]
    assert {found.resource for found in (read, volatile, write)} == {"duckdb:shop.duckdb"}
    assert (read.pool, write.pool) == ("duckdb:shop.duckdb", "duckdb:shop.duckdb (writes)")
    assert (read.max_concurrency, write.max_concurrency) == (8, 1)
    assert read.files == ("shop.duckdb",)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("duckdb://", "in memory"),
        ("duckdb:///:memory:", "in memory"),
        ("duckdb:///md:shop", "names a file"),
        ("duckdb:///shop.duckdb?access_mode=read_write", "no options"),
        ("duckdb+x:///shop.duckdb", "not supported"),
    ],
)
def test_urls_that_are_no_file(shop: Path, url: str, what: str) -> None:
    with pytest.raises(FlowError, match=what) as caught:
        SQLOperator(shop).check(spec("select 1", url), {})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("query", "what", "is_fatal"),
    [
        ("select name from item where id = :id", None, False),
        ("select nme from item", 'Referenced column "nme" not found', True),
        ("select name from items", "Table with name items does not exist", True),
        ("insert into item (id) values (:id)", None, False),
        ("insrt into item", "syntax error", True),
    ],
)
def test_the_database_looks_at_a_statement_before_it_runs(
    shop: Path, query: str, what: str | None, *, is_fatal: bool
) -> None:
    step = spec(query, params={"id": 1} if ":id" in query else {})

    async def look() -> list[Finding]:
        return list(await SQLOperator(shop).inspect(step, Inspection({}, Secrets({}), timeout_s=5.0)))

    findings = asyncio.run(look())
    assert [what in one.what for one in findings if what is not None] == ([] if what is None else [True])
    assert [one.is_fatal for one in findings] == ([] if what is None else [is_fatal])
