"""Rows of a run on cells: what comes out, what is called, and what is lost with a cell or with the driver."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from sundog.cells import cell, hub
from sundog.cells.cell import MIN_ROWS_AHEAD
from sundog.cells.messages import CellWord, WorkPart
from sundog.cells.owning import client, talk
from sundog.cells.owning.packing import unpack_result
from sundog.cells.remote_feed import BucketRows
from sundog.config import Config, environment_secrets
from sundog.errors import RunStopped
from sundog.explanation.cluster_plan import cluster_plan
from sundog.session.choices import PlanChoices
from sundog.session.flow_file import load_plan
from sundog.session.machines import OnCluster
from sundog.session.session import plan_session
from sundog.store.store import Store
from tests.cells.cluster_runs import Machines
from tests.cells.threads import ThreadLine
from tests.e2e.counting_server import CountingServer
from tests.e2e.processes import NUM_AT_ONCE, write_sending
from tests.waiting import until

NUM_ROWS = 60


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as server:
        yield server


@pytest.fixture
def expected(tmp_path: Path, server: CountingServer) -> bytes:
    """The output of one process."""
    calm = tmp_path / "calm"
    calm.mkdir()
    write_sending(calm, server.origin, "GET", NUM_ROWS)
    _, output = Machines(calm).run()
    server.asked.clear()
    return output


@pytest.fixture
def machines(tmp_path: Path, server: CountingServer) -> Machines:
    write_sending(tmp_path, server.origin, "GET", NUM_ROWS)
    return Machines(tmp_path)


def test_cells_give_what_one_process_gives(machines: Machines, server: CountingServer, expected: bytes) -> None:
    report, output = machines.run(machines.work)
    assert output == expected
    assert max(server.by_row.values()) == 1
    assert (report.num_done, report.num_asked) == (NUM_ROWS, 3 * NUM_ROWS)
    assert len(machines.starter.lines) == 3


def test_a_finished_run_is_known_to_all(machines: Machines, server: CountingServer, expected: bytes) -> None:
    machines.run(machines.work)
    assert machines.run(machines.work)[1] == expected
    assert machines.run()[1] == expected
    assert len(server.asked) == NUM_ROWS


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_cell_that_is_lost_costs_what_it_had_in_flight(
    machines: Machines, server: CountingServer, expected: bytes, tmp_path: Path, method: str
) -> None:
    """Its thread goes on with its rows until it finds its log closed, as a machine does that only the network has lost.
    An effect that it had begun is not made again: its row fails, as after a kill."""
    write_sending(tmp_path, server.origin, method, NUM_ROWS)
    server.shut_gate()

    def lose(stop: Callable[[], None]) -> None:
        server.wait_for(NUM_AT_ONCE)
        lost = next(iter(machines.starter.lines.values()))
        lost.is_cut = True
        while len(machines.starter.lines) == 3:
            """Another one takes its place."""
        server.open_gate()

    report, output = machines.run(machines.work, lose)
    assert report.num_done + report.num_failed == NUM_ROWS
    if method == "GET":
        assert output == expected
        assert len(server.asked) <= NUM_ROWS + NUM_AT_ONCE + MIN_ROWS_AHEAD
    else:
        assert 0 < report.num_failed <= NUM_AT_ONCE
        assert max(server.by_row.values()) == 1


def test_a_cell_that_is_silent_is_replaced(
    machines: Machines, server: CountingServer, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "DEAD_AFTER_S", 1.0)
    server.shut_gate()

    def silence(stop: Callable[[], None]) -> None:
        server.wait_for(NUM_AT_ONCE)
        next(iter(machines.starter.lines.values())).is_silent = True
        while len(machines.starter.lines) == 3:
            """Another one takes its place."""
        server.open_gate()

    _, output = machines.run(machines.work, silence)
    assert output == expected
    assert len(server.asked) <= NUM_ROWS + NUM_AT_ONCE + MIN_ROWS_AHEAD


def test_what_cells_have_done_is_found_where_owners_are_lost_with_them(
    machines: Machines, server: CountingServer, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They work on for a while after their owners are gone, and nobody else is told of what they have done."""
    monkeypatch.setattr(talk, "AWAY_AFTER_S", 0.5)
    monkeypatch.setattr(talk, "BEAT_EVERY_S", 0.1)
    kept: set[bytes] = set()

    def keeping_in(store: Store) -> talk.KeepValues:
        keep = client.keeping_in(store)

        async def keep_and_tell(values: Mapping[bytes, bytes]) -> None:
            await keep(values)
            kept.update(key for key, value in values.items() if unpack_result(key, value)[2] == "send")

        return keep_and_tell

    monkeypatch.setattr(cell, "keeping_in", keeping_in)
    server.shut_gate()

    def lose(stop: Callable[[], None]) -> None:
        server.wait_for(NUM_AT_ONCE)
        for owner in machines.starter.owners:
            owner.unheard.update(machines.starter.lines)
        server.open_gate()
        until(lambda: len(server.asked) > 2 * NUM_AT_ONCE and len(kept) >= len(server.asked))
        for line in list(machines.starter.lines.values()):
            line.is_cut = True

    _, output = machines.run(machines.work, lose)
    assert output == expected
    assert len(server.asked) <= NUM_ROWS + NUM_AT_ONCE


def test_a_lease_that_is_told_again_after_its_end_says_nothing(
    machines: Machines, server: CountingServer, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, told = ThreadLine.tell, dict[ThreadLine, tuple[CellWord, ...]]()

    async def repeat(line: ThreadLine, words: tuple[CellWord, ...]) -> None:
        before = told.get(line, ())
        told[line] = (*before, *(word for word in words if isinstance(word, WorkPart)))
        await tell(line, (*words, *before))

    monkeypatch.setattr(ThreadLine, "tell", repeat)
    assert machines.run(machines.work)[1] == expected
    assert max(server.by_row.values()) == 1


def test_a_run_that_is_stopped_goes_on_anywhere(machines: Machines, server: CountingServer, expected: bytes) -> None:
    """It stops on cells, goes on in one process, stops there, and ends on cells: no call is made twice."""
    for work in (machines.work, None, machines.work):
        num_before = len(server.asked)
        server.shut_gate()
        server.open_for_next(4)

        def interrupt(stop: Callable[[], None], num_before: int = num_before) -> None:
            server.wait_for(num_before + 5)
            stop()
            server.open_gate()

        with pytest.raises(RunStopped, match="interrupted"):
            machines.run(work, interrupt)
    assert machines.run(machines.work)[1] == expected
    assert max(server.by_row.values()) == 1


def test_what_a_killed_driver_left_in_the_state_is_dropped(machines: Machines, server: CountingServer) -> None:
    """And nothing of other runs that are at work on the same state."""
    scratch = machines.folder / "state/scratch"
    of_another_run = scratch / "another/driver/probe"
    server.shut_gate()

    def interrupt(stop: Callable[[], None]) -> None:
        server.wait_for(1)
        [command] = scratch.iterdir()
        for left in (command / "killed/000000.parquet", of_another_run):
            left.parent.mkdir(parents=True)
            left.write_bytes(b"rows")
        stop()
        server.open_gate()

    with pytest.raises(RunStopped, match="interrupted"):
        machines.run(machines.work, interrupt)
    machines.run(machines.work)
    assert [path for path in scratch.rglob("*") if path.is_file()] == [of_another_run]


def test_too_many_failures_stop_all_cells(machines: Machines, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(flow.read_text().replace("{{ row.topic }}", "{{ 1 // (row.id % 2) }}"))
    with pytest.raises(RunStopped, match=r"rows failed, more than the 3 allowed"):
        machines.run(machines.work, max_errors=3)


READING = """
name: reading
inputs: {rows: {path: rows.jsonl}}
nodes:
  a: {sql: {database: "sqlite:///d.db", query: "select count(*) as num from t"}}
outputs: {a: "{{ a }}"}
"""
TABLES = """
name: tables
engines: {e: {kind: "null"}}
inputs: {few_rows: {path: few.jsonl}, many_rows: {path: many.jsonl}}
tables:
  few:
    from: few_rows
    nodes: {a: {llm: {engine: e, prompt: "Few {{ row.id }}"}}}
    outputs: {id: "{{ row.id }}", a: "{{ a.text }}"}
  many:
    from: many_rows
    nodes: {b: {llm: {engine: e, prompt: "Many {{ row.id }}"}}}
    outputs: {id: "{{ row.id }}", b: "{{ b.text }}"}
  halves:
    query: select id, b from many where id % 2 = 0 order by id
    nodes: {c: {llm: {engine: e, prompt: "Half {{ row.b }}"}}}
    outputs: {c: "{{ c.text }}"}
"""
GROUPED = """
name: grouped
engines: {e: {kind: "null"}}
inputs: {rows: {path: rows.jsonl}}
nodes:
  notes: {llm: {engine: e, prompt: "{{ row.manual }} Write notes."}}
  topic: {llm: {engine: e, prompt: "{{ row.manual }} The topic of {{ row.text }}"}}
  label: {llm: {engine: e, prompt: "The label of {{ row.text }}"}}
outputs: {notes: "{{ notes.text }}", topic: "{{ topic.text }}", label: "{{ label.text }}"}
"""


def test_calls_that_lie_in_one_bucket_are_not_asked_for(tmp_path: Path) -> None:
    """Rows are cut where their manual changes: what holds the manual is made once by its cell, and a label, which has
    only the text, once by all. The manual of half of the rows is cut all the same, and is asked for."""
    (tmp_path / "flow.yaml").write_text(GROUPED)
    manuals = [0] * 600 + [1 + number % 40 for number in range(600)]
    rows = [
        {"manual": f"Manual {manual}. " + "Press the button. " * 20, "text": f"text {number % 50}"}
        for number, manual in enumerate(manuals)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    choices = PlanChoices(max_rows_in_flight=64)
    machines = Machines(tmp_path)
    report, _ = machines.run(machines.work, choices=choices)
    num_executed = {node.node: node.num_executed for node in report.nodes}
    pairs = {(row["manual"], row["text"]) for row in rows}
    assert num_executed == {"notes": 41, "topic": len(pairs), "label": 50}
    num_asked = sum(owner.num_asked for owner in machines.starter.owners)
    assert num_asked < 0.7 * report.num_asked


def test_what_each_machine_has_for_itself_is_told(tmp_path: Path) -> None:
    """As explain tells it, to whoever watches and in the report; on one machine there is nothing to tell."""
    with closing(sqlite3.connect(tmp_path / "d.db")) as database:
        database.execute("create table t (a)")
    (tmp_path / "flow.yaml").write_text(READING)
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n')
    machines = Machines(tmp_path)
    report, _ = machines.run()
    assert machines.notes == list(report.notes) == []
    (tmp_path / "rows.jsonl").write_text('{"id": 2}\n')
    report, _ = machines.run(machines.work)
    [note] = machines.notes
    assert note.startswith("step 'a': each machine reads sqlite:d.db for itself")
    assert report.notes == (note,)
    assert machines.run(machines.work)[0].notes == ()


def test_the_rows_of_each_table_are_cut_for_all_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows beside many, of a table that is made of another: as many buckets of each as explain shows."""
    (tmp_path / "flow.yaml").write_text(TABLES)
    for name, num_rows in (("few", 30), ("many", 1_200)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(num_rows)))
    num_buckets = Counter[str]()
    add_bucket = hub.CellHub.add_bucket

    async def counted(self: hub.CellHub, rows: BucketRows) -> None:
        num_buckets[rows.table] += 1
        await add_bucket(self, rows)

    monkeypatch.setattr(hub.CellHub, "add_bucket", counted)
    machines = Machines(tmp_path)
    machines.run(machines.work, table="halves")
    assert num_buckets == {"few": 30, "many": -(-1_200 // 7), "halves": -(-600 // 4)}
    plan = load_plan(tmp_path / "flow.yaml", {})
    session = plan_session(plan, tmp_path, Config(tmp_path / "explained", environment_secrets()))
    with closing(session.rows):
        spread = cluster_plan(session.flow, session.rows.as_written(), OnCluster("ray", 3, None))
    shown = {one.name: one.num_buckets for one in spread.tables}
    assert shown == {"few": num_buckets["few"], "many": num_buckets["many"], "halves": None}
