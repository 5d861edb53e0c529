"""A run again, from its own logs: its rows, calls and machines as a load to be simulated.

Owns which of the log's figures decide. Engines whose steps are modelled take the real tokens; all other calls, those of
tools too, take as long as they did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from sundog.batch.follower import engine_replicas
from sundog.errors import ConfigError
from sundog.host.prefix_key import PREFIX_BLOCK_TOKENS
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_of
from sundog.sched.events import ReplicaAdded
from sundog.sim.plan_workload import step_traits
from sundog.sim.replay.logged_rows import LoggedRows
from sundog.sim.replay.logged_run import LoggedCall, LoggedRun, step_of
from sundog.sim.workload import EngineFleet, FollowedPlan, ModelledEngine, SimulatedCall, Workload


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """A run as a load, with what the simulation takes for granted."""

    workload: Workload
    #: Seconds from the first call's arrival to the last one's end, in the run.
    makespan_s: float
    #: Sentences.
    assumptions: tuple[str, ...]


def replayed_run(
    run: LoggedRun,
    plan: PhysicalPlan,
    fleets: Mapping[str, EngineFleet] | None = None,
    followed: FollowedPlan | None = None,
    num_replicas: Mapping[str, int] | None = None,
) -> ReplayedRun:
    """Return a run as a load. `plan`: of its flow. `fleets`: by pool, engines in place of the logged ones, whose calls
    then take what their steps do. `followed`: for a plan with workers. `num_replicas`: by pool, in place of those that
    the run had. ConfigError where the run is not of this plan, or has no call."""
    _check(run, plan)
    engines = _engines(run, fleets or {}, num_replicas or {})

    def simulated(call: LoggedCall) -> SimulatedCall:
        return _call(call, engines.get(call.arrived.pool))

    rows = LoggedRows(plan, run.calls, simulated)
    workload = Workload(
        rows.rows,
        len(rows),
        plan.max_rows_in_flight,
        engines,
        {pool: _only(replicas).max_concurrency for pool, replicas in run.replicas.items() if engine_of(pool) is None},
        step_traits(plan),
        followed,
    )
    makespan_s = max(call.end_s for call in run.calls) - min(call.arrived_s for call in run.calls)
    return ReplayedRun(workload, makespan_s, tuple(_assumptions(run, engines)))


def _check(run: LoggedRun, plan: PhysicalPlan) -> None:
    if len(plan.tables) > 1:
        raise ConfigError(
            "the run has several tables, and its log does not tell when each began",
            hint="simulate the flow without --log",
        )
    if not run.calls:
        raise ConfigError("the run has no call that was answered", hint="give another run")
    on_workers = {one.pool for one in engine_replicas(plan) if one.group is not None}
    if moved := sorted(on_workers & run.replicas.keys() | run.loaded.keys() - on_workers):
        raise ConfigError(
            f"the engine '{engine_of(moved[0])}' was {'not ' if moved[0] in on_workers else ''}on workers in the run",
            hint="give the flow as it was when the run began",
        )
    known = {call.name for call in calls_of(plan.nodes)}
    others = sorted({step_of(call.path) for call in run.calls} - known)
    if others:
        raise ConfigError(
            f"the run has calls of '{others[0]}', which is no step of this flow's plan",
            hint="give the flow as it was when the run began",
        )


def _engines(
    run: LoggedRun, fleets: Mapping[str, EngineFleet], num_replicas: Mapping[str, int]
) -> dict[str, EngineFleet]:
    found: dict[str, EngineFleet] = {}
    for pool, replicas in run.replicas.items():
        if engine_of(pool) is not None:
            found[pool] = EngineFleet(_engine(_only(replicas)), num_replicas.get(pool, len(replicas)))
    for pool, replica in run.loaded.items():
        found[pool] = EngineFleet(_engine(replica), 0, is_on_workers=True, load_s=fmean(run.loads_s[pool]))
    for pool, fleet in fleets.items():
        if pool in found:
            engine = replace(fleet.engine, block_tokens=fleet.engine.block_tokens and _block_tokens(run, pool))
            found[pool] = replace(fleet, engine=engine)
    return found


def _block_tokens(run: LoggedRun, pool: str) -> int:
    """Return how many tokens the logged blocks of prompts have: those are blocks of characters, whatever the engine's
    own are. The text after the last full one is taken to be half a block."""
    keyed = [call for call in run.calls if call.arrived.pool == pool and call.arrived.prefix_key]
    num_blocks = sum(len(call.arrived.prefix_key) + 0.5 for call in keyed)
    num_tokens = sum(call.finished.num_prompt_tokens or call.arrived.num_prompt_tokens for call in keyed)
    return max(1, round(num_tokens / num_blocks)) if keyed else PREFIX_BLOCK_TOKENS


def _only(replicas: Mapping[str, ReplicaAdded]) -> ReplicaAdded:
    """Return one of a pool's replicas: all have the same limits."""
    return next(iter(replicas.values()))


def _engine(replica: ReplicaAdded) -> ModelledEngine:
    has_prefixes = replica.num_prefix_blocks > 0
    return ModelledEngine(
        replica.max_concurrency,
        max_tokens_in_flight=replica.max_tokens_in_flight,
        max_kv_tokens=replica.num_prefix_blocks * PREFIX_BLOCK_TOKENS if has_prefixes else None,
        block_tokens=PREFIX_BLOCK_TOKENS if has_prefixes else None,
        shares_cold_prefixes=replica.shares_cold_prefixes,
        shared_device=replica.shared_device,
    )


def _call(call: LoggedCall, fleet: EngineFleet | None) -> SimulatedCall:
    arrived, finished = call.arrived, call.finished
    is_timed = fleet is None or fleet.engine.seconds is None
    return SimulatedCall(
        step_of(call.path),
        arrived.pool,
        depth=arrived.depth,
        num_prompt_tokens=finished.num_prompt_tokens or arrived.num_prompt_tokens,
        num_output_tokens=max(1, finished.num_output_tokens),
        num_expected_output_tokens=arrived.num_expected_output_tokens,
        prefix_key=arrived.prefix_key,
        call_s=call.end_s - call.begin_s if is_timed else None,
        first_token_s=call.first_token_s - call.begin_s if is_timed and call.first_token_s is not None else None,
    )


def _assumptions(run: LoggedRun, engines: Mapping[str, EngineFleet]) -> Iterable[str]:
    if run.num_failed_attempts:
        yield f"attempts that failed in the run are taken not to have been: {run.num_failed_attempts:,}"
    if run.num_cut_off:
        yield f"attempts that were cut off in the run are taken not to have been: {run.num_cut_off:,}"
    if run.placement.num_anew:
        yield "the run planned its workers anew on its way; here they are planned by what is known now"
    gathered = sorted({step_of(call.path) for call in run.calls if call.is_gathered})
    if gathered:
        yield f"calls of {', '.join(gathered)} that were gathered in the run are gathered alike, whatever else changes"
    timed = sorted(str(engine_of(pool)) for pool, fleet in engines.items() if fleet.engine.seconds is None)
    if timed:
        yield f"calls of {', '.join(timed)} take as long as they did beside the calls of the run"
    if any(fleet.engine.block_tokens for fleet in engines.values()) and not any(
        call.arrived.prefix_key for call in run.calls
    ):
        yield "the run's policy compared no prompts, so that no prefix is known: nothing is taken to be cached"
