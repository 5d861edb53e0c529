"""Rewritten plans give the rows of the naive plan, whatever the flow and the rows are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sundog.ir.logical import LogicalPlan
from sundog.optimizer.planner import plan_physical
from sundog.optimizer.rewrite import rewrite
from sundog.optimizer.rules.catalog import MERGE_CALLS, RULE_NAMES, RULES
from tests.optimizer.bench import Bench, Ran
from tests.optimizer.flows import flows, rows

SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


def rewritten(bench: Bench, plan: LogicalPlan, names: Sequence[str]) -> LogicalPlan:
    rules = [rule for rule in RULES if rule.name in names]
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


def check_flow(bench: Bench, flow: Mapping[str, Any], given_rows: Sequence[Mapping[str, Any]], rule: str) -> None:
    plan = bench.bind(flow)
    naive = bench.run(plan_physical(plan, bench.operators, merges_calls=False, is_serial=True), given_rows)
    check_same(naive, bench.run(plan_physical(rewritten(bench, plan, RULE_NAMES), bench.operators), given_rows))
    alone = plan_physical(rewritten(bench, plan, [rule]), bench.operators, merges_calls=rule == MERGE_CALLS)
    check_same(naive, bench.run(alone, given_rows))


@settings(SETTINGS, max_examples=200)
@given(flow=flows(), given_rows=rows, rule=st.sampled_from(RULE_NAMES))
def test_rewritten_plans_give_the_rows_of_the_naive_plan(
    bench: Bench, flow: Mapping[str, Any], given_rows: Sequence[Mapping[str, Any]], rule: str
) -> None:
    check_flow(bench, flow, given_rows, rule)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_rewritten_plans_give_the_rows_of_the_naive_plan_in_many_cases(bench: Bench, part: int) -> None:
    @seed(part)
    @settings(SETTINGS, max_examples=500, derandomize=False, database=None)
    @given(flow=flows(), given_rows=rows, rule=st.sampled_from(RULE_NAMES))
    def check(flow: Mapping[str, Any], given_rows: Sequence[Mapping[str, Any]], rule: str) -> None:
        check_flow(bench, flow, given_rows, rule)

    check()
