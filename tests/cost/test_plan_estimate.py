"""Estimates of whole plans against what runs of them really did."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sundog as sd
from sundog.config import read_config
from sundog.cost.estimate import Estimate
from sundog.cost.profile import Profile, StepLimits
from sundog.cost.step_time import FitError, StepTime
from sundog.engines.embedded.models import cache_folder
from sundog.explanation.explanation import Explanation
from sundog.measured.profiles import save_profile
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.present.document import PlanDocument
from sundog.runtime.figures.report import Report
from sundog.session.session import plan_session

COUNTS = ("num_asked", "num_executed", "num_asked_prompt_tokens", "num_prompt_tokens")
ANSWER_TOKENS = 7
EXACT = FitError(1, 0.0, 0.0, 0.0)
PROFILE = Profile(StepTime(0.01, 1e-3, 1e-3, 0.0, 0.0, 0.0), StepLimits(256, 8), EXACT, EXACT, {})

prompts = st.lists(
    st.sampled_from(["About {{ row.a }}. ", "{{ row.b | upper }} ", "Say {{ tone }}. ", "{{ row.parts | length }} "]),
    min_size=1,
    max_size=3,
).map("".join)
conditions = st.sampled_from([None, "{{ row.a > 1 }}", "{{ row.b == 'x' }}"])
steps = st.fixed_dictionaries(
    {
        "prompt": prompts,
        "when": conditions,
        "each": st.booleans(),
        "share": st.sampled_from([None, False]),
        "filter": conditions,
    }
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.integers(0, 3),
            "b": st.sampled_from(["x", "y"]),
            "parts": st.lists(st.sampled_from(["p", "q", "r"]), max_size=3),
        }
    ),
    min_size=1,
    max_size=12,
)


def flow_of(written: list[dict[str, Any]], given_rows: list[dict[str, Any]]) -> sd.Flow:
    flow = sd.Flow("generated")
    flow.engine("local", kind="null", output_tokens=ANSWER_TOKENS)
    flow.constant("tone", "calm")
    flow.input("rows", rows=given_rows)
    for number, step in enumerate(written):
        options = {"when": step["when"]} if step["when"] else {}
        if step["each"]:
            options["for_each"] = "{{ row.parts }}"
        tail = "{{ item }}" if step["each"] else ""
        flow.llm(f"s{number}", engine="local", prompt=f"{step['prompt']}{tail}", share=step["share"], **options)
        if step["filter"]:
            flow.filter(f"f{number}", step["filter"])
    flow.output(a="{{ row.a }}", **{f"o{number}": f"{{{{ s{number} }}}}" for number in range(len(written))})
    return flow


def run_and_explain(flow: sd.Flow, state: Path) -> tuple[Report, PlanDocument]:
    report = flow.run(state=state, fresh=True).report
    return report, Explanation(plan_session(flow.plan(), flow.base_dir, read_config(state))).document()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=1, max_size=4), rows)
def test_what_is_known_is_estimated_exactly(written: list[dict[str, Any]], given_rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as state:
        report, document = run_and_explain(flow_of(written, given_rows), Path(state))
    for name in COUNTS:
        found = document.totals[name]
        assert (found.low, found.expected, found.high) == pytest.approx((getattr(report, name),) * 3), name
    assert document.totals["num_output_tokens"].expected == pytest.approx(report.num_output_tokens)


def flow_with_answers() -> sd.Flow:
    """Everything that only a run can tell: lists, conditions and turns that depend on answers, and a tool's value."""
    flow = sd.Flow("answers")
    flow.engine("local", kind="null")
    flow.input("rows", rows=[{"a": number, "text": f"text {number}"} for number in range(30)])
    output = {"parts": "list[str]", "kind": ["x", "y"]}
    flow.llm("first", engine="local", prompt="List {{ row.text }}", output=output, share=False)
    flow.python("count", "statistics:median", args={"data": "{{ [first.parts | length] }}"})
    flow.llm("each", engine="local", for_each="{{ first.parts }}", prompt="Part {{ item }} of {{ count }}", share=False)
    flow.llm("some", engine="local", when="{{ first.kind == 'x' }}", prompt="Say {{ first.kind }}", share=False)
    with flow.loop("again", max_turns=4, until="{{ judge.kind == 'x' }}") as body:
        body.llm("judge", engine="local", prompt="Turn {{ loop.turn }} of {{ row.text }}", output={"kind": ["x", "y"]})
    flow.filter("keep", "{{ some.text }}")
    flow.llm("last", engine="local", prompt="End {{ row.text }} {{ again.turns }}", share=False)
    flow.output(a="{{ row.a }}", each="{{ each }}", last="{{ last.text }}")
    return flow


def test_what_a_run_has_shown_is_expected_of_the_next(tmp_path: Path) -> None:
    flow = flow_with_answers()
    before = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))).document()
    report, document = run_and_explain(flow, tmp_path)
    actual = {node.node: node for node in report.nodes}
    for step in document.calls():
        assert step.estimate is not None
        done = actual[step.name]
        for name in COUNTS if step.name not in ("count", "judge") else COUNTS[:2]:
            assert step.estimate[name].expected == pytest.approx(getattr(done, name), rel=0.02), (step.name, name)
            assert getattr(done, name) in step.estimate[name]
    for step in before.calls():
        assert step.estimate is not None
        assert actual[step.name].num_asked in step.estimate["num_asked"], "the range without history holds it too"


def test_a_tool_is_expected_to_make_the_same_of_the_same(tmp_path: Path) -> None:
    """A function is called for each row, but what reads its values is expected to be shared as the values will be."""
    flow = sd.Flow("same")
    flow.engine("local", kind="null")
    flow.input("rows", rows=[{"a": number % 5} for number in range(20)])
    flow.python("middle", "statistics:median", args={"data": "{{ [row.a] }}"})
    flow.llm("say", engine="local", prompt="Say {{ middle }}")
    flow.output(text="{{ say.text }}")
    before = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))).document()
    report = flow.run(state=tmp_path).report
    for step, done in zip(before.calls(), report.nodes, strict=True):
        assert step.estimate is not None
        assert step.estimate["num_executed"].expected == done.num_executed, step.name
    assert [done.num_executed for done in report.nodes] == [20, 5]


def test_steps_that_begin_with_the_value_of_a_tool_share_it(tmp_path: Path) -> None:
    """How long the value is tells an earlier run; it is cached for the second step."""
    flow = sd.Flow("tool")
    flow.engine("local", kind="null", output_tokens=4, max_kv_tokens=100_000, step_time=[1e-4, 0, 0, 0, 0])
    flow.input("rows", rows=[{"a": number} for number in range(8)])
    flow.python("facts", "textwrap:indent", args={"text": "{{ row.a }}" * 900, "prefix": ""})
    flow.llm("first", engine="local", prompt="{{ facts }} What?")
    flow.llm("second", engine="local", prompt="{{ facts }} Why?", after=["first"])
    flow.output(text="{{ second.text }}")
    report, document = run_and_explain(flow, tmp_path)
    assert report.prefix_cache_hit_rate > 0.4
    assert document.totals["num_computed_prompt_tokens"].expected == pytest.approx(
        report.num_computed_prompt_tokens, rel=0.1
    )


def test_steps_share_values_of_tools_up_to_where_their_prompts_part(tmp_path: Path) -> None:
    """The first of three values in both prompts is as long in both, whatever else stands in them."""
    flow = sd.Flow("tools")
    flow.engine("local", kind="null", output_tokens=4, max_kv_tokens=100_000, step_time=[1e-4, 0, 0, 0, 0])
    flow.input("rows", rows=[{"a": number} for number in range(8)])
    for name, length in (("long", 1200), ("short", 40), ("middle", 400)):
        flow.python(name, "textwrap:indent", args={"text": f"{{{{ row.a }}}}{{{{ 'x' * {length} }}}}", "prefix": ""})
    flow.llm("first", engine="local", prompt="{{ short }} {{ long }} What?")
    flow.llm("second", engine="local", prompt="{{ short }} {{ long }} {{ middle }} Why?", after=["first"])
    flow.output(text="{{ second.text }}")
    report, document = run_and_explain(flow, tmp_path)
    assert report.prefix_cache_hit_rate > 0.3
    assert document.totals["num_computed_prompt_tokens"].expected == pytest.approx(
        report.num_computed_prompt_tokens, rel=0.1
    )


def test_without_a_profile_there_are_no_seconds(tmp_path: Path) -> None:
    document = Explanation(plan_session(flow_with_answers().plan(), tmp_path, read_config(tmp_path))).document()
    assert document.makespan_s is None
    assert document.critical_path == ()
    assert "seconds" not in document.totals
    assert any("sundog calibrate FLOW --engine local" in line for line in document.missing)


def test_engines_that_share_a_processor_take_as_long_as_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path))

    def makespan(*devices: str | None) -> Estimate:
        flow = sd.Flow("shared")
        for name, device in zip("ab", devices, strict=True):
            flow.engine(name, kind="null", model=name, output_tokens=ANSWER_TOKENS, shared_device=device)
            flow.llm(f"s{name}", engine=name, prompt="About {{ row.a }}")
        flow.input("rows", rows=[{"a": number} for number in range(100)])
        flow.output(a="{{ sa }}", b="{{ sb }}")
        plan = flow.plan()
        for block in plan.engines:
            save_profile(cache_folder(), block, PROFILE)
        found = Explanation(plan_session(plan, flow.base_dir, read_config(tmp_path))).document().makespan_s
        assert found is not None
        return found

    apart, together = makespan("gpu0", "gpu1"), makespan("gpu0", "gpu0")
    assert makespan(None, None) == apart
    assert together.expected == pytest.approx(2 * apart.expected, rel=0.01)
    assert together.high == pytest.approx(2 * apart.high, rel=0.01)


def test_what_one_worker_takes_does_not_depend_on_how_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's seconds are of all workers; those of one replica, which a placement rests on, are their sum."""
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path))

    def figures(num_workers: int) -> PlacementFigures:
        flow = sd.Flow("placed")
        gpu = flow.workers("gpu", count=num_workers)
        flow.engine("a", kind="null", model="a", output_tokens=ANSWER_TOKENS, max_concurrency=8, workers=gpu)
        flow.llm("s", engine="a", prompt="About {{ row.a }}")
        flow.input("rows", rows=[{"a": number} for number in range(400)])
        flow.output(s="{{ s }}")
        plan = flow.plan()
        save_profile(cache_folder(), plan.engines[0], PROFILE)
        placing = plan_session(plan, flow.base_dir, read_config(tmp_path)).estimates.placing()
        assert placing is not None
        return placing[0]

    one, many = figures(1), figures(10)
    assert many.exec_s["s"].expected == pytest.approx(one.exec_s["s"].expected, rel=0.05)
    assert many.num_waves == one.num_waves == {"s": 400 / 8}


def test_a_tool_that_was_never_called_does_not_hide_the_makespan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path))
    flow = sd.Flow("rare")
    flow.engine("local", kind="null", output_tokens=ANSWER_TOKENS)
    flow.engine("unused", kind="null", model="other")
    flow.input("rows", rows=[{"a": number} for number in range(10)])
    flow.llm("say", engine="local", prompt="About {{ row.a }}")
    flow.llm("never", engine="unused", when="{{ row.a > 10 }}", prompt="About {{ row.a }}")
    flow.python("check", "statistics:median", args={"data": "{{ [say.text] }}"}, when="{{ say.text == 'no answer' }}")
    flow.output(a="{{ say.text }}", b="{{ check }}", c="{{ never.text }}")
    plan = flow.plan()

    def document() -> PlanDocument:
        return Explanation(plan_session(plan, flow.base_dir, read_config(tmp_path))).document()

    save_profile(cache_folder(), plan.engines[0], PROFILE)
    found = document()
    assert found.makespan_s is not None
    assert found.critical_path == ("say", "check")
    assert [line for line in found.missing if "check" in line] == [
        "never timed: check; in the makespan a call of them is taken to last 0.01 s (0.001-0.1 s)"
    ]


def test_where_nothing_was_ever_timed_there_is_no_makespan(tmp_path: Path) -> None:
    flow = sd.Flow("tools")
    flow.input("rows", rows=[{"a": number} for number in range(10)])
    flow.python("check", "statistics:median", args={"data": "{{ [row.a] }}"})
    flow.output(b="{{ check }}")
    found = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))).document()
    assert (found.makespan_s, found.critical_path) == (None, ())
    assert [line for line in found.missing if "check" in line] == ["never timed: check; the first run times them"]
