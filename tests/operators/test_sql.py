"""SQL steps on real SQLite files."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, make_url, text

from sundog.errors import FlowError, OperatorError
from sundog.ir.physical import Sharing
from sundog.operators.sql import database as sql_database
from sundog.operators.sql.database import Database, Statement
from sundog.operators.sql.operator import SQLOperator
from sundog.operators.sql.spec import SQLSpec
from sundog.operators.sql.url import resource_of, reveal_url
from sundog.secrets import Secrets
from tests.operators.conformance import SECRET, SECRET_VALUE, Case, Context, OperatorConformance, Subject, until
from tests.operators.shop import URL, fault, names, run, spec

ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"


def is_locked(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "shop.db", isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("begin immediate")
        except sqlite3.OperationalError:
            return True
        connection.execute("rollback")
        return False


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self, folder: Path) -> Subject:
        query = "select name from item where id = :id"
        row = {"row": {"id": 1, "tree": {"a": 1}}}
        hidden = folder / SECRET_VALUE
        hidden.parent.mkdir()
        shutil.copy(folder / "shop.db", hidden)
        return Subject(
            operator=SQLOperator(folder),
            good=Case(spec(query, params={"id": "{{ row.id }}"}), row),
            other=Case(spec(query, params={"id": 2})),
            unbound=(
                Case(spec("select :half", params={"half": "{{ row.half }}"}), {"row": {"half": "\ud800"}}),
                Case(spec(query, params={"id": "{{ row.nix }}"}), row),
                Case(spec(query, params={"id": "{{ row.tree }}"}), row),
                Case(spec(query, params={"id": [["{{ row.id }}"]]}), row),
            ),
            faulty=(
                Case(spec("select * from nowhere")),
                Case(spec("select 1", database="sqlite:///nowhere.db")),
                Case(spec("select 1", database="sqlite:///${env:SUNDOG_UNSET}")),
                Case(spec("selec nonsense")),
                Case(spec("insert into item (name) values ('tea')")),
                Case(spec("select :number", params={"number": 2**70})),
                Case(spec("select :ids", params={"ids": [1, 2]})),
                Case(spec("select * from nowhere", database=f"sqlite:///{SECRET}")),
            ),
            # It holds the write lock for as long as it runs.
            endless=Case(spec(f"insert into item (name) {ENDLESS}")),
            num_running=lambda: int(is_locked(folder)),
            secret=Case(spec(query, database=f"sqlite:///{SECRET}", params={"id": 1})),
            effects=(Case(spec("delete from item where id = :id", params={"id": 99})),),
        )


def test_rows_are_dicts_of_json_types(folder: Path) -> None:
    assert run(folder, spec("select * from item order by id")) == [
        {"id": 1, "name": "tea", "price": 2.5, "photo": "AP8="},
        {"id": 2, "name": "milk", "price": None, "photo": None},
    ]


def test_parameters_keep_their_types(folder: Path) -> None:
    params = {"i": "{{ row.i }}", "f": "{{ row.f }}", "n": "{{ row.n }}", "s": "{{ row.i }}!", "c": 5}
    query = "select typeof(:i) i, typeof(:f) f, typeof(:n) n, typeof(:s) s, typeof(:c) c"
    value = run(folder, spec(query, params=params), {"row": {"i": 1, "f": 0.5, "n": None}})
    assert value == [{"i": "integer", "f": "real", "n": "null", "s": "text", "c": "integer"}]


@pytest.mark.parametrize(("ids", "found"), [([1, 2], ["tea", "milk"]), ([2], ["milk"]), ([], [])])
def test_a_list_stands_for_its_elements(folder: Path, ids: list[int], found: list[str]) -> None:
    step = spec("select name from item where id in :ids order by id", params={"ids": "{{ row.ids }}"})
    assert [row["name"] for row in run(folder, step, {"row": {"ids": ids}})] == found


def test_a_write_counts_its_rows_and_stays(folder: Path) -> None:
    step = spec("update item set name = name || :x", params={"x": "!"})
    assert run(folder, step) == [{"num_rows": 2}]
    assert names(folder) == ["tea!", "milk!"]


def test_a_write_may_return_rows(folder: Path) -> None:
    step = spec("insert into item (name) values (:name) returning id", params={"name": "rye"})
    assert run(folder, step) == [{"id": 3}]
    assert names(folder) == ["tea", "milk", "rye"]


def test_ddl_counts_nothing(folder: Path) -> None:
    assert run(folder, spec("create table other (a)")) == [{"num_rows": None}]


def test_too_many_rows_fail_the_row_and_undo_the_write(folder: Path) -> None:
    assert "more than 1 rows" in fault(folder, spec("select * from item", max_rows=1)).what
    assert len(run(folder, spec("select * from item", max_rows=2))) == 2
    assert "more than 1 rows" in fault(folder, spec("delete from item returning id", max_rows=1)).what
    assert names(folder) == ["tea", "milk"]


def test_two_columns_of_one_name_are_an_error(folder: Path) -> None:
    assert "'id'" in fault(folder, spec("select a.id, b.id from item a, item b")).what


@pytest.mark.parametrize("query", ["select 1", "create table t (a)"])
def test_a_missing_file_is_an_error_and_stays_missing(tmp_path: Path, query: str) -> None:
    error = fault(tmp_path, spec(query))
    assert str(tmp_path / "shop.db") in error.what
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_starts_at_the_flows_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert run(folder, spec("select count(*) as n from item")) == [{"n": 2}]
    assert run(folder, spec("select count(*) as n from item", database=f"sqlite:///{folder}/shop.db")) == [{"n": 2}]


@pytest.mark.parametrize(
    ("database", "query", "pool", "max_concurrency"),
    [
        (URL, "select 1", "sqlite:shop.db", 8),
        (URL, "delete from item", "sqlite:shop.db (writes)", 1),
        ("duckdb:///shop.duckdb", "select 1", "duckdb:shop.duckdb", 8),
        ("postgresql+psycopg://me@db/shop", "select 1", "postgresql:db/shop", 32),
        ("postgresql+psycopg://me@db/shop", "delete from item", "postgresql:db/shop", 32),
    ],
)
def test_a_database_takes_so_many_calls_where_the_flow_says_nothing(
    folder: Path, database: str, query: str, pool: str, max_concurrency: int
) -> None:
    operator = SQLOperator(folder)
    traits = operator.traits(spec(query, database))
    assert (traits.pool, traits.max_concurrency) == (pool, max_concurrency)
    assert operator.pool_at(operator.address_of(spec(query, database))) == pool.removesuffix(" (writes)")


def test_traits_of_reads_and_writes(folder: Path) -> None:
    traits = SQLOperator(folder).traits
    read, volatile, write = traits(spec("select 1")), traits(spec("select random()")), traits(spec("delete from item"))
    assert [found.sharing for found in (read, volatile, write)] == [Sharing.RUN, Sharing.NEVER, Sharing.NEVER]
    assert [found.is_effect for found in (read, volatile, write)] == [False, False, True]
    assert {found.resource for found in (read, volatile, write)} == {"sqlite:shop.db"}
    assert read.pool == volatile.pool != write.pool
    assert (read.max_concurrency, write.max_concurrency) == (8, 1)
    assert volatile.reason == "read-only: rand() differs at each call"


def test_one_database_is_one_resource(folder: Path) -> None:
    urls = [URL, "sqlite:///./shop.db", "sqlite+pysqlite:///x/../shop.db", f"sqlite:///{folder}/shop.db"]
    assert {resource_of(url, folder) for url in urls} == {"sqlite:shop.db"}
    assert resource_of("sqlite:////other/shop.db", folder) == "sqlite:/other/shop.db"
    server = "postgresql://${env:USER}:${env:PASSWORD}@db.org:5433/shop?sslmode=require"
    assert resource_of(server, folder) == "postgresql:db.org:5433/shop"
    assert resource_of("mysql+pymysql://u@${env:HOST_NAME}/shop", folder) == "mysql:${env:HOST_NAME}/shop"


def test_a_secret_in_a_url_needs_no_encoding() -> None:
    secrets = Secrets({"DB_USER": "user@work", "DB_PASSWORD": "p@ss:/w%rd", "DB_CERT": "/a/b.pem"})
    url = reveal_url("postgresql://${env:DB_USER}:${env:DB_PASSWORD}@db.org/shop?sslcert=${env:DB_CERT}", secrets)
    assert (url.username, url.password, url.host, url.database) == ("user@work", "p@ss:/w%rd", "db.org", "shop")
    assert dict(url.query) == {"sslcert": "/a/b.pem"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query": "select {{ row.id }}"}, "no template"),
        ({"query": "select 1; select 2"}, "2 statements"),
        ({"query": "-- nothing"}, "0 statements"),
        ({"query": "select :idd", "params": {"id": 1}}, "reads :idd"),
        ({"query": "select 1", "params": {"id": 1}}, "does not read the parameter 'id'"),
        ({"query": "select 1", "database": "shop.db"}, "no database URL"),
        ({"query": "select 1", "database": "${env:DATABASE_URL}"}, "no database URL"),
        ({"query": "select 1", "database": "nosuch://host/db"}, "'nosuch'"),
        ({"query": "select 1", "database": "postgresql://user:pass@host/db"}, "password stands in the flow"),
        ({"query": "select 1", "database": "postgresql+asyncpg://host/db"}, "async driver"),
        ({"query": "select 1", "database": "mysql+oursql://host/db"}, "no driver|not installed"),
        ({"query": "select 1", "database": "postgresql://host:port/db"}, "no database URL"),
        ({"query": "select 1", "database": "sqlite://"}, "in memory"),
        ({"query": "select 1", "database": "sqlite:///:memory:"}, "in memory"),
        ({"query": "select 1", "database": "sqlite:///shop.db?mode=rwc"}, "no options"),
    ],
)
def test_mistakes_found_before_the_run(folder: Path, fields: dict[str, Any], message: str) -> None:
    step = SQLSpec.model_validate({"database": URL, **fields})
    with pytest.raises(FlowError, match=message) as caught:
        SQLOperator(folder).check(step, {})
    assert caught.value.hint
    assert "pass@" not in str(caught.value)


def test_a_missing_parameter_gets_a_suggestion(folder: Path) -> None:
    with pytest.raises(FlowError) as caught:
        SQLOperator(folder).check(spec("select :filing_id", params={"filingid": 1}), {})
    assert "did you mean 'filingid'?" in (caught.value.hint or "")


def test_a_parameter_before_a_double_colon_gets_a_suggestion(folder: Path) -> None:
    with pytest.raises(FlowError) as caught:
        SQLOperator(folder).check(spec("select :day::date", params={"day": 1}), {})
    assert caught.value.hint == "write cast(:day as ...) in place of :day::..."


def test_a_colon_in_a_text_can_be_written(folder: Path) -> None:
    assert run(folder, spec(r"select '\:name' as a, '12:30' as b")) == [{"a": ":name", "b": "12:30"}]


@pytest.mark.parametrize("query", [ENDLESS, f"insert into item (name) {ENDLESS}"])
def test_a_statement_past_its_time_is_stopped(folder: Path, query: str) -> None:
    error = fault(folder, spec(query), Context(timeout_s=0.05))
    assert "within 0.05 s" in error.what
    assert (error.retryable, error.is_outcome_unknown) == (True, False)
    assert names(folder) == ["tea", "milk"]
    assert not is_locked(folder)


def test_a_locked_database_may_be_tried_again(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "shop.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        error = fault(folder, spec("delete from item"), Context(timeout_s=0.05))
        other.execute("rollback")
    assert (error.retryable, error.is_outcome_unknown) == (True, False)
    assert names(folder) == ["tea", "milk"]


def test_a_refused_write_is_known_and_final(folder: Path) -> None:
    error = fault(folder, spec("insert into item (name) values ('tea')"))
    assert error.what == "sqlite: UNIQUE constraint failed: item.name"
    assert (error.retryable, error.is_outcome_unknown) == (False, False)


def test_writers_at_once_all_write(folder: Path) -> None:
    step = spec("insert into item (name) values (:name)", params={"name": "{{ row.name }}"})

    async def all_at_once() -> None:
        operator = SQLOperator(folder)
        calls = [operator.bind(step, {"row": {"name": f"n{number}"}}, {}) for number in range(24)]
        await asyncio.gather(*(operator.run(call, Context()) for call in calls))
        await operator.close()

    asyncio.run(all_at_once())
    assert len(names(folder)) == 26


def test_messages_of_the_database_hold_no_secret(folder: Path) -> None:
    context = Context()
    context.secrets.reveal(SECRET)
    error = fault(folder, spec(f'select * from "{SECRET_VALUE}"'), context)
    assert error.what == f"sqlite: no such table: {SECRET}"


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    opened = Database(make_url(URL), folder, max_connections=2)
    yield opened
    opened.close()


def test_a_read_cannot_write_even_if_it_was_misjudged(folder: Path, database: Database) -> None:
    lie = Statement(text("delete from item"), {}, is_write=False, max_rows=10)
    with pytest.raises(OperatorError, match="readonly database"):
        asyncio.run(database.execute(lie, timeout_s=5))
    assert names(folder) == ["tea", "milk"]


def test_a_write_that_could_not_be_stopped_in_time_is_not_committed_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(make_url(URL), folder, max_connections=1, is_write=True)
    monkeypatch.setattr(sql_database, "STOP_WAIT_S", 0.05)
    go_on = threading.Event()

    def hold(*_: object) -> None:
        go_on.wait(10)

    event.listen(database._engine, "before_cursor_execute", hold)
    write = Statement(text("delete from item"), {}, is_write=True, max_rows=10)

    async def give_up() -> None:
        with pytest.raises(OperatorError, match="could not be stopped") as caught:
            await database.execute(write, timeout_s=0.05)
        assert (caught.value.retryable, caught.value.is_outcome_unknown) == (True, False)
        go_on.set()
        await until(lambda: database._engine.pool.checkedout() == 0)  # type: ignore[attr-defined]  # a QueuePool

    asyncio.run(give_up())
    database.close()
    assert names(folder) == ["tea", "milk"]


def select(query: str) -> Statement:
    return Statement(text(query), {}, is_write=False, max_rows=10)


def test_only_the_late_statement_of_a_connection_is_interrupted(folder: Path) -> None:
    database = Database(make_url(URL), folder, max_connections=1)

    async def statements() -> list[dict[str, Any]]:
        with pytest.raises(OperatorError, match="two columns") as half_read:
            await database.execute(select("select id as a, name as a from item"), timeout_s=5)
        assert half_read.value  # whoever holds the failure holds its result too
        with pytest.raises(OperatorError, match="was stopped"):
            await database.execute(select(ENDLESS), timeout_s=0.05)
        return await database.execute(select("select name from item order by id"), timeout_s=5)

    assert asyncio.run(statements()) == [{"name": "tea"}, {"name": "milk"}]
    database.close()


def test_a_connection_that_was_given_back_is_not_interrupted(database: Database) -> None:
    attempt = database.attempt(select("select 1"), 5)
    interrupted = []

    class Refusing:
        def execute(self, statement: str) -> None:
            raise OperatorError(f"refused: {statement}")

        def interrupt(self) -> None:
            interrupted.append(self)

    class Connected:
        driver_connection = Refusing()

    class Lent:
        connection = Connected()

    class Lending:
        @contextmanager
        def lent(self, is_stopped: Callable[[], bool]) -> Iterator[Lent]:
            yield Lent()

        def wake(self) -> None:
            pass

    attempt.connections = Lending()
    with pytest.raises(OperatorError, match="refused"):
        attempt.run()
    attempt.stop()
    assert not interrupted


@pytest.mark.parametrize(
    ("backend", "is_write", "is_unknown"), [("sqlite", True, False), ("mysql", True, True), ("mysql", False, False)]
)
def test_a_write_past_its_time_may_have_acted_where_not_all_is_undone(
    database: Database, backend: str, *, is_write: bool, is_unknown: bool
) -> None:
    database.backend = backend  # as if its statements could be kept in part
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    with pytest.raises(OperatorError, match="was stopped") as caught:
        asyncio.run(database.execute(Statement(text(endless), {}, is_write, max_rows=10), timeout_s=0.05))
    assert (caught.value.retryable, caught.value.is_outcome_unknown) == (not is_unknown, is_unknown)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, list[str]]]:
    """A database, and every statement's text as the driver got it."""
    folder = tmp_path_factory.mktemp("watched")
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.execute("create table item (id integer primary key, name text)")
        connection.execute("insert into item values (1, 'tea'), (2, 'milk')")
        connection.commit()
    opened = Database(make_url(URL), folder, max_connections=2)
    texts: list[str] = []

    def keep(connection: object, cursor: object, statement: str, *_: object) -> None:
        texts.append(statement)

    event.listen(opened._engine, "before_cursor_execute", keep)
    yield opened, texts
    opened.close()


_HOSTILE = st.sampled_from(["'", "''", "' or 1=1 --", "1; drop table item", ":v", "?", "%s", "\\", "\0", "{{ row }}"])


@settings(max_examples=100, deadline=None)
@given(value=st.text() | _HOSTILE | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none())
def test_a_value_never_changes_the_statement(value: Any, watched: tuple[Database, list[str]]) -> None:
    database, texts = watched
    operator = SQLOperator(Path())
    operator._databases[URL, False] = database
    step = spec("select :v as v, name from item where id = 1 or name = :v", params={"v": "{{ row.v }}"})
    call = operator.bind(step, {"row": {"v": value}}, {})
    (row,) = asyncio.run(operator.run(call, Context())).value
    assert row == {"v": value, "name": "tea"}
    assert set(texts) == {"select ? as v, name from item where id = 1 or name = ?"}


def test_a_flow_without_sql_does_not_wait_for_its_libraries() -> None:
    code = "import sys, sundog.operators.sql.operator; print(sorted({'sqlalchemy', 'sqlglot'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
