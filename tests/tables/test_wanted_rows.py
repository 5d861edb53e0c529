"""Tables of which only some rows are wanted, the first ones or those of a condition: the result is that of the naive
plan, and calls are made for no other row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sundog.api import Runnable
from sundog.errors import SundogError
from sundog.flow.agents.server_lists import ServerLists
from sundog.flow.bind import bind
from sundog.ir.logical import LogicalPlan
from tests.optimizer.bench import Nowhere

ROWS: list[dict[str, Any]] = [
    {"id": 0, "size": 3, "day": "2026-01-03", "share": 0.5},
    {"id": 1, "size": None, "day": "2026-01-02", "share": None},
    {"id": 2, "size": 12, "day": None, "share": 12.25},
    {"id": 3, "size": 3, "day": "2026-01-01", "share": 3.0},
    {"id": 4, "size": 7, "day": "2026-01-03", "share": -1.0},
    {"id": 5, "size": 3, "day": "2026-01-05", "share": 0.5},
]


FAILING = set[int]()


def checked(value: int) -> int:
    if value in FAILING:
        raise ValueError("not now")
    return value


class Bound(Runnable):
    def __init__(self, plan: LogicalPlan, base_dir: Path) -> None:
        self._plan = plan
        self.base_dir = base_dir

    def planned_with(self, lists: ServerLists) -> LogicalPlan:
        return self._plan


def flow(query: str, of: Mapping[str, Any]) -> dict[str, Any]:
    outputs = {name: f"{{{{ row.{name} }}}}" for name in ROWS[0]}
    steps = {
        "gist": {"llm": {"engine": "local", "prompt": "P {{ row.id }}"}},
        "fails": {"python": {"call": "tests.tables.test_wanted_rows:checked", "args": {"value": "{{ row.id }}"}}},
    }
    shown = {name: f"{{{{ row.{name} }}}}" for name in query.removeprefix("select ").partition(" from")[0].split(", ")}
    return {
        "name": "first",
        "engines": {"local": {"kind": "null"}},
        "inputs": {"rows": {"path": "rows.jsonl"}},
        "tables": {
            "read": {**of, "nodes": steps, "outputs": {**outputs, "gist": "{{ gist.text }}", "f": "{{ fails }}"}},
            "first": {"query": query, "outputs": shown},
        },
    }


def run(folder: Path, document: Mapping[str, Any], **options: Any) -> tuple[list[Any], int]:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "rows.jsonl").write_text(lines)
    plan = bind(document, Nowhere(), base_dir=folder)
    found = Bound(plan, folder).run(progress=False, **options)
    return list(found.table("first")), found.report.num_executed


@pytest.mark.parametrize(
    "of", [{"from": "rows"}, {"query": "select * from rows where id >= 0"}], ids=["input", "query"]
)
@pytest.mark.parametrize(
    "order", ["", "order by size", "order by size desc", "order by day desc, share", "order by share, id desc"]
)
@pytest.mark.parametrize("limit", [0, 1, 2, 4, 9])
def test_calls_are_made_for_the_rows_that_are_taken(tmp_path: Path, of: Any, order: str, limit: int) -> None:
    document = flow(f"select id, gist from read {order} limit {limit}", of)
    naive, num_all = run(tmp_path, document, state=tmp_path / "naive", naive=True)
    found, num_taken = run(tmp_path, document, state=tmp_path / "state")
    assert found == naive
    assert num_all == 12
    assert num_taken == min(limit, 6)


@pytest.mark.parametrize(
    "of", [{"from": "rows"}, {"query": "select * from rows where id >= 0"}], ids=["input", "query"]
)
@pytest.mark.parametrize(
    ("condition", "num_wanted"),
    [
        ("size = 3", 3),
        ("size is null or share > 1", 3),
        ("size > 3 and gist <> '' and day is not null", 1),
        ("r.share between 0.5 and 3 -- half\n and not (id = 3)", 2),
        ("day > '2026-01-02' and size in (3, 7)", 3),
        ("id = 99", 0),
        ("length(day) > 3", 6),
        ("size = 3 or gist <> ''", 6),
    ],
)
def test_calls_are_made_for_the_rows_of_conditions(tmp_path: Path, of: Any, condition: str, num_wanted: int) -> None:
    document = flow(f"select id, gist from read as r where {condition}", of)
    naive, num_all = run(tmp_path, document, state=tmp_path / "naive", naive=True)
    found, num_executed = run(tmp_path, document, state=tmp_path / "state")
    assert found == naive
    assert num_all == 12
    assert num_executed == num_wanted


@pytest.mark.parametrize(
    ("middle", "reader", "num_gists", "num_told"),
    [
        # The choice moves on to where the rows come from.
        ("select id, size, day as n from read", "order by size desc limit 2", 2, 2),
        ("select id, size, day as n from read", "where size = 3", 3, 3),
        ("select id, size, gist as n from read where gist <> ''", "where size = 3 and n <> ''", 3, 3),
        ("select min(id) as id, size, count(*) as n from read group by size", "where n > 1 and size = 3", 3, 1),
        # It stays where rows are made, and rows that flow are chosen as they come.
        ("select id, size, day as n from read where gist <> ''", "order by size desc limit 2", 6, 2),
        ("select r.id, r.size, u.n from read r, unnest([r.id, 9]) as u(n)", "where n = 9", 6, 6),
        ("select r.id, r.size, u.n from read r, unnest([r.id, 9]) as u(n)", "where n = 9 and size = 3", 3, 3),
        # Each table takes what its own reader does.
        ("select id, size, day as n from read order by id limit 4", "where size = 3", 4, 2),
        ("select id, size, day as n from read where size > 1", "where size <= 3", 5, 3),
    ],
)
def test_calls_are_made_for_the_rows_that_are_wanted_below(
    tmp_path: Path, middle: str, reader: str, num_gists: int, num_told: int
) -> None:
    document = flow(f"select id, t from told {reader}", {"from": "rows"})
    document["tables"]["read"]["nodes"].pop("fails")
    document["tables"]["read"]["outputs"].pop("f")
    document["tables"]["told"] = {
        "query": middle,
        "nodes": {"tell": {"llm": {"engine": "local", "prompt": "T {{ row.id }} {{ row.n }}"}}},
        "outputs": {**{name: f"{{{{ row.{name} }}}}" for name in ("id", "size", "n")}, "t": "{{ tell.text }}"},
    }
    document["tables"]["first"]["outputs"] = {"id": "{{ row.id }}", "t": "{{ row.t }}"}
    naive, _ = run(tmp_path, document, state=tmp_path / "naive", naive=True)
    found, num_executed = run(tmp_path, document, state=tmp_path / "state", without_rules=["drop_unread_outputs"])
    assert found == naive
    assert num_executed == num_gists + num_told


def test_a_run_goes_on_with_the_rows_that_it_began_with(tmp_path: Path) -> None:
    """One of the first rows fails, and is mended; the others are not called again."""
    document = flow("select id, gist, f from read order by size desc limit 3", {"from": "rows"})
    FAILING.add(4)
    with pytest.raises(SundogError, match="needs all rows of 'read', and 1 of them failed"):
        run(tmp_path, document, state=tmp_path / "state")
    FAILING.clear()
    found, num_executed = run(tmp_path, document, state=tmp_path / "state", retry_failed=True)
    assert [row["id"] for row in found] == [2, 4, 0]
    assert num_executed == 6
