"""The physical plan as a text tree: how each step runs, where, and what it may share.

Owns what of a physical plan is shown; the printing is in present.logical_tree. Never computes what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sundog.ir.agents import AgentExec, ToolFlowExec
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.physical import (
    CallExec,
    Exec,
    FilterExec,
    LoopExec,
    PhysicalPlan,
    Placement,
    Sharing,
    ValueExec,
    WorkerOrder,
)
from sundog.ir.pool_names import engine_of
from sundog.ir.templates.template import Path, spell_path
from sundog.present.logical_tree import Tree, shorten_value, spell_turns

NO_GAP = 1e-6
NO_WAYS: Mapping[str, str] = {}

_SHARED = {
    Sharing.ALWAYS: "always: equal calls are made once",
    Sharing.RUN: "run: equal calls are made once in a run",
    Sharing.NEVER: "never: each call is made",
}


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """One pool as planned; its limits are those of one replica."""

    name: str
    num_replicas: int
    max_concurrency: int
    #: None for what the replica says.
    max_tokens_in_flight: int | None = None
    #: The group that loads its replicas, at most so many.
    workers: str | None = None
    #: The source of its replicas, where they come and go; figures count with `num_replicas` then.
    source: str | None = None
    #: The flow's `limits` say how many calls it takes, and no default.
    is_limited: bool = False


def physical_tree(
    plan: PhysicalPlan,
    pools: Sequence[PoolFacts],
    reasons: Mapping[str, str],
    num_rows: int,
    order: Sequence[Path] = (),
    ways: Mapping[str, str] = NO_WAYS,
) -> Tree:
    """Return the physical plan as a tree.

    `reasons`: by step, why its calls may be shared or not. `num_rows`: of the input. `order`: by what it is read.
    `ways`: by table, how its rows come and how many, where the flow names its tables.
    """
    read = f", read by {', '.join(map(spell_path, order))}" if order else ""
    return Tree(
        f"physical plan, policy {plan.policy}",
        (
            *_steps(plan, reasons, f"{num_rows:,}", read, ways),
            Tree("pools", tuple(Tree(_pool(pool)) for pool in pools)),
            *([] if plan.placement is None else [_placement(plan.placement)]),
        ),
    )


def _steps(
    plan: PhysicalPlan, reasons: Mapping[str, str], num_rows: str, read: str, ways: Mapping[str, str]
) -> Iterator[Tree]:
    window = f"at most {plan.max_rows_in_flight:,} in flight"
    if not ways:
        yield Tree(f"rows: {num_rows}, {window}{read}")
        yield Tree("steps", tuple(_exec_tree(node, reasons) for node in plan.nodes))
        return
    yield Tree(f"rows: {window} of each table{read}")
    yield Tree(
        "tables",
        tuple(
            Tree(f"{table.name}: {ways[table.name]}", tuple(_exec_tree(node, reasons) for node in table.nodes))
            for table in plan.tables
        ),
    )


def _placement(placement: Placement) -> Tree:
    above = placement.value / placement.lower_bound - 1 if placement.lower_bound else 0.0
    bound = "proven least" if above < NO_GAP else f"at most {above:.1%} above the least"
    if placement.num_windows > 1 and above >= NO_GAP:
        bound += " with all rows in flight"
    cost = f", {placement.value:.4g} dollars" if placement.objective == "cost" else ""
    return Tree(
        f"workers: about {placement.makespan_s:.4g} s{cost}, for {placement.objective} by {placement.solver}, {bound}",
        (Tree(f"figures: {placement.basis}"), *_windows(placement), *(_order(order) for order in placement.orders)),
    )


def _windows(placement: Placement) -> tuple[Tree, ...]:
    if placement.num_windows <= 1:
        return ()
    times = f"{placement.num_windows:.3g} times"
    return (Tree(f"windows: {times}, once for as many rows as are in flight; the times below are of the first"),)


def _order(order: WorkerOrder) -> Tree:
    if not order.steps:
        return Tree(f"{order.worker}: nothing planned, loads what calls wait for")
    last_s = max(planned.end_s for planned in order.steps)
    engines = " then ".join(str(engine_of(pool)) for pool in order.pools)
    steps = (
        Tree(f"{planned.step}: epoch {planned.epoch}, {planned.start_s:.4g} to {planned.end_s:.4g} s")
        for planned in order.steps
    )
    return Tree(f"{order.worker}: {engines}, until {last_s:.4g} s", tuple(steps))


def _exec_tree(node: Exec, reasons: Mapping[str, str]) -> Tree:
    waits = [Tree(f"waits for {', '.join(node.before)}")] if node.before else []
    match node:
        case CallExec():
            gathered = [Tree("gathered: calls that wait together are one request")] if node.step.is_gathered else []
            facts = [Tree(_sharing(node, reasons)), *gathered, Tree(_attempts(node))]
            return Tree(f"CallExec {node.name}: {node.step.operator} on {node.pool}", (*waits, *facts))
        case AgentExec():
            steps = (_exec_tree(inner, reasons) for inner in node.body)
            return Tree(f"AgentExec {node.name}: at most {node.loop.max_turns} turns", (*waits, *steps))
        case AlternativesExec():
            steps = (_exec_tree(inner, reasons) for inner in node.body)
            return Tree(f"AlternativesExec {node.name}: one step, or {node.alternatives.told}", (*waits, *steps))
        case ToolFlowExec():
            steps = (_exec_tree(inner, reasons) for inner in node.body)
            return Tree(f"ToolFlowExec {node.name}: {node.flow.file}", (*waits, *steps))
        case LoopExec():
            body = (_exec_tree(inner, reasons) for inner in node.body)
            return Tree(f"LoopExec {node.name}: at most {spell_turns(node.loop.max_turns)}", (*waits, *body))
        case ValueExec():
            return Tree(f"ValueExec {node.name}: {shorten_value(node.value.template)}", tuple(waits))
        case FilterExec():
            return Tree(f"FilterExec {node.name}: {shorten_value(node.filter.predicate)}", tuple(waits))


def _sharing(node: CallExec, reasons: Mapping[str, str]) -> str:
    kind = "effect: claimed, each call is made at most once" if node.is_effect else f"shared {_SHARED[node.sharing]}"
    return f"{kind} ({reasons[node.name]})" if node.name in reasons else kind


def _attempts(node: CallExec) -> str:
    return f"at most {_count(node.max_attempts, 'attempt')} of {node.timeout_s:g} s"


def _pool(pool: PoolFacts) -> str:
    tokens = "" if pool.max_tokens_in_flight is None else f" and {_count(pool.max_tokens_in_flight, 'token')}"
    calls = _count(pool.max_concurrency, "call")
    replicas = _count(pool.num_replicas, "replica")
    if pool.workers is not None:
        replicas = f"up to {replicas} on {pool.workers},"
    if pool.source is not None:
        replicas = f"as many replicas as there are ({pool.source}; figures count with {pool.num_replicas:,}),"
    said = ", as limits says" if pool.is_limited else ""
    return f"{pool.name}: {replicas} of at most {calls}{tokens} in flight{said}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
