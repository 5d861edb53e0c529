"""The work of each pool in this process: when it was at work, and how much an engine had to do.

Owns the sums. A call costs a few microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sundog.cost.step_time import StepWork
from sundog.engines.base import Usage


@dataclass(slots=True)
class _StepShare:
    """`seconds`: a step's share up to the moment at which one call that ran all the time would have had `begin_s`, and
    from which on `num_running` calls of it run. So a start or an end touches its own step only, of thousands."""

    seconds: float = 0.0
    begin_s: float = 0.0
    num_running: int = 0

    def until(self, share_s: float) -> float:
        return self.seconds + self.num_running * (share_s - self.begin_s)


@dataclass(slots=True)
class PoolWork:
    """`begin_s`: when its first call was started, `end_s`: when its last one was answered. `is_distinct`: whether the
    prompt tokens are those of distinct blocks, what a prefix cache without end would have left to compute; otherwise
    they are the computed ones. `num_estimated`: calls whose tokens the engine did not tell."""

    begin_s: float
    end_s: float = 0.0
    num_calls: int = 0
    is_distinct: bool = True
    num_estimated: int = 0
    _steps: dict[str, _StepShare] = field(default_factory=dict)
    _num_running: int = 0
    _now_s: float = 0.0
    _share_s: float = 0.0
    _prefill: float = 0.0
    _decode: float = 0.0
    _context: float = 0.0
    _pairs: float = 0.0
    _shared_context: float = 0.0

    @property
    def wall_s(self) -> float:
        return self.end_s - self.begin_s

    @property
    def seconds(self) -> dict[str, float]:
        """Each step's share of the time in which calls ran, each moment divided equally among the calls that ran in
        it; up to the last start or end of a call."""
        return {step: share.until(self._share_s) for step, share in self._steps.items()}

    @property
    def work(self) -> StepWork:
        """The least that the executed calls can be computed with, without steps: cost.step_time.call_work with
        `is_shared`."""
        return StepWork(0.0, self._prefill, self._decode, self._context, self._pairs, self._shared_context)

    def count(self, step: str, change: int, now_s: float) -> None:
        """A call of `step` starts (1) or ends (-1)."""
        if self._num_running:
            self._share_s += (now_s - self._now_s) / self._num_running
        self._now_s = now_s
        self._num_running += change
        share = self._steps.get(step)
        if share is None:
            share = self._steps[step] = _StepShare()
        share.seconds = share.until(self._share_s)
        share.begin_s = self._share_s
        share.num_running += change

    def add(self, usage: Usage | None, end_s: float) -> None:
        """A call has succeeded."""
        self.end_s = max(self.end_s, end_s)
        self.num_calls += 1
        if usage is None:
            return
        self.num_estimated += usage.is_estimated
        cached = usage.num_seen_tokens
        if cached is None:
            self.is_distinct = False
            cached = usage.num_cached_tokens or 0
        chunk, num_fed_back = usage.num_prompt_tokens - cached, max(0, usage.num_output_tokens - 1)
        self._prefill += chunk
        self._decode += num_fed_back
        self._context += num_fed_back * (chunk + (num_fed_back + 1) / 2)
        # At best, everybody who has a block in common decodes at the same time.
        self._shared_context += num_fed_back * cached
        self._pairs += chunk * (cached + chunk / 2)


class Span:
    """An attempt of a step's call, while it runs and after."""

    __slots__ = ("_now_s", "_pool", "_step", "begin_s", "end_s")

    def __init__(self, pool: PoolWork, step: str, now_s: Callable[[], float], begin_s: float) -> None:
        self.begin_s = self.end_s = begin_s
        self._pool = pool
        self._step = step
        self._now_s = now_s

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s

    def __enter__(self) -> Span:
        self._pool.count(self._step, 1, self.begin_s)
        return self

    def __exit__(self, *failure: object) -> None:
        self.end_s = self._now_s()
        self._pool.count(self._step, -1, self.end_s)


@dataclass(slots=True)
class RunWork:
    """`rows_s`: from the first row's start to the last one's end, the engines started before; None until then.
    `num_reused`: by step, the calls that a result of another run answered."""

    pools: dict[str, PoolWork] = field(default_factory=dict)
    rows_s: float | None = None
    num_reused: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        """Each step's share of its pool's time."""
        return {step: seconds for pool in self.pools.values() for step, seconds in pool.seconds.items()}

    def warnings(self) -> tuple[str, ...]:
        """Return what the reader should know of the counts, a sentence for each pool."""
        return tuple(
            f"{pool.replace(':', ' ')} did not tell the tokens of {work.num_estimated:,} answers: they are estimates"
            for pool, work in self.pools.items()
            if work.num_estimated
        )

    def reused(self, step: str) -> None:
        """A result of another run is the answer to a call."""
        self.num_reused[step] = self.num_reused.get(step, 0) + 1

    def attempt(self, pool: str, step: str, now_s: Callable[[], float]) -> Span:
        """Return a context for one attempt, to be entered at once. `now_s`: the host's clock."""
        begin_s = now_s()
        work = self.pools.get(pool)
        if work is None:
            work = self.pools[pool] = PoolWork(begin_s)
        return Span(work, step, now_s, begin_s)

    def executed(self, pool: str, usage: Usage | None, end_s: float) -> None:
        """A call has succeeded."""
        self.pools[pool].add(usage, end_s)
