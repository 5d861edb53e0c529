"""A discrete simulation of a case that keeps to a plan: for the runs of plans that are not sundog's.

It models Halo's processor (arXiv 2509.02121, version 2; halo/processors/multi_process.py of its code at 2df8132), and
nothing of sundog's runtime. A call is ready as soon as its row's earlier calls have ended. A worker holds one model and
runs PLACES calls at once; of the ready calls it takes that of the step that comes first in the plan. A split step's
calls wait in one queue for all its workers. Simplified against the original: places are free one by one, where its
workers take whole micro-batches; tools have places, and of their calls that wait that goes first whose result the plan
needs first, then the one that has waited longest. Where rows are held back, one comes in as soon as another one ends.

Owns the simulation. Which model a worker has next is one of two rules, `after_lock` and `by_turns`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from placed.cases import Case
from placed.graphs import PLACES, Graph, load_s
from sundog.optimizer.placement.problem import PlacementSolution


@dataclass(frozen=True, slots=True)
class Ranks:
    """A plan, as a run needs it. `rank`: by step, where it stands; of a tool, where the first LLM step stands that
    needs it. `orders`: by worker, its steps in the order of the plan."""

    rank: Mapping[str, int]
    orders: Sequence[tuple[str, ...]]


@dataclass(slots=True)
class Worker:
    """`turn`: how many of its turns are over."""

    steps: tuple[str, ...]
    turns: list[tuple[str, tuple[str, ...]]]
    model: str | None = None
    turn: int = 0
    num_running: int = 0
    is_loading: bool = False


@dataclass(slots=True)
class Pool:
    """The places of one kind of tool. `ready`: calls that wait, by rank and then as they came."""

    num_free: int
    ready: list[tuple[int, int, str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Queue:
    """The calls of one step. `ready`: rows of an LLM step, first come first. `num_waiting`: by row, its earlier calls
    that still run. `num_left`: calls that have not begun."""

    num_left: int
    num_waiting: list[int]
    ready: deque[int] = field(default_factory=deque)


Rule = Callable[["LockedRun", Worker], tuple[str | None, Sequence[str]]]
"""The model that an idle worker should have next, and the steps that a worker may run now."""


def after_lock(run: LockedRun, worker: Worker) -> tuple[str | None, Sequence[str]]:
    """Halo's rule: the model stays while a call of it runs or is ready; then comes that of the first ready call, else,
    before any is ready, that of the worker's next step that has not ended."""
    ready = (step for step in worker.steps if run.queues[step].ready)
    unfinished = (step for step in worker.steps if run.queues[step].num_left)
    following = next(ready, None) or next(unfinished, None)
    return None if following is None else run.kinds[following], worker.steps


def by_turns(run: LockedRun, worker: Worker) -> tuple[str | None, Sequence[str]]:
    """The plan kept strictly: the next turn begins when every call of this one has begun, here or elsewhere. Where rows
    are held back, all turns come again for each window of rows."""
    turns = worker.turns
    while turns and worker.turn < len(turns) * run.num_windows:
        window, turn = divmod(worker.turn, len(turns))
        if any(run.num_left(step, window) for step in turns[turn][1]):
            return turns[turn]
        worker.turn += 1
    return None, ()


class LockedRun:
    """One run; `kinds` and `queues` are by step."""

    def __init__(self, case: Case, plan: Ranks, rule: Rule, *, shares_tools: bool = True) -> None:
        """`shares_tools`: whether all steps of a kind have the case's places together, or each as many."""
        graph, num_rows = case.graph, case.num_rows
        self._num_rows = num_rows
        self._window = min(num_rows, case.max_rows_in_flight or num_rows)
        self.num_windows = -(-num_rows // self._window)
        self._rule = rule
        self.kinds = {step.name: step.kind for step in graph.steps}
        self._call_s = {step.name: graph.call_s(step) for step in graph.steps}
        self._readers = {
            step.name: [one.name for one in graph.steps if step.name in one.parents] for step in graph.steps
        }
        self.queues = {step.name: Queue(num_rows, [len(step.parents)] * num_rows) for step in graph.steps}
        self._workers = [Worker(order, _turns(order, self.kinds)) for order in plan.orders]
        self._rank = plan.rank
        tools = [step for step in graph.steps if not step.is_llm]
        self._pool_of = {step.name: step.kind if shares_tools else step.name for step in tools}
        self._pools = {pool: Pool(case.tool_places) for pool in self._pool_of.values()}
        self._ends: list[tuple[float, int, Callable[[], None]]] = []
        self._now_s = 0.0
        self._num_events = 0
        self.num_loads = 0
        self._roots = [step.name for step in graph.steps if not step.parents]
        self._num_ends_left = [len(graph.ends)] * num_rows
        self._num_begun_rows = 0
        self._begin_rows(self._window)

    def makespan_s(self) -> float:
        """Run it; RuntimeError where something is left that nothing can run."""
        self._begin_what_can()
        last_s = 0.0
        while self._ends:
            self._now_s = self._ends[0][0]
            while self._ends and self._ends[0][0] == self._now_s:
                heapq.heappop(self._ends)[2]()
            self._begin_what_can()
            last_s = self._now_s
        if left := [step for step, queue in self.queues.items() if queue.num_left]:
            raise RuntimeError(f"nothing runs, and calls are left of {', '.join(left)}")
        return last_s

    def num_left(self, step: str, window: int) -> int:
        """How many calls of a step have not begun, until all have for the rows up to a window's end."""
        num_later = max(0, self._num_rows - (window + 1) * self._window)
        return max(0, self.queues[step].num_left - num_later)

    def _begin_rows(self, num_rows: int) -> None:
        rows = range(self._num_begun_rows, min(self._num_rows, self._num_begun_rows + num_rows))
        self._num_begun_rows = rows.stop
        for step in self._roots:
            self._make_ready(step, rows)

    def _begin_what_can(self) -> None:
        for worker in self._workers:
            self._serve(worker)
        for pool in self._pools.values():
            self._call_tools(pool)

    def _call_tools(self, pool: Pool) -> None:
        begun: dict[str, list[int]] = {}
        while pool.num_free and pool.ready:
            _, _, step, row = heapq.heappop(pool.ready)
            begun.setdefault(step, []).append(row)
            pool.num_free -= 1
        for step, rows in begun.items():
            self.queues[step].num_left -= len(rows)
            self._at(self._call_s[step], partial(self._end_tool, pool, step, rows))

    def _serve(self, worker: Worker) -> None:
        if worker.is_loading:
            return
        _, steps = self._rule(self, worker)
        for step in steps:
            if self.kinds[step] == worker.model and (rows := self._take(step, PLACES - worker.num_running)):
                worker.num_running += len(rows)
                self._at(self._call_s[step], partial(self._end_calls, worker, step, rows))
        if not worker.num_running:
            model, _ = self._rule(self, worker)
            if model is not None and model != worker.model:
                worker.is_loading = True
                self.num_loads += 1
                self._at(load_s(model), partial(self._end_load, worker, model))

    def _take(self, step: str, num_places: int) -> list[int]:
        queue = self.queues[step]
        rows = [queue.ready.popleft() for _ in range(min(num_places, len(queue.ready)))]
        queue.num_left -= len(rows)
        return rows

    def _at(self, delay_s: float, do: Callable[[], None]) -> None:
        self._num_events += 1
        # Calls that begin together end together, whatever the sum of their beginnings is rounded to.
        heapq.heappush(self._ends, (round(self._now_s + delay_s, 6), self._num_events, do))

    def _end_calls(self, worker: Worker, step: str, rows: Sequence[int]) -> None:
        worker.num_running -= len(rows)
        self._pass_on(step, rows)

    def _end_tool(self, pool: Pool, step: str, rows: Sequence[int]) -> None:
        pool.num_free += len(rows)
        self._pass_on(step, rows)

    def _end_load(self, worker: Worker, model: str) -> None:
        worker.is_loading, worker.model = False, model

    def _pass_on(self, step: str, rows: Sequence[int]) -> None:
        if not self._readers[step]:
            self._end_rows(rows)
        for reader in self._readers[step]:
            waiting = self.queues[reader].num_waiting
            for row in rows:
                waiting[row] -= 1
            self._make_ready(reader, [row for row in rows if not waiting[row]])

    def _end_rows(self, rows: Iterable[int]) -> None:
        """One more of the steps that nothing reads has ended for these rows."""
        for row in rows:
            self._num_ends_left[row] -= 1
            if not self._num_ends_left[row]:
                self._begin_rows(1)

    def _make_ready(self, step: str, rows: Iterable[int]) -> None:
        if step not in self._pool_of:
            self.queues[step].ready.extend(rows)
            return
        ready = self._pools[self._pool_of[step]].ready
        for row in rows:
            self._num_events += 1
            heapq.heappush(ready, (self._rank[step], self._num_events, step, row))


def ranks_of(graph: Graph, found: PlacementSolution, replicas: Sequence[str]) -> Ranks:
    """The plan of a placement; `replicas`: the workers' names."""
    rank = {one.node: place for place, one in enumerate(found.sequence) if one.replicas}
    for step in reversed(graph.steps):
        if not step.is_llm:
            readers = [rank[one.name] for one in graph.steps if step.name in one.parents]
            rank[step.name] = min(readers, default=len(found.sequence))
    return Ranks(rank, [found.timeline.order_on(name) for name in replicas])


def _turns(order: Sequence[str], kinds: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    turns: list[tuple[str, tuple[str, ...]]] = []
    for step in order:
        if turns and turns[-1][0] == kinds[step]:
            turns[-1] = turns[-1][0], (*turns[-1][1], step)
        else:
            turns.append((kinds[step], (step,)))
    return turns
