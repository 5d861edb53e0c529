"""A simulation against a run in virtual time: the same core, driver and engine model give the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.cost.profile import Profile, StepLimits
from sundog.cost.step_time import FitError, StepTime
from sundog.engines.embedded.models import cache_folder
from sundog.explanation.explanation import Explanation
from sundog.host.virtual_loop import run_virtually
from sundog.measured.profiles import save_profile
from sundog.runtime.figures.report import Report
from sundog.session.session import plan_session

STEP_TIME = (10e-3, 1e-4, 1e-3, 1e-6, 1e-8)
EXACT = FitError(1, 0.0, 0.0, 0.0)


def profile_of(max_concurrency: int) -> Profile:
    return Profile(StepTime(*STEP_TIME, STEP_TIME[3]), StepLimits(256, max_concurrency), EXACT, EXACT, {})


def flow_of(shape: str, options: dict[str, Any]) -> sd.Flow:
    """Rows in families of four, whose prompts begin alike."""
    flow = sd.Flow(shape)
    flow.engine("local", kind="null", step_time=STEP_TIME, max_step_tokens=256, output_tokens=20, **options)
    rows = [{"a": n, "text": f"family {n // 4} says much. " * 20 + f"row {n}"} for n in range(60)]
    flow.input("rows", rows=rows)
    prompt = "{{ row.text }} and then"
    if shape == "chain":
        flow.llm("first", engine="local", prompt=prompt)
        flow.llm("second", engine="local", prompt=f"{prompt} {{{{ first.text }}}}")
        flow.output(text="{{ second.text }}")
    elif shape == "diamond":
        flow.python("wait", "tests.sim.tools:nap", args={"seconds": 0.03})
        flow.llm("left", engine="local", prompt=f"{{{{ wait }}}} {prompt}")
        flow.llm("right", engine="local", prompt=prompt, when="{{ row.a % 3 == 0 }}")
        flow.llm("end", engine="local", prompt="{{ left.text }} {{ right.text }} {{ row.a % 5 }}")
        flow.output(text="{{ end.text }}")
    else:
        flow.llm("few", engine="local", prompt="Group {{ row.a % 7 }}")
        flow.filter("keep", "{{ row.a % 2 == 0 }}")
        flow.llm("each", engine="local", for_each="{{ range(row.a % 4) | list }}", prompt=f"{prompt} {{{{ item }}}}")
        flow.output(text="{{ few.text }}")
    return flow


def ran(flow: sd.Flow, state: Path) -> Report:
    return run_virtually(flow.arun(state=state, fresh=True), waits_for_threads=True).report


@pytest.mark.parametrize("shape", ["chain", "diamond", "fan"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_concurrency": 8}, 1e-3),
        # A prompt's blocks are those of the engine here, and those of the scheduler there.
        ({"max_concurrency": 8, "max_kv_tokens": 4096}, 0.02),
        # Prompts differ by a token or two, and so does who of equals goes to which replica: some five waves in all.
        ({"max_concurrency": 4, "replicas": 3}, 0.07),
    ],
    ids=["slots", "cache", "replicas"],
)
def test_the_promise_is_the_run(shape: str, options: dict[str, Any], error: float, tmp_path: Path) -> None:
    flow = flow_of(shape, options)
    save_profile(cache_folder(), flow.plan().engines[0], profile_of(options["max_concurrency"]))
    report = ran(flow, tmp_path)
    document = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))).document()
    assert document.makespan_s is not None
    assert document.makespan_s.expected == pytest.approx(report.rows_s, rel=error)


def tables(wait: bool) -> sd.Flow:
    """Return a flow whose second table is made of the rows of the first, each as it ends or all when all have."""
    flow = sd.Flow("tables")
    flow.engine("local", kind="null", step_time=STEP_TIME, max_step_tokens=256, output_tokens=20, max_concurrency=8)
    flow.input("rows", rows=[{"a": n} for n in range(60)])
    first = flow.table("first", source="rows")
    first.llm("ask", engine="local", prompt="Row {{ row.a }}")
    first.output(a="{{ row.a }}", said="{{ ask.text }}")
    select = "select a // 2 as a, count(*) as n from first group by all" if wait else "select a, said from first"
    second = flow.table("second", query=select)
    second.llm("tell", engine="local", prompt="Tell of {{ row.a }}")
    second.output(a="{{ row.a }}", told="{{ tell.text }}")
    return flow


@pytest.mark.parametrize("wait", [False, True], ids=["streams", "waits"])
def test_the_promise_of_tables_is_the_run(wait: bool, tmp_path: Path) -> None:
    flow = tables(wait)
    save_profile(cache_folder(), flow.plan().engines[0], profile_of(8))
    ran(flow, tmp_path)
    report = ran(flow, tmp_path)
    document = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))).document()
    assert document.makespan_s is not None
    assert document.makespan_s.expected == pytest.approx(report.rows_s, rel=0.05)
