"""An effect of a run happens at most once, whatever other runs do in its state folder and wherever one is killed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sundog.engines.base import Usage
from sundog.execution.row_way import RowEnd
from sundog.ir.physical import Sharing
from sundog.operators.base import BoundCall, CallContext, Outcome
from sundog.store.store import Store
from sundog.store.totals import node_totals
from sundog.store.writer import ChangeLog, Writer, _resolve
from tests.execution.fakes import FakeOperator, World, plan_of, step

ROWS = [{"x": 0}, {"x": 1}, {"x": 1}]
PLAN = plan_of(
    step("a", "{{ row.x }}", sharing=Sharing.ALWAYS),
    step("post", "post {{ a }}", sharing=Sharing.NEVER, effect=True),
    step("c", "after {{ post }}", sharing=Sharing.ALWAYS),
    outputs={"a": "{{ a }}", "post": "{{ post }}"},
)
FRESH = {"A": False, "B": False, "C": True, "D": True}


class TurnWriter(Writer):
    """Commits at the next turn of the loop instead of in a thread, so that a kill after so many turns is always the
    same kill."""

    def __init__(self, path: Path, log: ChangeLog | None = None) -> None:
        self._path = path
        self._log = log
        self._error = None
        self._loop = asyncio.get_running_loop()
        self._writes: list[Any] = []
        self.is_killed = False
        self._connection = self._connect()

    def _add(self, write: Any) -> None:
        if not self._writes:
            self._loop.call_soon(self._flush)
        self._writes.append(write)

    def _flush(self) -> None:
        writes, self._writes = self._writes, []
        if writes and not self.is_killed:
            self._commit(self._connection, writes)
            _resolve(writes, self._error)

    def close(self) -> None:
        self._flush()
        assert self._connection is not None
        self._connection.close()


class Part(NamedTuple):
    """A process works on a run; killed after so many turns of the loop, or left to its end."""

    run: str
    turns: int | None


@dataclass
class Posts(FakeOperator):
    """Every answer differs; what was posted is written down as the other side sees it."""

    posted: Counter[tuple[str, int]] = field(default_factory=Counter)
    bodies: dict[tuple[str, int], str] = field(default_factory=dict)
    keys: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    run: Any = None

    def of_run(self, run_id: str) -> _OfRun:
        return _OfRun(self, run_id)


class _OfRun(FakeOperator):
    def __init__(self, posts: Posts, run_id: str) -> None:
        super().__init__()
        self._posts = posts
        self._run_id = run_id

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        row, _, path = context.request_id.partition("/")
        await asyncio.sleep(0)
        if path == "post":
            place = (self._run_id, int(row))
            self._posts.posted[place] += 1
            self._posts.bodies[place] = call.payload
            self._posts.keys.setdefault(place, set()).add(context.idempotency_key)
        await asyncio.sleep(0)
        return Outcome(f"{call.payload} #{next(self._posts.numbers)}", Usage(1, 1))


async def process(state_dir: Path, posts: Posts, part: Part) -> list[RowEnd]:
    """The ends of all rows; none where it was killed."""
    world = World(state_dir, posts.of_run(part.run))
    store = Store(state_dir)
    scope = {"run_id": part.run, "is_fresh": FRESH[part.run]}
    running = asyncio.ensure_future(world._run(world.physical(PLAN), tuple(ROWS), scope, store))
    if part.turns is None:
        return await running
    for _ in range(part.turns):
        await asyncio.sleep(0)
    if isinstance(store._writer, TurnWriter):
        store._writer.is_killed = True
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    store.close()
    return []


async def side_by_side(state_dir: Path, posts: Posts, *parts: Part) -> list[list[RowEnd]]:
    return await asyncio.gather(*(process(state_dir, posts, part) for part in parts))


@pytest.fixture
def turn_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.store.store.Writer", TurnWriter)


def claims_in(state_dir: Path) -> set[tuple[str, int]]:
    with closing(sqlite3.connect(state_dir / "store.sqlite")) as connection:
        found = connection.execute("select run_id, request_id from claims").fetchall()
    return {(run_id, int(request_id.partition("/")[0])) for run_id, request_id in found}


RUNS = st.sampled_from(sorted(FRESH))
PART = st.builds(Part, RUNS, st.none() | st.integers(0, 60))
SESSION = st.lists(PART, min_size=1, max_size=3, unique_by=lambda part: part.run)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SESSION, min_size=1, max_size=5))
def test_effects_happen_at_most_once(turn_writer: None, sessions: list[list[Part]]) -> None:
    """Each session: some runs side by side in one state folder, never two processes on one run."""
    posts = Posts()
    with TemporaryDirectory() as folder:
        state_dir = Path(folder)
        claims: set[tuple[str, int]] = set()
        for parts in [*sessions, [Part(run, None) for run in FRESH]]:
            ends = asyncio.run(side_by_side(state_dir, posts, *parts))
            assert claims <= claims_in(state_dir), "a claim of unknown outcome was passed over"
            claims = claims_in(state_dir)
        for run, of_run in zip(FRESH, ends, strict=True):
            for end in of_run:
                check_effect(posts, (run, end.row.row_id[0]), end, has_claim=(run, end.row.row_id[0]) in claims)


def check_effect(posts: Posts, place: tuple[str, int], end: RowEnd, *, has_claim: bool) -> None:
    assert posts.posted[place] <= 1
    assert len(posts.keys.get(place, ())) <= 1
    assert (end.state == "failed") == has_claim
    if end.state == "done":
        body = json.loads(end.body)
        assert posts.posted[place] == 1
        assert posts.bodies[place] == f"post {body['a']}", "the output shows what was posted"
        assert body["post"].startswith(posts.bodies[place])


def test_the_first_result_of_equal_calls_of_two_runs_is_the_result(turn_writer: None, tmp_path: Path) -> None:
    posts = Posts()
    parts = [Part(run, None) for run in "AB"]
    shown = [[json.loads(end.body)["a"] for end in ends] for ends in asyncio.run(side_by_side(tmp_path, posts, *parts))]
    assert shown[0] == shown[1], "whoever came later reads back what was there"
    fresh = asyncio.run(process(tmp_path, posts, Part("C", None)))
    assert not {json.loads(end.body)["a"] for end in fresh} & set(shown[0])


def test_what_a_run_executed_is_not_changed_by_others(turn_writer: None, tmp_path: Path) -> None:
    posts = Posts()

    def totals(run: str) -> dict[str, int]:
        with closing(Store(tmp_path)) as store:
            return {node: of_node.num_executed for node, of_node in node_totals(store, run).items()}

    asyncio.run(process(tmp_path, posts, Part("C", None)))
    before = totals("C")
    assert before == {"a": 2, "post": 3, "c": 3}
    for run in ("D", "A", "B"):
        asyncio.run(process(tmp_path, posts, Part(run, None)))
    assert totals("C") == before
    assert totals("B") == {"post": 3, "c": 3}, "the answers are those of A"
