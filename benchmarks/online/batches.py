"""Halo online: requests that gather, and batches of them that run to their ends one after another.

Owns when a batch begins and what is in it: windows (version 1) and segments (version 2). Where the published code
leaves a choice, or would lose by a detail, the arm gets the better: see `Batching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from placed.cases import Case
from placed.graphs import Graph

from online.answered import Answered
from online.batch_run import PLANNERS, Batch, BatchRun, Residents, plan_of, tools_of
from online.load import Asked
from online.workload import Machines

WINDOW_S = 1.0
SEGMENT = 32


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests gather. Planning takes no time, and of the plans that Halo's planners make the one counts that runs
    this batch fastest; models are loaded when the load begins; results of tools are kept for good; a request has ended
    with its own last step, not with its batch."""

    #: None for windows: the whole buffer is a batch.
    segment: int | None = None
    #: Models stay loaded from one batch to the next.
    keeps_models: bool = True
    #: Equal LLM calls of one batch are made once, which Halo does not do.
    merges_llm_calls: bool = False


class BatchedRun:
    """One run."""

    def __init__(self, graph: Graph, machines: Machines, batching: Batching) -> None:
        self._graph = graph
        self._machines = machines
        self._batching = batching
        self._kept: set[tuple[str, int]] = set()
        self._tools = tools_of(graph)
        self._shared = self._tools | (
            frozenset(step.name for step in graph.steps) if batching.merges_llm_calls else frozenset()
        )
        self._none: Residents = (None,) * machines.num_workers
        self._residents = tuple(sorted(self._run(range(-SEGMENT, 0), self._none).residents, key=str))

    def run(self, asked: Sequence[Asked], until_s: float = inf) -> list[Answered]:
        """Answer the requests; those of batches that begin later than `until_s`, never, and ends after it count as
        never."""
        gather = self._windows if self._batching.segment is None else self._segments
        answered: list[Answered] = []
        for begin_s, batch, done in gather(asked, until_s):
            for one, end_s in zip(batch, done.ends_s, strict=True):
                at_s = begin_s + end_s
                answered.append(Answered(one.time_s, at_s if at_s <= until_s else inf))
        return answered + [Answered(one.time_s, inf) for one in asked[len(answered) :]]

    def _windows(self, asked: Sequence[Asked], until_s: float) -> Iterator[tuple[float, Sequence[Asked], Batch]]:
        """Sleep, take all that has come, run it, and so on."""
        now_s, first = 0.0, 0
        while first < len(asked):
            now_s += WINDOW_S
            if now_s > until_s:
                return
            after = _first_later(asked, first, now_s)
            if after > first:
                batch = asked[first:after]
                done = self._batch(batch)
                yield now_s, batch, done
                now_s, first = now_s + done.makespan_s, after

    def _segments(self, asked: Sequence[Asked], until_s: float) -> Iterator[tuple[float, Sequence[Asked], Batch]]:
        """Take all that has come in segments, run these, and so on; what comes meanwhile is in none of them."""
        now_s, first, size = 0.0, 0, self._batching.segment or SEGMENT
        while first < len(asked):
            now_s = max(now_s, asked[first].time_s)
            after = _first_later(asked, first, now_s)
            for begin in range(first, after, size):
                segment = asked[begin : min(after, begin + size)]
                if now_s > until_s:
                    return
                done = self._batch(segment)
                yield now_s, segment, done
                now_s += done.makespan_s
            first = after

    def _batch(self, batch: Sequence[Asked]) -> Batch:
        residents = self._residents if self._batching.keeps_models else self._none
        queries = [one.query for one in batch]
        done = self._run(queries, residents)
        self._kept |= {(tool, query) for tool in self._tools for query in queries}
        # Workers are alike: in one order, fewer plans are made.
        self._residents = tuple(sorted(done.residents, key=str))
        return done

    def _run(self, queries: Sequence[int], residents: Residents) -> Batch:
        case = Case(self._graph, self._machines.num_workers, len(queries), self._machines.tool_places)

        def planned_by(planner: str) -> Batch:
            plan = plan_of(self._graph, self._machines, _rounded(len(queries)), residents, planner)
            return BatchRun(case, plan, queries, residents, self._shared, self._kept).run()

        return min(map(planned_by, PLANNERS), key=lambda done: done.makespan_s)


def _first_later(asked: Sequence[Asked], begin: int, time_s: float) -> int:
    end = begin
    while end < len(asked) and asked[end].time_s <= time_s:
        end += 1
    return end


def _rounded(num_rows: int) -> int:
    """Return the power of two from which on plans are made anew."""
    return 1 << (num_rows - 1).bit_length()
