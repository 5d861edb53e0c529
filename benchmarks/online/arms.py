"""The arms by name. Owns which there are, and what each is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Protocol

from placed.graphs import Graph

from online.answered import Answered
from online.batches import SEGMENT, BatchedRun, Batching
from online.fleet_run import FleetRun
from online.load import Asked
from online.ours import OurRun
from online.workload import Machines, best_shares, by_supersteps


class Run(Protocol):
    """One run of an arm; a new one for each load."""

    def run(self, asked: Sequence[Asked], until_s: float = inf) -> list[Answered]:
        """Answer the requests, or those that can be until a moment."""
        ...


Arm = Callable[[Graph, Machines], Run]

OURS = "ours"
PUBLISHED: Mapping[str, Arm] = {
    "windows": lambda graph, machines: BatchedRun(graph, machines, Batching()),
    "segments": lambda graph, machines: BatchedRun(graph, machines, Batching(SEGMENT)),
    "segments_reload": lambda graph, machines: BatchedRun(graph, machines, Batching(SEGMENT, keeps_models=False)),
}
"""Halo's, versions 1 and 2; at 2df8132 version 2 loads models anew for each segment."""
ROW_BY_ROW: Mapping[str, Arm] = {
    "asyncio": lambda graph, machines: FleetRun(graph, machines, best_shares(graph, machines)),
    "langgraph": lambda graph, machines: FleetRun(by_supersteps(graph), machines, best_shares(graph, machines)),
}
"""Each request on its own, on replicas in those fixed shares that allow the highest rate."""
COMPARED: Mapping[str, Arm] = {**PUBLISHED, **ROW_BY_ROW, OURS: OurRun}
WHAT_IFS: Mapping[str, Arm] = {
    "windows_merging": lambda graph, machines: BatchedRun(graph, machines, Batching(merges_llm_calls=True)),
    "ours_sharing_reads": lambda graph, machines: OurRun(graph, machines, shares_tools=True),
}
"""These do what no system does: Halo with equal LLM calls of a batch made once, and sundog's live host with equal
look-ups of all requests made once. They count in no ratio."""
ARMS: Mapping[str, Arm] = {**COMPARED, **WHAT_IFS}
