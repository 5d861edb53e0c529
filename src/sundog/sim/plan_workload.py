"""The workload of a plan: rows drawn from its sample, engines and tools as they are known.

Owns the way from what an estimate knows to what a simulation needs. Never simulates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from sundog.batch.step_facts import plan_facts
from sundog.cost.plan_estimate import NodeEstimate, SampledPlan
from sundog.cost.pools import EnginePool, Known, ToolPool
from sundog.cost.tables.sampled_table import SampledTable
from sundog.engines.modelled.replica import StepSeconds
from sundog.ir.physical import CallExec, Exec, LoopExec, PhysicalPlan, calls_of
from sundog.sim.draw import Drawn
from sundog.sim.workload import EngineFleet, FollowedPlan, ModelledEngine, SimulatedTable, StepTraits, Workload

DEFAULT_STEP_TOKENS = 256
MAX_BLOCK_TOKENS = 64


def workload_of(
    plan: PhysicalPlan,
    sampled: SampledPlan,
    estimates: Sequence[NodeEstimate],
    num_rows: int,
    *,
    loads_s: Mapping[str, float] | None = None,
    followed: FollowedPlan | None = None,
    is_part: bool = False,
) -> Workload:
    """Return what `num_rows` rows of the plan's batch come to; `is_part`: they stand for more. `loads_s`: by engine
    pool, of those on workers. A table with rows has at least one of them."""
    all_rows = max(1, sampled.num_rows)
    tables = tuple(
        _simulated(
            table,
            estimates,
            sampled.known,
            min(table.sample.num_rows, max(1, table.sample.num_rows * num_rows // all_rows)),
            is_part=is_part,
        )
        for table in sampled.tables
    )
    loads_s = loads_s or {}
    pools = sampled.known.pools.values()
    return Workload(
        lambda: chain.from_iterable(table.rows() for table in tables),
        sum(table.num_rows for table in tables),
        plan.max_rows_in_flight,
        {pool.name: fleet_of(pool, loads_s.get(pool.name, 0.0)) for pool in pools if isinstance(pool, EnginePool)},
        {pool.name: pool.max_concurrency for pool in pools if isinstance(pool, ToolPool)},
        step_traits(plan),
        followed,
        tables if len(tables) > 1 else (),
    )


def _simulated(
    table: SampledTable, estimates: Sequence[NodeEstimate], known: Known, num_rows: int, *, is_part: bool
) -> SimulatedTable:
    depths = _depths(table.nodes)
    own = [estimate for estimate in estimates if estimate.node in depths]
    drawn = Drawn(depths, table.calls, own, table.rows, known, table.name)
    return SimulatedTable(
        table.name, lambda: drawn.rows(num_rows, is_part=is_part), num_rows, table.waits_for, table.stream_of
    )


def fleet_of(pool: EnginePool, load_s: float) -> EngineFleet:
    """Return the replicas of a pool as they are modelled: by their steps where they have a profile."""
    profile = pool.profile
    engine = ModelledEngine(
        pool.max_concurrency,
        None if profile is None else StepSeconds(*(getattr(profile.step_time, name) for name in StepSeconds._fields)),
        DEFAULT_STEP_TOKENS if profile is None else profile.limits.max_step_tokens,
        pool.max_tokens_in_flight,
        pool.max_kv_tokens,
        pool.block_tokens,
        shared_device=pool.shared_device,
    )
    return EngineFleet(engine, pool.num_replicas, pool.is_on_workers, load_s)


def longest_tokens(sampled: SampledPlan, estimates: Sequence[NodeEstimate]) -> int:
    """Return how many tokens the longest prompt and the longest answer of some steps may have together, blocks rounded
    up."""
    nodes = {estimate.node for estimate in estimates}
    prompts = (call.sampled.num_prompt_tokens.high for call in sampled.calls if call.node in nodes)
    longest_prompt = max(prompts, default=0.0)
    longest_answer = 0.0
    for estimate in estimates:
        record = sampled.known.record(estimate.node, estimate.pool)
        if record is not None and record.output_tokens.counts:
            longest_answer = max(longest_answer, record.output_tokens.quantile(1.0))
        elif estimate.tokens is not None and estimate.calls.num_asked.expected:
            longest_answer = max(longest_answer, estimate.tokens.output_asked.high / estimate.calls.num_asked.expected)
    return int(longest_prompt + longest_answer) + MAX_BLOCK_TOKENS


def step_traits(plan: PhysicalPlan) -> dict[str, StepTraits]:
    """Return by step what all its calls have in common."""
    facts = plan_facts(plan)
    return {
        call.name: StepTraits(facts[call.name], call.has_successor, call.max_attempts) for call in calls_of(plan.nodes)
    }


def _depths(nodes: Sequence[Exec]) -> dict[str, tuple[CallExec, int]]:
    """Return each call with its place among the nodes beside it."""
    found: dict[str, tuple[CallExec, int]] = {}
    for depth, node in enumerate(nodes):
        if isinstance(node, CallExec):
            found[node.name] = node, depth
        elif isinstance(node, LoopExec):
            found |= _depths(node.body)
    return found
