"""The physical plan as a text tree: how each step runs, where, and what it may share.

Owns what of a physical plan is shown; the printing is in ir.explain. Never computes what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sundog.ir.explain import Tree, shorten
from sundog.ir.physical import CallExec, Exec, FilterExec, LoopExec, PhysicalPlan, Sharing

_SHARED = {
    Sharing.ALWAYS: "always: one call for all runs",
    Sharing.RUN: "run: one call in this run",
    Sharing.NEVER: "never: one call for each row",
}


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """One pool as planned; its limits are those of one replica. `max_tokens_in_flight` None: as the replica says."""

    name: str
    num_replicas: int
    max_concurrency: int
    max_tokens_in_flight: int | None = None


def physical_tree(plan: PhysicalPlan, pools: Sequence[PoolFacts], reasons: Mapping[str, str], num_rows: int) -> Tree:
    """`reasons`: by step, why its calls may be shared or not. `num_rows`: of the input."""
    return Tree(
        f"physical plan, policy {plan.policy}",
        (
            Tree(f"rows: {num_rows:,}, at most {plan.max_rows_in_flight:,} in flight"),
            Tree("steps", tuple(_exec_tree(node, reasons) for node in plan.nodes)),
            Tree("pools", tuple(Tree(_pool(pool)) for pool in pools)),
        ),
    )


def _exec_tree(node: Exec, reasons: Mapping[str, str]) -> Tree:
    waits = [Tree(f"waits for {', '.join(node.before)}")] if node.before else []
    match node:
        case CallExec():
            facts = [Tree(_sharing(node, reasons)), Tree(_attempts(node))]
            return Tree(f"CallExec {node.name}: {node.step.operator} on {node.pool}", (*waits, *facts))
        case LoopExec():
            body = (_exec_tree(inner, reasons) for inner in node.body)
            return Tree(f"LoopExec {node.name}: at most {node.loop.max_turns} turns", (*waits, *body))
        case FilterExec():
            return Tree(f"FilterExec {node.name}: {shorten(node.filter.predicate)}", tuple(waits))


def _sharing(node: CallExec, reasons: Mapping[str, str]) -> str:
    kind = "effect: claimed, at most once for each row" if node.is_effect else f"shared {_SHARED[node.sharing]}"
    return f"{kind} ({reasons[node.name]})" if node.name in reasons else kind


def _attempts(node: CallExec) -> str:
    attempts = "1 attempt" if node.max_attempts == 1 else f"at most {node.max_attempts} attempts"
    return f"{attempts} of {node.timeout_s:g} s"


def _pool(pool: PoolFacts) -> str:
    replicas = "1 replica" if pool.num_replicas == 1 else f"{pool.num_replicas} replicas"
    tokens = "" if pool.max_tokens_in_flight is None else f", {pool.max_tokens_in_flight:,} tokens"
    return f"{pool.name}: {replicas}, at most {pool.max_concurrency} calls{tokens} in flight on each"
