"""The work of each pool: when it was at work, and how much an engine had to do.

Owns these sums, made from the records of attempts, and the sum of those of several processes.
"""

from __future__ import annotations

from math import inf

from sundog.cost.step_time import StepWork
from sundog.engines.base import Usage
from sundog.host.attempt import Attempt


class PoolWork:
    """The work of one pool in a process, or in several."""

    def __init__(self) -> None:
        #: When its first attempt began, and when the last one that succeeded ended.
        self.begin_s = inf
        self.end_s = 0.0
        self.num_calls = 0
        #: Seconds of all attempts, summed.
        self.calls_s = 0.0
        #: True where the prompt tokens are those of distinct blocks, what a prefix cache without end would have left to
        #: compute; otherwise they are the computed ones.
        self.is_distinct = True
        #: Calls whose tokens the engine did not tell.
        self.num_estimated = 0
        self._prefill = self._decode = self._context = self._pairs = self._shared_context = 0.0

    @property
    def wall_s(self) -> float:
        return self.end_s - self.begin_s

    @property
    def work(self) -> StepWork:
        """The least that the executed calls can be computed with, without steps: cost.step_time.call_work with
        `is_shared`."""
        return StepWork(0.0, self._prefill, self._decode, self._context, self._pairs, self._shared_context)

    def heard(self, attempt: Attempt) -> None:
        """Count an attempt that has ended."""
        self.begin_s = min(self.begin_s, attempt.began_s)
        self.calls_s += attempt.ended_s - attempt.began_s
        if attempt.num_answered:
            self.end_s = attempt.ended_s
            self.num_calls += attempt.num_answered
        if attempt.usage is not None:
            self._count(attempt.usage)

    def add(self, other: PoolWork, behind_s: float) -> None:
        """Add the work of a process whose clock is so many seconds behind."""
        self.begin_s = min(self.begin_s, other.begin_s + behind_s)
        if other.num_calls:
            self.end_s = max(self.end_s, other.end_s + behind_s)
        self.num_calls += other.num_calls
        self.calls_s += other.calls_s
        self.is_distinct = self.is_distinct and other.is_distinct
        self.num_estimated += other.num_estimated
        self._prefill += other._prefill
        self._decode += other._decode
        self._context += other._context
        self._pairs += other._pairs
        self._shared_context += other._shared_context

    def _count(self, usage: Usage) -> None:
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
