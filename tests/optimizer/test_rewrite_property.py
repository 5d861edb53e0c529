"""Rewritten plans give the rows of the naive plan, whatever the flow and the rows are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sundog.ir.logical import Filter, LogicalPlan, Step
from sundog.optimizer.planner import PlannerOptions, plan_physical
from sundog.optimizer.rewrite import rewrite
from sundog.optimizer.rules.base import Context, Rule, RuleResult
from sundog.optimizer.rules.catalog import MERGE_CALLS, RULE_NAMES, RULES
from tests.execution.fakes import with_nodes
from tests.optimizer.bench import Bench, Ran
from tests.optimizer.flows import LOOKUPS, flows, rows

NAIVE = PlannerOptions(merges_calls=False, is_serial=True)
KEY = {"k": "{{ row.k }}"}
SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


def rewritten(bench: Bench, plan: LogicalPlan, rules: Sequence[Rule]) -> LogicalPlan:
    found = rewrite(plan, bench.operators, rules=rules).plan
    assert rewrite(found, bench.operators, rules=rules).fired == ()
    return found


def check_same(naive: Ran, other: Ran) -> None:
    """A row that the naive plan fails may end otherwise: work that is not done cannot fail."""
    assert other.num_executed <= naive.num_executed or any(state == "failed" for state, _ in naive.ends)
    for index, (expected, found) in enumerate(zip(naive.ends, other.ends, strict=True)):
        if expected[0] != "failed":
            assert found == expected
            assert other.effects.get(index) == naive.effects.get(index)


def check_flow(
    bench: Bench,
    flow: Mapping[str, Any],
    given_rows: Sequence[Mapping[str, Any]],
    rule: str,
    rules: Sequence[Rule] = RULES,
) -> None:
    """All `rules` together, and the one called `rule` alone."""
    plan = bench.bind(flow)
    naive = bench.run(plan_physical(plan, bench.operators, NAIVE), given_rows)
    check_same(naive, bench.run(plan_physical(rewritten(bench, plan, rules), bench.operators), given_rows))
    chosen = [one for one in rules if one.name == rule]
    alone = plan_physical(
        rewritten(bench, plan, chosen), bench.operators, PlannerOptions(merges_calls=rule == MERGE_CALLS)
    )
    check_same(naive, bench.run(alone, given_rows))


@settings(SETTINGS, max_examples=120)
@given(flow=flows(), given_rows=rows, rule=st.sampled_from(RULE_NAMES))
def test_rewritten_plans_give_the_rows_of_the_naive_plan(
    bench: Bench, flow: Mapping[str, Any], given_rows: Sequence[Mapping[str, Any]], rule: str
) -> None:
    check_flow(bench, flow, given_rows, rule)


class ForgetConditions:
    """A broken rule: a step with a condition runs always."""

    name = "forget_conditions"

    def apply(self, context: Context) -> RuleResult | None:
        plan = context.plan
        nodes = tuple(replace(node, when=None) if isinstance(node, Step) else node for node in plan.nodes)
        return None if nodes == plan.nodes else RuleResult(with_nodes(plan, nodes), ("forgot them",))


class ForgetFilters:
    """A broken rule: a filter with nothing but pure steps below it is gone."""

    name = "forget_filters"

    def apply(self, context: Context) -> RuleResult | None:
        plan = context.plan
        last = plan.nodes[-1] if plan.nodes else None
        is_named = last is not None and any(last.name in node.after for node in plan.nodes)
        if not isinstance(last, Filter) or is_named:
            return None
        return RuleResult(with_nodes(plan, plan.nodes[:-1]), ("forgot it",))


@pytest.mark.parametrize("broken", [ForgetConditions(), ForgetFilters()], ids=lambda rule: rule.name)
def test_a_broken_rule_is_found(bench: Bench, broken: Rule) -> None:
    """This keeps the comparison above from coming to compare nothing."""

    @settings(SETTINGS, max_examples=200, phases=[Phase.generate])
    @given(flow=flows(), given_rows=rows)
    def check(flow: Mapping[str, Any], given_rows: Sequence[Mapping[str, Any]]) -> None:
        check_flow(bench, flow, given_rows, broken.name, [broken])

    with pytest.raises(AssertionError):
        check()


def test_generated_lookups_are_gathered(bench: Bench) -> None:
    nodes = {"n": {"sql": {"database": "sqlite:///docs.db", "query": LOOKUPS[0].format("texts"), "params": KEY}}}
    flow = {"name": "f", "inputs": {"rows": {"path": "r.jsonl"}}, "nodes": nodes, "outputs": {"o": "{{ n }}"}}
    plan = bench.bind(flow)
    given_rows = [{"id": index, "k": key} for index, key in enumerate(["a", "b", "twice", "5", 5, None])]
    naive = bench.run(plan_physical(plan, bench.operators, NAIVE), given_rows)
    ran = bench.run(plan_physical(rewritten(bench, plan, RULES), bench.operators), given_rows)
    check_same(naive, ran)
    assert (naive.num_gathered, ran.num_gathered) == (0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_rewritten_plans_give_the_rows_of_the_naive_plan_in_many_cases(bench: Bench, part: int) -> None:
    @seed(part)
    @settings(SETTINGS, max_examples=500, derandomize=False, database=None)
    @given(flow=flows(), given_rows=rows, rule=st.sampled_from(RULE_NAMES))
    def check(flow: Mapping[str, Any], given_rows: Sequence[Mapping[str, Any]], rule: str) -> None:
        check_flow(bench, flow, given_rows, rule)

    check()
