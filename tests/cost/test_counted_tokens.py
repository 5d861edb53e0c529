"""Prompts of an engine whose tokenizer is not here: earlier runs tell how far counting from characters is off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.cost.estimate import Estimate
from sundog.engines.base import Usage
from sundog.explanation.explanation import Explanation
from sundog.measured.node_history import Observations, extend_history
from sundog.present.document import PlanDocument
from sundog.session.session import plan_session

NUM_ROWS = 20
REPORT = "1,452.4 | 1,146.2 | 1,036.9\n" * 60
"""Figures have more tokens than words of as many characters."""


def flow() -> sd.Flow:
    flow = sd.Flow("figures")
    flow.engine("served", kind="openai", model="m", base_url="http://127.0.0.1:9/v1")
    flow.input("rows", rows=[{"id": number, "report": REPORT} for number in range(NUM_ROWS)])
    flow.llm("ask", engine="served", prompt="{{ row.report }} Question {{ row.id }}", max_tokens=8)
    flow.output(text="{{ ask.text }}")
    return flow


def explained(state: Path) -> PlanDocument:
    made = flow()
    return Explanation(plan_session(made.plan(), made.base_dir, read_config(state))).document()


def computed_share(totals: Mapping[str, Estimate]) -> float:
    return totals["num_computed_prompt_tokens"].expected / totals["num_prompt_tokens"].expected


def has_run(state: Path, num_tokens: int, num_counted: int) -> None:
    seen = Observations()
    for _ in range(NUM_ROWS):
        seen.executed("ask", "m", Usage(num_tokens, 0, 8), 1.0, num_counted_tokens=num_counted)
    extend_history(state, "figures", seen.records)


def test_a_step_is_counted_as_its_earlier_runs_were(tmp_path: Path) -> None:
    before = explained(tmp_path).totals
    counted = round(before["num_prompt_tokens"].expected / NUM_ROWS)
    has_run(tmp_path, num_tokens=2 * counted, num_counted=counted)
    document = explained(tmp_path)
    after = document.totals
    assert after["num_prompt_tokens"].expected == pytest.approx(2 * before["num_prompt_tokens"].expected, rel=0.01)
    assert computed_share(after) == pytest.approx(computed_share(before), abs=0.01), "what is shared grows with it"
    assert any("counted from characters, within 5%" in note for note in document.missing)


def test_without_an_earlier_run_the_range_is_wide(tmp_path: Path) -> None:
    assert any("counted from characters, within 25%" in note for note in explained(tmp_path).missing)
