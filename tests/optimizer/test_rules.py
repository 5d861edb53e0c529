"""Each rule by its fixture file in rules/: titled pairs of a flow and what the rule alone makes of it.

`== title`, the flow (without name, engines and inputs), `--`, and then the notes and the plan, or `unchanged`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sundog.flow.example import example_plan
from sundog.ir.logical import LogicalPlan
from sundog.optimizer.rewrite import rewrite_by
from sundog.optimizer.rules.base import Rule
from sundog.optimizer.rules.catalog import RULES
from sundog.present.logical_tree import logical_tree, print_tree

FIXTURES = Path(__file__).parent / "rules"


def cases(rule: Rule) -> Iterator[tuple[str, str, str]]:
    """(title, flow, expected)"""
    text = (FIXTURES / f"{rule.name}.txt").read_text(encoding="utf-8")
    for case in text.split("\n== ")[1:]:
        title, _, rest = case.partition("\n")
        flow, _, expected = rest.partition("\n--\n")
        yield title, flow, expected.strip("\n")


def applied(rule: Rule, flow: str) -> str:
    found = rewrite_by(rule, example_plan(flow))
    notes = [f"{note}\n" for fired in found.fired for note in fired.notes]
    return "".join([*notes, shown(found.plan)]).strip("\n") if notes else "unchanged"


def shown(plan: LogicalPlan) -> str:
    """The inputs only where their columns are chosen."""
    tree = logical_tree(plan)
    sections = {"nodes", "outputs", "tables"} | ({"inputs"} if any(source.columns for source in plan.inputs) else set())
    return "".join(print_tree(child) for child in tree.children if child.line in sections)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_does_what_its_fixtures_show(rule: Rule, request: pytest.FixtureRequest) -> None:
    found = [(title, flow, applied(rule, flow)) for title, flow, _ in cases(rule)]
    if request.config.getoption("--update-golden"):
        path = FIXTURES / f"{rule.name}.txt"
        head = path.read_text(encoding="utf-8").partition("\n== ")[0]
        parts = [f"\n== {title}\n{flow}\n--\n{result}\n" for title, flow, result in found]
        path.write_text(head + "".join(parts), encoding="utf-8")
    assert found == list(cases(rule))
    results = [result for _, _, result in found]
    assert any(result == "unchanged" for result in results), "no case where the rule must not fire"
    assert any(result != "unchanged" for result in results)
