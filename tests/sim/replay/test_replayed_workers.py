"""Runs on workers replayed from their logs, as a user does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.host.virtual_loop import run_virtually
from sundog.result.simulation import Simulation
from tests.sim.test_equals_run import STEP_TIME

NULL: dict[str, Any] = {
    "kind": "null",
    "step_time": STEP_TIME,
    "max_step_tokens": 256,
    "output_tokens": 20,
    "max_concurrency": 4,
    "load_s": 3.0,
}


def ran(flow: sd.Flow, state: Path, **options: Any) -> float:
    """Run in virtual time; the seconds of its rows."""
    rows_s = run_virtually(flow.arun(state=state, fresh=True, **options), waits_for_threads=True).report.rows_s
    assert rows_s is not None
    return rows_s


def replayed(flow: sd.Flow, state: Path, **options: Any) -> Simulation:
    return flow.simulate(state=state, log="last", **options)


def on_workers(shape: str, count: int, num_rows: int = 60) -> sd.Flow:
    flow = sd.Flow(shape)
    group = flow.workers("gpu", count=count)
    one, two, three = (flow.engine(name, **NULL, model=name, workers=group) for name in ("one", "two", "three"))
    stays = flow.engine("stays", **{**NULL, "load_s": 0})
    row = flow.input("rows", rows=[{"id": number, "text": f"family {number // 4} " * 9} for number in range(num_rows)])
    draft = flow.llm("draft", engine=one, prompt=f"{row.text} {row.id}")
    check = flow.llm("check", engine=two, prompt=f"{row.text} {row.id} {draft.text}?")
    if shape == "turns":
        last = flow.llm("last", engine=one, prompt=f"{check.text} {row.id}")
    elif shape == "wide":
        other = flow.llm("other", engine=three, prompt=f"{row.text} {row.id}!")
        last = flow.llm("last", engine=stays, prompt=f"{check.text} {other.text} {row.id}")
    else:
        nap = flow.python("nap", "tests.sim.tools:nap", args={"seconds": 0.3})
        last = flow.llm("last", engine=three, prompt=f"{check.text} {nap} {row.id}")
    flow.output(text=last.text)
    return flow


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", ["turns", "wide"])
def test_a_run_on_workers_takes_as_long_again(shape: str, count: int, tmp_path: Path) -> None:
    flow = on_workers(shape, count)
    rows_s = ran(flow, tmp_path)
    found = replayed(flow, tmp_path)
    assert found.makespan_s.expected == pytest.approx(rows_s, rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_that_planned_anew_is_planned_by_what_is_known_now(count: int, tmp_path: Path) -> None:
    """Its first plan, made when nothing was known, takes up to twice as long."""
    flow = on_workers("tool", count)
    rows_s = ran(flow, tmp_path)
    found = replayed(flow, tmp_path)
    assert found.makespan_s.expected == pytest.approx(rows_s, rel=0.02)
    assert (
        "the run planned its workers anew on its way; here they are planned by what is known now" in found.assumptions
    )
