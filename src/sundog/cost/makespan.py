"""The time of a batch from its first call to its last: as many of its rows as are needed to see its course, played in
virtual time, and the others at the rate that the busiest pool allows.

Owns the choice of what is played and the range. The clock is wavefront's, the arithmetic of pools is here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sundog.cost.engine_model import EngineModel
from sundog.cost.estimate import Estimate
from sundog.cost.history import Histogram, tool_call_s
from sundog.cost.node_cost import CallCost, RowSample, TokenCost
from sundog.cost.plan_sample import PlannedCall
from sundog.cost.pools import EnginePool, Known, ToolPool
from sundog.cost.step_time import StepWork, call_work
from sundog.cost.wavefront import SimulatedCall, play
from sundog.ir.physical import Sharing

MAX_PLAYED_CALLS = 3000
# Low-discrepancy numbers: the fractional parts of its multiples fill [0, 1) evenly, however many are taken.
_GOLDEN = (5**0.5 - 1) / 2
# The tokens that the scheduler takes an answer to need when the step does not say.
RESERVED_OUTPUT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    pool: str
    sharing: Sharing
    calls: CallCost
    tokens: TokenCost | None


def estimate_makespan(
    steps: Mapping[str, SimulatedStep],
    calls: Sequence[PlannedCall],
    sample: RowSample,
    known: Known,
    *,
    max_rows_in_flight: int,
) -> Estimate:
    """Return the makespan of a batch, with its range.

    `steps` by name, each with its whole costs; `calls` of the sampled rows. Every engine that has calls has a profile;
    a tool that was never timed is taken to need ASSUMED_TOOL_S.
    """
    low, expected, high = (_load_s(steps, known, end) for end in ("low", "expected", "high"))
    played, num_rows = _first_rows(calls, sample)
    simulated = _simulated(played, steps, known, max_rows_in_flight)
    # An engine without a profile has no calls.
    engines = {
        pool.name: _replicas(pool) for pool in known.pools.values() if isinstance(pool, EnginePool) and pool.profile
    }
    tools = {pool.name: pool.max_concurrency for pool in known.pools.values() if isinstance(pool, ToolPool)}
    makespan_s = play(simulated, engines, tools, _devices(known)).makespan_s
    if num_rows < sample.num_rows:
        makespan_s += expected * (1 - num_rows / sample.num_rows)
    if not expected:
        return Estimate.exactly(makespan_s)
    errors = [
        pool.profile.held_out.p90 for pool in known.pools.values() if isinstance(pool, EnginePool) and pool.profile
    ]
    error = max(errors, default=0.0)
    ends = low / expected * max(0.0, 1 - error), high / expected * (1 + error)
    return Estimate(makespan_s * ends[0], makespan_s, makespan_s * ends[1])


def _first_rows(calls: Sequence[PlannedCall], sample: RowSample) -> tuple[Sequence[PlannedCall], int]:
    """Return whole rows with at most MAX_PLAYED_CALLS calls, at least one row, and how many rows of the sample they
    are."""
    rows = list(dict.fromkeys(call.sampled.row for call in calls))
    if len(calls) <= MAX_PLAYED_CALLS:
        return calls, sample.num_sampled
    last = calls[MAX_PLAYED_CALLS].sampled.row
    chosen = set(rows[: max(1, rows.index(last))])
    return [call for call in calls if call.sampled.row in chosen], round(sample.num_sampled * len(chosen) / len(rows))


def _simulated(
    calls: Sequence[PlannedCall], steps: Mapping[str, SimulatedStep], known: Known, max_rows_in_flight: int
) -> list[SimulatedCall]:
    """Rows differ in what chance decides and answers in their length, evenly and always the same way."""
    ends = _row_ends(calls)
    rows = list(ends)
    place_of = {row: place for place, row in enumerate(rows)}
    num_made: dict[str, int] = defaultdict(int)
    found: list[SimulatedCall] = []
    for number, call in enumerate(calls):
        place = place_of[call.sampled.row]
        before = call.before
        if not before and place >= max_rows_in_flight:
            before = ends[rows[place - max_rows_in_flight]]
        if (0.5 + place * _GOLDEN) % 1 >= call.chance.expected:
            found.append(SimulatedCall(None, before, None))
            continue
        num_made[call.node] += 1
        found.append(_made(call, number, before, steps[call.node], known, (num_made[call.node] * _GOLDEN) % 1))
    return found


def _row_ends(calls: Sequence[PlannedCall]) -> dict[int, tuple[int, ...]]:
    """Return, by row and in order, the calls for which no other waits."""
    waited_for = {place for call in calls for place in call.before}
    ends: dict[int, list[int]] = {}
    for number, call in enumerate(calls):
        found = ends.setdefault(call.sampled.row, [])
        if number not in waited_for:
            found.append(number)
    return {row: tuple(numbers) for row, numbers in ends.items()}


def _made(
    call: PlannedCall, number: int, before: tuple[int, ...], step: SimulatedStep, known: Known, luck: float
) -> SimulatedCall:
    """Return one of the known answers; `luck` in [0, 1) says which one, by length."""
    pool, sampled = known.pools[step.pool], call.sampled
    record = known.record(call.node, step.pool)
    key = None if step.sharing is Sharing.NEVER else sampled.signature
    if isinstance(pool, ToolPool):
        return SimulatedCall(step.pool, before, key, (sampled.row,), tool_s=tool_call_s(record, 1.0).expected)
    assert step.tokens is not None
    mean = step.tokens.output_asked.expected / step.calls.num_asked.expected
    num_output = _of_luck(None if record is None else record.output_tokens, luck, mean)
    num_prompt = max(1, round(sampled.num_prompt_tokens.expected))
    return SimulatedCall(
        step.pool,
        before,
        key,
        (*sampled.blocks, -1.0, sampled.row, number),
        sampled.blocks if pool.block_tokens else (),
        num_prompt,
        num_output,
        num_prompt + (known.steps[call.node].max_tokens or RESERVED_OUTPUT_TOKENS),
    )


def _of_luck(lengths: Histogram | None, luck: float, mean: float) -> int:
    return max(1, round(lengths.quantile(luck) if lengths is not None and lengths.counts else mean))


def _replicas(pool: EnginePool) -> list[EngineModel]:
    assert pool.profile is not None, f"{pool.name} has no profile"
    return [
        EngineModel(
            pool.name,
            pool.profile,
            max_concurrency=pool.max_concurrency,
            max_tokens_in_flight=pool.max_tokens_in_flight,
            block_tokens=pool.block_tokens,
        )
        for _ in range(pool.num_replicas)
    ]


def _devices(known: Known) -> dict[str, str]:
    """Return the device of each pool that shares one."""
    pools = (pool for pool in known.pools.values() if isinstance(pool, EnginePool))
    return {pool.name: pool.shared_device for pool in pools if pool.shared_device is not None}


def _load_s(steps: Mapping[str, SimulatedStep], known: Known, end: str) -> float:
    """Return the seconds of the busiest pool, or of the busiest device, if it is never idle, with one end of every
    estimate."""
    loads: dict[tuple[str, str], float] = defaultdict(float)
    devices = _devices(known)
    for pool in known.pools.values():
        served = {name: step for name, step in steps.items() if step.pool == pool.name}
        place = ("device", devices[pool.name]) if pool.name in devices else ("pool", pool.name)
        loads[place] += (
            _engine_s(pool, served.values(), end)
            if isinstance(pool, EnginePool)
            else sum(_tool_s(name, step, known, end) for name, step in served.items()) / pool.max_concurrency
        )
    return max(loads.values(), default=0.0)


def _tool_s(name: str, step: SimulatedStep, known: Known, end: str) -> float:
    num_executed = step.calls.num_executed
    return float(getattr(tool_call_s(known.record(name), num_executed.expected) * num_executed, end))


def _engine_s(pool: EnginePool, steps: Iterable[SimulatedStep], end: str) -> float:
    """Return the seconds of all steps of one engine together: a step of it may hold prompts of one and answers of
    another."""
    if pool.profile is None:
        return 0.0
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
