"""Cells tell what they have seen: a run on many machines leaves the history and the figures that one process leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sundog.cells import cell
from sundog.cells.messages import CellLine, CellTask
from sundog.cost.history import Histogram, NodeRecord
from sundog.measured.node_history import read_history
from sundog.runtime import run
from sundog.runtime.figures.report import Report
from sundog.runtime.figures.told import FiguresTold, ToldFigures
from tests.cells.cluster_runs import Machines
from tests.e2e.counting_server import CountingServer
from tests.e2e.processes import write_sending

NUM_ROWS = 300
FLOW = """
name: looked
engines: {e: {kind: "null"}}
inputs: {rows: {path: rows.jsonl}}
tables:
  looked:
    from: rows
    nodes:
      topic: {llm: {engine: e, prompt: "The topic of {{ row.text }}"}}
      parts: {for_each: "{{ row.parts }}", llm: {engine: e, prompt: "{{ item }} of {{ topic.text }}"}}
      long: {when: "{{ row.id % 3 == 0 }}", llm: {engine: e, prompt: "{{ row.text }}, at length"}}
    outputs: {text: "{{ row.text }}", topic: "{{ topic.text }}", long: "{{ long.text or '' }}", parts: "{{ parts }}"}
  texts:
    query: >
      select text, topic, count(long) as num_long, count(parts) as num from looked where true
      group by text, topic order by text
    nodes:
      again: {llm: {engine: e, prompt: "Again: {{ row.topic }}"}}
    outputs: {again: "{{ again.text }} {{ row.num_long }} {{ row.num }}"}
"""
Told = dict[tuple[str, str], tuple[int, int, dict[str, dict[int, int]]]]


def write_flow(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "flow.yaml").write_text(FLOW)
    rows = ({"id": n, "text": f"text {n % 40}", "parts": ["a", "b", "c"][: n % 4]} for n in range(NUM_ROWS))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as server:
        yield server


def history_of(machines: Machines, number: int, flow: str = "looked") -> Told:
    """Return what the driver's machine has kept, without what depends on how fast it was."""
    [path] = (machines.folder / f"driver-{number}").rglob("history.sqlite")
    return {key: counted(record) for key, record in read_history(path.parent, flow).items()}


def counted(record: NodeRecord) -> tuple[int, int, dict[str, dict[int, int]]]:
    kinds = [name for name in NodeRecord.__slots__ if isinstance(getattr(record, name), Histogram)]
    counts: dict[str, dict[int, int]] = {kind: dict(getattr(record, kind).counts) for kind in kinds}
    counts["call_s"] = {0: record.call_s.count}
    return record.num_held, record.num_judged, counts


def of_engines(report: Report) -> list[tuple[str, int, str]]:
    return [(one.engine, one.num_calls, one.bound_of) for one in report.engines]


def test_a_run_on_cells_leaves_what_one_process_leaves(tmp_path: Path) -> None:
    write_flow(tmp_path / "one")
    write_flow(tmp_path / "many")
    one, many = Machines(tmp_path / "one"), Machines(tmp_path / "many")
    expected, output = one.run(table="texts")
    report, same = many.run(many.work, table="texts")
    assert same == output
    history = history_of(many, 1)
    assert history == history_of(one, 1)
    assert sum(history["topic", "null"][2]["output_tokens"].values()) == 40
    assert history["long", ""][:2] == (100, 300)
    assert of_engines(report) == of_engines(expected) != []
    assert 0 < report.engines[0].wall_s < report.busy_s
    assert report.step_seconds.keys() == expected.step_seconds.keys()
    assert sum(report.step_seconds.values()) <= report.engines[0].wall_s
    assert str(report).count("engine   e: ") == 1


def test_results_of_other_runs_are_told_too(tmp_path: Path) -> None:
    """They say nothing of how many calls of a table are equal."""
    write_flow(tmp_path)
    machines = Machines(tmp_path)
    machines.run(table="texts")
    (tmp_path / "flow.yaml").write_text(FLOW.replace(" where true", ""))
    report, _ = machines.run(machines.work, table="texts")
    assert report.num_reused == {"topic": 300, "parts": 450, "long": 100, "again": 40}
    assert report.engines == ()
    assert "again" not in {step for step, _ in history_of(machines, 2)}


def test_cells_know_what_the_driver_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_flow(tmp_path)
    machines = Machines(tmp_path)
    heard: list[CellTask] = []
    start = machines.starter.start

    async def noted(task: CellTask, name: str) -> CellLine:
        heard.append(task)
        return await start(task, name)

    seen = {("topic", "null"): NodeRecord()}
    monkeypatch.setattr(run, "read_history", lambda state_dir, flow: seen if flow == "looked" else {})
    monkeypatch.setattr(machines.starter, "start", noted)
    machines.run(machines.work, table="texts")
    assert [task.history for task in heard] == [seen] * 3


def test_a_cell_that_is_lost_has_told_what_it_had_done(
    tmp_path: Path, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "TELL_EVERY_S", 0.1)
    write_sending(tmp_path, server.origin, "GET", 60)
    machines = Machines(tmp_path)
    server.shut_gate()
    observed: list[int] = []
    hear = ToldFigures.hear

    def noted(self: ToldFigures, name: str, place: int, told: FiguresTold, now_s: float) -> None:
        observed.append(told.observations.get(("text", "null"), NodeRecord()).call_s.count)
        hear(self, name, place, told, now_s)

    monkeypatch.setattr(ToldFigures, "hear", noted)

    def lose(stop: Callable[[], None]) -> None:
        while sum(observed) < 60:
            """All cells wait at the gate, and tell what they have done before it."""
        next(iter(machines.starter.lines.values())).is_cut = True
        while len(machines.starter.lines) == 3:
            """Another one takes its place."""
        server.open_gate()

    report, _ = machines.run(machines.work, lose)
    assert sum(observed) == history_of(machines, 1, "sent")["text", "null"][2]["call_s"][0] == 60
    assert 60 < report.engines[0].num_calls <= 120
