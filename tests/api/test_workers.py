"""Flows with workers, as users run them: the same rows, loads in the history, in explain and in the trace."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import ConfigError, FlowError
from sundog.host.trace import write_trace
from sundog.runtime.kept_runs import event_logs
from tests.engines.test_openvino import why_not

NULL: dict[str, Any] = {"kind": "null", "max_concurrency": 4}
EMBEDDED: dict[str, Any] = {
    "kind": "openvino",
    "model": "smollm2-135m",
    "precision": "batch_invariant",
    "max_kv_tokens": 4096,
}


def flow_of(engine: dict[str, Any], num_rows: int, **workers: Any) -> sd.Flow:
    """Two engine blocks that take turns: draft on one, check on the other, sum up on the first again."""
    flow = sd.Flow("turns")
    group = {"workers": flow.workers("gpu", **workers)} if workers else {}
    one, two = (flow.engine(name, **engine, **group) for name in ("one", "two"))
    row = flow.input("rows", rows=[{"id": index} for index in range(num_rows)])
    draft = flow.llm("draft", engine=one, prompt=f"Write a word that begins with {row.id}.", max_tokens=8)
    check = flow.llm("check", engine=two, prompt=f"Is this one word? {draft.text}", max_tokens=8)
    total = flow.llm("total", engine=one, prompt=f"Say in short: {check.text}", max_tokens=8)
    flow.output(id=row.id, draft=draft.text, check=check.text, total=total.text)
    return flow


def test_rows_are_those_of_a_run_with_all_engines_loaded(tmp_path: Path) -> None:
    taking_turns = flow_of(NULL, 50, count=1).run(state=tmp_path / "turns")
    assert taking_turns.to_list() == flow_of(NULL, 50).run(state=tmp_path / "loaded").to_list()
    assert len(taking_turns) == 50


def test_workers_are_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    first = flow_of(NULL, 5, count=1).run(state=tmp_path)
    again = flow_of(NULL, 5, count=2, max_resident=2).run(state=tmp_path, placement="heft")
    assert again.report.run_id == first.report.run_id


def test_the_trace_shows_loads(tmp_path: Path) -> None:
    result = flow_of(NULL, 5, count=1).run(state=tmp_path)
    written = io.BytesIO()
    write_trace(event_logs(tmp_path, result.report.run_id), written)
    names = [event["name"] for event in json.loads(written.getvalue())["traceEvents"]]
    assert [name for name in names if name.startswith("load ")] == [
        "load engine:one",
        "load engine:two",
        "load engine:one",
    ]


def test_explain_knows_what_loads_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUNDOG_STATE", str(tmp_path))
    flow = flow_of({**NULL, "load_s": 0.01}, 4, count=1)
    assert "workers: about 31.2 s" in flow.explain(), "three loads of 10 s, where none was measured"
    flow.run()
    after = flow.explain()
    # Three loads of 10 ms and more, and calls of hardly any time; a machine may be busy.
    for told in (r"workers: about (\S+) s", r"makespan +≈(\S+)"):
        found = re.search(told, after)
        assert found is not None, told
        assert 0.03 <= float(found[1]) < 5
    assert "its calls are taken to last as long as in earlier runs" in after


def test_an_unknown_placement_or_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown placement 'hefty'") as caught:
        flow_of(NULL, 1, count=1).explain(placement="hefty")
    assert caught.value.hint == "did you mean 'heft'?"
    with pytest.raises(ConfigError, match="unknown objective 'speed'"):
        flow_of(NULL, 1, count=1).explain(objective="speed")
    with pytest.raises(ConfigError, match="the objective cost needs prices"):
        flow_of(NULL, 1, count=1).explain(objective="cost")
    assert "for cost by" in flow_of(NULL, 1, count=1, usd_per_hour=2.0).explain(objective="cost")


def test_a_group_without_workers_is_refused() -> None:
    with pytest.raises(FlowError, match="'count' must be greater than or equal to 1"):
        flow_of(NULL, 1, count=0).plan()


@pytest.mark.local
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_the_embedded_engine_takes_turns(tmp_path: Path) -> None:
    """Two blocks of the same weights on one place: each is loaded when it is needed, and the rows are the same."""
    taking_turns = flow_of(EMBEDDED, 6, count=1).run(state=tmp_path / "turns")
    loaded = flow_of(EMBEDDED, 6, count=1, max_resident=2).run(state=tmp_path / "loaded")
    assert taking_turns.to_list() == loaded.to_list()
    written = io.BytesIO()
    write_trace(event_logs(tmp_path / "turns", taking_turns.report.run_id), written)
    assert written.getvalue().count(b'"load engine:') == 3
