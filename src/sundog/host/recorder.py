"""The one recorder of attempts: it makes the record of each, and divides the time of replicas and pools among steps.

Owns the bracket around every attempt and the sums by step. Who needs more than the sums listens to the records. Never
reads a clock; times are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sundog.errors import CallError
from sundog.host.attempt import Attempt, AttemptOutcome, Listener, Success
from sundog.sched.events import RequestArrived

NO_ANSWER = Success(None, num_answered=0)


@dataclass(frozen=True, slots=True)
class StepTotals:
    """The attempts of one step that have ended, whatever their outcome. A replica's moment is divided equally among the
    attempts that run there in it."""

    num_attempts: int
    #: Calls that have their answer.
    num_answered: int
    #: From start to end, summed.
    attempt_s: float
    #: The step's share of the time of its replicas: what all its attempts would take on one replica.
    replica_s: float
    #: The same share of the time in which its pool had something to do, so that the steps of a pool add up to that.
    pool_s: float


@dataclass(slots=True)
class _Sums:
    """The sums of StepTotals that grow with each attempt; `share_s` becomes `replica_s`."""

    num_attempts: int = 0
    num_answered: int = 0
    attempt_s: float = 0.0
    share_s: float = 0.0


class _Clock:
    """The time in which anything runs. `share_s` is what an attempt that ran all the time would have of it, so that a
    start or an end touches no other attempt."""

    __slots__ = ("busy_s", "changed_s", "num_running", "share_s")

    def __init__(self) -> None:
        self.num_running = 0
        self.changed_s = self.busy_s = self.share_s = 0.0

    def count(self, change: int, now_s: float) -> float:
        """Count an attempt that starts (1) or ends (-1), and return `share_s` up to now."""
        if self.num_running:
            passed_s = now_s - self.changed_s
            self.busy_s += passed_s
            self.share_s += passed_s / self.num_running
        self.changed_s = now_s
        self.num_running += change
        return self.share_s


class RunningAttempt:
    """An attempt while it runs."""

    __slots__ = ("arrived", "began_s", "pool", "replica", "replica_id", "share_s")

    def __init__(self, arrived: RequestArrived, replica_id: str, pool: _Clock, replica: _Clock, began_s: float) -> None:
        self.arrived = arrived
        self.replica_id = replica_id
        self.pool = pool
        self.replica = replica
        self.began_s = began_s
        pool.count(1, began_s)
        self.share_s = replica.count(1, began_s)


class Recorder:
    """This class keeps the sums by step, and tells its listeners of each attempt, in the order of their ends."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners
        self._pools: dict[str, _Clock] = {}
        self._replicas: dict[str, _Clock] = {}
        #: By pool, flow and step.
        self._sums: dict[tuple[str, str, str], _Sums] = {}

    def begin(self, arrived: RequestArrived, replica_id: str, now_s: float) -> RunningAttempt:
        """An attempt of this request starts; `end` must follow."""
        replica = self._replicas.get(replica_id)
        if replica is None:
            replica = self._replicas[replica_id] = _Clock()
        pool = self._pools.get(arrived.pool)
        if pool is None:
            pool = self._pools[arrived.pool] = _Clock()
        return RunningAttempt(arrived, replica_id, pool, replica, now_s)

    def end(
        self,
        running: RunningAttempt,
        now_s: float,
        outcome: AttemptOutcome,
        gave: Success[Any] = NO_ANSWER,
        failure: CallError | None = None,
    ) -> None:
        """The attempt has ended."""
        running.pool.count(-1, now_s)
        share_s = running.replica.count(-1, now_s) - running.share_s
        pool, facts = running.arrived.pool, running.arrived.facts
        key = pool, facts.flow, facts.node
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = _Sums()
        sums.num_attempts += 1
        sums.num_answered += gave.num_answered
        sums.attempt_s += now_s - running.began_s
        sums.share_s += share_s
        attempt = Attempt(
            pool,
            running.replica_id,
            facts.flow,
            facts.node,
            running.began_s,
            now_s,
            share_s,
            outcome,
            gave.usage,
            gave.num_calls,
            gave.num_answered,
            running.arrived.num_prompt_tokens,
            gave.num_result_bytes,
            failure,
            facts.tenant,
        )
        for listener in self._listeners:
            listener(attempt)

    def steps(self, flow: str) -> dict[str, StepTotals]:
        """Return the totals of each step of a flow that has had an attempt."""
        replica_s: dict[str, float] = {}
        for (pool, *_), sums in self._sums.items():
            replica_s[pool] = replica_s.get(pool, 0.0) + sums.share_s
        return {
            step: StepTotals(
                sums.num_attempts,
                sums.num_answered,
                sums.attempt_s,
                sums.share_s,
                self._pools[pool].busy_s * _part(sums.share_s, replica_s[pool]),
            )
            for (pool, of_flow, step), sums in self._sums.items()
            if of_flow == flow
        }


def _part(some: float, all_of_it: float) -> float:
    return some / all_of_it if all_of_it else 0.0
