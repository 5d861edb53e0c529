"""How far the work of the busiest pool may lie from what is expected: the range of a makespan.

Owns this arithmetic. It schedules nothing: the makespan itself is a simulation's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sundog.cost.estimate import Estimate
from sundog.cost.history import ASSUMED_CALL_S, tool_call_s
from sundog.cost.plan_estimate import NodeEstimate, has_seconds
from sundog.cost.pools import EnginePool, Known, ToolPool
from sundog.cost.step_time import StepWork, call_work

MOST = 0.8
"""Tools that are at work for so much of a makespan decide it."""
_POOL = "pool"


def busiest_s(steps: Sequence[NodeEstimate], known: Known) -> Estimate:
    """Return the seconds of the busiest pool, or of the busiest device, if it is never idle."""
    return Estimate(*(_load_s(steps, known, end) for end in ("low", "expected", "high")))


def range_around(makespan_s: float, steps: Sequence[NodeEstimate], known: Known) -> Estimate:
    """Return a simulated makespan with its range: that of the busiest pool's work, wider by the error of the profiles,
    and by that of an assumed call where an engine was never timed."""
    load_s, error = busiest_s(steps, known), profile_error(known)
    low, high = max(0.0, 1 - error), 1 + error
    if load_s.expected:
        low, high = low * load_s.low / load_s.expected, high * load_s.high / load_s.expected
    if not has_seconds(steps, known):
        low *= ASSUMED_CALL_S.low / ASSUMED_CALL_S.expected
        high *= ASSUMED_CALL_S.high / ASSUMED_CALL_S.expected
    return Estimate(makespan_s * low, makespan_s, makespan_s * high)


def profile_error(known: Known) -> float:
    """Return by what share the step times of the engines may be off, by their own measure: of few steps, some of which
    nothing foretells, the mean may be more than nine in ten are off."""
    profiles = (pool.profile for pool in known.pools.values() if isinstance(pool, EnginePool))
    return max(
        (max(profile.held_out.p90, profile.held_out.mape) for profile in profiles if profile is not None), default=0.0
    )


def _devices(known: Known) -> dict[str, str]:
    """Return the device of each pool that shares one."""
    pools = (pool for pool in known.pools.values() if isinstance(pool, EnginePool))
    return {pool.name: pool.shared_device for pool in pools if pool.shared_device is not None}


def deciding_tool(makespan_s: float, steps: Sequence[NodeEstimate], known: Known) -> tuple[ToolPool, float] | None:
    """Return the tools that have something to do for most of a makespan, with the seconds that their calls take as many
    at once as they may; None where there are none, or their calls were never timed."""
    loads = _loads_s(steps, known, "expected")
    kind, name = max(loads, key=lambda place: loads[place], default=("", ""))
    pool = known.pools.get(name)
    if kind != _POOL or not isinstance(pool, ToolPool) or loads[kind, name] < MOST * makespan_s:
        return None
    is_timed = all(step.seconds is not None for step in steps if step.pool == name)
    return (pool, loads[kind, name]) if is_timed and loads[kind, name] else None


def _load_s(steps: Sequence[NodeEstimate], known: Known, end: str) -> float:
    """Seconds of the busiest pool, or of the busiest device, if it is never idle, with one end of every estimate."""
    return max(_loads_s(steps, known, end).values(), default=0.0)


def _loads_s(steps: Sequence[NodeEstimate], known: Known, end: str) -> dict[tuple[str, str], float]:
    """Seconds of each pool, or of each device, by its kind and name."""
    loads: dict[tuple[str, str], float] = defaultdict(float)
    devices = _devices(known)
    for pool in known.pools.values():
        served = [step for step in steps if step.pool == pool.name]
        place = ("device", devices[pool.name]) if pool.name in devices else (_POOL, pool.name)
        loads[place] += (
            _engine_s(pool, served, end)
            if isinstance(pool, EnginePool)
            else sum(_tool_s(step, known, end) for step in served) / pool.max_concurrency
        )
    return loads


def _tool_s(step: NodeEstimate, known: Known, end: str) -> float:
    num_executed = step.calls.num_executed
    return float(getattr(tool_call_s(known.record(step.node), num_executed.expected) * num_executed, end))


def _engine_s(pool: EnginePool, steps: Iterable[NodeEstimate], end: str) -> float:
    """All steps of one engine together: a step of it may hold prompts of one and answers of another."""
    if pool.profile is None:
        return float(sum(getattr(step.seconds, end) for step in steps if step.seconds is not None))
    work, num_calls = StepWork(), 0.0
    for step in steps:
        assert step.tokens is not None
        num: float = getattr(step.calls.num_executed, end)
        if num:
            prompt, computed, output = (
                getattr(one, end) / num for one in (step.tokens.prompt, step.tokens.prompt_computed, step.tokens.output)
            )
            work += call_work(prompt, max(0.0, prompt - computed), output) * num
            num_calls += num
    slots = max(1.0, min(pool.profile.limits.max_decode_requests, num_calls / pool.num_replicas))
    work *= 1 / pool.num_replicas
    num_tokens = work.num_prefill_tokens + work.num_decode_tokens
    num_steps = max(num_tokens / pool.profile.limits.max_step_tokens, work.num_decode_tokens / slots)
    return pool.profile.step_time.seconds(work + StepWork(num_steps=num_steps))
