"""A run's report by the names that estimates have.

Owns the translation. Never compares; present.analysis does.
"""

from __future__ import annotations

from collections.abc import Mapping

from sundog.cost.estimate import Estimate
from sundog.cost.node_cost import REUSED, TokenCost, estimate_dollars
from sundog.deployment import opened
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_pool
from sundog.runtime.figures.report import Report
from sundog.store.totals import NodeTotals
from sundog.tokens import TokenPrices


def actuals_of(report: Report, plan: PhysicalPlan) -> dict[str, dict[str, float]]:
    """Return by step each quantity that the run knows, and REUSED where there were any; seconds are those of this
    process."""
    prices = _prices(plan)
    totals = {node.node: node for node in report.nodes}
    found: dict[str, dict[str, float]] = {}
    for call in calls_of(plan.nodes):
        found[call.name] = _counts(totals[call.name], is_engine=call.pool in prices)
        if call.name in report.num_reused:
            found[call.name][REUSED] = report.num_reused[call.name]
        if call.name in report.step_seconds:
            found[call.name]["seconds"] = report.step_seconds[call.name]
        price = prices.get(call.pool)
        if price is not None:
            found[call.name]["usd"] = estimate_dollars(_tokens(totals[call.name]), price).expected
    return found


def _prices(plan: PhysicalPlan) -> Mapping[str, TokenPrices | None]:
    """Return the prices by engine pool."""
    found: dict[str, TokenPrices | None] = {}
    for block in plan.logical.engines:
        _, options = opened(block)
        found[engine_pool(block.name)] = options.price
    return found


def _counts(node: NodeTotals, *, is_engine: bool) -> dict[str, float]:
    calls: dict[str, float] = {"num_asked": node.num_asked, "num_executed": node.num_executed}
    if not is_engine:
        return calls
    return {
        **calls,
        "num_asked_prompt_tokens": node.num_asked_prompt_tokens,
        "num_prompt_tokens": node.num_prompt_tokens,
        "num_computed_prompt_tokens": node.num_prompt_tokens - node.num_cached_tokens,
        "num_output_tokens": node.num_output_tokens,
    }


def _tokens(node: NodeTotals) -> TokenCost:
    computed = node.num_prompt_tokens - node.num_cached_tokens
    numbers = node.num_asked_prompt_tokens, node.num_prompt_tokens, computed, node.num_output_tokens
    return TokenCost(*map(Estimate.exactly, (*numbers, node.num_asked_output_tokens)))
