"""Runs whose look-ups were gathered, replayed from their logs as a user does."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.operators.sql.operator import SQLOperator
from tests.sim.replay.test_replayed_workers import NULL, ran, replayed

NUM_ROWS = 40
LOOKUP_S = 0.4


@pytest.fixture(autouse=True)
def slow_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of people, whose database takes its time for each statement."""
    with closing(sqlite3.connect(tmp_path / "people.db")) as connection:
        connection.execute("create table people (id integer primary key, name text)")
        connection.executemany("insert into people values (?, ?)", [(n, f"person {n}") for n in range(NUM_ROWS)])
        connection.commit()
    execute = SQLOperator._execute

    async def slowly(self: SQLOperator, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(LOOKUP_S)
        return await execute(self, *args, **options)

    monkeypatch.setattr(SQLOperator, "_execute", slowly)


def looking_up(shape: str, folder: Path) -> sd.Flow:
    flow = sd.Flow(shape, base_dir=folder)
    flow.engine("local", **{**NULL, "load_s": 0.0})
    flow.input("rows", rows=[{"id": number} for number in range(NUM_ROWS)])
    query = {"database": "sqlite:///people.db", "query": "select name from people where id = :id"}
    if shape == "first":
        flow.sql("person", **query, params={"id": "{{ row.id }}"})
        flow.llm("greet", engine="local", prompt="Greet {{ person[0].name }}.")
        flow.output(text="{{ greet.text }}")
    elif shape == "between":
        flow.llm("think", engine="local", prompt="Think of {{ row.id }}.")
        flow.sql("person", **query, params={"id": "{{ row.id if think.text else 0 }}"})
        flow.llm("greet", engine="local", prompt="Greet {{ person[0].name }}.")
        flow.output(text="{{ greet.text }}")
    else:
        flow.llm("think", engine="local", prompt="Think of {{ row.id }}.")
        flow.sql("person", **query, params={"id": "{{ row.id if think.text else 0 }}"})
        flow.output(text="{{ person[0].name }}")
    return flow


@pytest.mark.parametrize(
    ("shape", "num_requests", "num_asked"),
    [
        # One request has the look-ups of all rows.
        ("first", 1, 80),
        # Four rows' answers come together, and so do their look-ups.
        ("between", 10, 120),
        # Nothing of its row follows a look-up that another row's request answered, so no log tells that it waited.
        ("last", 10, 50),
    ],
)
def test_a_run_with_gathered_calls_takes_as_long_again(
    shape: str, num_requests: int, num_asked: int, tmp_path: Path
) -> None:
    flow = looking_up(shape, tmp_path)
    rows_s = ran(flow, tmp_path)
    found = replayed(flow, tmp_path)
    assert found.makespan_s.expected == pytest.approx(rows_s, rel=1e-9)
    assert (found.answer.num_rows, found.answer.num_asked) == (NUM_ROWS, num_asked)
    (database,) = (pool for name, pool in found.pools.items() if name != "engine:local")
    assert database.num_calls == num_requests
    told = "calls of person that were gathered in the run are gathered alike, whatever else changes"
    assert told in found.assumptions
