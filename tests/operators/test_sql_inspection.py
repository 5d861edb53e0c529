"""The findings of a SQLite database about a statement before anything runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sundog.operators.base import Finding, Inspection
from sundog.operators.sql.operator import SQLOperator
from sundog.operators.sql.spec import SQLSpec
from sundog.secrets import Secrets
from tests.operators.shop import names, spec


def inspected(folder: Path, step: SQLSpec) -> list[Finding]:
    return list(asyncio.run(SQLOperator(folder).inspect(step, Inspection({}, Secrets({}), timeout_s=10))))


@pytest.mark.parametrize(
    ("query", "what", "is_fatal", "is_of_state"),
    [
        ("select nix from item", "sqlite: no such column: nix", True, True),
        ("select * from itme", "sqlite: no such table: itme", True, True),
        ("insert into item (nix) values (1)", "sqlite: table item has no column named nix", True, True),
        ("selct name frm item", 'sqlite: near "selct": syntax error', True, False),
        ("select name from item where id = 'x", "sqlite: unrecognized token", True, False),
    ],
)
def test_the_database_looks_at_a_statement_before_it_runs(
    folder: Path, query: str, what: str, is_fatal: bool, is_of_state: bool
) -> None:
    (found,) = inspected(folder, spec(query))
    assert found.what.startswith(what)
    assert (found.is_fatal, found.is_of_state) == (is_fatal, is_of_state)


@pytest.mark.parametrize(
    "query",
    [
        "select name from item where id in :ids",
        "select name from item where id not in (:a, :b)",
        "delete from item",
        "create table other (id int)",
        "pragma foreign_keys",
        "explain query plan select * from item",
        "/* how */ EXPLAIN select * from item",
    ],
)
def test_what_the_database_takes_is_left_alone(folder: Path, query: str) -> None:
    assert inspected(folder, spec(query)) == []
    assert names(folder) == ["tea", "milk"]


def test_a_database_that_is_not_there_is_found(folder: Path) -> None:
    absent, near = inspected(folder, spec("select 1", "sqlite:///nix.db")), inspected(folder, spec("select * from nix"))
    assert [(one.is_fatal, one.is_of_state) for one in absent] == [(True, True)]
    assert "the database file is not there" in absent[0].what
    assert near[0].hint == "tables of shop.db: item"
    assert not (folder / "nix.db").exists()
    (folder / "text.db").write_text("no database, but long enough to be read as the head of one" * 10)
    assert "not a database" in inspected(folder, spec("select * from item", "sqlite:///text.db"))[0].what
