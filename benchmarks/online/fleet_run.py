"""A discrete simulation of requests that run on their own, on engines that stay: plain asyncio, and LangGraph.

Owns this simulation, which has nothing of sundog's: each call goes to the next replica of its model in turn as soon as
its request's earlier calls have ended, and is taken there in the order in which calls came. Nothing is shared.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf

from placed.graphs import PLACES, Graph

from online.answered import Answered
from online.load import Asked
from online.workload import Machines


@dataclass(slots=True)
class _Queue:
    """Places that take calls in the order in which they come."""

    num_free: int
    #: Seconds and what follows, of each call that waits.
    waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)


class FleetRun:
    """One run."""

    def __init__(self, graph: Graph, machines: Machines, shares: Mapping[str, int]) -> None:
        """`shares`: how many replicas each model has."""
        self._graph = graph
        self._numbers = {step.name: number for number, step in enumerate(graph.steps)}
        self._readers: list[list[int]] = [[] for _ in graph.steps]
        for number, step in enumerate(graph.steps):
            for parent in step.parents:
                self._readers[self._numbers[parent]].append(number)
        self._call_s = [graph.call_s(step) for step in graph.steps]
        self._queues = {model: [_Queue(PLACES) for _ in range(num)] for model, num in shares.items()}
        for kind in {step.kind for step in graph.steps if not step.is_llm}:
            self._queues[kind] = [_Queue(machines.tool_places)]
        self._turns = {kind: count() for kind in self._queues}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._now_s = 0.0
        self._ends_s: list[float] = []
        self._num_left: list[int] = []
        self._num_before: list[list[int]] = []

    def run(self, asked: Sequence[Asked], until_s: float = inf) -> list[Answered]:
        """Answer the requests, or those that can be until a moment."""
        self._ends_s = [inf] * len(asked)
        self._num_left = [len(self._graph.steps)] * len(asked)
        self._num_before = [[len(step.parents) for step in self._graph.steps] for _ in asked]
        for row, one in enumerate(asked):
            self._at(one.time_s, partial(self._begin_row, row))
        while self._events and self._events[0][0] <= until_s:
            self._now_s, _, do = heapq.heappop(self._events)
            do()
        return [Answered(one.time_s, end_s) for one, end_s in zip(asked, self._ends_s, strict=True)]

    def _begin_row(self, row: int) -> None:
        for number, step in enumerate(self._graph.steps):
            if not step.parents:
                self._call(row, number)

    def _call(self, row: int, number: int) -> None:
        kind = self._graph.steps[number].kind
        queues = self._queues[kind]
        queue = queues[next(self._turns[kind]) % len(queues)]
        call = self._call_s[number], partial(self._end_call, row, number, queue)
        if queue.num_free:
            queue.num_free -= 1
            self._at(self._now_s + call[0], call[1])
        else:
            queue.waiting.append(call)

    def _end_call(self, row: int, number: int, queue: _Queue) -> None:
        if queue.waiting:
            seconds, do = queue.waiting.popleft()
            self._at(self._now_s + seconds, do)
        else:
            queue.num_free += 1
        self._num_left[row] -= 1
        if not self._num_left[row]:
            self._ends_s[row] = self._now_s
        before = self._num_before[row]
        for reader in self._readers[number]:
            before[reader] -= 1
            if not before[reader]:
                self._call(row, reader)

    def _at(self, time_s: float, do: Callable[[], None]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (time_s, self._num_events, do))
