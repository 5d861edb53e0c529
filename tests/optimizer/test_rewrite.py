"""The driver, and what it does not let a rule do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sundog.errors import ConfigError, PlanError
from sundog.ir.logical import InputSource, LogicalPlan, Loop
from sundog.ir.tables import InputRows
from sundog.ir.templates.template import Template
from sundog.optimizer.rewrite import check_rule_names, rewrite
from sundog.optimizer.rules.base import Context, RuleResult
from tests.cli.flows import report_of, sundog, write_review
from tests.execution.fakes import FakeOperator, keep, plan_of, step, with_nodes

OPERATORS = {"fake": FakeOperator()}
PLAN = plan_of(
    step("a", "{{ row.x }}"),
    step("sent", "{{ a }}", effect=True),
    keep("kept", "{{ row.y }}"),
    step("b", "{{ row.x }}"),
    step("told", "{{ b }}", effect=True),
    step("seen", "1", resource="r"),
    step("written", "1", resource="r", writes=True),
    outputs={"a": "{{ a }}", "b": "{{ b }}"},
)


class Broken:
    name = "break_plans"

    def __init__(self, edit: Callable[[LogicalPlan], LogicalPlan]) -> None:
        self._edit = edit

    def apply(self, context: Context) -> RuleResult | None:
        return RuleResult(self._edit(context.plan), ("broke it",))


def with_outputs(plan: LogicalPlan, outputs: tuple[tuple[str, Template], ...]) -> LogicalPlan:
    return plan.with_table(replace(plan.tables[0], outputs=outputs))


def without(name: str) -> Callable[[LogicalPlan], LogicalPlan]:
    return lambda plan: with_nodes(plan, tuple(node for node in plan.nodes if node.name != name))


def in_order(*names: str) -> Callable[[LogicalPlan], LogicalPlan]:
    return lambda plan: with_nodes(plan, tuple(sorted(plan.nodes, key=lambda node: names.index(node.name))))


def put(name: str, *, at: str = "a") -> Callable[[LogicalPlan], LogicalPlan]:
    """The step `at` replaced by one that reads `name`."""
    new = step(at, f"{{{{ {name} }}}}")
    return lambda plan: with_nodes(plan, tuple(new if node.name == at else node for node in plan.nodes))


BROKEN: dict[str, tuple[Callable[[LogicalPlan], LogicalPlan], str]] = {
    "a step that is read is gone": (without("b"), "'b' is read, and no longer there"),
    "a circle": (put("sent"), "the steps wait for each other in a circle"),
    "an output is gone": (
        lambda plan: with_outputs(plan, plan.tables[0].outputs[:1]),
        "the outputs are not the columns",
    ),
    "an effect is gone": (without("told"), "the effect 'told' was lost"),
    "an effect is made twice": (
        lambda plan: with_nodes(plan, (*plan.nodes, step("again", "1", effect=True))),
        "the effect 'again' was made up",
    ),
    "a filter is gone": (without("kept"), "the effect 'told' does not stand below the filters"),
    "a filter is above an effect": (
        in_order("kept", "a", "sent", "b", "told", "seen", "written"),
        "the effect 'sent' does not stand below the filters",
    ),
    "a read is behind a write": (
        in_order("a", "sent", "kept", "b", "told", "written", "seen"),
        "steps on changing state are not in the order",
    ),
    "another column": (put("row.z"), "the column 'z' is read, and was not before"),
    "two of one name": (lambda plan: with_nodes(plan, (plan.nodes[0], *plan.nodes)), "two nodes have one name"),
    "an effect is in a loop": (
        lambda plan: with_nodes(plan, (*plan.nodes[:4], Loop("l", plan.nodes[4:5], 2), *plan.nodes[5:])),
        "the effect 'l/told' was made up",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_rule_that_breaks_the_plan_is_named(case: str) -> None:
    edit, what = BROKEN[case]
    with pytest.raises(PlanError) as raised:
        rewrite(PLAN, OPERATORS, rules=[Broken(edit)])
    assert raised.value.what.startswith("the rule break_plans broke the plan: ")
    assert what in raised.value.what
    assert "--no-rule break_plans" in str(raised.value)


def test_a_column_that_is_read_must_stay() -> None:
    inputs = (InputSource("rows", path="r.csv"), InputSource("who", path="w.csv", key=("id", "x")))
    reading = plan_of(step("a", "{{ row.x }} {{ row.who.name }}"))
    reading = reading.with_table(replace(reading.tables[0], source=InputRows("rows", ("who",))))
    for number, columns, what in [(0, ("y",), "'x' of rows"), (1, ("id",), "'name' of who")]:
        pruned = tuple(
            replace(source, columns=columns) if number == index else source for index, source in enumerate(inputs)
        )
        rule = Broken(lambda plan, pruned=pruned: replace(plan, inputs=pruned))  # type: ignore[misc]  # one a turn
        with pytest.raises(PlanError, match=f"the column {what} is read, and was pruned"):
            rewrite(replace(reading, inputs=inputs), OPERATORS, rules=[rule])


def test_rules_that_never_rest_are_stopped() -> None:
    flip = Broken(lambda plan: with_outputs(plan, (("a", Template("{{ a }}")), ("b", plan.tables[0].outputs[0][1]))))
    with pytest.raises(PlanError, match="do not come to rest; the last was break_plans"):
        rewrite(PLAN, OPERATORS, rules=[flip])


def test_a_rule_can_be_left_out() -> None:
    assert rewrite(PLAN, OPERATORS, rules=[Broken(without("b"))], without=["break_plans"]).plan is PLAN


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        check_rule_names(["drop_dead_step"])
    assert "did you mean 'drop_dead_steps'?" in str(raised.value)


def test_the_naive_run_executes_every_call_and_gives_the_same_bytes(tmp_path: Path) -> None:
    write_review(tmp_path)
    flow = (tmp_path / "flow.yaml").read_text()
    unread = '  unread:\n    llm: {engine: local, prompt: "{{ row.id }}"}\n'
    (tmp_path / "flow.yaml").write_text(flow.replace("outputs:", unread + "outputs:"))
    num_executed, outputs = {}, set()
    for options in ("", "--no-rule merge_calls", "--no-rule drop_dead_steps", "--naive"):
        report = report_of(sundog(tmp_path, "run", "flow.yaml", "--json", "--output", "a.jsonl", *options.split()))
        num_executed[options] = {node["node"]: node["num_executed"] for node in report["nodes"]}
        outputs.add((tmp_path / "a.jsonl").read_bytes())
    assert len(outputs) == 1
    assert num_executed[""] == {"facts": 3, "answer": 12, "audit": 5}
    assert num_executed["--no-rule merge_calls"] == {"facts": 12, "answer": 12, "audit": 5}
    # Greedy calls that an earlier run made are not made again.
    assert num_executed["--no-rule drop_dead_steps"] == {"facts": 0, "answer": 0, "audit": 0, "unread": 12}
    assert num_executed["--naive"] == {"facts": 12, "answer": 12, "audit": 5, "unread": 12}


def test_explain_shows_no_rewrites_where_there_are_none(tmp_path: Path) -> None:
    write_review(tmp_path)
    ran = sundog(tmp_path, "explain", "flow.yaml", "--naive")
    assert "rewrites" not in ran.stdout
    assert "shared never: each call is made (calls are not merged)" in ran.stdout
    assert sundog(tmp_path, "explain", "flow.yaml", "--no-rule", "x").exit_code == 2


def test_measured_selectivity_orders_filters_of_equal_cost() -> None:
    plan = plan_of(keep("first", "{{ row.x == 1 }}"), keep("second", "{{ row.y == 1 }}"), outputs={"x": "{{ row.x }}"})
    assert rewrite(plan, OPERATORS, without=["prune_columns"]).plan is plan
    found = rewrite(plan, OPERATORS, selectivity={"first": 0.9, "second": 0.2})
    assert [node.name for node in found.plan.nodes] == ["second", "first"]
    assert rewrite(plan, OPERATORS, selectivity={"first": 0.2, "second": 0.9}).plan is plan
