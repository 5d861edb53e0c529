"""The sample of an estimate is bounded by counts, however long the rows, their lists and the loops are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.cost import plan_sample
from sundog.cost.tables import sampled_table
from sundog.explanation.explanation import Explanation
from sundog.measured import plan_costs
from sundog.present.document import PlanDocument
from sundog.runtime.rows.picked import characters_of, evenly_picked
from sundog.session.session import plan_session


def explained(flow: sd.Flow, state: Path) -> tuple[PlanDocument, Explanation]:
    explanation = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(state)))
    return explanation.document(), explanation


def flow_over(rows: list[dict[str, Any]]) -> sd.Flow:
    flow = sd.Flow("bounded")
    flow.engine("local", kind="null", output_tokens=7)
    flow.input("rows", rows=rows)
    return flow


def calls_looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of calls of each walk, from now on."""
    found: list[int] = []
    walk = plan_sample.sample_plan

    def counted(*given: Any) -> Any:
        walked = walk(*given)
        found.append(len(walked.calls))
        return walked

    monkeypatch.setattr(sampled_table, "sample_plan", counted)
    return found


@pytest.mark.parametrize(
    ("sizes", "max_characters", "kept"),
    [
        ([5, 5, 5, 5], 20, [0, 1, 2, 3]),
        ([5, 5, 5, 5], 19, [0, 2]),
        ([5, 5, 5, 5, 5, 5, 5, 5, 5], 15, [0, 4, 8]),
        ([100, 1, 1], 10, [0]),
        ([1, 1, 100], 10, [0]),
        ([], 10, []),
    ],
)
def test_long_rows_are_picked_evenly(sizes: list[int], max_characters: int, kept: list[int]) -> None:
    rows = [(number, {"text": "x" * size}) for number, size in enumerate(sizes)]
    assert [number for number, _ in evenly_picked(iter(rows), max_characters)] == kept


def test_characters_are_those_of_all_texts() -> None:
    assert characters_of({"a": "xyz", "b": ["12", {"c": "4"}], "d": 1, "e": None}) == 3 + 2 + 1 + 16


def test_long_documents_are_sampled_less_and_the_text_says_over_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_costs, "MAX_SAMPLED_CHARACTERS", 40_000)
    flow = flow_over([{"text": f"{number} ".ljust(1000, "x")} for number in range(160)])
    flow.llm("first", engine="local", prompt="{{ row.text }}")
    flow.llm("second", engine="local", prompt="{{ first.text }} {{ row.text }}")
    flow.output(text="{{ second.text }}")
    document, explanation = explained(flow, tmp_path)
    assert document.num_sampled == 20
    assert "from 20 of 160 rows" in explanation.shown(document, "text")
    first = next(step for step in document.calls() if step.name == "first")
    assert first.estimate is not None
    assert first.estimate["num_executed"].expected == pytest.approx(160, rel=0.05)


@pytest.mark.parametrize("num_items", [10, 200, 30_000])
def test_long_lists_stand_for_all_their_elements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_items: int
) -> None:
    monkeypatch.setattr(plan_sample, "MAX_CALLS", 400)
    looked_at = calls_looked_at(monkeypatch)
    flow = flow_over([{"parts": [f"part {number}" for number in range(num_items)]}])
    flow.llm("each", engine="local", prompt="{{ item }}", for_each="{{ row.parts }}", share=False)
    flow.output(count="{{ each | length }}")
    document, _ = explained(flow, tmp_path)
    (each,) = document.calls()
    assert each.estimate is not None
    assert each.estimate["num_asked"].expected == pytest.approx(num_items)
    assert max(looked_at) <= 400


def test_loops_in_loops_are_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_sample, "MAX_CALLS", 1000)
    looked_at = calls_looked_at(monkeypatch)
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n')
    inner = "{loop: {max_turns: 100, nodes: {ask: {llm: {engine: e, prompt: '{{ loop.turn }}'}, share: false}}}}"
    (tmp_path / "flow.yaml").write_text(
        "name: nested\nengines: {e: {kind: 'null'}}\ninputs: {rows: {path: rows.jsonl}}\nnodes:\n"
        f"  outer:\n    loop:\n      max_turns: 100\n      nodes: {{inner: {inner}}}\n"
        "outputs: {a: '{{ outer.turns }}'}\n"
    )
    flow = sd.load(tmp_path / "flow.yaml")
    document = Explanation(plan_session(flow.plan(), tmp_path, read_config(tmp_path))).document()
    (ask,) = document.calls()
    assert ask.estimate is not None
    assert ask.estimate["num_asked"].expected == pytest.approx(100 * 100)
    assert max(looked_at) <= 1000


def test_a_value_is_seen_through(tmp_path: Path) -> None:
    """Lists, conditions and equal prompts are known through values, as they are without."""

    def asked(*, through: bool) -> list[tuple[float, float]]:
        flow = flow_over([{"text": "long " * index, "items": ["a"] * index} for index in (1, 2, 2)])
        flow.define("items", "{{ row['items'] }}")
        flow.define("about", "About {{ row.text }}")
        items, about = ("items", "{{ about }}") if through else ("row['items']", "About {{ row.text }}")
        flow.llm("each", engine="local", for_each=f"{{{{ {items} }}}}", prompt=about)
        flow.define("again", "{{ each[0].text if each }}")
        flow.llm("last", engine="local", prompt="{{ again }}" if through else "{{ each[0].text if each }}")
        flow.output(last="{{ last }}")
        document, _ = explained(flow, tmp_path)
        figures = [step.estimate for step in document.steps if step.estimate]
        return [(one["num_asked"].expected, one["num_executed"].expected) for one in figures]

    assert asked(through=True) == asked(through=False) == [(5.0, 2.0), (3.0, 2.0)]


def test_turns_that_a_row_decides_are_counted_and_those_that_an_answer_decides_guessed(tmp_path: Path) -> None:
    def asked(max_turns: str) -> Any:
        flow = flow_over([{"most": 2, "text": "a"}, {"most": 5, "text": "b"}])
        plan = flow.llm("plan", engine="local", prompt=flow_row.text)
        loop = flow.loop("turns", max_turns=max_turns)
        loop.llm("one", engine="local", prompt="{{ row.text }} {{ loop.turn }} {{ loop.history.one | length }}")
        flow.output(last=loop.value, plan=plan.text)
        document, _ = explained(flow, tmp_path)
        (step,) = (step for step in document.steps if step.kind == "loop")
        assert step.body[0].estimate
        return step, step.body[0].estimate["num_asked"]

    flow_row = sd.Flow("rows").input("rows", rows=[{"text": "a"}])
    _, known = asked("{{ row.most }}")
    assert (known.low, known.expected, known.high) == (7.0, 7.0, 7.0)
    step, unknown = asked("{{ plan.text | length }}")
    assert (step.title, step.max_turns) == ("at most {{ plan.text | length }} turns", None)
    assert unknown.low < unknown.expected < unknown.high
