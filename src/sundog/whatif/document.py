"""The document of a study: what its outcomes are to their reader.

Owns the translation. Its forms are present's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sundog.ir.pool_names import engine_of
from sundog.present.simulation import LatencyFigures, PoolCourse, PoolOutcome, SimulationDocument, VariantDocument
from sundog.sim.simulate import Simulated
from sundog.sim.workload import whole_pool
from sundog.whatif.consumption import energy_of_pool, optimum_share
from sundog.whatif.study import VariantOutcome


def simulation_document(outcomes: Sequence[VariantOutcome], deadline_s: float | None = None) -> SimulationDocument:
    """Return the document of at least one outcome."""
    return SimulationDocument(
        outcomes[0].plan.logical.name, tuple(variant_document(one) for one in outcomes), deadline_s
    )


def variant_document(outcome: VariantOutcome) -> VariantDocument:
    """Return what one outcome is to its reader."""
    simulated, plan = outcome.simulated, outcome.plan
    course = simulated.course
    pools = [pool for pool in simulated.pools if simulated.pools[pool].counts.num_calls]
    return VariantDocument(
        outcome.variant.title,
        plan.policy,
        simulated.num_rows,
        simulated.num_failed_rows,
        plan.max_rows_in_flight,
        _machines(outcome),
        outcome.makespan_s,
        simulated.num_asked,
        simulated.num_executed,
        tuple(_pool(outcome, pool) for pool in pools),
        None if outcome.estimate.usd is None else outcome.estimate.usd.expected,
        _worker_usd(outcome),
        list(course.times_s),
        tuple(
            PoolCourse(
                pool,
                [look[pool].num_waiting for look in course.looks],
                [look[pool].num_running for look in course.looks],
                [look[pool].kv_usage for look in course.looks],
                [look[pool].num_replicas for look in course.looks],
            )
            for pool in pools
        ),
        outcome.assumptions,
        () if outcome.is_batch else tuple(_latencies(simulated)),
    )


def _latencies(simulated: Simulated) -> Iterator[LatencyFigures]:
    known = simulated.latencies
    taken = {"a row ends": known.row_s}
    for pool, times in known.pools.items():
        taken |= {f"{pool}: first token": times.first_token_s, f"{pool}: whole answer": times.total_s}
    for what, histogram in taken.items():
        if histogram.counts:
            shown = (histogram.quantile(share) for share in (0.5, 0.95, 0.99))
            yield LatencyFigures(what, histogram.count, *shown)


def _pool(outcome: VariantOutcome, pool: str) -> PoolOutcome:
    result, simulated = outcome.simulated.pools[pool], outcome.simulated
    known = outcome.sampled.known.pools[whole_pool(pool)]
    looks = [look[pool] for look in simulated.course.looks]
    # An engine on a worker may come and go between two looks.
    num_replicas = max(bool(result.loads_s), *(look.num_replicas for look in looks))
    usages = [look.kv_usage for look in looks if look.kv_usage is not None]
    counts, time_s = result.counts, result.replica_s or simulated.makespan_s * num_replicas
    return PoolOutcome(
        pool,
        num_replicas,
        counts.num_calls,
        min(1.0, result.busy_s / time_s) if time_s else 0.0,
        counts.num_prompt_tokens,
        counts.num_cached_tokens,
        counts.num_output_tokens,
        max(usages, default=None),
        result.num_preemptions,
        len(result.loads_s),
        sum(result.loads_s),
        energy_of_pool(known, result),
        optimum_share(known, result),
        result.replica_s if engine_of(pool) is not None else None,
        result.num_flips,
    )


def _machines(outcome: VariantOutcome) -> dict[str, int]:
    plan = outcome.plan.logical
    found = {group.name: group.count for group in plan.workers}
    for pool, result in outcome.simulated.pools.items():
        engine = engine_of(pool)
        if engine is not None and result.num_replicas:
            found[engine] = result.num_replicas
    return found


def _worker_usd(outcome: VariantOutcome) -> float | None:
    groups = outcome.plan.logical.workers
    if not any(group.usd_per_hour for group in groups):
        return None
    return sum(group.count * group.usd_per_hour for group in groups) * outcome.simulated.makespan_s / 3600
