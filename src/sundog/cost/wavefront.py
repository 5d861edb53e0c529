"""A batch played through in virtual time: calls wait for each other and for room, engines work in steps.

Owns the clock and the queues of this model. It knows no row and no plan, only calls; equal input gives equal seconds.
An engine's step gives one token to every request that decodes and fills what is left with prompts, first come first
served, as a continuously batching engine does; `sched.policies.order.shared_prefix_adjacent` is the order of those
who wait. Engines that share a device work one at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from sundog.cost.engine_model import EngineModel


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One call as the simulation plays it."""

    #: None where it takes no time.
    pool: str | None
    #: Places of the calls that must have ended.
    before: tuple[int, ...]
    #: Equal for calls of which one is executed, None for one that shares nothing.
    key: Hashable
    rank: tuple[float, ...] = ()
    #: Prefix blocks of an LLM call's prompt.
    blocks: tuple[int, ...] = ()
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    #: Tokens of an LLM call as the scheduler counts them.
    num_reserved_tokens: int = 0
    #: Seconds of a call without an engine.
    tool_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Played:
    """The outcome of a simulation."""

    #: Seconds until the last call ended.
    makespan_s: float
    #: By pool, the seconds in which it had work, summed over its replicas.
    busy_s: Mapping[str, float]


def play(
    calls: Sequence[SimulatedCall],
    engines: Mapping[str, Sequence[EngineModel]],
    tools: Mapping[str, int],
    devices: Mapping[str, str],
) -> Played:
    """Play the calls in virtual time, and return when the last has ended and how long each pool was busy.

    `engines`: the replicas of each engine pool, fresh; `tools`: how many calls each other pool takes at once.
    `devices`: by engine pool, of those that share one.
    """
    return _Play(calls, engines, tools, devices).run()


class _Play:
    def __init__(
        self,
        calls: Sequence[SimulatedCall],
        engines: Mapping[str, Sequence[EngineModel]],
        tools: Mapping[str, int],
        devices: Mapping[str, str],
    ) -> None:
        self._calls = calls
        self._engines = engines
        self._sharing = {
            pool: tuple(other for other in engines if devices.get(other) == device) for pool, device in devices.items()
        }
        self._free = dict(tools)
        self._queues: dict[str, list[tuple[tuple[float, ...], int]]] = {pool: [] for pool in (*engines, *tools)}
        self._busy_s = dict.fromkeys(self._queues, 0.0)
        self._after: list[list[int]] = [[] for _ in calls]
        self._num_waited_for = [len(call.before) for call in calls]
        for number, call in enumerate(calls):
            for other in call.before:
                self._after[other].append(number)
        self._leaders: dict[Hashable, int] = {}
        self._followers: dict[int, list[int]] = {}
        self._has_ended = [False] * len(calls)
        self._now_s = 0.0
        # (when, order, what): a tool's call ends, or an engine comes to the end of some steps.
        self._agenda: list[tuple[float, int, int | EngineModel]] = []
        self._sequence = 0

    def run(self) -> Played:
        """Play all calls to their end, one event after another, and return the time of the last and the seconds that
        each pool was busy."""
        self._arrive([number for number, num_left in enumerate(self._num_waited_for) if not num_left])
        while self._agenda:
            self._now_s, _, what = heapq.heappop(self._agenda)
            if isinstance(what, int):
                pool = self._calls[what].pool
                assert pool is not None
                self._free[pool] += 1
                self._end([what])
                self._start_tools(pool)
            elif what.is_due(self._now_s):
                self._end(what.finish_steps())
                pool = self._at_work(what.pool)
                self._feed([what] if pool == what.pool else self._engines[pool])
        assert all(self._has_ended), "a call waits for ever"
        for pool, replicas in self._engines.items():
            self._busy_s[pool] = sum(replica.busy_s for replica in replicas)
        return Played(self._now_s, self._busy_s)

    def _end(self, numbers: Sequence[int]) -> None:
        ready: list[int] = []
        left = list(numbers)
        while left:
            number = left.pop()
            self._has_ended[number] = True
            left += self._followers.pop(number, ())
            for other in self._after[number]:
                self._num_waited_for[other] -= 1
                if not self._num_waited_for[other]:
                    ready.append(other)
        self._arrive(ready)

    def _arrive(self, numbers: Sequence[int]) -> None:
        """Let calls arrive that nothing holds back but room."""
        pools: set[str] = set()
        for number in sorted(numbers):
            call = self._calls[number]
            leader = number if call.key is None else self._leaders.setdefault(call.key, number)
            if call.pool is None or (leader != number and self._has_ended[leader]):
                self._end([number])
            elif leader != number:
                self._followers.setdefault(leader, []).append(number)
            else:
                heapq.heappush(self._queues[call.pool], (call.rank, number))
                pools.add(call.pool)
        for pool in sorted(pools):
            if pool in self._engines:
                self._feed(self._engines[self._at_work(pool)])
            else:
                self._start_tools(pool)

    def _start_tools(self, pool: str) -> None:
        queue = self._queues[pool]
        while queue and self._free[pool] > 0:
            _, number = heapq.heappop(queue)
            self._free[pool] -= 1
            self._busy_s[pool] += self._calls[number].tool_s
            self._plan(self._now_s + self._calls[number].tool_s, number)

    def _at_work(self, pool: str) -> str:
        """Return the pool on its device that is busy; if none is, the one for which most calls wait."""

        def claim(one: str) -> tuple[bool, int]:
            return any(replica.is_busy for replica in self._engines[one]), len(self._queues[one])

        return max(self._sharing.get(pool, (pool,)), key=claim)

    def _feed(self, replicas: Sequence[EngineModel]) -> None:
        """Give replicas of one pool what they have room for, and plan when to look at them again."""
        call_of = self._calls
        for replica in replicas:
            queue = self._queues[replica.pool]
            while queue and replica.has_room(call_of[queue[0][1]].num_reserved_tokens):
                _, number = heapq.heappop(queue)
                call = call_of[number]
                tokens = call.num_prompt_tokens, call.num_output_tokens, call.num_reserved_tokens
                replica.add(number, call.blocks, *tokens)
            due_s = replica.next_due_s(self._now_s)
            if due_s is not None:
                self._plan(due_s, replica)

    def _plan(self, time_s: float, what: int | EngineModel) -> None:
        self._sequence += 1
        heapq.heappush(self._agenda, (time_s, self._sequence, what))
