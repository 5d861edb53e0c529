"""Statements that a template gives: read-only ones alone, with the judge's reason for all else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError, OperatorError
from sundog.ir.physical import Sharing
from sundog.operators.base import Inspection
from sundog.operators.sql import generated as sql_generated
from sundog.operators.sql.database import Database
from sundog.operators.sql.generated import MAX_STATEMENT_CHARACTERS, read_only
from sundog.operators.sql.operator import SQLOperator
from sundog.operators.sql.spec import SQLSpec
from sundog.secrets import Secrets
from tests.operators.calls import run_step
from tests.operators.conformance import SECRET, SECRET_VALUE, Case, Context, OperatorConformance, Subject
from tests.operators.shop import URL, names
from tests.operators.test_sql_judge import LITE, PG, STATEMENTS, WRITE

ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"
WRITER = "insert into item (name) values ('gone')"


def spec(database: str = URL, **fields: Any) -> SQLSpec:
    return SQLSpec.model_validate({"database": database, "generated": "{{ made.sql }}", **fields})


def made(statement: Any) -> dict[str, Any]:
    return {"made": {"sql": statement}}


def run(folder: Path, statement: Any, **fields: Any) -> Any:
    return run_step(SQLOperator(folder), spec(**fields), made(statement), None)


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
        running: list[str] = []
        execute = Database.execute

        async def counted(self: Database, statement: Any, *, timeout_s: float) -> Any:
            running.append(str(statement.text))
            try:
                return await execute(self, statement, timeout_s=timeout_s)
            finally:
                running.pop()

        monkeypatch.setattr(Database, "execute", counted)
        (folder / SECRET_VALUE).parent.mkdir()
        hidden = folder / SECRET_VALUE
        hidden.write_bytes((folder / "shop.db").read_bytes())
        return Subject(
            operator=SQLOperator(folder),
            good=Case(spec(), made("select name from item where id = 1")),
            other=Case(spec(), made("select name from item where id = 2")),
            unbound=tuple(
                Case(spec(), made(text)) for text in (None, "", 7, WRITER, "select 1; select 2", "tell me", "\ud800")
            ),
            faulty=(
                Case(spec(), made("select * from nowhere")),
                Case(spec(), made("select :id")),
                Case(spec(max_rows=1), made("select * from item")),
                Case(spec("sqlite:///nowhere.db"), made("select 1")),
            ),
            endless=Case(spec(), made(ENDLESS)),
            num_running=lambda: len(running),
            secret=Case(spec(f"sqlite:///{SECRET}"), made("select name from item where id = 1")),
        )


@pytest.mark.parametrize(("backend", "statement", "reach"), [one for one in STATEMENTS if one[0] in (LITE, PG)])
def test_what_only_reads_passes_and_all_else_is_refused(backend: str, statement: str, reach: int) -> None:
    if reach is not WRITE:
        assert read_only(statement, backend) == statement
        return
    with pytest.raises(OperatorError) as caught:
        read_only(statement, backend)
    assert not caught.value.retryable
    assert caught.value.hint


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("delete from item", "the generated statement is refused: delete is no query"),
        ("REPLACE into item values (1)", "refused: replace is no query"),
        ("vacuum", "refused: vacuum is no query"),
        ("-- why\nexplain query plan select 1", "refused: explain is no query"),
        ("call f()", "refused: call is no query"),
        ("pragma user_version", "refused: pragma is no query"),
        ("attach 'new.db' as n", "refused: attach is no query"),
        ("begin", "refused: begin is no query"),
        ("truncate table item", "refused: truncate is no query"),
        ("with i as (select 1) delete from item", "refused: delete is no query"),
        ("select 1; drop table item", "the generated text holds 2 statements, not one"),
        ("the price of tea", "the generated statement"),
        ("price", "the generated statement is refused: it is no statement"),
        ("-- nothing", "the generated text holds 0 statements, not one"),
        ("```sql\nselect 1\n```", "in a fence of Markdown"),
        (f"select {'1 + ' * MAX_STATEMENT_CHARACTERS}1", "characters, and 20,000 are allowed"),
        (["select 1"], "the generated statement is no text"),
        ("  ", "the generated statement is empty"),
        (f"select {'(' * 9_000}1{')' * 9_000}", "the generated statement could not be parsed"),
    ],
)
def test_a_refusal_says_why(statement: Any, what: str) -> None:
    with pytest.raises(OperatorError) as caught:
        read_only(statement, LITE)
    assert what in caught.value.what


@pytest.mark.parametrize(
    "statement",
    [
        "select hex(zeroblob(6000000)) as a",
        "select hex(zeroblob(4500000)) as a, hex(zeroblob(1000000)) as b",
        "select hex(zeroblob(1000000)) as a from item a, item b, item c",
    ],
)
def test_a_result_has_a_largest_size(folder: Path, statement: str) -> None:
    with pytest.raises(OperatorError) as caught:
        run(folder, statement)
    assert caught.value.what == "the query gave more than 10,000,000 bytes"
    assert "substr" in (caught.value.hint or "")
    (row,) = run(folder, "select hex(zeroblob(4500000)) as a")
    assert len(row["a"]) == 9_000_000


def test_colons_are_no_parameters(folder: Path) -> None:
    assert run(folder, r"select ':id' as a, '\:b' as b, '::c' as c") == [{"a": ":id", "b": r"\:b", "c": "::c"}]


def test_a_statement_that_was_misjudged_cannot_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_generated, "read_only", lambda text, backend: text)
    for statement in (WRITER, "create table x (a)", "attach 'new.db' as n; create table n.x (a)"):
        with pytest.raises(OperatorError):
            run(folder, statement)
    assert names(folder) == ["tea", "milk"]
    assert [path.name for path in folder.iterdir()] == ["shop.db"]


def test_it_is_a_read_of_which_each_row_has_its_own(folder: Path) -> None:
    traits = SQLOperator(folder).traits(spec())
    assert (traits.sharing, traits.is_effect, traits.writes) == (Sharing.NEVER, False, False)
    assert traits.reason == "generated, and refused where it does more than read"
    assert traits.lookup is None


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"query": "select 1"}, "`query` or `generated`"),
        ({"params": {"a": 1}}, "no parameters"),
        ({"generated": None}, "'query' is missing"),
        ({"database": "oracle://host/db"}, "oracle"),
    ],
)
def test_a_step_has_one_statement(folder: Path, fields: dict[str, Any], what: str) -> None:
    with pytest.raises(FlowError) as caught:
        SQLOperator(folder).check(spec(**fields), {})
    assert what in caught.value.what


def test_no_statement_is_remembered(folder: Path) -> None:
    async def many() -> None:
        operator = SQLOperator(folder)
        context = Context()
        for number in range(20):
            call = operator.bind(spec(), made(f"select {number} as n"), {})
            assert (await operator.run(call, context)).value == [{"n": number}]
        (database,) = operator._databases.values()
        assert not any(database._compiled.values())
        await operator.close()

    asyncio.run(many())


def test_a_database_that_is_not_there_is_told_before_the_first_call(tmp_path: Path) -> None:
    given_ = Inspection({}, Secrets({}), timeout_s=5.0)
    (finding,) = asyncio.run(SQLOperator(tmp_path).inspect(spec(), given_))
    assert "is not there" in finding.what
    assert finding.is_fatal
